"""Intervals drawn beside their numbers: one scale for all that are compared."""

from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct

from bandits.inference.intervals import Finding, Interval

_REACH = 4.0  # an interval this many times as wide as the middle one is drawn cut off


class IntervalBar(Struct, frozen=True):
    """An interval on a scale, in per cent of its width; a cut end goes on beyond it."""

    left: float
    right: float
    at: float
    cut_left: bool
    cut_right: bool


class BarScale(Struct, frozen=True):
    """What a column of bars spans."""

    low: float
    high: float

    @classmethod
    def of(cls, findings: Iterable[Finding | None], *also: float) -> "BarScale | None":
        """Span what is known, and the values `also` named; None where nothing is.

        One interval that is far wider than the others would leave them no room: it is cut off.
        """
        known = [f for f in findings if f is not None and f.measurable]
        if not known:
            return None
        below = np.array([f.estimate - f.low for f in known])
        above = np.array([f.high - f.estimate for f in known])
        reach = _REACH * float(np.median(np.maximum(below, above)))
        lows = [max(f.low, f.estimate - reach) for f in known]
        highs = [min(f.high, f.estimate + reach) for f in known]
        low, high = min(*lows, *also, *highs), max(*highs, *also, *lows)
        room = 0.02 * (high - low) or 0.02 * abs(high) or 1.0
        return cls(low - room if low < 0 or low > room else 0.0, high + room)

    def place(self, value: float) -> float:
        """Return where a value stands, in per cent of the width."""
        share = (value - self.low) / (self.high - self.low)
        return round(100.0 * min(max(share, 0.0), 1.0), 2)

    def bar(self, interval: Interval) -> IntervalBar:
        """Draw an interval."""
        return IntervalBar(
            self.place(interval.low),
            self.place(interval.high),
            self.place(interval.estimate),
            interval.low < self.low,
            interval.high > self.high,
        )


def reasons(findings: Sequence[Finding | None]) -> list[str]:
    """List, each once, why findings are not measurable yet."""
    found = [f.reason for f in findings if f is not None and not f.measurable]
    return list(dict.fromkeys(found))
