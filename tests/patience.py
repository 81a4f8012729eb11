"""Patience: how long a test waits for anything, in one place.

A test waits for a state, never for time to pass, and gives up after one limit that holds also on a
machine with much else to do. ``TEST_LIMIT_SECONDS`` sets another.
"""

import os
import time
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

LIMIT_SECONDS = float(os.environ.get("TEST_LIMIT_SECONDS", "300"))
LIMIT_MS = 1000 * LIMIT_SECONDS
SOAK_SECONDS = 6 * LIMIT_SECONDS  # for one program that tests for minutes by itself
_POLL_SECONDS = 0.01

# For `bandits.client.Client`: a try that hangs leaves time for others.
CLIENT_LIMITS = {
    "timeout_seconds": LIMIT_SECONDS / 4,
    "deadline_seconds": LIMIT_SECONDS,
    "batch_timeout_seconds": LIMIT_SECONDS / 4,
}

T = TypeVar("T")


def wait_until(read: Callable[[], T], what: str, accept: Callable[[T], object] = bool) -> T:
    """Read a state until it is accepted, and return it.

    Args:
        read: returns the state as it is now; an error that it raises ends the waiting.
        what: the state that is waited for, for the message.
        accept: tells whether a state is the one that is waited for.

    Raises:
        AssertionError: the limit has passed; the message says what was seen last.
    """
    deadline = time.monotonic() + LIMIT_SECONDS
    while not accept(state := read()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"no {what} in {LIMIT_SECONDS:g} s; last seen: {state!r}")
        time.sleep(_POLL_SECONDS)
    return state


def join(*threads: Thread) -> None:
    """Wait until threads have ended.

    Raises:
        AssertionError: one of them still runs after the limit.
    """
    for thread in threads:
        thread.join(LIMIT_SECONDS)
        assert not thread.is_alive(), f"{thread.name} still runs after {LIMIT_SECONDS:g} s"
