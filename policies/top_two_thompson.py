"""Top-two Thompson sampling: the best, or the one most likely to be better."""

from math import prod
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.arrays import FloatArray, IntArray
from bandits.draw import draw
from bandits.numerics.posterior import BetaPosterior, BetaState
from bandits.numerics.quadrature import beta_chances
from bandits.policy import Parameters, draw_each, per_arm
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Moments

_MANY = 100  # decisions per arm from which integrating once is cheaper than drawing variates
_TRIES = 8
_REACH = 32  # standard deviations: the rivals of a clear leader have tiny chances that still differ


@register("top_two_thompson", label="Top-two Thompson sampling", support=(0.0, 1.0))
class TopTwoThompson(Parameters, frozen=True):
    """Find out which variant is the best as soon as possible.

    For finding the best, not for earning: about half of the sends go to the strongest rivals until
    the end, so that the decision is soon sure. Then stop, and ship the winner.

    With π the chances to be best, ψ_k = π_k (β + (1 − β) Σ_{j≠k} π_j / (1 − π_j)). Source: Russo
    (2020), "Simple Bayesian algorithms for best-arm identification", algorithm TTTS; its
    probabilities are exact here, by quadrature.
    """

    statistic: ClassVar[type[Moments]] = Moments

    leader_share: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            title="Leader's share",
            description="β: the chance to send the arm drawn as best; else its rival is sent.",
        ),
    ] = 0.5

    def prepare(
        self, known: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> BetaPosterior:
        """Add one success and one failure of each arm as the prior."""
        return BetaPosterior.of(known, 1.0, 1.0, _REACH)

    def propensities(self, prepared: BetaState, contexts: FloatArray) -> FloatArray:
        """Return the shares (*lead, K)."""
        chances = prepared.chances
        if chances.shape[-1] == 1:
            return chances
        rivals = (chances[..., None, :] @ _rivals(chances))[..., 0, :]
        return self.leader_share * chances + (1 - self.leader_share) * rivals

    def sample(self, prepared: BetaState, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw rates, and for a rival draw again until another arm is best."""
        shape = per_arm(prepared.alpha, contexts)
        if shape[-1] == 1 or prod(shape) > _MANY * prepared.alpha.size * shape[-1]:
            return draw_each(self.propensities(prepared, contexts), contexts, rng)
        leaders = prepared.drawn_best(contexts, rng)
        arms = leaders.copy()
        again = rng.random(leaders.shape) >= self.leader_share
        for _ in range(_TRIES):
            arms = np.where(again, prepared.drawn_best(contexts, rng), arms)
            again &= arms == leaders
        where = np.flatnonzero(again)  # what would take long to come by chance is integrated
        states = where // (leaders.size // (prepared.alpha.size // shape[-1]))
        alpha, beta = (a.reshape(-1, shape[-1])[states] for a in (prepared.alpha, prepared.beta))
        rivals = _rivals(beta_chances(alpha, beta, _REACH))
        found = draw(rivals[np.arange(len(where)), leaders.flat[where]], rng.random(len(where)))
        arms.flat[where] = found
        return arms

    def advance(
        self, prepared: BetaState, arms: IntArray, rewards: FloatArray, contexts: FloatArray
    ) -> BetaState:
        """Add each reward to successes, and what it lacks of 1 to failures."""
        return prepared.learned(arms, rewards)


def _rivals(chances: FloatArray) -> FloatArray:
    """Return (*lead, K, K): by leader, the chance of each other arm to be the best but for it."""
    n_arms = chances.shape[-1]
    itself = np.eye(n_arms, dtype=np.bool_)
    others = np.where(itself, 0.0, chances[..., None, :])
    # 1 - π_j would round to 0 for a clear leader; the sum of the others does not.
    rest = others.sum(axis=-1, keepdims=True)
    return np.where(rest > 0, others / np.where(rest > 0, rest, 1.0), ~itself / (n_arms - 1))
