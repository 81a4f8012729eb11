"""A server to measure, and clients that ask it as fast as they may."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from statistics import quantiles
from threading import Thread

import httpx
from msgspec import Struct

from storage import open_store
from tests.patience import LIMIT_SECONDS, join, wait_until

KEY = "spring"
SPRING = {
    "key": KEY,
    "slots": [{"key": "subject_line", "variants": [{"key": f"v{i}"} for i in range(10)]}],
    "policy": {"name": "thompson"},
    "reward": {"metrics": {"click": {}}},
    "learn_every_seconds": 5,
}


class Server(Struct, frozen=True):
    """A running server and who may call it."""

    address: str
    process: int
    client: httpx.Client
    token: str

    @property
    def place(self) -> tuple[str, int]:
        """Its host and port."""
        host, _, port = self.address.removeprefix("http://").partition(":")
        return host, int(port)


@contextmanager
def serving(url: str, folder: Path) -> Iterator[Server]:
    """Serve a database, with an experiment that runs."""
    command = [Path(sys.executable).with_name("bandits"), "serve", "--database", url]
    with running([*command, "--port", "0"], folder / "server.log") as (address, process):
        with closing(open_store(url)) as store:
            scopes = ("choose", "manage", "reward", "read")
            made = store.accounts.keys.create("bench", scopes, at=time.time(), by="bench")
        headers = {"Authorization": f"Bearer {made.token}", "Content-Type": "application/json"}
        with httpx.Client(
            base_url=f"{address}/api/v1", headers=headers, timeout=LIMIT_SECONDS
        ) as client:
            client.post("/experiments", json=SPRING).raise_for_status()
            client.post(f"/experiments/{KEY}/start").raise_for_status()
            yield Server(address, process, client, made.token)


@contextmanager
def running(command: list[str | Path], log: Path) -> Iterator[tuple[str, int]]:
    """Run a server; yields the address that it says it answers at, and its process's number."""
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as server:
        try:
            yield _address(log), server.pid
        finally:
            server.terminate()


def _address(log: Path) -> str:
    address = re.compile(r"http://127\.0\.0\.1:\d+")
    return address.findall(wait_until(log.read_text, "address of the server", address.search))[0]


class Asked(Struct, frozen=True):
    """How long requests took, from many clients at once."""

    seconds: float
    each: list[float]

    @property
    def shown(self) -> str:
        """The median and the 99th percentile in milliseconds."""
        cuts = quantiles(self.each, n=100)
        return f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms"


def ask(
    place: tuple[str, int], request: Callable[[int], bytes], *, clients: int, requests: int
) -> Asked:
    """Have clients send requests one after the other, each on a connection that stays open."""
    numbers = count()
    each: list[float] = []

    def client() -> None:
        with line(place) as send:
            while (number := next(numbers)) < requests:
                start = time.perf_counter()
                send(request(number))
                each.append(time.perf_counter() - start)

    threads = [Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    join(*threads)
    if len(each) < requests:
        raise RuntimeError("a client failed")
    return Asked(time.perf_counter() - start, each)


def _answered(connection: socket.socket) -> bytes:
    """Read one answer, whose length its head tells; return its body."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += connection.recv(65536)
    head, _, body = read.partition(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201", b"HTTP/1.1 302")):
        raise RuntimeError(read.decode())
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    parts, left = [body], length - len(body)
    while left > 0:
        parts.append(connection.recv(1 << 20))
        left -= len(parts[-1])
    return b"".join(parts)


@contextmanager
def line(place: tuple[str, int]) -> Iterator[Callable[[bytes], bytes]]:
    """Keep a connection open; yields a function that sends a request and returns its answer."""
    with socket.create_connection(place) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send(request: bytes) -> bytes:
            connection.sendall(request)
            return _answered(connection)

        yield send


def post(path: str, body: bytes, token: str) -> bytes:
    """Write a request as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
