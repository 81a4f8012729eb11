"""Sampling: draw arms by probabilities and uniform numbers, and hash ids to such numbers."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from bandits.array_types import FloatArray, IntArray

_TO_UNIT = 2.0**-53  # the spacing of doubles that fill [0, 1) evenly


def uniform(salt: bytes, key: str) -> float:
    """Hash a key to [0, 1): the same salt and key give the same number, for ever."""
    digest = blake2b(key.encode(), digest_size=8, key=salt).digest()
    return (int.from_bytes(digest, "big") >> 11) * _TO_UNIT


def uniforms(salt: bytes, keys: Sequence[str], *, prefix: str = "") -> FloatArray:
    """Hash n keys, each behind a prefix, to (n,) numbers in [0, 1)."""
    digests = b"".join(keyed_digests(salt, keys, size=8, prefix=prefix))
    return (np.frombuffer(digests, dtype=">u8") >> np.uint64(11)).astype(np.float64) * _TO_UNIT


def keyed_digests(key: bytes, texts: Sequence[str], *, size: int, prefix: str = "") -> list[bytes]:
    """Hash n texts, each behind a prefix, under a key, with BLAKE2b, to `size` bytes each."""
    start = blake2b(prefix.encode(), digest_size=size, key=key).copy  # half of starting anew
    digests = []
    for text in texts:
        digest = start()
        digest.update(text.encode())
        digests.append(digest.digest())
    return digests


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
