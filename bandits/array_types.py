"""Array types used in signatures; shapes are in the docstrings (K arms, d features, n rows)."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
AnyArray = NDArray[Any]


def distinct_places(numbers: IntArray) -> tuple[IntArray, IntArray]:
    """Return the distinct ones of numbers (n,), ascending, and the place of each among them, (n,).

    It is what `np.unique` returns with its inverse, for whole numbers that lie close together, such
    as days: nothing is sorted.
    """
    if not len(numbers):
        return numbers, numbers
    least = numbers.min()
    offsets = numbers - least
    taken = np.bincount(offsets) > 0
    return np.flatnonzero(taken) + least, (np.cumsum(taken) - 1)[offsets]


@lru_cache(maxsize=64)
def row_starts(n_rows: int, n_columns: int) -> IntArray:
    """Return where each row of an array (n_rows, n_columns) begins when it is laid out flat."""
    starts = np.arange(n_rows) * n_columns
    starts.flags.writeable = False
    return starts
