"""The measurements of streams.sh, which prepares the machine for them."""

import os
import shutil
import statistics
import subprocess
import sys
import time

from bench import WORK, Account, load, make_tree

ROUNDS = int(os.environ.get("CTR_BENCH_ROUNDS", "7"))
MIB = int(os.environ.get("CTR_BENCH_MIB", "1024"))
MEMORY = f"/dev/shm/ctr-bench-{os.getpid()}"


def once(script):
    """Seconds from start to end of a shell's line, and whether all of it arrived."""
    begin = time.perf_counter()
    done = subprocess.run(["/bin/sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    took = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"bench: {script}: exit code {done.returncode}")
    out = f"{MEMORY}/out"
    arrived = os.path.getsize(out) if os.path.exists(out) else int(done.stdout)
    if arrived != MIB << 20:
        raise SystemExit(f"bench: {script}: {arrived} bytes arrived of {MIB << 20}")
    if os.path.exists(out):
        os.unlink(out)
    return took


def in_turn(scripts):
    times = {name: [] for name in scripts}
    for round in range(ROUNDS + 1):
        for name, script in scripts.items():
            took = once(script)
            # The first one fills the caches.
            if round:
                times[name].append(took)
    return {name: statistics.median(all) for name, all in times.items()}


def words(argv):
    return " ".join(argv)


# What is behind the command, and in front of the bare program where the command has standard input.
# `reader` counts what it gets.
READER = "| wc -c"
TO_FILE = f"> {MEMORY}/out"
FROM_FILE = f"< {MEMORY}/big"

WAYS = [
    # (what, flags of the engine, program, redirections, the bare pipe)
    ("`{} cat file > out`", "", f"cat {MEMORY}/big", TO_FILE, f"| {{cat}} {TO_FILE}"),
    ("`{} cat file | wc -c`", "", f"cat {MEMORY}/big", READER, READER),
    ("`{} -i cat < file | wc -c`", "-i", "cat", f"{FROM_FILE} {READER}", f"{FROM_FILE} | {{cat}} {READER}"),
]


def measure(title, engines, tree):
    cat = f"{tree}/bin/busybox cat"
    print(f"| {MIB} MiB {title} | without an engine | ctr | podman |")
    print("| --- | ---: | ---: | ---: |")
    for what, flags, program, redirected, bare in WAYS:
        scripts = {"bare": f"{tree}/bin/busybox {program} {bare.format(cat=cat)}"}
        for name, command in engines.items():
            scripts[name] = f"{command(flags)} {program} {redirected}"
        times = in_turn(scripts)
        cells = [what.format(title.split()[0]), f"{times['bare']:.2f} s"]
        for name in engines:
            cells.append(f"{times[name]:.2f} s ({times['bare'] / times[name]:.0%})")
        print("| " + " | ".join(cells) + " |", flush=True)
    print(flush=True)


def main():
    os.mkdir(MEMORY)
    try:
        account = Account(True)
        shutil.copy(os.environ["CTR_BIN"], f"{WORK}/ctr")
        os.chmod(f"{WORK}/ctr", 0o755)
        os.environ.update(account.env)
        tree = make_tree()
        for applet in ("cat",):
            os.link(tree + "/bin/busybox", f"{tree}/bin/{applet}")
        subprocess.run(["tar", "-C", tree, "-cf", f"{WORK}/busybox.tar", "."], check=True)
        load(account)
        with open(f"{MEMORY}/big", "wb") as big:
            # Text, with lines of 80 characters.
            block = (b"x" * 79 + b"\n") * 13107 + b"y" * 15 + b"\n"
            for _ in range(MIB):
                big.write(block)
        mount = f"-v {MEMORY}:{MEMORY}:ro"
        asked = sys.argv[1:] or ["run", "exec", "log"]

        def run(engine, driver):
            return lambda flags: f"{words(engine('run', '--rm', '--network', 'none'))} {driver} {flags} {mount} busybox"

        def running(engine):
            account.output(engine("run", "-d", "--name", "box", "--network", "none", "-v", f"{MEMORY}:{MEMORY}:ro", "busybox", "sleep", "100000"))
            return lambda flags: f"{words(engine('exec'))} {flags} box"

        none = "--log-driver none"
        if "run" in asked:
            measure("run, no log", {"ctr": run(account.ctr, none), "podman": run(account.podman, none)}, tree)
        if "exec" in asked:
            measure("exec", {"ctr": running(account.ctr), "podman": running(account.podman)}, tree)
            account.output(account.ctr("rm", "-f", "box"))
            account.output(account.podman("rm", "-f", "-t", "0", "box"))
        if "log" in asked:
            measure("run, each engine's own log", {"ctr": run(account.ctr, ""), "podman": run(account.podman, "")}, tree)
    finally:
        shutil.rmtree(MEMORY)


main()
