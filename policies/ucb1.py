"""UCB1: the mean plus a width that shrinks as an arm is sent."""

from functools import partial
from typing import Annotated, ClassVar

from msgspec import Meta
from numpy.random import Generator

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


@register("ucb1", label="UCB1")
class UCB1(Parameters, frozen=True):
    """Send the variant that could still be the best, and grant each of them much doubt.

    Predictable, since it follows a formula and not chance, but slow to settle on the small
    differences of emails.

    The index is mean + span · sqrt(w ln t / n), with n an arm's sends, those without a result yet
    included, and t the results of all arms, at least e. Source: Auer, Cesa-Bianchi and Fischer
    (2002), "Finite-time analysis of the multiarmed bandit problem", figure 1; there rewards lie in
    [0, 1], w is 2, and one arm is sent at a time.
    """

    statistic: ClassVar[type[Moments]] = Moments

    w: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            title="Width",
            description="How much doubt is granted: 2 is the theory's, .5 explores far less.",
        ),
    ] = 2.0

    def prepare(
        self, statistic: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> IndexState:
        """Fix the index that sends are shared by."""
        return BatchIndexState(statistic, partial(_index, problem.span * self.w**0.5), upcoming)

    propensities = index_propensities
    sample = index_sample
    advance = advance_online


def _index(reach: float, statistic: MomentsView, sends: FloatArray) -> FloatArray:
    return statistic.bounds(reach * statistic.log_rounds**0.5, sends)
