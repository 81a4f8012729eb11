"""Array types used in signatures; shapes are in the docstrings (K arms, d features, n rows)."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
AnyArray = NDArray[Any]


@lru_cache(maxsize=64)
def row_starts(n_rows: int, n_columns: int) -> IntArray:
    """Return where each row of an array (n_rows, n_columns) begins when it is laid out flat."""
    starts = np.arange(n_rows) * n_columns
    starts.flags.writeable = False
    return starts
