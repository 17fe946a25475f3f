"""Measure the p99 latency of valid requests on an idle server, and among slow clients and bad requests.

    python benchmarks/server_load.py RUN            200 slow clients, 10 000 bad requests, 1 000 good ones

Starts ``triscale serve`` on a free port of this machine and stops it. Slow clients open a connection, announce an
image, and send one byte per second. Bad requests are a body that is not an image, a broken JPEG, an image of 400
million pixels, a body that is too large, and an unknown path. Each client sends one request after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

SECONDS = 60


async def request(
    port: int, content: bytes, path: str = "/api/predict", stated: int | None = None
) -> tuple[int, float]:
    """Send one request on a new connection; return the status (0: reset) and the seconds."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    length = len(content) if stated is None else stated
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n".encode())
    writer.write(content)
    try:
        response = await asyncio.wait_for(reader.read(), SECONDS)
    except ConnectionResetError:  # The server closes the connection before it has read a rejected body.
        response = b"reset 0 "
    writer.close()
    return int(response.split(b" ", 2)[1]), time.perf_counter() - started


async def good(port: int, content: bytes, number: int) -> list[float]:
    """Send valid requests one after the other; retry while the server is busy (503)."""
    seconds = []
    for _ in range(number):
        started = time.perf_counter()
        while (await request(port, content))[0] == 503:
            await asyncio.sleep(1)
        seconds.append(time.perf_counter() - started)
    return seconds


async def bad(port: int, kinds: list[tuple[bytes, str, int | None]], number: int, first: int) -> list[int]:
    """Send bad requests of all kinds in turn."""
    return [(await request(port, *kinds[(first + at) % len(kinds)]))[0] for at in range(number)]


async def slow(port: int, stop: asyncio.Event) -> int:
    """Send one byte per second until the test ends; return how often the server closed the connection."""
    closed = 0
    while not stop.is_set():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        response = asyncio.create_task(reader.read(1))
        while not stop.is_set() and not response.done():
            writer.write(b"x")
            await asyncio.wait([response], timeout=1)
        closed += response.done()
        response.cancel()
        writer.close()
    return closed


async def measure(port: int, content: bytes, arguments: argparse.Namespace) -> None:
    """Measure the idle server, then under load, and print both."""
    buffer = io.BytesIO()
    Image.new("1", (20000, 20000)).save(buffer, "PNG")
    kinds: list[tuple[bytes, str, int | None]] = [
        (b"no image at all", "/api/predict", None),
        (b"\xff\xd8\xff\xe0" + bytes(300), "/api/predict", None),
        (buffer.getvalue(), "/api/predict", None),
        (b"", "/api/predict", 900_000_000),
        (b"x", "/api/nothing", None),
    ]
    await good(port, content, 20)
    idle = np.array(await good(port, content, arguments.good))
    stop = asyncio.Event()
    slow_clients = [asyncio.create_task(slow(port, stop)) for _ in range(arguments.slow)]
    await asyncio.sleep(1)
    started = time.perf_counter()
    share = arguments.bad // arguments.clients
    bads = [asyncio.create_task(bad(port, kinds, share, at)) for at in range(arguments.clients)]
    loaded = np.array(await good(port, content, arguments.good))
    statuses = np.concatenate(await asyncio.gather(*bads))
    seconds = time.perf_counter() - started
    after = np.array(await good(port, content, arguments.good))
    stop.set()
    closed = sum(await asyncio.gather(*slow_clients))
    names, counts = np.unique(statuses, return_counts=True)
    print(f"bad requests in {seconds:.0f} s: {dict(zip(names.tolist(), counts.tolist(), strict=True))}")
    print(f"slow clients: {arguments.slow} at a time, {closed} connections ended by the server")
    for name, times in (("idle", idle), ("slow and bad clients", loaded), ("slow clients", after)):
        p50, p99 = np.percentile(times, (50, 99)) * 1e3
        of_idle = np.percentile(times, 99) / np.percentile(idle, 99)
        print(f"good requests, {name:<22} median {p50:7.1f} ms, p99 {p99:7.1f} ms, {of_idle:.2f} x idle")


def main() -> None:
    """Start the server, measure, and stop it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--bad", type=int, default=10_000)
    parser.add_argument("--good", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=2, help="clients that send bad requests")
    arguments = parser.parse_args()
    side = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(side).save(buffer, "JPEG")
    command = [sys.executable, "-m", "triscale", "serve", str(arguments.run), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        match = None
        while match is None:
            line = server.stdout.readline()
            assert line, "the server has finished"
            match = re.search(r"127\.0\.0\.1:(\d+)", line)
        asyncio.run(measure(int(match[1]), buffer.getvalue(), arguments))
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
