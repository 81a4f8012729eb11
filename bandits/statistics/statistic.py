"""What every family of statistics is: additive sums over observations.

A statistic is a sum of one term per decision, so merging is ``+``, and a correction, a
cancellation, an erasure or a leaving window is ``-``. Each has two parts: what has been *learned*
(`of`) and what is *pending* (`waiting`): sent, but not yet due. A decision that matures moves from
one to the other: ``s - waiting(...) + of(...)``.
"""

from dataclasses import fields
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

import msgspec
import numpy as np

from bandits.additive import Additive, field_values
from bandits.array_types import AnyArray, FloatArray, IntArray
from bandits.problem import Problem


class Statistic(Protocol):
    """The contract of a family; axes before the arm axis broadcast (replications, say)."""

    family: ClassVar[str]
    contextual: ClassVar[bool]
    invertible: ClassVar[bool]

    @classmethod
    def of(
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
    def waiting(
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
        """Append what nobody has seen until it has room for the problem's arms."""
        ...

    def decayed(self, factor: float) -> Self:
        """Weigh everything learned by `factor`; what is pending keeps its weight."""
        ...


S = TypeVar("S", bound=Statistic)

NOTHING = 1e-9  # a weight this small is what subtracting or forgetting leaves of no observation


class NoPending(Additive):
    """A family that keeps nothing of what is pending: everything it holds is learned."""

    __slots__ = ()

    @classmethod
    def waiting(
        cls,
        problem: Problem,
        arms: IntArray,
        contexts: FloatArray,  # noqa: ARG003 - what is pending is not kept
        weights: FloatArray,  # noqa: ARG003 - as contexts
    ) -> Self:
        """Sum nothing: posteriors have no use for what is pending."""
        nothing: Self = cast("type[Any]", cls).zeros(problem, arms.shape[:-1])
        return nothing

    def decayed(self, factor: float) -> Self:
        """Weigh everything by `factor`."""
        return type(self)(*(a * factor for a in field_values(self)))


def grown(array: FloatArray, n_arms: int, axis: int) -> FloatArray:
    """Append zeros along the arm axis until it has `n_arms`."""
    missing = n_arms - array.shape[axis]
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, missing)
    return np.pad(array, widths)


def dump(statistic: Statistic) -> bytes:
    """Serialise a statistic: its family and every array's shape and little-endian doubles."""
    arrays = {
        f.name: _packed(getattr(statistic, f.name))
        for f in fields(statistic)  # type: ignore[arg-type]
    }
    return msgspec.msgpack.encode({"family": statistic.family, "arrays": arrays})


def load(family: type[S], packed: bytes) -> S:
    """Read back what `dump` wrote.

    Raises:
        ValueError: it was another family's.
    """
    content = msgspec.msgpack.decode(packed)
    if content["family"] != family.family:
        raise ValueError(f"a {content['family']} statistic was stored, not a {family.family} one")
    return family(**{name: _unpacked(a) for name, a in content["arrays"].items()})


def _packed(array: AnyArray) -> tuple[tuple[int, ...], bytes]:
    return array.shape, np.ascontiguousarray(array, dtype="<f8").tobytes()


def _unpacked(packed: tuple[tuple[int, ...], bytes]) -> FloatArray:
    shape, content = packed
    return np.frombuffer(content, dtype="<f8").reshape(shape).astype(np.float64)
