"""One TCP connection between two network namespaces, for pods.ts: a stream, and a loop of requests and responses. Standard library alone."""

import socket
import statistics
import sys
import time

PORT = 5201
BLOCK = b"x" * (1 << 17)
# Seconds that a stream runs before it is measured.
WARM = 1


def listen(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.socket(family)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, PORT))
    server.listen(1)
    print("ready", flush=True)
    return server.accept()[0]


def connect(address):
    connection = socket.create_connection((address, PORT))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def sink(address, seconds):
    """Prints the bits in a second that came in, once the stream was warm."""
    connection = listen(address)
    start = time.monotonic()
    octets, first, last = 0, None, None
    while (now := time.monotonic()) < start + WARM + seconds:
        connection.settimeout(start + WARM + seconds - now)
        try:
            count = len(connection.recv(1 << 18))
        except TimeoutError:
            break
        now = time.monotonic()
        if now < start + WARM:
            continue
        if first is None:
            first = now
        else:
            octets += count
            last = now
    print(octets * 8 / (last - first) if last else 0, flush=True)


def source(address, seconds):
    connection = connect(address)
    end = time.monotonic() + WARM + seconds
    try:
        while time.monotonic() < end:
            connection.send(BLOCK)
    except OSError:
        pass  # The other end has seen enough.


def echo(address, _seconds):
    connection = listen(address)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while octets := connection.recv(64):
        connection.send(octets)


def ask(address, seconds):
    """Prints the median and the 99th percentile of a round trip, in microseconds."""
    connection = connect(address)
    times = []
    start = time.monotonic()
    while time.monotonic() < start + WARM + seconds:
        before = time.perf_counter()
        connection.send(b"x")
        connection.recv(64)
        if time.monotonic() > start + WARM:
            times.append((time.perf_counter() - before) * 1e6)
    times.sort()
    print(statistics.median(times), times[int(len(times) * 0.99)], flush=True)


globals()[sys.argv[1]](sys.argv[2], float(sys.argv[3]))
