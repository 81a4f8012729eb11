"""Top-two Thompson sampling: the best, or the one most likely to be better."""

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.posterior import BetaPosterior, BetaState, prefer_integration
from bandits.numerics.quadrature import beta_chances
from bandits.policy import Parameters, advance_online, draw_from_propensities, per_arm
from bandits.problem import Problem
from bandits.registry import register
from bandits.sampling import draw
from bandits.statistics import Moments

_REACH = 32  # standard deviations: the rivals of a clear leader have tiny chances that still differ
_TRIES = 8  # draws in which most rivals turn up


@register("top_two_thompson", label="Top-two Thompson sampling", support=(0.0, 1.0))
class TopTwoThompson(Parameters, frozen=True):
    """Find out which variant is the best, by comparing it with its strongest rivals.

    For finding the best, not for earning: about half of the sends go to the strongest rivals until
    the end, and few to the rest. With three variants or more it costs less than a fixed split,
    which measures all of them and can be sure as soon. Then stop, and ship the winner.

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
        self, statistic: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> BetaPosterior:
        """Add one success and one failure of each arm as the prior."""
        return BetaPosterior.from_moments(statistic, 1.0, 1.0, _REACH)

    def propensities(self, prepared: BetaState, contexts: FloatArray) -> FloatArray:
        """Return the shares (*lead, K)."""
        return top_two_shares(prepared.chances, self.leader_share)

    def sample(self, prepared: BetaState, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw rates, and for a rival draw again until another arm is best."""
        return draw_top_two(prepared, self.leader_share, contexts, rng)

    advance = advance_online


def top_two_shares(chances: FloatArray, leader_share: float) -> FloatArray:
    """Return ψ_k = π_k (β + (1 - β) Σ_{j≠k} π_j / (1 - π_j)), from π and to (*lead, K)."""
    if chances.shape[-1] == 1:
        return chances
    rivals = (chances[..., None, :] @ _rivals(chances))[..., 0, :]
    return leader_share * chances + (1 - leader_share) * rivals


def draw_top_two(
    posterior: BetaState, leader_share: float, contexts: FloatArray, rng: Generator
) -> IntArray:
    """Draw rates for each of contexts (*lead, *batch, d), and for a rival until another is best."""
    shape = per_arm(posterior.alpha, contexts)
    if shape[-1] == 1 or prefer_integration(posterior.alpha, contexts):
        return draw_from_propensities(
            top_two_shares(posterior.chances, leader_share), contexts, rng
        )
    leaders = posterior.draw_best(contexts, rng)
    arms = leaders.copy()
    again = rng.random(leaders.shape) >= leader_share
    for _ in range(_TRIES):
        arms = np.where(again, posterior.draw_best(contexts, rng), arms)
        again &= arms == leaders
    where = np.flatnonzero(again)  # rivals that would take long to be drawn are integrated
    states = where // (leaders.size // (posterior.alpha.size // shape[-1]))
    alpha, beta = (a.reshape(-1, shape[-1])[states] for a in (posterior.alpha, posterior.beta))
    rivals = _rivals(beta_chances(alpha, beta, posterior.reach))
    own_rivals = rivals[np.arange(len(where)), leaders.flat[where]]
    arms.flat[where] = draw(own_rivals, rng.random(len(where)))
    return arms


def _rivals(chances: FloatArray) -> FloatArray:
    """Return (*lead, K, K): by leader, the chance of each other arm to be the best without it."""
    n_arms = chances.shape[-1]
    itself = np.eye(n_arms, dtype=np.bool_)
    others = np.where(itself, 0.0, chances[..., None, :])
    # 1 - π_j would round to 0 for a clear leader; the sum of the others does not.
    rest = others.sum(axis=-1, keepdims=True)
    return np.where(rest > 0, others / np.where(rest > 0, rest, 1.0), ~itself / (n_arms - 1))
