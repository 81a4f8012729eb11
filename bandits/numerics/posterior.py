"""Posteriors of an arm's mean, for policies that draw from them."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Protocol

import numpy as np
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray, row_starts
from bandits.numerics.quadrature import beta_chances, student_chances
from bandits.policy import draw_each, over_batch, per_arm
from bandits.statistics import Moments

_MANY = 100  # decisions per arm from which integrating once is cheaper than drawing variates


def many(state: FloatArray, contexts: FloatArray) -> bool:
    """Tell whether contexts (*lead, *batch, d) are so many that state (*lead, K) is integrated."""
    shape = per_arm(state, contexts)
    return prod(shape) > _MANY * state.size * shape[-1]


@dataclass(frozen=True)
class BetaPosterior:
    """A Beta(alpha, beta) for the rate of each arm.

    Attributes:
        alpha: (*lead, K).
        beta: (*lead, K).
        reach: how many standard deviations into the tails the chances below are exact.
    """

    alpha: FloatArray
    beta: FloatArray
    reach: int = 8

    @classmethod
    def of(
        cls, known: Moments, successes: float, failures: float, reach: int = 8
    ) -> "BetaPosterior":
        """Add a prior to what is known; a reward r in [0, 1] is r successes and 1 - r failures."""
        wins = np.clip(known.total, 0, known.count)  # subtracting may round to below 0
        return cls(wins + successes, known.count - wins + failures, reach)

    @cached_property
    def chances(self) -> FloatArray:
        """The chance that each arm is the best, (*lead, K)."""
        return beta_chances(self.alpha, self.beta, self.reach)

    def drawn(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw an arm for each of contexts (*lead, *batch, d), by its chance to be the best."""
        if many(self.alpha, contexts):
            return draw_each(self.chances, contexts, rng)
        return self.drawn_best(contexts, rng)

    def drawn_best(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw rates for each of contexts (*lead, *batch, d), and return the best's arm."""
        alpha, beta = over_batch(self.alpha, contexts), over_batch(self.beta, contexts)
        return rng.beta(alpha, beta, per_arm(self.alpha, contexts)).argmax(axis=-1)

    def learned(self, arms: IntArray, rewards: FloatArray) -> "OnlineBetaPosterior":
        """Learn in place from now on: arms, rewards (*lead,)."""
        return OnlineBetaPosterior(self).learned(arms, rewards)


class OnlineBetaPosterior:
    """A Beta posterior that learns after every decision, in place, as a simulation's.

    Attributes:
        alpha, beta, reach: as `BetaPosterior`.
    """

    def __init__(self, begun: BetaPosterior) -> None:
        """Begin with a posterior, and leave that as it is."""
        self._shapes = np.stack([begun.alpha, begun.beta])
        self._gammas = np.empty_like(self._shapes)
        self.alpha, self.beta, self.reach = *self._shapes, begun.reach
        self._flat = self.alpha.reshape(-1), self.beta.reshape(-1)
        n_arms = self.alpha.shape[-1]
        self._starts = row_starts(self.alpha.size // n_arms, n_arms)
        self._ones = np.ones(len(self._starts))

    @property
    def chances(self) -> FloatArray:
        """The chance that each arm is the best, (*lead, K)."""
        return beta_chances(self.alpha, self.beta, self.reach)

    def drawn(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw an arm for each of contexts (*lead, *batch, d), by its chance to be the best."""
        if contexts.ndim == self.alpha.ndim:
            return self.drawn_best(contexts, rng)
        return self._frozen.drawn(contexts, rng)

    def drawn_best(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw rates for each of contexts (*lead, *batch, d), and return the best's arm.

        A rate is X / (X + Y) of gamma variates X and Y, so its odds are X / Y, and who has the best
        odds has the best rate. Gamma variates in one call are quicker than beta variates.
        """
        if contexts.ndim > self.alpha.ndim:
            return self._frozen.drawn_best(contexts, rng)
        successes, failures = rng.standard_gamma(self._shapes, out=self._gammas)
        return np.divide(successes, failures, out=successes).argmax(axis=-1)

    @property
    def _frozen(self) -> BetaPosterior:
        return BetaPosterior(self.alpha, self.beta, self.reach)

    def learned(self, arms: IntArray, rewards: FloatArray) -> "OnlineBetaPosterior":
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
    """A Student distribution for the mean of each arm, from a normal-inverse-gamma prior.

    The prior is centred on the mean and variance of all arms together, so that the currency of
    rewards does not matter.

    Attributes:
        known: the statistic.
        span: the length of the interval that rewards lie in.
        weight: how many observations the common mean counts for.
        shape: half as many as the common variance counts for.
    """

    known: Moments
    span: float
    weight: float
    shape: float

    @cached_property
    def marginal(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Degrees of freedom, location and scale, each (*lead, K).

        Source: Murphy (2007), "Conjugate Bayesian analysis of the Gaussian distribution", section
        3, posterior and marginal of the mean.
        """
        known, weight = self.known, self.weight + self.known.count
        centre, mean = known.pooled_mean, known.means
        shape = self.shape + known.count / 2
        rate = (
            self.shape * _common_variance(known, self.span)
            + np.maximum(known.square - known.count * mean**2, 0) / 2
            + self.weight * known.count / weight * (mean - centre) ** 2 / 2
        )
        location = (self.weight * centre + known.total) / weight
        return 2 * shape, location, np.sqrt(rate / (shape * weight))

    @cached_property
    def chances(self) -> FloatArray:
        """The chance that each arm is the best, (*lead, K)."""
        return student_chances(*self.marginal)

    def drawn(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw the arm of the best mean for each of contexts (*lead, *batch, d)."""
        if many(self.known.count, contexts):
            return draw_each(self.chances, contexts, rng)
        dof, location, scale = (over_batch(a, contexts) for a in self.marginal)
        drawn = rng.standard_t(dof, per_arm(self.known.count, contexts))
        return (location + scale * drawn).argmax(axis=-1)

    def learned(self, arms: IntArray, rewards: FloatArray) -> "StudentPosterior":
        """Add one observation to each state: arms, rewards (*lead,)."""
        known = self.known.learned(arms, rewards)
        return StudentPosterior(known, self.span, self.weight, self.shape)


def _common_variance(known: Moments, span: float) -> FloatArray:
    """Estimate one variance for all arms, (*lead, 1), with a first guess that counts once.

    The guess, that of rewards at both ends of the range, keeps it above 0 while all rewards are
    equal.
    """
    total = known.rounds
    square = known.square.sum(axis=-1, keepdims=True)
    around = np.maximum(square - total * known.pooled_mean**2, 0)
    return (around + (span / 2) ** 2) / (total + 1)


class Posterior(Protocol):
    """What Thompson sampling prepares: each arm's posterior, frozen or learning in place."""

    @property
    def chances(self) -> FloatArray:
        """The chance that each arm is the best, (*lead, K)."""
        ...

    def drawn(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw an arm for each of contexts (*lead, *batch, d), by its chance to be the best."""
        ...


def best_chances(
    policy: object,  # noqa: ARG001 - a method of policies
    prepared: Posterior,
    contexts: FloatArray,  # noqa: ARG001 - no arm here depends on the recipient
) -> FloatArray:
    """Return the chance that each arm is the best, (*lead, K)."""
    return prepared.chances


def best_drawn(
    policy: object,  # noqa: ARG001 - a method of policies
    prepared: Posterior,
    contexts: FloatArray,
    rng: Generator,
) -> IntArray:
    """Draw the arm whose mean, drawn from its posterior, is the largest."""
    return prepared.drawn(contexts, rng)
