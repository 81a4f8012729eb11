"""What is learned: additive sums over observations, one class per family.

A statistic is a sum of one term per decision, so merging is ``+``, and a correction, a
cancellation, an erasure or a leaving window is ``-``. Each has two parts: what has been *learned*
(`of`) and what is *pending* (`waiting`): sent, but not yet due. A decision that matures moves from
one to the other: ``s - waiting(...) + of(...)``.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, Self, TypeVar

import msgspec
import numpy as np

from bandits.arrays import AnyArray, FloatArray, IntArray
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


def _sums(n_arms: int, arms: IntArray, values: FloatArray) -> FloatArray:
    """Sum values (..., n) by arm: (..., K), without building (..., n, K)."""
    lead = arms.shape[:-1]
    rows = int(np.prod(lead, dtype=np.int64))
    cells = arms.reshape(rows, -1) + n_arms * np.arange(rows)[:, None]
    flat = np.bincount(cells.ravel(), np.ravel(values), rows * n_arms)
    return flat.reshape(*lead, n_arms).astype(np.float64, copy=False)


class Additive:
    """The arithmetic that every family shares: it acts on each field by itself."""

    __slots__ = ()

    def _each(self, *others: Any) -> Any:
        return [tuple(getattr(s, f.name) for s in (self, *others)) for f in fields(self)]  # type: ignore[arg-type]

    def __add__(self, other: Self) -> Self:
        return type(self)(*(a + b for a, b in self._each(other)))

    def __sub__(self, other: Self) -> Self:
        return type(self)(*(a - b for a, b in self._each(other)))


@dataclass(frozen=True, slots=True, eq=False)
class Moments(Additive):
    """Sums of weights, rewards and squared rewards by arm, each (..., K); and what is pending.

    Attributes:
        count: Σ w, the observations learned.
        total: Σ w r.
        square: Σ w r².
        pending: decisions sent whose reward is not due yet.
    """

    count: FloatArray
    total: FloatArray
    square: FloatArray
    pending: FloatArray

    family: ClassVar[str] = "moments"
    contextual: ClassVar[bool] = False
    invertible: ClassVar[bool] = True

    @classmethod
    def of(
        cls,
        problem: Problem,
        arms: IntArray,
        rewards: FloatArray,
        contexts: FloatArray,  # noqa: ARG003 - this family has no use for contexts
        weights: FloatArray,
    ) -> "Moments":
        """Sum n observations: arms, rewards, weights (..., n)."""
        weighted = weights * rewards
        count = _sums(problem.n_arms, arms, weights)
        return cls(
            count,
            _sums(problem.n_arms, arms, weighted),
            _sums(problem.n_arms, arms, weighted * rewards),
            np.zeros_like(count),
        )

    @classmethod
    def waiting(
        cls,
        problem: Problem,
        arms: IntArray,
        contexts: FloatArray,  # noqa: ARG003 - this family has no use for contexts
        weights: FloatArray,
    ) -> "Moments":
        """Sum n decisions as pending: arms, weights (..., n)."""
        pending = _sums(problem.n_arms, arms, weights)
        none = np.zeros_like(pending)
        return cls(none, none, none, pending)

    @classmethod
    def zeros(cls, problem: Problem, lead: tuple[int, ...] = ()) -> "Moments":
        """Make the statistic of no observation: fields (*lead, K)."""
        none = np.zeros((*lead, problem.n_arms))
        return cls(none, none, none, none)

    def take(self, arms: IntArray) -> "Moments":
        """Restrict to the arms at these positions."""
        return Moments(*(a[..., arms] for (a,) in self._each()))

    def padded(self, problem: Problem) -> "Moments":
        """Append arms nobody has seen until there are the problem's."""
        return Moments(*(grown(a, problem.n_arms, axis=-1) for (a,) in self._each()))

    def decayed(self, factor: float) -> "Moments":
        """Weigh everything learned by `factor`."""
        return Moments(self.count * factor, self.total * factor, self.square * factor, self.pending)

    @property
    def means(self) -> FloatArray:
        """The mean reward by arm; an arm without data takes the pooled mean, or 0 without any."""
        if self.count.size and self.count.min() > NOTHING:
            return self.total / self.count
        out = np.broadcast_to(self.pooled_mean, self.count.shape).copy()
        return np.divide(self.total, self.count, out=out, where=self.count > NOTHING)

    @property
    def rounds(self) -> FloatArray:
        """How much has been learned over all arms, (..., 1)."""
        return self.count @ np.ones((self.count.shape[-1], 1))  # faster than sum on a short axis

    @property
    def variances(self) -> FloatArray:
        """The variance of rewards by arm; an arm without data takes that of all arms together."""
        some = self.count > NOTHING
        square = self.square.sum(axis=-1, keepdims=True)
        count = self.rounds
        pooled = np.divide(square, count, out=np.zeros_like(count), where=count > NOTHING)
        out = np.broadcast_to(pooled, self.count.shape).copy()
        np.divide(self.square, self.count, out=out, where=some)
        return np.maximum(out - self.means**2, 0)

    @property
    def pooled_mean(self) -> FloatArray:
        """The mean reward over all arms, (..., 1); 0 without any data."""
        count = self.rounds
        total = self.total.sum(axis=-1, keepdims=True)
        return np.divide(total, count, out=np.zeros_like(count), where=count > NOTHING)

    def learned(self, arms: IntArray, rewards: FloatArray) -> "Moments":
        """Add one observation of weight 1 to each state: arms, rewards (*lead,).

        The same as adding `of`, but fast enough for a simulation that learns at every step.
        """
        n_arms = self.count.shape[-1]
        cells = np.arange(arms.size) * n_arms + arms.reshape(-1)
        rewards = np.reshape(rewards, -1)
        out = Moments(self.count.copy(), self.total.copy(), self.square.copy(), self.pending)
        out.count.reshape(-1)[cells] += 1
        out.total.reshape(-1)[cells] += rewards
        out.square.reshape(-1)[cells] += rewards * rewards
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Ridge(Additive):
    """Sufficient sums of a disjoint linear model: one regression per arm on the context x (d,).

    Attributes:
        gram: Σ w x xᵀ, (..., K, d, d).
        moment: Σ w r x, (..., K, d).
        pending: Σ x xᵀ over decisions whose reward is not due yet, (..., K, d, d).
    """

    gram: FloatArray
    moment: FloatArray
    pending: FloatArray

    family: ClassVar[str] = "ridge"
    contextual: ClassVar[bool] = True
    invertible: ClassVar[bool] = True

    @classmethod
    def of(
        cls,
        problem: Problem,
        arms: IntArray,
        rewards: FloatArray,
        contexts: FloatArray,
        weights: FloatArray,
    ) -> "Ridge":
        """Sum n observations: arms, rewards, weights (..., n), contexts (..., n, d)."""
        gram = grams_by_arm(problem, arms, contexts, weights)
        moment = vectors_by_arm(problem, arms, contexts, weights * rewards)
        return cls(gram, moment, np.zeros_like(gram))

    @classmethod
    def waiting(
        cls, problem: Problem, arms: IntArray, contexts: FloatArray, weights: FloatArray
    ) -> "Ridge":
        """Sum n decisions as pending: arms, weights (..., n), contexts (..., n, d)."""
        pending = grams_by_arm(problem, arms, contexts, weights)
        return cls(np.zeros_like(pending), np.zeros(pending.shape[:-1]), pending)

    @classmethod
    def zeros(cls, problem: Problem, lead: tuple[int, ...] = ()) -> "Ridge":
        """Make the statistic of no observation."""
        d = problem.n_features
        gram = np.zeros((*lead, problem.n_arms, d, d))
        return cls(gram, np.zeros((*lead, problem.n_arms, d)), gram)

    def take(self, arms: IntArray) -> "Ridge":
        """Restrict to the arms at these positions."""
        return Ridge(
            self.gram[..., arms, :, :], self.moment[..., arms, :], self.pending[..., arms, :, :]
        )

    def padded(self, problem: Problem) -> "Ridge":
        """Append arms nobody has seen until there are the problem's."""
        n_arms = problem.n_arms
        return Ridge(
            grown(self.gram, n_arms, axis=-3),
            grown(self.moment, n_arms, axis=-2),
            grown(self.pending, n_arms, axis=-3),
        )

    def decayed(self, factor: float) -> "Ridge":
        """Weigh everything learned by `factor`."""
        return Ridge(self.gram * factor, self.moment * factor, self.pending)

    @property
    def matured(self) -> "Ridge":
        """What has been learned, without what is pending."""
        return Ridge(self.gram, self.moment, np.zeros_like(self.pending))


def _rows_of(arms: IntArray, contexts: FloatArray) -> tuple[int, IntArray, FloatArray]:
    """Flatten leading axes: how many replications, arms (rows, n), contexts (rows, n, d)."""
    rows = int(np.prod(arms.shape[:-1], dtype=np.int64))
    n, d = contexts.shape[-2:]
    return rows, arms.reshape(rows, n), contexts.reshape(rows, n, d)


def grams_by_arm(
    problem: Problem, arms: IntArray, contexts: FloatArray, weights: FloatArray
) -> FloatArray:
    """Sum w x xᵀ by arm: (..., K, d, d), one matrix product per arm that occurs."""
    rows, flat_arms, flat = _rows_of(arms, contexts)
    flat_weights = np.broadcast_to(weights, arms.shape).reshape(rows, -1)
    out = np.zeros((rows, problem.n_arms, problem.n_features, problem.n_features))
    if arms.shape[-1] == 1:  # one step of many replications: an outer product each
        x = flat[:, 0]
        out[np.arange(rows), flat_arms[:, 0]] = (flat_weights * x)[:, :, None] * x[:, None, :]
    else:
        for row in range(rows):
            for arm in np.unique(flat_arms[row]):
                chosen = flat_arms[row] == arm
                x = flat[row, chosen]
                out[row, arm] = (x * flat_weights[row, chosen, None]).T @ x
    return out.reshape(*arms.shape[:-1], *out.shape[1:])


def vectors_by_arm(
    problem: Problem, arms: IntArray, contexts: FloatArray, values: FloatArray
) -> FloatArray:
    """Sum v x by arm: (..., K, d)."""
    rows, flat_arms, flat = _rows_of(arms, contexts)
    flat_values = np.broadcast_to(values, arms.shape).reshape(rows, -1)
    out = np.zeros((rows, problem.n_arms, problem.n_features))
    if arms.shape[-1] == 1:
        out[np.arange(rows), flat_arms[:, 0]] = flat_values * flat[:, 0]
    else:
        for row in range(rows):
            for arm in np.unique(flat_arms[row]):
                chosen = flat_arms[row] == arm
                out[row, arm] = flat_values[row, chosen] @ flat[row, chosen]
    return out.reshape(*arms.shape[:-1], *out.shape[1:])


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
