"""Ids of decisions: UUIDv7, which ascend with time, and the random bytes that they are made of."""

import os
import time
from collections import deque

_RANDOM_BYTES = 10  # of an id
_AHEAD = 256  # ids whose random bytes are fetched at once

_pool: deque[bytes] = deque()
os.register_at_fork(after_in_child=_pool.clear)  # or both would make the same ids


def random_bytes() -> bytes:
    """Return ten random bytes that nobody can guess.

    The operating system is asked for many at once: each time it is, Python lets other threads run
    and then waits for them, which among many threads takes longer than all else of an id.
    """
    try:
        return _pool.popleft()
    except IndexError:  # each thread that finds nothing fetches its own
        fresh = os.urandom(_RANDOM_BYTES * _AHEAD)
        rest = range(_RANDOM_BYTES, len(fresh), _RANDOM_BYTES)
        _pool.extend([fresh[i : i + _RANDOM_BYTES] for i in rest])
        return fresh[:_RANDOM_BYTES]


def time_ordered_id(now: float | None = None) -> str:
    """Make a UUIDv7 (RFC 9562, section 5.7): its first 48 bits are the time in milliseconds."""
    return time_ordered_ids(1, now)[0]


def time_ordered_ids(n: int, now: float | None = None) -> list[str]:
    """Make n UUIDv7 for the same millisecond, ascending so that an index takes them in order."""
    random = random_bytes() if n == 1 else os.urandom(_RANDOM_BYTES * n)
    ids = ids_from_bytes(random, time.time() if now is None else now)
    ids.sort()
    return ids


def ids_from_bytes(random: bytes, now: float) -> list[str]:
    """Make a UUIDv7 of each ten bytes, for the same millisecond."""
    head = f"{int(now * 1000) & 0xFFFFFFFFFFFF:012x}"
    head = f"{head[:8]}-{head[8:]}"
    digits = random.hex()
    return [
        f"{head}-7{digits[i : i + 3]}-{'89ab'[int(digits[i + 3], 16) & 3]}{digits[i + 4 : i + 7]}"
        f"-{digits[i + 7 : i + 19]}"
        for i in range(0, len(digits), 2 * _RANDOM_BYTES)
    ]
