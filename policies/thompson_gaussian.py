"""Thompson sampling for rewards of any size: a normal-inverse-gamma posterior for each arm."""

from typing import Annotated, ClassVar

from msgspec import Meta
from numpy.random import Generator

from bandits.numerics.posterior import StudentPosterior, best_chances, sample_best
from bandits.policy import Parameters, advance_online
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Moments


@register("thompson_gaussian", label="Thompson sampling for values", advised="values")
class ThompsonGaussian(Parameters, frozen=True):
    """Give each variant a share of sends as large as its chance to bring the most on average.

    For orders, revenue, or clicks less a penalty for unsubscribes.

    Mean and variance of each arm are learned together (normal-inverse-gamma prior), so its mean has
    a Student distribution. The prior is centred on mean and variance of all arms together; (range /
    2)² is a first guess of that variance, which counts once.
    Probabilities are exact, by quadrature. Source: Murphy (2007), "Conjugate Bayesian analysis of
    the Gaussian distribution", section 3.
    """

    statistic: ClassVar[type[Moments]] = Moments

    prior_weight: Annotated[
        float,
        Meta(
            ge=1e-3,
            le=1e6,
            title="Prior weight",
            description="How many observations the common mean counts for in each arm's mean.",
        ),
    ] = 1.0
    prior_shape: Annotated[
        float,
        Meta(
            ge=0.5,
            le=1e6,
            title="Prior shape",
            description="Half the observations that the common variance counts for in each arm's.",
        ),
    ] = 1.0

    def prepare(
        self, statistic: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> StudentPosterior:
        """Update the prior."""
        return StudentPosterior(statistic, problem.span, self.prior_weight, self.prior_shape)

    propensities = best_chances
    sample = sample_best
    advance = advance_online
