"""Posteriors of an arm's mean, for policies that draw from them."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Protocol

import numpy as np
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray, row_starts
from bandits.numerics.quadrature import beta_chances, student_chances
from bandits.policy import draw_from_propensities, over_batch, per_arm
from bandits.statistics import Moments

_MANY = 100  # decisions per arm from which integrating once is cheaper than drawing variates


def prefer_integration(state: FloatArray, contexts: FloatArray) -> bool:
    """Compare costs: true where contexts are so many that state (*lead, K) is integrated."""
    shape = per_arm(state, contexts)
    return prod(shape) > _MANY * state.size * shape[-1]


@dataclass(frozen=True)
class BetaPosterior:
    """Beta(alpha, beta) posterior of the rate of each arm.

    Attributes:
        alpha: (*lead, K).
        beta: (*lead, K).
        reach: the standard deviations into the tails up to which the chances are exact.
    """

    alpha: FloatArray
    beta: FloatArray
    reach: int = 8

    @classmethod
    def from_moments(
        cls, statistic: Moments, successes: float, failures: float, reach: int = 8
    ) -> "BetaPosterior":
        """Add a prior to moments; a reward r in [0, 1] is r successes and 1 - r failures."""
        wins = np.clip(statistic.total, 0, statistic.count)  # subtracting may round to below 0
        return cls(wins + successes, statistic.count - wins + failures, reach)

    @cached_property
    def chances(self) -> FloatArray:
        """The chance that each arm is the best, (*lead, K)."""
        return beta_chances(self.alpha, self.beta, self.reach)

    def draw(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw an arm for each of contexts (*lead, *batch, d), by its chance to be the best."""
        if prefer_integration(self.alpha, contexts):
            return draw_from_propensities(self.chances, contexts, rng)
        return self.draw_best(contexts, rng)

    def draw_best(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw rates for each of contexts (*lead, *batch, d), and return the best's arm."""
        alpha, beta = over_batch(self.alpha, contexts), over_batch(self.beta, contexts)
        return rng.beta(alpha, beta, per_arm(self.alpha, contexts)).argmax(axis=-1)

    def update(self, arms: IntArray, rewards: FloatArray) -> "OnlineBetaPosterior":
        """Add one observation to each state, in place from now on: arms, rewards (*lead,)."""
        return OnlineBetaPosterior(self).update(arms, rewards)


class OnlineBetaPosterior:
    """Beta posterior that learns after every decision, in place, as in a simulation.

    Attributes:
        alpha, beta, reach: as `BetaPosterior`.
    """

    def __init__(self, start: BetaPosterior) -> None:
        """Start from a posterior, which stays as it is."""
        self._shapes = np.stack([start.alpha, start.beta])
        self._gammas = np.empty_like(self._shapes)
        self.alpha, self.beta, self.reach = *self._shapes, start.reach
        self._flat = self.alpha.reshape(-1), self.beta.reshape(-1)
        n_arms = self.alpha.shape[-1]
        self._starts = row_starts(self.alpha.size // n_arms, n_arms)
        self._ones = np.ones(len(self._starts))

    @property
    def chances(self) -> FloatArray:
        """The chance that each arm is the best, (*lead, K)."""
        return beta_chances(self.alpha, self.beta, self.reach)

    def draw(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw an arm for each of contexts (*lead, *batch, d), by its chance to be the best."""
        if contexts.ndim == self.alpha.ndim:
            return self.draw_best(contexts, rng)
        return self._frozen.draw(contexts, rng)

    def draw_best(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw rates for each of contexts (*lead, *batch, d), and return the best's arm.

        A rate is X / (X + Y) of gamma variates X and Y, so its odds are X / Y, and the best odds
        have the best rate. Gamma variates in one call are quicker than beta variates.
        """
        if contexts.ndim > self.alpha.ndim:
            return self._frozen.draw_best(contexts, rng)
        successes, failures = rng.standard_gamma(self._shapes, out=self._gammas)
        return np.divide(successes, failures, out=successes).argmax(axis=-1)

    @property
    def _frozen(self) -> BetaPosterior:
        return BetaPosterior(self.alpha, self.beta, self.reach)

    def update(self, arms: IntArray, rewards: FloatArray) -> "OnlineBetaPosterior":
        """Add one observation to each state: arms, rewards (*lead,)."""
        if arms.ndim != 1:
            arms, rewards = arms.reshape(-1), rewards.reshape(-1)
        cells = self._starts + arms
        alpha, beta = self._flat
        alpha[cells] = alpha[cells] + rewards
        beta[cells] = beta[cells] + (self._ones - rewards)
        return self


BetaState = BetaPosterior | OnlineBetaPosterior


@dataclass(frozen=True)
class StudentPosterior:
    """Student posterior of the mean of each arm, from a normal-inverse-gamma prior.

    The prior is centred on the mean and variance of all arms together, so that the currency of
    rewards does not matter.

    Attributes:
        statistic: the sums of each arm.
        span: the length of the interval that rewards lie in.
        weight: the observations that the common mean counts for.
        shape: half the observations that the common variance counts for.
    """

    statistic: Moments
    span: float
    weight: float
    shape: float

    @cached_property
    def marginal(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Degrees of freedom, location and scale, each (*lead, K).

        Source: Murphy (2007), "Conjugate Bayesian analysis of the Gaussian distribution", section
        3, posterior and marginal of the mean.
        """
        statistic, weight = self.statistic, self.weight + self.statistic.count
        centre, mean = statistic.pooled_mean, statistic.means
        shape = self.shape + statistic.count / 2
        rate = (
            self.shape * _common_variance(statistic, self.span)
            + np.maximum(statistic.square - statistic.count * mean**2, 0) / 2
            + self.weight * statistic.count / weight * (mean - centre) ** 2 / 2
        )
        location = (self.weight * centre + statistic.total) / weight
        return 2 * shape, location, np.sqrt(rate / (shape * weight))

    @cached_property
    def chances(self) -> FloatArray:
        """The chance that each arm is the best, (*lead, K)."""
        return student_chances(*self.marginal)

    def draw(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw the arm of the best mean for each of contexts (*lead, *batch, d)."""
        if prefer_integration(self.statistic.count, contexts):
            return draw_from_propensities(self.chances, contexts, rng)
        dof, location, scale = (over_batch(a, contexts) for a in self.marginal)
        drawn = rng.standard_t(dof, per_arm(self.statistic.count, contexts))
        return (location + scale * drawn).argmax(axis=-1)

    def update(self, arms: IntArray, rewards: FloatArray) -> "StudentPosterior":
        """Add one observation to each state: arms, rewards (*lead,)."""
        statistic = self.statistic.update(arms, rewards)
        return StudentPosterior(statistic, self.span, self.weight, self.shape)


def _common_variance(statistic: Moments, span: float) -> FloatArray:
    """Estimate one variance for all arms, (*lead, 1), with a first guess that counts once.

    The guess, that of rewards at both ends of the range, keeps it above 0 while all rewards are
    equal.
    """
    total = statistic.rounds
    square = statistic.square.sum(axis=-1, keepdims=True)
    around = np.maximum(square - total * statistic.pooled_mean**2, 0)
    return (around + (span / 2) ** 2) / (total + 1)


class ArmPosterior(Protocol):
    """Posterior of each arm, which Thompson sampling prepares; frozen or online."""

    @property
    def chances(self) -> FloatArray:
        """The chance that each arm is the best, (*lead, K)."""
        ...

    def draw(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw an arm for each of contexts (*lead, *batch, d), by its chance to be the best."""
        ...


def best_chances(
    policy: object,  # noqa: ARG001 - a method of policies
    prepared: ArmPosterior,
    contexts: FloatArray,  # noqa: ARG001 - no arm here depends on the recipient
) -> FloatArray:
    """Return the chance that each arm is the best, (*lead, K)."""
    return prepared.chances


def sample_best(
    policy: object,  # noqa: ARG001 - a method of policies
    prepared: ArmPosterior,
    contexts: FloatArray,
    rng: Generator,
) -> IntArray:
    """Draw the arm whose mean, drawn from its posterior, is the largest."""
    return prepared.draw(contexts, rng)
