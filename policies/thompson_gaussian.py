"""Thompson sampling for rewards of any size: a normal-inverse-gamma posterior for each arm."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.arrays import FloatArray, IntArray
from bandits.policy import Parameters, draw_each, over_batch, per_arm
from bandits.problem import Problem
from bandits.quadrature import student_chances
from bandits.registry import register
from bandits.statistics import Moments

_MANY = 100  # decisions per arm from which integrating once is cheaper than drawing variates


@dataclass(frozen=True)
class StudentPosterior:
    """A Student distribution for the mean of each arm, each attribute (*lead, K)."""

    known: Moments
    span: float
    dof: FloatArray
    location: FloatArray
    scale: FloatArray

    @cached_property
    def chances(self) -> FloatArray:
        """The chance that each arm is the best, (*lead, K)."""
        return student_chances(self.dof, self.location, self.scale)


@register("thompson_gaussian", label="Thompson sampling for values")
class ThompsonGaussian(Parameters, frozen=True):
    """Give each variant as many sends as the chance that its average value is the highest.

    For orders, revenue, or clicks less a penalty for unsubscribes.

    Mean and variance of each arm are learned together (normal-inverse-gamma prior), so its mean has
    a Student distribution. The prior is centred on mean and variance of all arms together.
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
            description="Half as many observations as the common variance counts for in each"
            " arm's variance.",
        ),
    ] = 1.0

    def prepare(
        self, known: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> StudentPosterior:
        """Update the prior: Murphy (2007), equations 86 to 89 and 98."""
        return self._posterior(known, problem.span)

    def propensities(self, prepared: StudentPosterior, contexts: FloatArray) -> FloatArray:
        """Return the chance that each arm is the best, (*lead, K)."""
        return prepared.chances

    def sample(self, prepared: StudentPosterior, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw the arm whose mean, drawn from its posterior, is the largest."""
        shape = per_arm(prepared.dof, contexts)
        if prod(shape) > _MANY * prepared.dof.size * shape[-1]:
            return draw_each(prepared.chances, contexts, rng)
        dof, location, scale = (
            over_batch(a, contexts) for a in (prepared.dof, prepared.location, prepared.scale)
        )
        drawn = rng.standard_t(dof, shape)
        return (location + scale * drawn).argmax(axis=-1)

    def advance(
        self, prepared: StudentPosterior, arms: IntArray, rewards: FloatArray, contexts: FloatArray
    ) -> StudentPosterior:
        """Learn one observation in each state."""
        return self._posterior(prepared.known.learned(arms, rewards), prepared.span)

    def _posterior(self, known: Moments, span: float) -> StudentPosterior:
        count, weight = known.count, known.count + self.prior_weight
        centre, mean = known.pooled_mean, known.means
        shape = self.prior_shape + count / 2
        rate = (
            self.prior_shape * _common_variance(known, span)
            + np.maximum(known.square - count * mean**2, 0) / 2
            + self.prior_weight * count / weight * (mean - centre) ** 2 / 2
        )
        location = (self.prior_weight * centre + known.total) / weight
        return StudentPosterior(known, span, 2 * shape, location, np.sqrt(rate / (shape * weight)))


def _common_variance(known: Moments, span: float) -> FloatArray:
    """Estimate one variance for all arms, (*lead, 1), with a first guess that counts once.

    The guess, that of rewards at both ends of the range, keeps it above 0 while all rewards are
    equal.
    """
    total = known.count.sum(axis=-1, keepdims=True)
    square = known.square.sum(axis=-1, keepdims=True)
    around = np.maximum(square - total * known.pooled_mean**2, 0)
    return (around + (span / 2) ** 2) / (total + 1)
