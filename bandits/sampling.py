"""Turning probabilities and a uniform into an arm, and ids into uniforms."""

import os
import time
from collections import deque
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from bandits.array_types import FloatArray, IntArray

_TO_UNIT = 2.0**-53  # the spacing of doubles that fill [0, 1) evenly
_NOISE_BYTES = 10  # of an id
_AHEAD = 256  # ids' noise that is fetched at once

_noise: deque[bytes] = deque()
os.register_at_fork(after_in_child=_noise.clear)  # or both would make the same ids


def noise() -> bytes:
    """Return ten random bytes that nobody can guess.

    The operating system is asked for many at once: each time it is, Python lets other threads run
    and then waits for them, which among many threads takes longer than all else of an id.
    """
    try:
        return _noise.popleft()
    except IndexError:  # each thread that finds nothing fetches its own
        fresh = os.urandom(_NOISE_BYTES * _AHEAD)
        rest = range(_NOISE_BYTES, len(fresh), _NOISE_BYTES)
        _noise.extend([fresh[i : i + _NOISE_BYTES] for i in rest])
        return fresh[:_NOISE_BYTES]


def uniform(salt: bytes, key: str) -> float:
    """Hash a key to [0, 1): the same salt and key give the same number, for ever."""
    digest = blake2b(key.encode(), digest_size=8, key=salt).digest()
    return (int.from_bytes(digest, "big") >> 11) * _TO_UNIT


def uniforms(salt: bytes, keys: Sequence[str]) -> FloatArray:
    """Hash n keys to (n,) numbers in [0, 1)."""
    digests = b"".join(keyed_digests(salt, keys, size=8))
    return (np.frombuffer(digests, dtype=">u8") >> np.uint64(11)).astype(np.float64) * _TO_UNIT


def keyed_digests(key: bytes, texts: Sequence[str], *, size: int) -> list[bytes]:
    """Hash n texts under a key, with BLAKE2b, to `size` bytes each."""
    keyed = blake2b(digest_size=size, key=key).copy  # a copy costs half of starting anew
    found = []
    for text in texts:
        hashing = keyed()
        hashing.update(text.encode())
        found.append(hashing.digest())
    return found


def draw(probabilities: FloatArray, u: FloatArray) -> IntArray:
    """Draw arms by inverting the cumulative distribution; an arm of probability 0 never comes.

    Args:
        probabilities: (K,) for one distribution that everybody shares, or (..., K).
        u: (n,) numbers in [0, 1) for a shared distribution, else (...,).

    Returns:
        One arm for each number in `u`, int.
    """
    cumulative = np.cumsum(probabilities, axis=-1)
    aim = u * cumulative[..., -1]  # the last sum differs from 1 by rounding
    if cumulative.ndim == 1:
        return np.searchsorted(cumulative, aim, side="right")
    if cumulative.size > aim.size:
        return np.count_nonzero(cumulative <= aim[..., None], axis=-1)
    # Many draws share each distribution: arm by arm, nothing of K times their number is built.
    arms = np.zeros(aim.shape, np.int64)
    for k in range(cumulative.shape[-1] - 1):
        arms += cumulative[..., k] <= aim
    return arms


def time_ordered_id(now: float | None = None) -> str:
    """Make a UUIDv7 (RFC 9562, section 5.7): its first 48 bits are the time in milliseconds."""
    return time_ordered_ids(1, now)[0]


def time_ordered_ids(n: int, now: float | None = None) -> list[str]:
    """Make n UUIDv7 for the same millisecond, ascending so that an index takes them in order."""
    milliseconds = int((time.time() if now is None else now) * 1000)
    head = f"{milliseconds & 0xFFFFFFFFFFFF:012x}"
    digits = (noise() if n == 1 else os.urandom(_NOISE_BYTES * n)).hex()
    stems = [digits[i : i + 20] for i in range(0, 20 * n, 20)]
    ids = [
        f"{head[:8]}-{head[8:]}-7{s[:3]}-{'89ab'[int(s[3], 16) & 3]}{s[4:7]}-{s[7:19]}"
        for s in stems
    ]
    ids.sort()
    return ids
