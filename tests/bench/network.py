"""The measurements of network.sh, which prepares the machine for them and gives this a network
namespace of its own: here the host's. Servers on the host are met at an address of an interface of
its own, not the one with the default route, whose address pasta gives the container too."""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

import bench
from bench import NULL, WORK

ROUNDS = int(os.environ.get("CTR_BENCH_ROUNDS", "3"))
SECONDS = float(os.environ.get("CTR_BENCH_SECONDS", "0.5"))
PEER = [sys.executable, os.path.join(os.path.dirname(__file__), "peer.py")]

SERVER = "198.51.100.1"
"""The host, as containers meet it."""
IPERF, HTTP, PONG = 5201, 8080, 7000
"""The ports of servers, on the host and in each container."""
FLOWS = 1000
MTUS = (1500, 65520)
"""Measured beside the one that a way has by default; root's bridges have the interface's, 1500, alone."""

children = []


def background(argv, **further):
    child = subprocess.Popen(argv, stdout=NULL, stderr=NULL, **{"stdin": NULL, **further})
    children.append(child)
    return child


def output(argv):
    done = subprocess.run(argv, stdin=NULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {(done.stderr or done.stdout).decode().strip()[-300:]}")
    return done.stdout.decode()


def make_host():
    """Two interfaces, a default route, and what an engine expects of a host."""
    for words in (
        "link set lo up",
        "link add out type veth peer name beyond",
        "link add server type veth peer name server1",
        "link set out up", "link set beyond up", "link set server up", "link set server1 up",
        "addr add 203.0.113.2/24 dev out",
        f"addr add {SERVER}/24 dev server",
        "route add default via 203.0.113.1",
    ):  # fmt: skip
        output(["ip", *words.split()])
    with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as file:
        file.write("1")


def enter(pid):
    return ["nsenter", f"--net=/proc/{pid}/ns/net"] if pid else []


def serve(pid, name):
    """The servers, on the host (`pid` 0) or in a container."""
    config = f"{WORK}/nginx-{name}.conf"
    with open(config, "w", encoding="ascii") as file:
        file.write(
            f"daemon off; worker_processes 2; pid {WORK}/nginx-{name}.pid; error_log /dev/null crit; user nobody nogroup;\n"
            "events { worker_connections 4096; }\n"
            "http { access_log off; keepalive_requests 1000000; "
            f"server {{ listen {HTTP} backlog=4096; location / {{ return 200 'hello, world'; }} }} }}\n"
        )
    background([*enter(pid), "nginx", "-c", config])
    background([*enter(pid), "iperf3", "-s", "-p", str(IPERF)])
    background([*enter(pid), *PEER, "pong", str(PONG)])


class Way:
    """One way between a container and the host."""

    def __init__(self, account, name, start):
        self.account, self.name, self.start = account, name, start
        self.pid = 0
        self.others = {}
        self.published = None
        self.mtu = 65536
        self.beside = []
        self.numbers = {}
        self.works = True

    def title(self):
        return f"{self.account.name}: {self.name}" if self.account else self.name

    def set_up(self, index):
        before = helpers()
        try:
            ports = {port: 20000 + 10 * index + n for n, port in enumerate((IPERF, HTTP))}
            self.pid = self.start(self.account, f"w{index}", ports, None)
            self.published = ports
            serve(self.pid, f"w{index}")
            if self.pid:
                links = json.loads(output([*enter(self.pid), "ip", "-j", "link"]))
                self.mtu = next(link["mtu"] for link in links if link["ifname"] != "lo")
            self.beside = [pid for pid in helpers() if pid not in before]
            for mtu in MTUS if self.pid and not (self.account.root and self.mtu == 1500) else ():
                if mtu != self.mtu:
                    self.others[mtu] = self.start(self.account, f"w{index}-{mtu}", {}, mtu)
        except (RuntimeError, SystemExit, StopIteration) as error:
            self.fault("set-up", error)
            self.works = False

    def fault(self, what, error):
        print(f"bench: {self.title()}: {what}: {error}", file=sys.stderr)

    def measure(self, name, work):
        """`work`'s number is one more of that name; it is told the last one."""
        numbers = self.numbers.setdefault(name, [])
        try:
            numbers.append(work(numbers[-1] if numbers else None))
        except (RuntimeError, subprocess.TimeoutExpired, KeyError, ValueError, AttributeError) as error:
            self.fault(name, error)


HELPERS = ("ctr-uplink", "slirp4netns", "pasta", "passt")


def helpers():
    """The processes of this network namespace that stand in for a user's kernel."""
    found = []
    ours = os.readlink("/proc/self/ns/net")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                name = file.read()
            if name.startswith(HELPERS) and os.readlink(f"/proc/{pid}/ns/net") == ours:
                found.append(int(pid))
        except OSError:
            pass
    return found


# How each is started: the process number of its container.


def loopback(_account, _name, _ports, _mtu):
    return 0


def publish(ports):
    return [word for inside, outside in ports.items() for word in ("-p", f"127.0.0.1:{outside}:{inside}")]


def ctr(account, name, ports, mtu):
    network = []
    if mtu:
        account.output(account.ctr("network", "create", "--opt", f"com.docker.network.driver.mtu={mtu}", name))
        network = ["--network", name]
    account.output(account.ctr("run", "-d", "--name", name, *network, *publish(ports), "busybox", "sleep", "1000"))
    return int(account.output(account.ctr("inspect", "-f", "{{.State.Pid}}", name)))


def podman(account, name, ports, mtu):
    network = [] if account.root else ["--network", f"slirp4netns:mtu={mtu}" if mtu else "slirp4netns"]
    account.output(account.podman("run", "-d", "--name", name, *network, *publish(ports), "busybox", "sleep", "1000"))
    return int(account.output(account.podman("inspect", "-f", "{{.State.Pid}}", name)))


def pasta(account, name, ports, mtu):
    account.output(account.podman("run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "1000"))
    pid = int(account.output(account.podman("inspect", "-f", "{{.State.Pid}}", name)))
    words = ["-u", "none", "-T", "none", "-U", "none", *(["-m", str(mtu)] if mtu else [])]
    tcp = [word for inside, outside in ports.items() for word in ("-t", f"127.0.0.1/{outside}:{inside}")]
    account.output(["/usr/bin/pasta", "--config-net", "-q", *(tcp or ["-t", "none"]), *words, str(pid)])
    return pid


# What is measured: each gives one number.


def transfer(pid, address, port, flags, last):
    """Gigabits a second. The first of a kind takes a second; then it is known how much is to be sent."""
    amount = ["-t", str(max(1, round(SECONDS)))] if last is None or SECONDS >= 1 else ["-n", str(int(last * 1e9 / 8 * SECONDS))]
    text = output([*enter(pid), "timeout", "30", "iperf3", "-J", "-c", address, "-p", str(port), *flags, *amount])
    return json.loads(text)["end"]["sum_received"]["bits_per_second"] / 1e9


def requests(pid, address, port):
    """Requests a second over 64 connections that stay."""
    words = ["wrk", "-t2", "-c64", f"-d{max(1, round(SECONDS))}s", f"http://{address}:{port}/"]
    return float(re.search(r"Requests/sec:\s*([0-9.]+)", output([*enter(pid), *words])).group(1))


def connections(pid, address, port, at_once):
    """Connections a second, one request on each."""
    count = int((1500 if at_once == 1 else 3000) * SECONDS / 0.5)
    words = ["ab", "-q", "-n", str(count), "-c", str(at_once), f"http://{address}:{port}/"]
    return float(re.search(r"Requests per second:\s*([0-9.]+)", output([*enter(pid), *words])).group(1))


def ping(pid, address, port):
    return float(output([*enter(pid), *PEER, "ping", address, str(port), str(int(2000 * SECONDS / 0.5))]))


STREAMS = [("up, 1 stream", []), ("down, 1 stream", ["-R"]), ("up, 4 streams", ["-P4"]), ("down, 4 streams", ["-R", "-P4"])]


def measure(way):
    """Every number once more."""
    server = SERVER if way.pid else "127.0.0.1"
    for name, flags in STREAMS:
        way.measure(name, lambda last, flags=flags: transfer(way.pid, server, IPERF, flags, last))
    for mtu, pid in way.others.items():
        for name, flags in STREAMS:
            way.measure(f"{mtu} {name}", lambda last, pid=pid, flags=flags: transfer(pid, server, IPERF, flags, last))
    if way.pid:
        for name, flags in STREAMS:
            port = way.published[IPERF]
            way.measure(f"published {name}", lambda last, flags=flags, port=port: transfer(0, "127.0.0.1", port, flags, last))
    inward = way.published[HTTP] if way.pid else HTTP
    way.measure("requests", lambda _: requests(way.pid, server, HTTP))
    way.measure("published requests", lambda _: requests(0, "127.0.0.1", inward))
    for at_once in (1, 16):
        way.measure(f"connections {at_once}", lambda _, n=at_once: connections(way.pid, server, HTTP, n))
        way.measure(f"published connections {at_once}", lambda _, n=at_once: connections(0, "127.0.0.1", inward, n))
    way.measure("ping", lambda _: ping(way.pid, server, PONG))


def memory(pids):
    return sum(bench.pss(pid) for pid in pids)


def measure_flows(way):
    """What the helper's processes hold with so many connections that are idle, in MB."""
    if not way.beside:
        return
    words = [*enter(way.pid), *PEER, "hold", SERVER, str(PONG), str(FLOWS)]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=NULL)
    try:
        before = memory(way.beside)
        if holder.stdout.readline() != b"held\n":
            raise RuntimeError(f"{FLOWS} connections cannot be had")
        time.sleep(0.5)
        way.numbers["flows"] = [memory(way.beside) * 1024 / 1e6]
        way.numbers["no flows"] = [before * 1024 / 1e6]
    except (OSError, RuntimeError) as error:
        way.fault("idle connections", error)
    finally:
        holder.stdin.close()
        holder.wait()


def measure_start(ways):
    """What the default network adds to a run, in milliseconds."""
    for account in {id(way.account): way.account for way in ways if way.account}.values():
        engines = {way.start: way for way in ways if way.works and way.account is account and way.start is not pasta}
        commands = {}
        for engine in engines:
            command = account.ctr if engine is ctr else account.podman
            commands[f"{engine.__name__} none"] = command("run", "--rm", "--network", "none", "busybox", "true")
            commands[f"{engine.__name__} default"] = command("run", "--rm", "busybox", "true")
        if not commands:
            continue
        try:
            times = account.apart(lambda c=commands: bench.in_turn(c, max(5, 2 * ROUNDS)))
        except SystemExit as error:
            print(f"bench: {account.name}: start: {error}", file=sys.stderr)
            continue
        for engine, way in engines.items():
            with_it, without = times[f"{engine.__name__} default"], times[f"{engine.__name__} none"]
            way.numbers["start"] = [with_it - without]
            way.numbers["start none"] = [without]


ROWS = [
    ("**out of the container**, Gb/s, default MTU", None, ""),
    *[(name, name, "{:.2f}") for name, _ in STREAMS],
    ("**the same**, Gb/s, MTU 1500", None, ""),
    *[(name, f"1500 {name}", "{:.2f}") for name, _ in STREAMS],
    ("**the same**, Gb/s, MTU 65520", None, ""),
    *[(name, f"65520 {name}", "{:.2f}") for name, _ in STREAMS],
    ("**published port, from the host's loopback**, Gb/s", None, ""),
    *[(name, f"published {name}", "{:.2f}") for name, _ in STREAMS],
    ("**nginx**, a second", None, ""),
    ("requests out, 64 connections", "requests", "{:.0f}"),
    ("requests in, published", "published requests", "{:.0f}"),
    ("new connections out, 1 at once", "connections 1", "{:.0f}"),
    ("new connections out, 16 at once", "connections 16", "{:.0f}"),
    ("new connections in, published, 1 at once", "published connections 1", "{:.0f}"),
    ("new connections in, published, 16 at once", "published connections 16", "{:.0f}"),
    ("**there and back**, one byte over TCP, µs", "ping", "{:.1f}"),
    ("more than loopback", "added", "{:.1f}"),
    (f"**memory** of the helper with {FLOWS} idle connections, MB", "flows", "{:.1f}"),
    ("with none", "no flows", "{:.1f}"),
    ("**`run --rm busybox true`**, ms, `--network none`", "start none", "{:.1f}"),
    ("the default network adds", "start", "{:.1f}"),
]


def middle(way, name):
    numbers = way.numbers.get(name)
    return statistics.median(numbers) if numbers else None


def of(way, name):
    """Where the MTU asked for is the default, there is one number for both."""
    mtu, _, rest = name.partition(" ")
    return middle(way, rest if way.pid and mtu == str(way.mtu) else name)


def report(ways):
    print("| | " + " | ".join(way.title() for way in ways) + " |")
    print("| --- |" + " ---: |" * len(ways))
    for way in ways:
        own, plain = middle(way, "ping"), middle(ways[0], "ping")
        if way.pid and own and plain:
            way.numbers["added"] = [own - plain]
    for title, name, form in ROWS:
        cells = []
        for way in ways:
            number = of(way, name) if name else None
            if number is None:
                cells.append("" if name is None else "–")
                continue
            of_ctr = [of(w, name) for w in ways if w.start is ctr and w.account is way.account]
            ratio = f" ({number / of_ctr[0]:.2f}x)" if way.start is not ctr and of_ctr and of_ctr[0] else ""
            cells.append(form.format(number) + ratio)
        print(f"| {title} | " + " | ".join(cells) + " |")
    print(f"\nDefault MTU: {', '.join(f'{way.title()} {way.mtu}' for way in ways if way.works)}.", flush=True)


def main():
    for program in ("iperf3", "wrk", "ab", "nginx", "pasta", "slirp4netns", "podman", "nsenter", "ip"):
        if not shutil.which(program):
            raise SystemExit(f"bench: there is no {program}: sh tests/setup.sh --bench")
    make_host()
    accounts, _ = bench.prepare()
    user, root = accounts
    ways = [
        Way(None, "plain loopback", loopback),
        Way(root, "ctr", ctr),
        Way(root, "podman, netavark", podman),
        Way(user, "ctr", ctr),
        Way(user, "pasta", pasta),
        Way(user, "slirp4netns", podman),
    ]
    try:
        for index, way in enumerate(ways):
            way.set_up(index)
        time.sleep(0.5)
        # First: some never give back what they needed under load.
        for way in filter(lambda way: way.works, ways):
            measure_flows(way)
        for _ in range(ROUNDS):
            for way in filter(lambda way: way.works, ways):
                measure(way)
        measure_start(ways)
    finally:
        for child in children:
            child.terminate()
        bench.clean(accounts)
        for pid in helpers():
            os.kill(pid, 15)
    cpus, kernel = os.cpu_count(), os.uname().release
    print(f"Medians of {ROUNDS} rounds, each way in turn; {cpus} cores, Linux {kernel}. (2.00x): twice ctr's number.\n")
    report(ways)


if __name__ == "__main__":
    main()
