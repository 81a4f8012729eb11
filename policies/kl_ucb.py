"""KL-UCB: the largest rate that an arm's results do not yet rule out."""

from typing import ClassVar

import numpy as np
from numpy.random import Generator
from scipy.special import entr, rel_entr

from bandits.array_types import FloatArray
from bandits.numerics.batched_index import (
    BatchIndexState,
    IndexState,
    index_propensities,
    index_sample,
)
from bandits.policy import Parameters, advance_online
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Moments
from bandits.statistics.online_moments import MomentsView

_SMALLEST = 1e-200  # in place of 1 - mean where that is 0, so that it can be divided by
_NEWTON_STEPS = 7  # from above, where it comes down monotonically; exact to 1e-12 after 6


@register("kl_ucb", label="KL-UCB", support=(0.0, 1.0))
class KLUCB(Parameters, frozen=True):
    """Send the variant whose rate could credibly be the highest.

    For opens and clicks in long campaigns: in the long run no other bound is as narrow. Nothing to
    tune.

    The index is the largest q with n · kl(mean, q) ≤ ln t, with n an arm's sends, those without a
    result yet included, and t the results of all arms, at least e. Source: Garivier and Cappé
    (2011), "The KL-UCB algorithm for bounded stochastic bandits and beyond", algorithm 1 with c =
    0; there one arm is sent at a time.
    """

    statistic: ClassVar[type[Moments]] = Moments

    def prepare(
        self, statistic: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> IndexState:
        """Fix the index that sends are shared by."""
        return BatchIndexState(statistic, _index, upcoming)

    propensities = index_propensities
    sample = index_sample
    advance = advance_online


def _index(statistic: MomentsView, sends: FloatArray) -> FloatArray:
    return largest_rate(np.clip(statistic.means, 0, 1), statistic.log_rounds / sends)


def largest_rate(mean: FloatArray, divergence: FloatArray) -> FloatArray:
    """Return the largest q in [mean, 1] with kl(mean, q) at most `divergence`, above 0.

    kl is convex in q, so that Newton's method comes down from any point above the answer. kl is the
    integral of (s - mean) / (s (1 - s)) up to q; putting q, 1 - mean or 1/4 for s (1 - s) makes it
    smaller, and so does leaving q < 1 out of mean · ln(mean / q): four points above the answer.
    """
    rest = np.maximum(1 - mean, _SMALLEST)
    far = -np.expm1(-(divergence + entr(mean) + entr(rest)) / rest)
    small = divergence + np.sqrt(divergence * (divergence + 2 * mean))
    near = np.minimum(small, np.sqrt(2 * divergence * np.minimum(rest, 0.25)))
    q = np.minimum(mean + near, far)
    for _ in range(_NEWTON_STEPS):
        q = np.minimum(q, 1 - 1e-16)
        excess = rel_entr(mean, q) + rel_entr(1 - mean, 1 - q) - divergence
        slope = (q - mean) / (q * (1 - q))
        q = q - np.divide(excess, slope, out=np.zeros_like(q), where=slope > 0)
    return np.clip(q, mean, 1)
