"""The measurements of images.sh, which prepares the machine for them."""

import json
import os
import pathlib
import re
import resource  # noqa: F401: os.wait4 looks for it when this is a user who may not read where Python lies
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

import bench
from bench import NULL, PATH, ROUNDS, USER, WORK, clean, prepare, shown

MEGABYTES = int(os.environ.get("CTR_BENCH_MEGABYTES", "400"))
LARGEST = 10_000_000
"""Bytes of a file that is taken: no single one shall be a layer by itself."""
LAYER = "application/vnd.oci.image.layer.v1.tar+"
PACKERS = {"gzip": ["gzip", "-6n"], "zstd": ["zstd", "-q", "-3"]}
UNPACK = {"gzip": "gzip -dc", "zstd": "zstd -dc"}


class Registry:
    """Debian's docker-registry on loopback; its log tells how much it has sent."""

    def __init__(self):
        self.log = f"{WORK}/registry.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.host = f"127.0.0.1:{port}"
        os.mkdir(f"{WORK}/registry")
        config = f"{WORK}/registry.yml"
        with open(config, "w", encoding="ascii") as file:
            file.write(
                "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: false\nstorage:\n  filesystem:\n"
                f"    rootdirectory: {WORK}/registry\n  delete:\n    enabled: true\nhttp:\n  addr: {self.host}\n"
            )
        env = {"PATH": PATH, "OTEL_TRACES_EXPORTER": "none"}
        words = ["docker-registry", "serve", config]
        with open(self.log, "wb") as log:
            self.server = subprocess.Popen(words, env=env, stdin=NULL, stdout=log, stderr=NULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.02)

    def sent(self):
        """Bytes of answers until now, as its log has them: `"GET … HTTP/1.1" 200 BYTES "" …`."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            found = (re.search(r'" \d{3} (\d+) ', line) for line in log)
            return sum(int(bytes[1]) for bytes in found if bytes)

    def empty(self):
        """Forgets all repositories; it keeps nothing in memory."""
        shutil.rmtree(f"{WORK}/registry/docker", ignore_errors=True)

    def stop(self):
        self.server.send_signal(signal.SIGTERM)
        self.server.wait()


class Image:
    """One of the machine's own files: libraries, programs, documents, as images have them."""

    def __init__(self, registry, groups, packing):
        self.name = f"{packing}{len(groups)}"
        self.packing = packing
        self.reference = f"{registry.host}/bench/{self.name}:1"
        self.layout = f"{WORK}/layout-{self.name}"
        self.size = 0
        os.makedirs(f"{self.layout}/blobs/sha256")
        diffs, layers = [], []
        for group in groups:
            tar = f"{WORK}/layer.tar"
            # Without records: skopeo of this age leaves out what fills up the last one of zstd:chunked.
            words = ["tar", "-C", "/", "-b", "1", "--no-recursion", "--null", "-T", "-", "--numeric-owner", "-cf", tar]
            subprocess.run(words, input="\0".join(with_folders(group)).encode(), check=True)
            self.size += os.path.getsize(tar)
            diffs.append("sha256:" + subprocess.check_output(["sha256sum", tar]).split()[0].decode())
            with open(tar, "rb") as plain, open(tar + ".packed", "wb") as packed:
                subprocess.run(PACKERS[packing], stdin=plain, stdout=packed, check=True)
            os.remove(tar)
            layers.append(self.blob(tar + ".packed", LAYER + packing))
        self.layers = [layer["digest"] for layer in layers]
        config = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine),
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diffs},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.document(config, "application/vnd.oci.image.config.v1+json"),
            "layers": layers,
        }
        index = {"schemaVersion": 2, "manifests": [self.document(manifest, manifest["mediaType"])]}
        index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "1"}
        for name, content in (("index.json", index), ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
            with open(f"{self.layout}/{name}", "w", encoding="ascii") as file:
                json.dump(content, file)
        self.urls = [f"http://{registry.host}/v2/bench/{self.name}/blobs/{digest}" for digest in self.layers]
        self.what = f"{self.size / 1e6:.0f} MB, {packing}, {len(layers)} layer{'s' if len(layers) > 1 else ''}"

    def publish(self):
        words = ["skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "--preserve-digests"]
        subprocess.run([*words, f"oci:{self.layout}:1", f"docker://{self.reference}"], check=True)

    def blob(self, path, media_type):
        digest = subprocess.check_output(["sha256sum", path]).split()[0].decode()
        size = os.path.getsize(path)
        shutil.move(path, f"{self.layout}/blobs/sha256/{digest}")
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": size}

    def document(self, content, media_type):
        path = f"{WORK}/document.json"
        with open(path, "w", encoding="ascii") as file:
            json.dump(content, file)
        return self.blob(path, media_type)

    def by_shell(self, account):
        """All layers at once, each unpacked while it comes; no digest is looked at."""
        into = f"{account.disk}/by-shell"
        each = [f"mkdir -p {into}/{n}; curl -fsS {url} | {UNPACK[self.packing]} | tar -x -C {into}/{n}" for n, url in enumerate(self.urls)]
        return ["/bin/sh", "-ec", "".join(f"({line}) & " for line in each) + "wait"]


def with_folders(paths):
    """Each folder before what is in it, as the layers of images have them."""
    seen = {"": None}
    for path in paths:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            seen["/".join(parts[:depth])] = None
        seen[path] = None
    return list(seen)[1:]


def big_files(count):
    """Paths for so many layers, `MEGABYTES` of them in all, and the same ones however many layers:
    libraries and programs, a few large files of them, and documents and modules, many small ones."""
    tops = ["usr/lib/x86_64-linux-gnu", "usr/bin", "usr/share/doc", "usr/lib/python3", "usr/include", "usr/share", "usr/lib", "usr/sbin"]
    taken, groups = set(), []
    for top in tops:
        group, size = [], 0
        for where, folders, files in os.walk("/" + top):
            folders.sort()
            for name in sorted(files):
                path = os.path.join(where, name)
                if path in taken or os.path.islink(path) or not os.path.isfile(path):
                    continue
                if os.path.getsize(path) > LARGEST or size >= MEGABYTES * 1_000_000 / len(tops):
                    continue
                group.append(path[1:])
                size += os.path.getsize(path)
        taken.update(f"/{path}" for path in group)
        groups.append(group)
    groups = [group for group in groups if group]
    return groups if count > 1 else [[path for group in groups for path in group]]


def timed(argv):
    """Milliseconds, and KiB of memory of the largest process."""
    # What others left to be written is not this one's to wait for.
    os.sync()
    begin = time.perf_counter()
    _, status, used = os.wait4(bench.spawn(argv), 0)
    took = (time.perf_counter() - begin) * 1000
    if status:
        raise RuntimeError(f"{' '.join(argv)} ended with status {os.waitstatus_to_exitcode(status)}")
    return took, used.ru_maxrss


def in_turn(jobs):
    """Medians of jobs {name: (what is timed, what is done after it)}, and the most memory of each."""
    times, memory = {name: [] for name in jobs}, dict.fromkeys(jobs, 0)
    for round in range(ROUNDS + 1):
        for name, (argv, after) in jobs.items():
            took, used = timed(argv)
            for words in after:
                bench.once(words)
            memory[name] = max(memory[name], used)
            # The first fills the caches.
            if round:
                times[name].append(took)
    return {name: [statistics.median(times[name]), memory[name]] for name in jobs}


def table(title, rows):
    print(f"| {title} | ctr | memory | beside it |")
    print("| --- | ---: | ---: | --- |")
    for what, taken in rows:
        ctr, memory = taken["ctr"]
        others = [f"{name} {shown(took)} ({took / ctr:.2f}x)" for name, (took, _) in taken.items() if name != "ctr"]
        print(f"| {what} | {shown(ctr)} | {memory / 1024:.0f} MiB | {', '.join(others)} |", flush=True)
    print(flush=True)


class Disk:
    """A file system in memory, made anew for each run: neither the speed of a disk is measured, nor what
    was deleted before. ext4 does not give out an inode again in the minutes after its file was deleted,
    and looks at one after the other: every run would be slower than the one before it, whoever's it is."""

    def __init__(self, account):
        self.account = account
        self.memory = f"{WORK}/memory"
        os.makedirs(self.memory, exist_ok=True)
        if not os.path.ismount(self.memory):
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90%", "bench", self.memory], check=True)
        account.disk = f"{account.dir}/disk"
        os.makedirs(account.disk, exist_ok=True)

    def renew(self):
        self.remove()
        image = f"{self.memory}/disk"
        with open(image, "wb") as file:
            file.truncate(8 << 30)
        made = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image]
        subprocess.run(made, check=True)
        subprocess.run(["mount", "-o", "loop", image, self.account.disk], check=True)
        if not self.account.root:
            os.chown(self.account.disk, USER.pw_uid, USER.pw_gid)

    def remove(self):
        if os.path.ismount(self.account.disk):
            subprocess.run(["umount", "-l", self.account.disk], check=True)
            os.remove(f"{self.memory}/disk")

    def synced(self):
        """Milliseconds until all is on it."""
        begin = time.perf_counter()
        subprocess.run(["sync", "-f", self.account.disk], check=True)
        return (time.perf_counter() - begin) * 1000


def measure_pull(accounts, images, _):
    def rows():
        for account in accounts:
            disk = Disk(account)
            for image in images:
                copy = ["/usr/bin/skopeo", "copy", "-q", "--insecure-policy", "--src-tls-verify=false"]
                jobs = {
                    "ctr": account.ctr("pull", "-q", image.reference),
                    "podman": account.podman("pull", "-q", "--tls-verify=false", image.reference),
                    "the shell": image.by_shell(account),
                    "skopeo, nothing unpacked": [*copy, f"docker://{image.reference}", f"oci:{account.disk}/copied:1"],
                }
                times, synced, memory = ({name: [] for name in jobs} for _ in range(3))
                for round in range(ROUNDS + 1):
                    for name, argv in jobs.items():
                        disk.renew()
                        took, used = account.apart(lambda a=argv: timed(a))
                        if round:
                            times[name].append(took)
                            synced[name].append(took + disk.synced())
                            memory[name].append(used)
                        if name == "podman" and not account.root:
                            # Its process that waits keeps the file system.
                            account.output(account.podman("system", "migrate"))
                taken = {name: (statistics.median(times[name]), statistics.median(synced[name])) for name in jobs}
                yield f"{image.what}, {account.name}", taken, max(memory["ctr"])
            disk.remove()
            account.disk = account.dir

    print("| `pull` | ctr | memory | beside it, and when that is on the disk too |")
    print("| --- | ---: | ---: | --- |")
    for what, taken, memory in rows():
        ctr = taken["ctr"][0]
        ratio = lambda took: f"{shown(took)} ({took / ctr:.2f}x)"
        others = [f"{name} {ratio(took)}, {ratio(synced)}" for name, (took, synced) in taken.items() if name != "ctr"]
        print(f"| {what} | {shown(ctr)} | {memory / 1024:.0f} MiB | {'; '.join(others)} |", flush=True)
    print(flush=True)


def measure_push(accounts, images, registry):
    def rows():
        for account in accounts:
            for image in images:
                account.output(account.ctr("pull", "-q", image.reference))
                account.output(account.podman("pull", "-q", "--tls-verify=false", image.reference))
                target = f"{registry.host}/pushed/{image.name}"
                account.output(account.ctr("tag", image.reference, f"{target}:ctr"))
                account.output(account.podman("tag", image.reference, f"{target}:podman"))
                copy = ["/usr/bin/skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false"]
                jobs = {
                    "ctr": account.ctr("push", "-q", f"{target}:ctr"),
                    "podman": account.podman("push", "-q", "--tls-verify=false", f"{target}:podman"),
                    "skopeo, from a folder": [*copy, f"oci:{image.layout}:1", f"docker://{target}:skopeo"],
                }
                # The registry is root's: emptied between two of them by who measures.
                times, memory = {name: [] for name in jobs}, dict.fromkeys(jobs, 0)
                for round in range(ROUNDS + 1):
                    for name, argv in jobs.items():
                        registry.empty()
                        took, used = account.apart(lambda a=argv: timed(a))
                        memory[name] = max(memory[name], used)
                        if round:
                            times[name].append(took)
                account.output(account.ctr("rmi", "-f", image.reference, f"{target}:ctr"))
                account.output(account.podman("rmi", "-f", image.reference, f"{target}:podman"))
                registry.empty()
                for each in images:
                    each.publish()
                yield f"{image.what}, {account.name}", {n: [statistics.median(times[n]), memory[n]] for n in jobs}

    table("`push` to an empty registry", rows())


def measure_archives(accounts, images, _):
    saves, loads = [], []
    for account in accounts:
        for image in images:
            account.output(account.ctr("pull", "-q", image.reference))
            account.output(account.podman("pull", "-q", "--tls-verify=false", image.reference))
            # Podman of this age cannot write zstd into a docker-archive.
            for kind in ("docker-archive", "oci-archive") if image.packing == "gzip" else ("oci-archive",):
                made = {name: f"{account.dir}/{name}.tar" for name in ("ctr", "podman")}
                remove = [["/bin/rm", "-f", *made.values()]]
                quiet = {"ctr": [], "podman": ["-q"]}
                words = {name: ["save", *quiet[name], "--format", kind, "-o", made[name], image.reference] for name in made}
                engines = {"ctr": account.ctr, "podman": account.podman}
                # Each makes its own, and both read podman's.
                jobs = {name: (engine(*words[name]), remove) for name, engine in engines.items()}
                saves.append((f"{kind}, {image.what}, {account.name}", account.apart(lambda j=jobs: in_turn(j))))
                account.output(account.podman(*words["podman"]))
                for engine in engines.values():
                    account.output(engine("rmi", "-f", image.reference))
                jobs = {
                    name: (engine("load", "-q", "-i", made["podman"]), [engine("rmi", "-f", image.reference)])
                    for name, engine in engines.items()
                }
                loads.append((f"{kind}, {image.what}, {account.name}", account.apart(lambda j=jobs: in_turn(j))))
                os.remove(made["podman"])
                account.output(account.ctr("pull", "-q", image.reference))
                account.output(account.podman("pull", "-q", "--tls-verify=false", image.reference))
            for engine in (account.ctr, account.podman):
                account.output(engine("rmi", "-f", image.reference))
    table("`save`", saves)
    table("`load`", loads)


def measure_list(accounts, *_):
    def rows():
        for account in accounts:
            for n in range(200):
                name = f"localhost/many/image{n}:1"
                archive = f"{account.dir}/one.tar"
                subprocess.run(["tar", "-C", f"{WORK}/tree", "--transform", f"s,^,{n}/,", "-cf", archive, "etc"], check=True)
                os.chmod(archive, 0o644)
                account.output(account.ctr("import", archive, name))
                account.output(account.podman("import", "-q", archive, name))
            jobs = {"ctr": (account.ctr("images"), []), "podman": (account.podman("images"), [])}
            yield f"200 images, {account.name}", account.apart(lambda j=jobs: in_turn(j))

    table("`images`", rows())


def one_package(paths):
    """The files of one of the machine's packages among them: of the one whose size is the nearest to a
    twentieth of all."""
    owners = {}
    for listed in pathlib.Path("/var/lib/dpkg/info").glob("*.list"):
        for line in listed.read_text(encoding="utf-8").splitlines():
            owners[line[1:]] = listed.stem
    packages = {}
    for path in paths:
        if path in owners:
            packages.setdefault(owners[path], []).append(path)
    sizes = {name: sum(os.path.getsize("/" + path) for path in files) for name, files in packages.items()}
    name = min(sizes, key=lambda name: abs(sizes[name] - MEGABYTES * 1_000_000 / 20))
    return set(packages[name]), sizes[name]


def measure_update(accounts, _, registry):
    """From an image to the next, of one package more in the same layer: with a table of contents that
    says which parts are new (zstd:chunked), and without."""
    paths = big_files(1)[0]
    package, size = one_package(paths)
    chunked = f"{WORK}/storage.conf"
    with open(chunked, "w", encoding="ascii") as file:
        file.write('[storage]\ndriver = "overlay"\nrunroot = "/run/none"\ngraphroot = "/var/none"\n')
        file.write('[storage.options]\npull_options = {enable_partial_images = "true"}\n')
    os.chmod(chunked, 0o644)
    names = []
    for tag, taken in (("1", [path for path in paths if path not in package]), ("2", paths)):
        image = Image(registry, [taken], "gzip")
        names.append(f"{registry.host}/bench/update:{tag}")
        words = ["skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "--dest-compress-format", "zstd:chunked"]
        subprocess.run([*words, f"oci:{image.layout}:1", f"docker://{names[-1]}"], check=True)
        sizes = f"{image.size / 1e6:.0f} MB, {size / 1e6:.0f} MB of it new"
        shutil.rmtree(image.layout)
    first, second = names

    def rows():
        for account in accounts:
            disk = Disk(account)
            partly = lambda *words, podman=account.podman: ["/usr/bin/env", f"CONTAINERS_STORAGE_CONF={chunked}", *podman(*words)]
            engines = {"ctr": account.ctr, "podman": account.podman, "podman, partial images on": partly}
            flags = {name: [] if name == "ctr" else ["--tls-verify=false"] for name in engines}
            times, sent = {name: [] for name in engines}, {}
            for _ in range(ROUNDS):
                for name, engine in engines.items():
                    disk.renew()
                    account.output(engine("pull", "-q", *flags[name], first))
                    before = registry.sent()
                    pull = engine("pull", "-q", *flags[name], second)
                    times[name].append(account.apart(lambda a=pull: timed(a))[0])
                    sent[name] = registry.sent() - before
                    if name != "ctr" and not account.root:
                        account.output(account.podman("system", "migrate"))
            disk.remove()
            account.disk = account.dir
            yield f"{sizes}, {account.name}", {name: statistics.median(all) for name, all in times.items()}, sent

    print("| update by `pull` | ctr | fetched | beside it |")
    print("| --- | ---: | ---: | --- |")
    for what, taken, sent in rows():
        ctr = taken["ctr"]
        others = [
            f"{name} {shown(took)} ({took / ctr:.2f}x), {sent[name] / 1e6:.1f} MB" for name, took in taken.items() if name != "ctr"
        ]
        print(f"| {what} | {shown(ctr)} | {sent['ctr'] / 1e6:.1f} MB | {'; '.join(others)} |", flush=True)
    print(flush=True)


MEASURES = {
    "pull": measure_pull,
    "update": measure_update,
    "push": measure_push,
    "archives": measure_archives,
    "list": measure_list,
}




def main():
    wanted = sys.argv[1:] or list(MEASURES)
    unknown = [name for name in wanted if name not in MEASURES]
    if unknown:
        raise SystemExit(f"bench: unknown: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    accounts, _ = prepare()
    registry = Registry()
    try:
        images = []
        if set(wanted) - {"list", "update"}:
            chosen = os.environ.get("CTR_BENCH_IMAGES", "gzip1 gzip8 zstd1 zstd8").split()
            images = [Image(registry, big_files(int(name[4:])), name[:4]) for name in chosen]
        for image in images:
            image.publish()
            # The shell's user reads none of it, skopeo's does.
            os.chmod(image.layout, 0o755)
        print(f"Medians of {ROUNDS} runs in turn; {os.cpu_count()} cores, Linux {os.uname().release}. (2.00x): takes twice ctr's time.\n")
        for name in wanted:
            MEASURES[name](accounts, images, registry)
    finally:
        registry.stop()
        clean(accounts)


if __name__ == "__main__":
    main()
