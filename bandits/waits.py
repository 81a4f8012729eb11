"""Waits of threads for each other: within a limit, and in a queue that does many calls as one.

The work of one request may wait in a queue, for a connection and for a lock, one after the other.
Were each of these waits limited by itself, their limits would add up.

In the queue, a caller that comes while another's call is being done waits; then one of those that
wait, the leader, does the calls of all of them ("flat combining": D. Hendler and others, "Flat
combining and the synchronization-parallelism tradeoff", 2010). Where a group cannot be done as one,
each of its calls is done alone, by its own thread, so that no caller fails for the call of a
neighbour.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from threading import Lock
from typing import Generic, TypeVar

from bandits.errors import Unavailable

C = TypeVar("C")
R = TypeVar("R")

MOST_CALLS = 200  # in one group, so that none waits long for the others
MOST_WAITING = 2_000  # behind the group that is being done; callers beyond are to come again
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


class NotCombinable(Exception):
    """The calls of a group cannot be done as one; nothing of them was done."""


class _QueuedCall(Generic[C, R]):
    """A call in the queue; `woken` is free once it is done, is to be done alone, or leads."""

    __slots__ = ("call", "error", "leads", "results", "woken")

    def __init__(self, call: C) -> None:
        self.call = call
        self.leads = False
        self.results: Sequence[R] = ()  # one, once it is done
        self.error: Unavailable | None = None
        self.woken = Lock()
        self.woken.acquire()


class BatchingQueue(Generic[C, R]):
    """A queue of calls, of which those that wait at the same time are done together."""

    def __init__(
        self, alone: Callable[[C], R], together: Callable[[Sequence[C]], Sequence[R]]
    ) -> None:
        """Do calls by these functions.

        Args:
            alone: does one.
            together: does several, and all of them or none. Where it raises `Unavailable`, every
                caller gets that; where it raises anything else, each is done alone.
        """
        self._alone = alone
        self._together = together
        self._changing = Lock()
        self._waiting: list[_QueuedCall[C, R]] = []
        self._led = False

    def __len__(self) -> int:
        """Count the calls that wait behind the group that is being done."""
        return len(self._waiting)

    def do(self, call: C) -> R:
        """Do a call, together with the calls that wait beside it.

        Raises:
            Unavailable: its group could not be done, too many wait already, or its turn did not
                come within the limit of its waits; nothing was done.
        """
        with self._changing:
            if self._led:
                queued = self._enqueue(call)
            else:  # then nothing waits
                queued, self._led = None, True
        if queued is not None:
            return self._wait(queued)
        try:
            return self._alone(call)
        finally:
            self._hand_over()

    def _enqueue(self, call: C) -> _QueuedCall[C, R]:
        if len(self._waiting) >= MOST_WAITING:
            raise Unavailable(f"{MOST_WAITING:,} calls wait to be recorded already")
        queued: _QueuedCall[C, R] = _QueuedCall(call)
        self._waiting.append(queued)
        return queued

    def _wait(self, queued: _QueuedCall[C, R]) -> R:
        # Its leader, or the one before it, releases it.
        if not acquire(queued.woken):
            self._withdraw(queued)
            queued.woken.acquire()
        if queued.leads:
            self._lead(queued)
        if queued.error is not None:
            raise queued.error
        return queued.results[0] if queued.results else self._alone(queued.call)

    def _withdraw(self, queued: _QueuedCall[C, R]) -> None:
        """Take a call out of the queue, unless it is being done already.

        Raises:
            Unavailable: it was taken out.
        """
        with self._changing:
            if queued not in self._waiting:
                return
            self._waiting.remove(queued)
        raise Unavailable("the calls before this one are not recorded yet")

    def _lead(self, leader: _QueuedCall[C, R]) -> None:
        with self._changing:
            group = [leader, *self._waiting[: MOST_CALLS - 1]]
            del self._waiting[: MOST_CALLS - 1]
        try:
            if len(group) > 1:
                self._do(group)
            else:
                leader.results = [self._alone(leader.call)]
        finally:
            self._hand_over()
            for member in group[1:]:
                member.woken.release()

    def _do(self, group: Sequence[_QueuedCall[C, R]]) -> None:
        try:
            results = self._together([member.call for member in group])
        except Unavailable as error:
            for member in group:  # each its own, with its own traceback
                member.error = copy(error)
        except Exception:  # noqa: BLE001 - each finds out alone whether it was its own fault
            return
        else:
            for member, result in zip(group, results, strict=True):
                member.results = [result]

    def _hand_over(self) -> None:
        with self._changing:
            following = self._waiting.pop(0) if self._waiting else None
            self._led = following is not None
        if following is not None:
            following.leads = True
            following.woken.release()
