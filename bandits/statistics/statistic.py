"""Statistic: the contract of every family of sufficient statistics, additive over observations.

A statistic is a sum of one term per decision, so merging is ``+``, and a correction, a
cancellation, an erasure or a leaving window is ``-``. Each has two parts: decisions that have
*matured* (`from_observations`), and decisions that are *pending* (`from_pending`): sent, but not
due yet. A decision that matures moves from one to the other: ``s - from_pending(...) +
from_observations(...)``.
"""

from dataclasses import fields
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

import msgspec
import numpy as np

from bandits.additive import Additive, field_values
from bandits.array_types import AnyArray, FloatArray, IntArray
from bandits.problem import Problem


class Statistic(Protocol):
    """Contract of a family; axes before the arm axis broadcast (replications, say).

    A `timed` family is summed by `from_sent`, from the sending of a decision on, and as of a
    moment; see `bandits.statistics.answer_delays` and docs/adr/0069-answers-that-are-late.md.
    """

    family: ClassVar[str]
    contextual: ClassVar[bool]
    invertible: ClassVar[bool]
    timed: ClassVar[bool]

    @classmethod
    def from_observations(
        cls,
        problem: Problem,
        arms: IntArray,
        rewards: FloatArray,
        contexts: FloatArray,
        weights: FloatArray,
    ) -> Self:
        """Sum n observations: arms, rewards, weights (..., n), contexts (..., n, d)."""
        ...

    @classmethod
    def from_pending(
        cls, problem: Problem, arms: IntArray, contexts: FloatArray, weights: FloatArray
    ) -> Self:
        """Sum n decisions whose reward is not due yet, as pending."""
        ...

    @classmethod
    def zeros(cls, problem: Problem, lead: tuple[int, ...] = ()) -> Self:
        """Make the statistic of no observation, with leading axes `lead`."""
        ...

    def __add__(self, other: Self) -> Self: ...

    def __sub__(self, other: Self) -> Self: ...

    def take(self, arms: IntArray) -> Self:
        """Restrict to the arms at these positions."""
        ...

    def padded(self, problem: Problem) -> Self:
        """Append zeros until there is room for the problem's arms."""
        ...

    def decayed(self, factor: float) -> Self:
        """Weigh the matured observations by `factor`; pending decisions keep their weight."""
        ...


S = TypeVar("S", bound=Statistic)

NOTHING = 1e-9  # a weight this small is the rounding of subtracting, or a forgotten observation


class NoPending(Additive):
    """Family that keeps nothing of pending decisions: all its sums are of matured ones."""

    __slots__ = ()

    @classmethod
    def from_pending(
        cls,
        problem: Problem,
        arms: IntArray,
        contexts: FloatArray,  # noqa: ARG003 - pending decisions are not kept
        weights: FloatArray,  # noqa: ARG003 - as contexts
    ) -> Self:
        """Sum nothing: posteriors have no use for pending decisions."""
        nothing: Self = cast("type[Any]", cls).zeros(problem, arms.shape[:-1])
        return nothing

    def decayed(self, factor: float) -> Self:
        """Weigh all observations by `factor`."""
        return type(self)(*(a * factor for a in field_values(self)))


def pad_arms(array: FloatArray, n_arms: int, axis: int) -> FloatArray:
    """Append zeros along the arm axis until it has `n_arms`."""
    missing = n_arms - array.shape[axis]
    if not missing:
        return array
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, missing)
    return np.pad(array, widths)


def dump(statistic: Statistic) -> bytes:
    """Serialise a statistic: its family and every array's shape and little-endian doubles."""
    arrays = {
        f.name: _pack(getattr(statistic, f.name))
        for f in fields(statistic)  # type: ignore[arg-type]
    }
    return msgspec.msgpack.encode({"family": statistic.family, "arrays": arrays})


def load(family: type[S], packed: bytes) -> S:
    """Read a statistic that `dump` wrote.

    Raises:
        ValueError: it is of another family.
    """
    content = msgspec.msgpack.decode(packed)
    if content["family"] != family.family:
        raise ValueError(f"a {content['family']} statistic was stored, not a {family.family} one")
    return family(**{name: _unpack(a) for name, a in content["arrays"].items()})


def _pack(array: AnyArray) -> tuple[tuple[int, ...], bytes]:
    return array.shape, np.ascontiguousarray(array, dtype="<f8").tobytes()


def _unpack(packed: tuple[tuple[int, ...], bytes]) -> FloatArray:
    shape, content = packed
    return np.frombuffer(content, dtype="<f8").reshape(shape).astype(np.float64)
