"""The ends of connections that network.py measures, in whatever network namespace they are started.

    peer.py pong PORT               answers each byte with one, on any number of connections
    peer.py ping ADDRESS PORT N     sends a byte and waits for the answer, N times: median in microseconds
    peer.py hold ADDRESS PORT N     opens N connections, says so, and keeps them until its input ends
"""

import resource
import selectors
import socket
import statistics
import sys
import time


def pong(port):
    ready = selectors.DefaultSelector()
    listener = socket.create_server(("0.0.0.0", port), backlog=4096)
    ready.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.register(connection, selectors.EVENT_READ)
                continue
            try:
                got = key.fileobj.recv(4096)
                if got:
                    key.fileobj.send(got)
                    continue
            except OSError:
                pass
            ready.unregister(key.fileobj)
            key.fileobj.close()


def ping(address, port, count):
    connection = socket.create_connection((address, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times = []
    for _ in range(count):
        begin = time.perf_counter_ns()
        connection.send(b"x")
        connection.recv(1)
        times.append(time.perf_counter_ns() - begin)
    print(statistics.median(times) / 1000)


def hold(address, port, count):
    connections = []
    for _ in range(count):
        connection = socket.create_connection((address, port), timeout=10)
        # Only what came back has reached the other side.
        connection.send(b"x")
        connection.recv(1)
        connections.append(connection)
    print("held", flush=True)
    sys.stdin.read()


_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
what, words = sys.argv[1], sys.argv[2:]
if what == "pong":
    pong(int(words[0]))
else:
    {"ping": ping, "hold": hold}[what](words[0], int(words[1]), int(words[2]))
