"""Which segments of recipients results are told apart by."""

from collections.abc import Sequence

import numpy as np

from bandits.array_types import FloatArray, IntArray
from bandits.features import Feature

MOST_SEGMENTS = 40


class Segmentation:
    """The segments that results are told apart by: those of the first features that fit.

    Each is paid for in storage and by wider intervals, so there are at most `MOST_SEGMENTS`; a
    feature that would make more is passed over.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        """Choose among declared features, which may not change once an experiment has started."""
        self.features: list[Feature] = []
        self._columns: list[slice] = []
        self.size = 0  # how many segments there are
        at = 1
        for feature in features:
            if self.size + len(feature.segments()) <= MOST_SEGMENTS:
                self.features.append(feature)
                self._columns.append(slice(at, at + feature.width))
                self.size += len(feature.segments())
            at += feature.width

    def of(self, contexts: FloatArray) -> IntArray:
        """Tell which segment each of n encoded contexts (n, d) is in, by each feature: (F, n)."""
        found = np.zeros((len(self.features), len(contexts)), dtype=np.int64)
        first = 0
        for i, (feature, columns) in enumerate(zip(self.features, self._columns, strict=True)):
            found[i] = first + feature.segment_of(contexts[:, columns])
            first += len(feature.segments())
        return found
