"""Top-two Thompson sampling: the best, or the one most likely to be better."""

from typing import Annotated, ClassVar

from msgspec import Meta
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.posterior import BetaPosterior, BetaState
from bandits.numerics.sequential import advance_online
from bandits.numerics.top_two import drawn_top_two, top_two
from bandits.policy import Parameters
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Moments

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
        return top_two(prepared.chances, self.leader_share)

    def sample(self, prepared: BetaState, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw rates, and for a rival draw again until another arm is best."""
        return drawn_top_two(prepared, self.leader_share, contexts, rng)

    advance = advance_online
