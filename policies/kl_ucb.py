"""KL-UCB: the largest rate that an arm's results do not yet rule out."""

from typing import ClassVar

import numpy as np
from numpy.random import Generator

from bandits.array_types import FloatArray
from bandits.numerics.batched_index import (
    BatchIndexState,
    IndexState,
    wave_propensities,
    wave_sample,
)
from bandits.numerics.kl import largest_rate
from bandits.numerics.sequential import advance_online
from bandits.policy import Parameters
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Moments
from bandits.statistics.online_moments import MomentsView


@register("kl_ucb", label="KL-UCB", support=(0.0, 1.0))
class KLUCB(Parameters, frozen=True):
    """Send the variant whose rate could credibly be the highest.

    For opens and clicks in long campaigns: in the long run nothing judges more sharply what is
    still credible. Nothing to tune.

    The index is the largest q with n · kl(mean, q) ≤ ln t, with n an arm's sends, those without a
    result yet included, and t the results of all arms, at least e. Source: Garivier and Cappé
    (2011), "The KL-UCB algorithm for bounded stochastic bandits and beyond", algorithm 1 with c =
    0; there one arm is sent at a time.
    """

    statistic: ClassVar[type[Moments]] = Moments

    def prepare(
        self, known: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> IndexState:
        """Fix the index that sends are shared by."""
        return BatchIndexState(known, _index, upcoming)

    propensities = wave_propensities
    sample = wave_sample
    advance = advance_online


def _index(known: MomentsView, sends: FloatArray) -> FloatArray:
    return largest_rate(np.clip(known.means, 0, 1), known.log_rounds / sends)
