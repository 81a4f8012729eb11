"""Simulation of a planned campaign, wave by wave.

Where recipients are alike, a wave's sends need not be simulated one by one: given the statistic,
each recipient draws from the same probabilities, so the wave's counts by arm are multinomial, and
their rewards are binomial, or normal for values. That is the law of `simulations.simulate` without
context, at a cost that does not depend on the number of emails: a million are planned in a second.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.random import Generator
from scipy.special import ndtr

from bandits.allocation import apply_floor
from bandits.array_types import FloatArray, IntArray
from bandits.numerics.ties import equal_shares, largest
from bandits.policy import AnyPolicy
from bandits.problem import Problem
from bandits.statistics import Statistic
from bandits.statistics.accumulator import Accumulator, Observations

_OF_PARTS = 0.75  # of the variance of dealt means: what the parts of an email add
_SAME = 1e-12  # means closer than this count as equal


class AnswerTimes(Struct, frozen=True):
    """Times in a plan, in one unit, and how late its answers are: log-normal, cut at the window.

    Attributes:
        gap: from wave to wave.
        lag: from an answer until a snapshot has it.
        maturity: after which silence counts as zero.
        window: after which answers do not count.
        medians: after which half of the answers are in, by arm, K.
        sigma: standard deviation of the logarithm of a delay.
    """

    gap: float
    lag: float
    maturity: float
    window: float
    medians: tuple[float, ...]
    sigma: float

    def shares(self, medians: FloatArray, age: float) -> FloatArray:
        """Return the share of answers that are in at an age, for medians (..., K)."""
        if age <= 0:
            return np.zeros(medians.shape)
        ages = np.log([min(age, self.window), self.window])
        at, end = (ndtr((a - np.log(medians)) / self.sigma) for a in ages)
        share: FloatArray = at / end
        return share


class CampaignPlan(Struct, frozen=True):
    """Waves of a planned campaign, and the assumed rewards of its arms.

    Attributes:
        sizes: emails of each wave.
        delay: number of further waves that leave before a wave's results are in.
        means: mean reward of an email of each arm, K.
        sds: its standard deviation, K; None where an email earns 0 or 1.
        low: the lower bound of rewards that the policy uses.
        high: the upper bound.
        slot_levels: for each arm its variants' positions, as `Problem` has them.
        shuffled: true where the means are assigned to the arms at random in each replication.
        answers: how late answers are; None where all are in at once.
    """

    sizes: tuple[int, ...]
    delay: int
    means: tuple[float, ...]
    sds: tuple[float, ...] | None
    low: float
    high: float
    slot_levels: tuple[tuple[int, ...], ...]
    shuffled: bool
    answers: AnswerTimes | None = None

    @property
    def problem(self) -> Problem:
        """The arms; recipients are alike, so there is the constant feature alone."""
        n_arms = len(self.means)
        return Problem(np.arange(n_arms), np.array(self.slot_levels), 1, self.low, self.high)


class WaveCourse(Struct, frozen=True, eq=False):
    """Course of R replications.

    Attributes:
        extra: (R, points), reward above that of an equal split after so many emails.
        wrong: (R,), the chance that the arm with the best results at the end is not the best.
    """

    extra: FloatArray
    wrong: FloatArray


def simulate_policy(  # noqa: PLR0913, PLR0917 - the plan, and the policy on it
    campaign: CampaignPlan,
    policy: AnyPolicy,
    floor: float,
    replications: int,
    rng: Generator,
    progress: Callable[[float], None] = lambda _: None,
) -> WaveCourse:
    """Simulate a policy that learns as the waves leave."""
    problem, alike = campaign.problem, np.ones((replications, 1))
    order = _order(campaign, replications, rng)
    truth = np.array(campaign.means)[order]
    family, log = policy.statistic, _WaveLog(campaign, order)
    counts, totals = np.zeros(truth.shape), np.zeros(truth.shape)
    extra = [np.zeros(replications)]
    for wave, size in enumerate(campaign.sizes):
        log.advance(rng)
        matured = Accumulator(family, problem, (replications,))
        matured.add(*_observations(problem, *log.matured()))
        statistic = matured.statistic
        for sent in log.pending():
            statistic = statistic + _pending_statistic(family, problem, sent)
        prepared = policy.prepare(statistic, problem, size, rng)
        chances = apply_floor(policy.propensities(prepared, alike), floor)
        sent = rng.multinomial(size, chances / chances.sum(axis=1, keepdims=True))
        total, scatter = _draw_rewards(campaign, order, sent, rng)
        log.append(sent, total, scatter)
        counts, totals = counts + sent, totals + total
        extra.append(extra[-1] + (sent * truth).sum(axis=1) - size * truth.mean(axis=1))
        progress((wave + 1) / len(campaign.sizes))
    return WaveCourse(np.stack(extra, axis=1), _wrong_chance(truth, counts, totals))


class _SentWave:
    """A wave that was sent: its rewards in the end, and those that have arrived, (R, K) each."""

    def __init__(self, sent: IntArray, total: FloatArray, scatter: FloatArray) -> None:
        self.sent = sent
        self.rest = total
        self.arrived = np.zeros(total.shape)
        mean = total / np.maximum(sent, 1)
        self._variance = scatter / np.maximum(sent, 1)
        self._mean = mean
        self._share = np.zeros(total.shape)

    def advance(self, share: FloatArray, rng: Generator, *, binary: bool) -> None:
        """Let rewards arrive until this share of them has: each by itself.

        Sums of values arrive as a Brownian bridge does: of the same mean and variance.
        """
        left = 1 - self._share
        part = np.divide(share - self._share, left, out=np.ones(left.shape), where=left > _SAME)
        part = np.clip(part, 0, 1)
        if binary:
            arriving = rng.binomial(self.rest.astype(np.int64), part).astype(np.float64)
        else:
            spread = np.sqrt(part * (1 - part) * self.sent * left * self._variance)
            arriving = self.rest * part + spread * rng.standard_normal(part.shape)
        self.arrived, self.rest = self.arrived + arriving, self.rest - arriving
        self._share = share

    @property
    def scatter(self) -> FloatArray:
        """Σ (r − mean)² of what has arrived, silence as 0."""
        second = self._share * (self._variance + self._mean**2)
        variance: FloatArray = np.maximum(second - (self._share * self._mean) ** 2, 0.0)
        return variance * self.sent


class _WaveLog:
    """Waves that were sent, and what of their rewards is in."""

    def __init__(self, campaign: CampaignPlan, order: IntArray) -> None:
        self._campaign = campaign
        self._answers = campaign.answers
        self._shape = order.shape
        self._waves: list[_SentWave] = []
        if self._answers is not None:
            self._medians = np.array(self._answers.medians)[order]

    def append(self, sent: IntArray, total: FloatArray, scatter: FloatArray) -> None:
        """Append a wave that is sent now."""
        self._waves.append(_SentWave(sent, total, scatter))

    def advance(self, rng: Generator) -> None:
        """Go on to the time of the next wave."""
        binary = self._campaign.sds is None
        for age, wave in enumerate(reversed(self._waves), start=1):
            wave.advance(self._shares(age, wave), rng, binary=binary)

    def _shares(self, age: int, wave: _SentWave) -> FloatArray:
        if self._answers is None:
            return np.ones(wave.rest.shape)
        return self._answers.shares(self._medians, age * self._answers.gap - self._answers.lag)

    def matured(self) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return sends, Σ r and Σ (r − mean)² of the waves whose silence counts, (R, K) each."""
        waves = self._waves[: self._n_matured]
        if not waves:
            return np.zeros(self._shape, np.int64), np.zeros(self._shape), np.zeros(self._shape)
        sent = sum((w.sent for w in waves[1:]), waves[0].sent)
        total = sum((w.arrived for w in waves[1:]), waves[0].arrived)
        if self._campaign.sds is None:
            return sent, total, _binary_scatter(sent, total)
        means = total / np.maximum(sent, 1)
        scatter = sum(
            w.scatter + w.sent * (w.arrived / np.maximum(w.sent, 1) - means) ** 2 for w in waves
        )
        return sent, total, np.asarray(scatter)

    def pending(self) -> list[IntArray]:
        """Return the sends of waves whose silence does not count yet."""
        return [wave.sent for wave in self._waves[self._n_matured :]]

    @property
    def _n_matured(self) -> int:
        return max(len(self._waves) - self._campaign.delay, 0)


def simulate_test(
    campaign: CampaignPlan,
    share: float,
    replications: int,
    rng: Generator,
    truth: FloatArray | None = None,
) -> WaveCourse:
    """Simulate a test on a share of the recipients, split equally, and send the rest the winner.

    Args:
        campaign: the plan.
        share: of the recipients.
        replications: R.
        rng: of the draws.
        truth: (R, K) mean rewards of the arms in each replication; the plan's unless given.
    """
    order = _order(campaign, replications, rng)
    if truth is None:
        truth = np.array(campaign.means)[order]
    n_arms, emails = truth.shape[1], sum(campaign.sizes)
    tested = _test_size(campaign, share)
    sent = np.full(truth.shape, tested // n_arms)
    sent[:, : tested % n_arms] += 1
    total, scatter = _draw_rewards(campaign, order, sent, rng, truth)
    seen = total
    if campaign.answers is not None:
        test, answers = _SentWave(sent, total, scatter), campaign.answers
        shares = answers.shares(np.array(answers.medians)[order], answers.maturity)
        test.advance(shares, rng, binary=campaign.sds is None)
        seen = test.arrived
    winner = _best_shares(sent, seen)
    after_test = (sent * truth).sum(axis=1) - tested * truth.mean(axis=1)
    gain = ((winner * truth).sum(axis=1) - truth.mean(axis=1)) * (emails - tested)
    extra = np.stack([np.zeros(replications), after_test, after_test + gain], axis=1)
    return WaveCourse(extra, _wrong_chance(truth, sent, total))


def equal_split_findings(
    campaign: CampaignPlan, replications: int, rng: Generator
) -> tuple[float, float]:
    """Simulate an equal split of all emails, every result of which is in.

    Returns:
        The chance that the arm with the best results is not the best; and by how much the arm with
        the best results is better than all on average, as a part of what the best one is.
    """
    truth = np.array(campaign.means)[order := _order(campaign, replications, rng)]
    n_arms = truth.shape[1]
    sent = np.full(truth.shape, max(sum(campaign.sizes) // n_arms, 1))
    total, _ = _draw_rewards(campaign, order, sent, rng)
    average, best = truth.mean(axis=1), truth.max(axis=1)
    shown = (_best_shares(sent, total) * truth).sum(axis=1)
    gap = float((best - average).sum())
    part = float((shown - average).sum()) / gap if gap > 0 else 0.0
    return float(_wrong_chance(truth, sent, total).mean()), part


def _test_size(campaign: CampaignPlan, share: float) -> int:
    emails = sum(campaign.sizes)
    return min(emails, max(len(campaign.means), round(share * emails)))


def test_points(campaign: CampaignPlan, share: float) -> IntArray:
    """Return after how many emails a `WaveCourse` of an A/B test has its points."""
    return np.array([0, _test_size(campaign, share), sum(campaign.sizes)])


def _order(campaign: CampaignPlan, replications: int, rng: Generator) -> IntArray:
    """Return which of the plan's means each arm has, (R, K).

    Dealt means follow the arms' parts for three quarters of their variance, where there are
    several: the effects of an arm's variants are added, and the larger sum gets the larger mean.
    """
    order = np.tile(np.arange(len(campaign.means)), (replications, 1))
    if not campaign.shuffled:
        return order
    levels = np.array(campaign.slot_levels)
    n_levels = levels.max(axis=0) + 1
    scores = rng.standard_normal(order.shape)
    if np.count_nonzero(n_levels > 1) > 1:
        effects = sum(
            rng.standard_normal((replications, n))[:, levels[:, slot]]
            for slot, n in enumerate(n_levels)
            if n > 1
        )
        n_slots = np.count_nonzero(n_levels > 1)
        scores = np.sqrt(_OF_PARTS / n_slots) * effects + np.sqrt(1 - _OF_PARTS) * scores
    dealt = np.empty_like(order)
    np.put_along_axis(dealt, scores.argsort(axis=1), np.argsort(campaign.means)[None], axis=1)
    return dealt


def _draw_rewards(
    campaign: CampaignPlan,
    order: IntArray,
    sent: IntArray,
    rng: Generator,
    truth: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Draw the rewards of each arm's sends: Σ r and Σ (r − mean)², (R, K)."""
    if truth is None:
        truth = np.array(campaign.means)[order]
    if campaign.sds is None:
        total = rng.binomial(sent, np.clip(truth, 0, 1)).astype(np.float64)
        return total, _binary_scatter(sent, total)
    sds = np.array(campaign.sds)[order]
    total = sent * truth + sds * np.sqrt(sent) * rng.standard_normal(truth.shape)
    freedom = np.maximum(sent - 1, 0)
    return total, sds**2 * np.where(freedom > 0, rng.chisquare(np.maximum(freedom, 1)), 0.0)


def _binary_scatter(sent: IntArray, total: FloatArray) -> FloatArray:
    scatter: FloatArray = total - total * np.divide(
        total, sent, out=np.zeros(sent.shape), where=sent > 0
    )
    return scatter


def _observations(
    problem: Problem, sent: IntArray, total: FloatArray, scatter: FloatArray
) -> Observations:
    """Return a wave's observations: arms, rewards, contexts and weights.

    Two values for each arm, one standard deviation from their mean, stand for its sends: they have
    the same number, sum and sum of squares. For 0 and 1 that would be another pair than 0 and 1, so
    those stand for themselves.
    """
    n = np.maximum(sent, 1)
    mean, deviation = total / n, np.sqrt(np.maximum(scatter, 0.0) / n)
    binary = np.abs(deviation**2 - mean * (1 - mean)) < _SAME
    high = np.where(binary, 1.0, mean + deviation)
    low = np.where(binary, 0.0, mean - deviation)
    upper = np.where(binary, total, sent / 2)
    arms = np.tile(problem.arms, (len(sent), 2))
    rewards = np.concatenate([high, low], axis=1)
    weights = np.concatenate([upper, sent - upper], axis=1)
    return arms, rewards, np.ones((*arms.shape, 1)), weights


def _pending_statistic(family: type[Statistic], problem: Problem, sent: IntArray) -> Any:
    arms = np.tile(problem.arms, (len(sent), 1))
    return family.from_pending(problem, arms, np.ones((*arms.shape, 1)), sent.astype(np.float64))


def _best_shares(counts: FloatArray, totals: FloatArray) -> FloatArray:
    """Share (R, K) among the arms with the best mean; an arm that was never sent has none."""
    means = np.divide(totals, counts, out=np.full(counts.shape, -np.inf), where=counts > 0)
    return equal_shares(largest(means))


def _wrong_chance(truth: FloatArray, counts: FloatArray, totals: FloatArray) -> FloatArray:
    top = truth.max(axis=1, keepdims=True)
    right = truth >= top - _SAME * np.abs(top)
    return 1 - (_best_shares(counts, totals) * right).sum(axis=1)
