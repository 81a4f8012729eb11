"""Logged rounds: a log as arrays, checked so that no fault of it passes for a finding."""

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import force_setattr

from bandits.array_types import AnyArray, BoolArray, FloatArray, IntArray
from bandits.errors import InvalidInput

_SUM_TOLERANCE = 1e-6  # of probabilities that sum to 1
_SAME = 1e-6  # a probability may be written in fewer digits in one column than in another

_MATRIX = 2  # axes


class LoggedRounds(Struct, frozen=True, eq=False):
    """n rounds of a log, in the order in which they were made; K arms, d features.

    Any array-like is taken. Construction checks every field.

    Attributes:
        arms: (n,) int in [0, K), the arm that was sent.
        rewards: (n,) what it earned, in [low, high].
        propensities: (n,) the probability that this arm was drawn with, in (0, 1].
        probabilities: (n, K) of every arm, rows summing to 1; None where they are not known.
        contexts: (n, d) features of the recipients; None where there are none.
        eligible: (n, K) bool, the arms that each could get; None where that was every arm.
        times: (n,) seconds since 1970, not descending; None where only the order is known.
        slot_levels: (K, S) int, the variant that each arm shows in each of S slots, or None.
        names: of the K arms; by default their numbers.
        low: the smallest reward that a round can earn.
        high: the largest.
        notes: what a reader of results has to know of it, such as rows that were left out.

    Raises:
        InvalidInput: a field has NaN, the wrong shape, or values that it cannot have; its pointer
            is the field.
    """

    arms: IntArray
    rewards: FloatArray
    propensities: FloatArray
    probabilities: FloatArray | None = None
    contexts: FloatArray | None = None
    eligible: BoolArray | None = None
    times: FloatArray | None = None
    slot_levels: IntArray | None = None
    names: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        force_setattr(self, "arms", _whole("arms", self.arms))
        force_setattr(self, "names", tuple(map(str, self.names)) or self._numbered())
        for name in ("rewards", "propensities", "probabilities", "contexts", "times"):
            values = getattr(self, name)
            if values is not None:
                force_setattr(self, name, as_floats(name, values))
        if self.eligible is not None:
            force_setattr(self, "eligible", _flags("eligible", self.eligible))
        if self.slot_levels is not None:
            force_setattr(self, "slot_levels", _whole("slot_levels", self.slot_levels))
        self._check_shapes()
        self._check_values()

    def _numbered(self) -> tuple[str, ...]:
        if self.probabilities is not None and np.ndim(self.probabilities) == _MATRIX:
            return tuple(map(str, range(np.shape(self.probabilities)[1])))
        return tuple(map(str, range(int(self.arms.max(initial=-1)) + 1)))

    def _check_shapes(self) -> None:
        if not self.arms.ndim == 1 or not len(self.arms):
            raise InvalidInput.at("/arms", f"must have shape (n,), not {self.arms.shape}")
        n, n_arms = self.n, self.n_arms
        shapes: dict[str, tuple[tuple[int, ...], str]] = {
            "rewards": ((n,), "(n,)"),
            "propensities": ((n,), "(n,)"),
            "times": ((n,), "(n,)"),
            "probabilities": ((n, n_arms), "(n, K)"),
            "eligible": ((n, n_arms), "(n, K)"),
        }
        for name, (shape, symbols) in shapes.items():
            check_shape(name, getattr(self, name), shape, symbols)
        for name, rows, symbols in (("contexts", n, "(n, d)"), ("slot_levels", n_arms, "(K, S)")):
            values = getattr(self, name)
            if values is not None and (values.ndim != _MATRIX or len(values) != rows):
                expected = f"{symbols} with {rows:,} rows"
                raise InvalidInput.at(f"/{name}", f"must have shape {expected}, not {values.shape}")

    def _check_values(self) -> None:
        if len(set(self.names)) < self.n_arms:
            raise InvalidInput.at("/names", "must be different from each other")
        refuse_rows("arms", (self.arms < 0) | (self.arms >= self.n_arms), self.arms, "is no arm")
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise InvalidInput.at("/high", "must be a finite number above low")
        outside = (self.rewards < self.low) | (self.rewards > self.high)
        interval = f"is not in [{self.low:g}, {self.high:g}], the declared range"
        refuse_rows("rewards", outside, self.rewards, interval)
        impossible = (self.propensities <= 0) | (self.propensities > 1)
        refuse_rows("propensities", impossible, self.propensities, "is not in (0, 1]")
        sent = np.arange(self.n), self.arms
        if self.probabilities is not None:
            check_distribution("probabilities", self.probabilities)
            differs = np.abs(self.probabilities[sent] - self.propensities) > _SAME
            other = "is not the probability of the arm that was sent"
            refuse_rows("propensities", differs, self.propensities, other)
        if self.eligible is not None:
            nothing = ~np.any(self.eligible, axis=1)
            refuse_rows("eligible", nothing, self.arms, "was sent where no arm was eligible")
            refuse_rows("arms", ~self.eligible[sent], self.arms, "was not eligible")
        if self.times is not None:
            back = np.flatnonzero(np.diff(self.times) < 0)
            if len(back):
                row = int(back[0]) + 1
                detail = f"row {row} is earlier than the row before it; sort the log by time"
                raise InvalidInput.at("/times", detail)

    @property
    def n(self) -> int:
        """Number of rounds."""
        return len(self.arms)

    @property
    def n_arms(self) -> int:
        """K, the number of arms."""
        return len(self.names)

    @property
    def features(self) -> FloatArray:
        """A constant and the contexts, (n, 1 + d), as the engine's encoder gives them."""
        constant = np.ones((self.n, 1))
        return constant if self.contexts is None else np.hstack([constant, self.contexts])

    def arm(self, name: str) -> int:
        """Return the number of a named arm.

        Raises:
            InvalidInput: there is no such arm.
        """
        if name not in self.names:
            others = ", ".join(self.names[:20])
            raise InvalidInput.at("", f"the log has no arm {name!r}; it has {others}")
        return self.names.index(name)

    def take(self, rows: IntArray | slice) -> "LoggedRounds":
        """Return some of the rounds, in this order; without times where that is not theirs."""
        part = copy(self)  # of rounds that were checked
        for name in ("arms", "rewards", "propensities", "probabilities", "contexts", "eligible"):
            values = getattr(self, name)
            force_setattr(part, name, None if values is None else values[rows])
        times = None if self.times is None else self.times[rows]
        if times is not None and (np.diff(times) < 0).any():
            times = None
        force_setattr(part, "times", times)
        return part


def as_floats(name: str, values: Any) -> FloatArray:
    """Turn an array-like into numbers.

    Raises:
        InvalidInput: at ``/{name}``: it is no array of numbers, or has NaN or infinity.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInput.at(f"/{name}", "must be an array of numbers") from None
    strange = ~np.isfinite(array)
    if strange.any():
        place = ", ".join(map(str, np.argwhere(strange)[0].tolist()))
        value = array[strange][0]
        raise InvalidInput.at(f"/{name}", f"[{place}] is {value:g}; must be finite numbers")
    return array


def _whole(name: str, values: Any) -> IntArray:
    numbers = as_floats(name, values)
    whole = np.rint(numbers)
    if not np.array_equal(whole, numbers):
        raise InvalidInput.at(f"/{name}", "must be whole numbers")
    return whole.astype(np.int64)


def _flags(name: str, values: Any) -> BoolArray:
    array = np.asarray(values)
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise InvalidInput.at(f"/{name}", "must be true or false")
    return array.astype(np.bool_)


def check_shape(name: str, values: AnyArray | None, shape: tuple[int, ...], symbols: str) -> None:
    """Refuse an array of another shape; None passes.

    Raises:
        InvalidInput: at ``/{name}``.
    """
    if values is not None and values.shape != shape:
        detail = f"must have shape {symbols} = {shape}, not {values.shape}"
        raise InvalidInput.at(f"/{name}", detail)


def check_distribution(name: str, rows: FloatArray) -> None:
    """Refuse probabilities (n, K) of which one is below 0 or a row does not sum to 1.

    Raises:
        InvalidInput: at ``/{name}``, with the row.
    """
    refuse_rows(name, np.any(rows < 0, axis=1), rows.min(axis=1), "is a negative probability")
    sums = rows.sum(axis=1)
    refuse_rows(name, np.abs(sums - 1) > _SUM_TOLERANCE, sums, "is the sum, which must be 1")


def refuse_rows(
    name: str, wrong: AnyArray, values: Sequence[float] | AnyArray, detail: str
) -> None:
    """Refuse rows (n,) of a field, if there are any, by the first one and its value.

    Raises:
        InvalidInput: at ``/{name}``.
    """
    if wrong.any():
        row = int(np.argmax(wrong))
        count = int(np.count_nonzero(wrong))
        others = f" (and {count - 1:,} more)" if count > 1 else ""
        raise InvalidInput.at(f"/{name}", f"row {row}: {values[row]:g} {detail}{others}")
