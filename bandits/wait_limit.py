"""Wait limit: how long the work of one request may wait for others, all of its waits together.

A request may wait in a queue, for a connection and for a lock, one after the other. Were each of
these waits limited by itself, their limits would add up.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

from bandits.errors import Unavailable

_ENDS: ContextVar[float | None] = ContextVar("wait_limit", default=None)


@contextmanager
def limit_waits(seconds: float) -> Iterator[None]:
    """Limit what this thread waits for others from now on; with 0 it never waits."""
    token = _ENDS.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ENDS.reset(token)


def seconds_left(at_most: float) -> float:
    """Return for how long a wait may last: `at_most`, or less where a limit ends sooner.

    Raises:
        Unavailable: nothing is left of the limit.
    """
    ends = _ENDS.get()
    if ends is None:
        return at_most
    left = ends - time.monotonic()
    if left <= 0:
        raise Unavailable("others have kept the database busy for too long")
    return min(at_most, left)


@contextmanager
def held(lock: Lock, busy: str) -> Iterator[None]:
    """Hold a lock that others may hold while they wait for the database.

    Args:
        lock: of this process.
        busy: the reason of the error.

    Raises:
        Unavailable: it is not free within the limit; without a limit it is waited for.
    """
    if not acquire(lock):
        raise Unavailable(busy)
    try:
        yield
    finally:
        lock.release()


def acquire(lock: Lock) -> bool:
    """Acquire a lock; return False where it is not free within the limit, if there is one."""
    ends = _ENDS.get()
    if ends is None:
        return lock.acquire()
    return lock.acquire(timeout=max(ends - time.monotonic(), 0.0))
