"""Slow bodies: ends connections whose request body does not arrive in time.

The web server ends idle connections and half-sent heads by itself. A body it reads in the thread
that answers the request, for as long as the sender takes: whoever sends the beginning of one keeps
a thread. So each read of a body is noted, and a read that is overdue has its connection shut down.
"""

import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

BYTES_A_SECOND = 10_000.0  # the pace that a long body has to keep
BODY_SECONDS = "bandits.body_seconds"  # in a request's environment: fewer seconds than others have
SWEEP_SECONDS = 1.0
_STALLED = BYTES_A_SECOND / 4  # a connection at this pace, or below, is the slow one
_FOLDER = Path("/proc/self/fd")
_TCP_INFO = 11  # Linux: struct tcp_info, whose bytes_received is at this offset
_RECEIVED = struct.Struct("=128xQ")
_log = logging.getLogger(__name__)


class Reading(Struct, frozen=True):
    """A body that is being read: the address of its sender, its start and its last moment."""

    address: str
    started: float
    deadline: float


class BodyReads:
    """The bodies that this process is reading, by any number of threads."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with none; a body is given `seconds` by `clock`, a long one more."""
        self.clock = clock
        self._seconds = seconds
        self._lock = Lock()
        self._reads: dict[int, Reading] = {}
        self._count = 0

    @contextmanager
    def noted(
        self, address: str, length: int, started: float | None = None, seconds: float | None = None
    ) -> Iterator[None]:
        """Note a read while it lasts.

        Args:
            address: of the sender.
            length: of the body up to where this read ends, in bytes.
            started: when the body was begun to be read; now unless given.
            seconds: fewer than others have, where it is not to have these.
        """
        started = self.clock() if started is None else started
        patience = self._seconds if seconds is None else min(seconds, self._seconds)
        reading = Reading(address, started, started + patience + length / BYTES_A_SECOND)
        with self._lock:
            self._count = number = self._count + 1
            self._reads[number] = reading
        try:
            yield
        finally:
            with self._lock:
                del self._reads[number]

    def overdue(self) -> list[Reading]:
        """List the reads that should have ended."""
        now = self.clock()
        with self._lock:
            return [reading for reading in self._reads.values() if now > reading.deadline]


class NotedBody:
    """The input of one request, whose reads are noted.

    A body is read in portions. Each is due by itself, so that who declares a long one and sends no
    more than its beginning is not given the time of all of it.
    """

    def __init__(self, environ: "WSGIEnvironment", reads: BodyReads) -> None:
        """Read the body of the request of `environ`."""
        self._body = environ["wsgi.input"]
        self._environ = environ
        self._address = environ.get("REMOTE_ADDR", "")  # a proxy's, before the client's is put in
        self._reads = reads
        length = environ.get("CONTENT_LENGTH", "")
        self._length = int(length) if length.isascii() and length.isdigit() else 0
        self._received = 0
        self._started: float | None = None

    def _noted(self, size: Sequence[int]) -> AbstractContextManager[None]:
        if self._started is None:
            self._started = self._reads.clock()
        end = self._length
        if size and 0 <= size[0] < end - self._received:
            end = self._received + size[0]
        seconds = self._environ.get(BODY_SECONDS)
        return self._reads.noted(self._address, end, self._started, seconds)

    def read(self, *size: int) -> bytes:
        """Read so many bytes, or all."""
        with self._noted(size):
            data: bytes = self._body.read(*size)
        self._received += len(data)
        return data

    def readline(self, *size: int) -> bytes:
        """Read a line."""
        with self._noted(size):
            line: bytes = self._body.readline(*size)
        self._received += len(line)
        return line

    def readlines(self, *hint: int) -> list[bytes]:
        """Read all lines."""
        with self._noted(()):
            lines: list[bytes] = self._body.readlines(*hint)
        self._received += sum(map(len, lines))
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readlines())


class SlowBodies:
    """WSGI middleware that notes reads of bodies, and the sweep that ends overdue ones."""

    def __init__(self, inner: "WSGIApplication", reads: BodyReads) -> None:
        """Wrap `inner`, as the outermost: it needs the address that the socket has."""
        self._inner = inner
        self._reads = reads

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request as the inner application does."""
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            environ["wsgi.input"] = NotedBody(environ, self._reads)
        return self._inner(environ, start_response)


class Sweeper:
    """Sweeps of a process's connections: those that keep an overdue read waiting are ended."""

    def __init__(self, reads: BodyReads) -> None:
        """Sweep for `reads`."""
        self._reads = reads
        self._before: dict[str, tuple[float, int]] = {}  # by socket: when, and its bytes then

    def run(self, stop: Event) -> None:
        """Sweep until `stop`; only Linux tells what a connection has received."""
        while _FOLDER.is_dir() and not stop.wait(SWEEP_SECONDS):
            self.sweep()

    def sweep(self) -> int:
        """End the connections that are overdue and slow; return how many were ended."""
        overdue = {reading.address for reading in self._reads.overdue()}
        now, ended = self._reads.clock(), 0
        received: dict[str, tuple[float, int]] = {}
        for name, connection, address, total in _connections() if overdue else ():
            with connection:
                since, before = self._before.get(name, (now, total))
                received[name] = (since, before)
                slow = total - before <= _STALLED * (now - since) and now > since
                if address in overdue and slow:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                        ended += 1
        self._before = received
        if ended:
            _log.warning("ended %d connections whose body did not arrive", ended)
        return ended


def _connections() -> Iterator[tuple[str, socket.socket, str, int]]:
    """Yield the TCP connections of this process: name, a copy to use, peer, bytes received."""
    for place in _FOLDER.iterdir():
        try:
            name = str(place.readlink())
            if not name.startswith("socket:"):
                continue
            connection = socket.socket(fileno=os.dup(int(place.name)))
        except OSError:  # closed meanwhile
            continue
        try:
            address = connection.getpeername()[0]
            information = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _RECEIVED.size)
            (total,) = _RECEIVED.unpack(information)
        except (OSError, IndexError, struct.error):  # it listens, or is none of TCP
            connection.close()
            continue
        yield name, connection, address, total
