"""Comparison with secrets, in a time that tells nothing of them."""

from collections.abc import Iterable
from hmac import compare_digest


def is_one_of(actual: str | bytes, expected: Iterable[bytes]) -> bool:
    """Compare with each of some secrets, whichever of them fits."""
    content = actual.encode("utf-8", "replace") if isinstance(actual, str) else actual
    fits = False
    for one in expected:
        fits |= compare_digest(content, one)
    return fits
