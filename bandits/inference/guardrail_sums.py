"""Guardrail sums: emails by day of sending, those with a guardrail's event, and its bets.

An email counts for the guardrails that were declared when it was decided, from the moment that its
clock starts; its silence counts as none at once. So the sums can never show fewer events for the
emails there were than will come of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from bandits.array_types import FloatArray, IntArray

EMAILS, EVENTS = 0, 1
COUNTS = 2  # rows of a cell before its bets
_LITTLE = "<f8"  # how arrays are stored, whatever the machine
_DAY = 86_400.0
_DAILY = 56  # days that are a period each; from then on each week is
_WEEK = 7

# Name of the guardrail's series, the slot of its bets, the configuration from which on it counts
# anew, and the period of sending.
GuardrailKey = tuple[str, int, int, int]
ALL_SLOTS = -1


def start_period_of(started_at: FloatArray, since: float) -> IntArray:
    """Number the period of n times, (n,): days in UTC for eight weeks, then whole weeks.

    A period depends on nothing but the two times, so sums can be put together in any order.
    """
    days = np.maximum(np.floor(started_at / _DAY) - np.floor(since / _DAY), 0.0)
    weeks = _DAILY + np.floor((days - _DAILY) / _WEEK)
    return np.where(days < _DAILY, days, weeks).astype(np.int64)


class PeriodCells(NamedTuple):
    """Cells of one guardrail, (P, 2 + B, K), by ascending number of the period, (P,)."""

    numbers: IntArray
    cells: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class GuardrailSums:
    """Sums over sent decisions that were not held out, by guardrail and period; additive.

    Attributes:
        n_arms: K.
        cells: (2 + B, K) by key: emails, those with the event, and the logarithms of B bets, which
            only a comparison with the control has. Of a variant these stand at the first arm that
            has it.
    """

    n_arms: int
    cells: Mapping[GuardrailKey, FloatArray]

    @classmethod
    def zeros(cls, n_arms: int) -> "GuardrailSums":
        """Make the sums over no decision."""
        return cls(n_arms, {})

    def __add__(self, other: "GuardrailSums") -> "GuardrailSums":
        return self._joined(other, 1.0)

    def __sub__(self, other: "GuardrailSums") -> "GuardrailSums":
        return self._joined(other, -1.0)

    def _joined(self, other: "GuardrailSums", sign: float) -> "GuardrailSums":
        if not other.cells:
            return self
        cells = dict(self.cells)
        for key, cell in other.cells.items():
            joined = cells[key] + sign * cell if key in cells else sign * cell
            if joined[:COUNTS].any():  # whole numbers: what is taken out leaves 0
                cells[key] = joined
            else:
                cells.pop(key, None)
        return GuardrailSums(self.n_arms, cells)

    def padded(self, n_arms: int) -> "GuardrailSums":
        """Append arms without decisions, until there are `n_arms`."""
        missing = n_arms - self.n_arms
        if not missing:
            return self
        cells = {key: np.pad(cell, [(0, 0), (0, missing)]) for key, cell in self.cells.items()}
        return GuardrailSums(n_arms, cells)

    def by_period(self, name: str, slot: int = ALL_SLOTS, since: int = 0) -> PeriodCells:
        """Sum the cells of a guardrail by period.

        Args:
            name: of its series.
            slot: of its bets.
            since: the configuration from which on emails count.
        """
        by_number: dict[int, FloatArray] = {}
        for (of, at, epoch, period), cell in self.cells.items():
            if (of, at) == (name, slot) and epoch >= since:
                by_number[period] = by_number[period] + cell if period in by_number else cell
        numbers = sorted(by_number)
        cells = [by_number[number] for number in numbers]
        none = np.zeros((0, COUNTS, self.n_arms))
        return PeriodCells(np.array(numbers, dtype=np.int64), np.stack(cells) if cells else none)

    @property
    def heights(self) -> dict[GuardrailKey, int]:
        """Number of rows of each cell, by ascending key."""
        return {key: len(cell) for key, cell in sorted(self.cells.items(), key=lambda c: c[0])}

    def spread(self, heights: Mapping[GuardrailKey, int], rows: slice) -> FloatArray:
        """Return some rows of the cells of these keys, (n, K), zeros where there is none."""
        none = np.zeros((0, self.n_arms))
        cells = [self.cells.get(k, np.zeros((h, self.n_arms))) for k, h in heights.items()]
        return np.concatenate([none, *(cell[rows] for cell in cells)])

    def dump(self) -> bytes:
        """Serialise; nothing of no decision."""
        if not self.cells:
            return b""
        cells = [
            (*key, len(cell), cell.astype(_LITTLE).tobytes())
            for key, cell in sorted(self.cells.items(), key=lambda pair: pair[0])
        ]
        return msgspec.msgpack.encode((self.n_arms, cells))

    @classmethod
    def load(cls, packed: bytes, n_arms: int) -> "GuardrailSums":
        """Read back what `dump` wrote, with room for `n_arms`."""
        if not packed:
            return cls.zeros(n_arms)
        width, stored = msgspec.msgpack.decode(packed)
        cells = {
            (name, slot, epoch, period): np.frombuffer(array, _LITTLE)
            .astype(np.float64)
            .reshape(height, width)
            for name, slot, epoch, period, height, array in stored
        }
        return cls(width, cells).padded(n_arms)
