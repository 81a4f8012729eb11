"""Segments of recipients that results are computed for."""

from collections.abc import Sequence

import numpy as np

from bandits.array_types import FloatArray, IntArray
from bandits.features import Feature

MOST_SEGMENTS = 40


class Segmentation:
    """Segments that results are computed for: those of the first features that fit.

    Each is paid for in storage and by wider intervals, so there are at most `MOST_SEGMENTS`; a
    feature that would make more is passed over.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        """Choose among declared features, which may not change once an experiment has started."""
        self.features: list[Feature] = []
        self._columns: list[slice] = []
        self.size = 0  # number of segments
        at = 1
        for feature in features:
            if self.size + len(feature.segments()) <= MOST_SEGMENTS:
                self.features.append(feature)
                self._columns.append(slice(at, at + feature.width))
                self.size += len(feature.segments())
            at += feature.width

    def segments_of(self, contexts: FloatArray) -> IntArray:
        """Return the segment of each of n encoded contexts (n, d), by feature: (F, n)."""
        segments = np.zeros((len(self.features), len(contexts)), dtype=np.int64)
        first = 0
        for i, (feature, columns) in enumerate(zip(self.features, self._columns, strict=True)):
            segments[i] = first + feature.segment_of(contexts[:, columns])
            first += len(feature.segments())
        return segments
