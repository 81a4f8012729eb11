"""Linear regression for emails made of slots: one model that all arms share."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bandits.array_types import FloatArray, IntArray
from bandits.problem import Problem
from bandits.statistics.statistic import NoPending

_CHUNK = 1 << 20  # values of features at once


@dataclass(frozen=True, slots=True, eq=False)
class SlotRidge(NoPending):
    """Sufficient sums of a linear model in which every variant of a slot has its own weights.

    The features of an arm are, for each of its S slots, the context in the place of the variant it
    shows, among L places (the most variants of any slot). They are D = S·L·d, and arms that share a
    variant learn from each other. Pending decisions are not kept.

    Attributes:
        gram: Σ w φ φᵀ, (..., D, D).
        moment: Σ w r φ, (..., D).
        square: Σ w r², (..., 1).
        count: Σ w, (..., 1).
    """

    gram: FloatArray
    moment: FloatArray
    square: FloatArray
    count: FloatArray

    family: ClassVar[str] = "slot_ridge"
    contextual: ClassVar[bool] = True
    invertible: ClassVar[bool] = True
    timed: ClassVar[bool] = False

    @classmethod
    def from_observations(
        cls,
        problem: Problem,
        arms: IntArray,
        rewards: FloatArray,
        contexts: FloatArray,
        weights: FloatArray,
    ) -> "SlotRidge":
        """Sum n observations: arms, rewards, weights (..., n), contexts (..., n, d)."""
        *lead, n = arms.shape
        out = cls.zeros(problem, tuple(lead))
        step = max(1, _CHUNK // max(1, out.moment.shape[-1]))
        for at in np.ndindex(*lead):
            for i in range(0, n, step):
                part = (*at, slice(i, i + step))
                features = slot_features(problem, arms[part], contexts[part])
                weighted = features * weights[part][:, None]
                out.gram[at] += weighted.T @ features
                out.moment[at] += rewards[part] @ weighted
        square = (weights * rewards**2).sum(axis=-1, keepdims=True)
        count = np.broadcast_to(weights, arms.shape).sum(axis=-1, keepdims=True)
        return cls(out.gram, out.moment, square, count)

    @classmethod
    def zeros(cls, problem: Problem, lead: tuple[int, ...] = ()) -> "SlotRidge":
        """Make the statistic of no observation."""
        n_slots, n_levels = _layout(problem)
        size = n_slots * n_levels * problem.n_features
        one = np.zeros((*lead, 1))
        return cls(np.zeros((*lead, size, size)), np.zeros((*lead, size)), one, one)

    def take(self, arms: IntArray) -> "SlotRidge":  # noqa: ARG002 - the family's contract
        """Keep all sums: those of a shared variant hold observations of other arms."""
        return self

    def padded(self, problem: Problem) -> "SlotRidge":
        """Make room for variants that joined a slot, after its earlier ones."""
        n_slots, n_levels = _layout(problem)
        d = problem.n_features
        old = self.moment.shape[-1] // max(1, n_slots * d)
        lead, new = self.moment.shape[:-1], max(0, n_levels - old)
        gram = self.gram.reshape(*lead, n_slots, old, d, n_slots, old, d)
        moment = self.moment.reshape(*lead, n_slots, old, d)
        none = [(0, 0)] * len(lead)
        grow = [(0, 0), (0, new), (0, 0)]
        size = n_slots * (old + new) * d
        return SlotRidge(
            np.pad(gram, none + grow + grow).reshape(*lead, size, size),
            np.pad(moment, none + grow).reshape(*lead, size),
            self.square,
            self.count,
        )


def _layout(problem: Problem) -> tuple[int, int]:
    """Count slots, and the variants of the slot that has most."""
    n_slots = problem.slot_levels.shape[-1]
    return n_slots, int(problem.slot_levels.max(initial=-1)) + 1


def slot_features(problem: Problem, arms: IntArray, contexts: FloatArray) -> FloatArray:
    """Lay out the features of n arms (n,) in contexts (n, d): (n, D)."""
    n_slots, n_levels = _layout(problem)
    features = np.zeros((len(arms), n_slots, n_levels, problem.n_features))
    rows, slots = np.arange(len(arms))[:, None], np.arange(n_slots)
    features[rows, slots, problem.slot_levels[arms]] = contexts[:, None, :]
    return features.reshape(len(arms), -1)
