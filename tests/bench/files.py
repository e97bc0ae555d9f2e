"""The measurements of files.sh, which prepares the machine for them."""

import os

import bench
from bench import USER, clean, prepare, table

MEGABYTES = int(os.environ.get("CTR_BENCH_MEGABYTES", "1024"))
FOLDERS, FILES = 200, 100
"""Of the tree of small files, 1 KiB each."""


def make_files(account):
    """The same for both engines: a large file of noise, and a tree of small ones."""
    with open(f"{account.dir}/large", "wb") as file:
        for _ in range(MEGABYTES):
            file.write(os.urandom(1 << 20))
    for folder in range(FOLDERS):
        path = f"{account.dir}/small/{folder}"
        os.makedirs(path)
        for name in range(FILES):
            with open(f"{path}/{name}", "wb") as file:
                file.write(os.urandom(1024))
    if not account.root:
        for where, _, files in os.walk(f"{account.dir}/small"):
            for path in [where, *(f"{where}/{name}" for name in files)]:
                os.chown(path, USER.pw_uid, USER.pw_gid)


def measure(account):
    """A row for each thing that is done, to the same container in turn."""
    engines = {"ctr": account.ctr, "podman": account.podman}
    for engine in engines.values():
        account.output(engine("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "100000"))
    place = account.dir

    def shell(line):
        """`ENGINE` stands for the engine and its roots."""
        return {name: ["/bin/sh", "-ec", line.replace("ENGINE", " ".join(words()))] for name, words in engines.items()}

    def row(what, line, beside=None, rounds=bench.ROUNDS):
        commands = shell(line) | ({beside[0]: ["/bin/sh", "-ec", beside[1]]} if beside else {})
        return f"{what}, {account.name}", account.apart(lambda: bench.in_turn(commands, rounds))

    large = f"{MEGABYTES} MiB"
    small = f"{FOLDERS * FILES} files"
    copy = ("cp(1)", f"cp --remove-destination {place}/large {place}/copied")
    rows = [
        row(f"`cp FILE box:/`, {large}", f"ENGINE cp {place}/large box:/", copy),
        row(f"`cp box:/large FILE`, {large}", f"ENGINE cp box:/large {place}/copy-of-$$; rm {place}/copy-of-$$", copy),
        row(f"`cp box:/large - \\| cat`, {large}", "ENGINE cp box:/large - | cat >/dev/null"),
        row(f"`export -o FILE`, {large}", f"ENGINE export -o {place}/export-$$ box; rm {place}/export-$$"),
        row(f"`export \\| cat`, {large}", "ENGINE export box | cat >/dev/null"),
        row(f"`commit` and `rmi`, {large}", "ENGINE commit -q box made >/dev/null; ENGINE rmi made >/dev/null", None, 2),
    ]
    for engine in engines.values():
        account.output(engine("rm", "-f", "box", *(["-t", "0"] if engine == account.podman else [])))
        account.output(engine("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "100000"))
    rows += [
        row(f"`cp DIR box:/`, {small}", f"ENGINE cp {place}/small box:/"),
        row(f"`cp box:/small DIR`, {small}", f"ENGINE cp box:/small {place}/copy-of-$$; rm -r {place}/copy-of-$$"),
        row(f"`export \\| cat`, {small}", "ENGINE export box | cat >/dev/null"),
        row(f"`diff`, {small}", "ENGINE diff box >/dev/null"),
        row("`cp box:/etc/passwd FILE`", f"ENGINE cp box:/etc/passwd {place}/passwd"),
    ]
    return rows


def main():
    accounts, _ = prepare()
    cpus, kernel = os.cpu_count(), os.uname().release
    print(f"Medians of {bench.ROUNDS} runs in turn; {cpus} cores, Linux {kernel}. (2.00x): takes twice ctr's time.\n")
    try:
        for account in accounts:
            make_files(account)
            table(f"files, {account.name}", measure(account))
            clean([account])
            for name in ("large", "copied"):
                os.remove(f"{account.dir}/{name}")
    finally:
        clean(accounts)


if __name__ == "__main__":
    main()
