"""The measurements of start.sh, which prepares the machine for them; network.py uses their tools."""

import json
import os
import pwd
import shutil
import statistics
import subprocess
import sys
import time

WORK = os.environ["CTR_BENCH_DIR"]
ROUNDS = int(os.environ.get("CTR_BENCH_ROUNDS", "40"))
USER = pwd.getpwnam("ctrtest")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NULL = os.open(os.devnull, os.O_RDWR)


class Account:
    """Who the commands run as: their environment, and each engine's own storage."""

    def __init__(self, root):
        self.root = root
        self.name = "root" if root else "rootless"
        self.dir = f"{WORK}/{self.name}"
        # Where the engines keep images; a measurement may put another file system there.
        self.disk = self.dir
        for part in ("", "/home", "/run", "/podman", "/podman-run", "/ctr", "/ctr-run"):
            os.mkdir(self.dir + part, 0o700 if part == "/run" else 0o755)
            if not root:
                os.chown(self.dir + part, USER.pw_uid, USER.pw_gid)
        self.env = {
            "PATH": PATH,
            "HOME": self.dir + "/home",
            "XDG_RUNTIME_DIR": self.dir + "/run",
            "CONTAINERS_CONF": os.environ["CONTAINERS_CONF"],
        }

    def ctr(self, *words):
        return [f"{WORK}/ctr", "--root", self.disk + "/ctr", "--runroot", self.dir + "/ctr-run", *words]

    def podman(self, *words):
        roots = ["--root", self.disk + "/podman", "--runroot", self.dir + "/podman-run"]
        return ["/usr/bin/podman", *roots, "--storage-driver", "overlay", *words]

    def become(self):
        if not self.root:
            os.setgroups([])
            os.setgid(USER.pw_gid)
            os.setuid(USER.pw_uid)
        os.chdir(self.dir)

    def output(self, argv):
        """What a command prints; its failure ends the benchmark."""
        done = subprocess.run(
            argv, env=self.env, preexec_fn=self.become, stdin=NULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        if done.returncode:
            raise SystemExit(f"bench: {' '.join(argv)}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def apart(self, work):
        """Runs `work` in a process of this account, and returns its result: no command that is
        timed has to change its user first."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                self.become()
                os.environ.clear()
                os.environ.update(self.env)
                os.write(write, json.dumps(work()).encode())
                os._exit(0)
            except BaseException as error:  # the parent must not go on in two processes
                print(f"bench: {error}", file=sys.stderr)
                os._exit(1)
        os.close(write)
        with os.fdopen(read) as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        if status:
            raise SystemExit("bench: a measurement failed")
        return json.loads(text)


QUIET = [(os.POSIX_SPAWN_DUP2, NULL, fd) for fd in (0, 1, 2)]


def spawn(argv):
    return os.posix_spawn(argv[0], argv, os.environ, file_actions=QUIET)


def once(argv):
    """Milliseconds from start to end."""
    begin = time.perf_counter()
    _, status = os.waitpid(spawn(argv), 0)
    took = time.perf_counter() - begin
    if status:
        raise RuntimeError(f"{' '.join(argv)} ended with status {status}")
    return took * 1000


def in_turn(commands, rounds=ROUNDS):
    """Medians of commands that are run one after the other, again and again."""
    times = {name: [] for name in commands}
    for round in range(rounds + 2):
        for name, argv in commands.items():
            took = once(argv)
            # The first two fill the caches.
            if round >= 2:
                times[name].append(took)
    return {name: statistics.median(all) for name, all in times.items()}


def at_once(commands, count=50, rounds=3):
    """Medians of the time for so many at once."""
    times = {name: [] for name in commands}
    for _ in range(rounds):
        for name, argv in commands.items():
            begin = time.perf_counter()
            children = [spawn(argv) for _ in range(count)]
            bad = sum(1 for child in children if os.waitpid(child, 0)[1])
            times[name].append((time.perf_counter() - begin) * 1000)
            if bad:
                print(f"bench: {bad} of {count} failed: {' '.join(argv)}", file=sys.stderr)
    return {name: statistics.median(all) for name, all in times.items()}


def shown(took):
    return f"{took / 1000:.2f} s" if took >= 1000 else f"{took:.1f} ms"


def table(title, rows):
    """`rows`: (what, {name: milliseconds}), ctr's time under the name ctr."""
    print(f"| {title} | ctr | beside it |")
    print("| --- | ---: | --- |")
    for what, times in rows:
        ctr = times["ctr"]
        others = [f"{name} {shown(took)} ({took / ctr:.2f}x)" for name, took in times.items() if name != "ctr"]
        print(f"| {what} | {shown(ctr)} | {', '.join(others)} |")
    print(flush=True)


def make_tree():
    tree = f"{WORK}/tree"
    for part in ("", "/bin", "/etc", "/tmp", "/root", "/proc", "/dev", "/sys"):
        os.mkdir(tree + part, 0o755)
    shutil.copy("/bin/busybox", tree + "/bin/busybox")
    for applet in ("sh", "true", "sleep", "seq"):
        os.link(tree + "/bin/busybox", f"{tree}/bin/{applet}")
    with open(tree + "/etc/passwd", "w", encoding="ascii") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\n")
    subprocess.run(["tar", "-C", tree, "--numeric-owner", "--owner=0", "--group=0", "-cf", f"{WORK}/busybox.tar", "."], check=True)
    return tree


def bwrap(account, tree):
    """The same namespaces, a writable /dev and /proc: no image, no state, no log."""
    words = ["/usr/bin/bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if not account.root:
        words += ["--unshare-user", "--uid", "0", "--gid", "0"]
    return [*words, "--bind", tree, "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"]


def crun(account):
    """A bundle that is ready, with the tree that everybody else has too."""
    bundle = account.dir + "/bundle"
    os.mkdir(bundle)
    if not account.root:
        os.chown(bundle, USER.pw_uid, USER.pw_gid)
    account.output(["/bin/sh", "-c", f"cd {bundle} && crun spec {'' if account.root else '--rootless'}"])
    with open(bundle + "/config.json", encoding="utf-8") as file:
        spec = json.load(file)
    spec["process"]["terminal"] = False
    spec["process"]["args"] = ["/bin/true"]
    spec["root"] = {"path": f"{WORK}/tree", "readonly": True}
    with open(bundle + "/config.json", "w", encoding="utf-8") as file:
        json.dump(spec, file)
    words = ["--root", account.dir + "/crun"] + ([] if account.root else ["--cgroup-manager=disabled"])
    return ["/usr/bin/crun", *words, "run", "--bundle", bundle, "timed"]


def load(account):
    archive = f"{WORK}/busybox.tar"
    account.output(account.ctr("import", archive, "busybox"))
    account.output(account.podman("import", "-q", archive, "busybox"))


def measure_run(accounts, tree):
    rows = []
    for account in accounts:
        words = ["run", "--rm", "--network", "none", "busybox", "true"]
        commands = {
            "ctr": account.ctr(*words),
            "podman": account.podman(*words),
            "bwrap": bwrap(account, tree),
            "crun on a ready bundle": crun(account),
        }
        rows.append((f"`run --rm --network none busybox true`, {account.name}", account.apart(lambda c=commands: in_turn(c))))
    table("start, run, end", rows)


def measure_exec(accounts, _):
    rows = []
    for account in accounts:
        words = ["run", "-d", "--name", "long", "--network", "none", "busybox", "sleep", "1000"]
        account.output(account.ctr(*words))
        account.output(account.podman(*words))
        pid = account.output(account.ctr("inspect", "-f", "{{.State.Pid}}", "long"))
        enter = ["/usr/bin/nsenter", "-t", pid, "-m", "-u", "-i", "-n", "-p", "-C"]
        if not account.root:
            enter += ["-U", "--preserve-credentials"]
        commands = {
            "ctr": account.ctr("exec", "long", "true"),
            "podman": account.podman("exec", "long", "true"),
            "nsenter": [*enter, "/bin/true"],
        }
        rows.append((f"`exec CONTAINER true`, {account.name}", account.apart(lambda c=commands: in_turn(c))))
        account.output(account.ctr("rm", "-f", "long"))
        account.output(account.podman("rm", "-f", "-t", "0", "long"))
    table("a further process", rows)


def measure_ps(accounts, _):
    rows = []
    for account in accounts:
        for _ in range(300):
            account.output(account.ctr("create", "busybox", "true"))
            account.output(account.podman("create", "-q", "busybox", "true"))
        commands = {"ctr": account.ctr("ps", "-a"), "podman": account.podman("ps", "-a")}
        rows.append((f"`ps -a`, 300 stopped containers, {account.name}", account.apart(lambda c=commands: in_turn(c, ROUNDS // 2))))
        account.output(account.ctr("rm", *account.output(account.ctr("ps", "-aq")).split()))
        account.output(account.podman("rm", "-a"))
    table("a list", rows)


def measure_many(accounts, tree):
    rows = []
    for account in accounts:
        words = ["run", "--rm", "--network", "none", "busybox", "true"]
        commands = {"ctr": account.ctr(*words), "podman": account.podman(*words), "bwrap": bwrap(account, tree)}
        rows.append((f"50 of `run --rm --network none busybox true` at once, {account.name}", account.apart(lambda c=commands: at_once(c))))
    table("many at once", rows)


def pss(pid):
    """Proportional set size in KiB: proc(5), smaps_rollup."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def parent(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return int(file.read().rsplit(")", 1)[1].split()[1])


def settled(pids):
    """The median of what the processes hold when they have come to rest: once it has not fallen for
    two seconds, and ten seconds after the first look at the latest."""
    lowest = statistics.median(pss(pid) for pid in pids)
    begin = fell = time.monotonic()
    while time.monotonic() - fell < 2 and time.monotonic() - begin < 10:
        time.sleep(0.1)
        now = statistics.median(pss(pid) for pid in pids)
        if now < lowest:
            lowest, fell = now, time.monotonic()
    return lowest


def measure_memory(accounts, _):
    print("| memory of the process beside each container (PSS, once it has not fallen for 2 s) | ctr's monitor | podman's conmon |")
    print("| --- | ---: | ---: |")
    for account in accounts:
        for count in (1, 10):
            beside = {}
            for name, engine in (("ctr", account.ctr), ("podman", account.podman)):
                for n in range(count):
                    account.output(engine("run", "-d", "--name", f"m{n}", "--network", "none", "busybox", "sleep", "1000"))
                pids = [account.output(engine("inspect", "-f", "{{.State.Pid}}", f"m{n}")) for n in range(count)]
                beside[name] = settled([parent(pid) for pid in pids])
                for n in range(count):
                    account.output(engine("rm", "-f", *(["-t", "0"] if name == "podman" else []), f"m{n}"))
            print(f"| {count} running, {account.name} | {beside['ctr']:.0f} KiB | {beside['podman']:.0f} KiB |")
    print(flush=True)


MEASURES = {
    "run": measure_run,
    "exec": measure_exec,
    "ps": measure_ps,
    "many": measure_many,
    "memory": measure_memory,
}


def prepare():
    """Both accounts, with the image in each engine's storage, and its tree."""
    shutil.copy(os.environ["CTR_BIN"], f"{WORK}/ctr")
    os.chmod(f"{WORK}/ctr", 0o755)
    tree = make_tree()
    accounts = [Account(root=False), Account(root=True)]
    for account in accounts:
        load(account)
    return accounts, tree


def clean(accounts):
    """Removes all containers. What belongs to subordinate ids is removed by the shell script, as root;
    podman's mounts are in this mount namespace."""
    for account in accounts:
        for engine, extra in ((account.ctr, []), (account.podman, ["-t", "0"])):
            ids = subprocess.run(engine("ps", "-aq"), env=account.env, preexec_fn=account.become, stdout=subprocess.PIPE)
            if ids.stdout.split():
                words = engine("rm", "-f", *extra, *ids.stdout.decode().split())
                subprocess.run(words, env=account.env, preexec_fn=account.become, stdout=NULL)


def main():
    wanted = sys.argv[1:] or list(MEASURES)
    unknown = [name for name in wanted if name not in MEASURES]
    if unknown:
        raise SystemExit(f"bench: unknown: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    accounts, tree = prepare()
    cpus, kernel = os.cpu_count(), os.uname().release
    print(f"Medians of {ROUNDS} runs in turn; {cpus} cores, Linux {kernel}. (2.00x): takes twice ctr's time.\n")
    try:
        for name in wanted:
            MEASURES[name](accounts, tree)
    finally:
        clean(accounts)


if __name__ == "__main__":
    main()
