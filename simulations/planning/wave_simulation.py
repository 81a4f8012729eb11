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

from bandits.allocation import apply_floor
from bandits.array_types import FloatArray, IntArray
from bandits.numerics.ties import equal_shares, largest
from bandits.policy import AnyPolicy
from bandits.problem import Problem
from bandits.statistics import Statistic
from bandits.statistics.accumulator import Accumulator, Observations

_SAME = 1e-12  # means closer than this count as equal


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
    """

    sizes: tuple[int, ...]
    delay: int
    means: tuple[float, ...]
    sds: tuple[float, ...] | None
    low: float
    high: float
    slot_levels: tuple[tuple[int, ...], ...]
    shuffled: bool

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
    truth = _true_means(campaign, replications, rng)
    family = policy.statistic
    matured = Accumulator(family, problem, (replications,))
    pending: list[tuple[IntArray, FloatArray, FloatArray]] = []  # of each wave not matured yet
    counts, totals = np.zeros(truth.shape), np.zeros(truth.shape)
    extra = [np.zeros(replications)]
    for wave, size in enumerate(campaign.sizes):
        if len(pending) > campaign.delay:
            matured.add(*_observations(problem, *pending.pop(0)))
        statistic = matured.statistic
        for sent, _, _ in pending:
            statistic = statistic + _pending_statistic(family, problem, sent)
        prepared = policy.prepare(statistic, problem, size, rng)
        chances = apply_floor(policy.propensities(prepared, alike), floor)
        sent = rng.multinomial(size, chances / chances.sum(axis=1, keepdims=True))
        total, scatter = _draw_rewards(campaign, truth, sent, rng)
        pending.append((sent, total, scatter))
        counts, totals = counts + sent, totals + total
        extra.append(extra[-1] + (sent * truth).sum(axis=1) - size * truth.mean(axis=1))
        progress((wave + 1) / len(campaign.sizes))
    return WaveCourse(np.stack(extra, axis=1), _wrong_chance(truth, counts, totals))


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
    if truth is None:
        truth = _true_means(campaign, replications, rng)
    n_arms, emails = truth.shape[1], sum(campaign.sizes)
    tested = _test_size(campaign, share)
    sent = np.full(truth.shape, tested // n_arms)
    sent[:, : tested % n_arms] += 1
    total, _ = _draw_rewards(campaign, truth, sent, rng)
    winner = _best_shares(sent, total)
    after_test = (sent * truth).sum(axis=1) - tested * truth.mean(axis=1)
    gain = ((winner * truth).sum(axis=1) - truth.mean(axis=1)) * (emails - tested)
    extra = np.stack([np.zeros(replications), after_test, after_test + gain], axis=1)
    return WaveCourse(extra, _wrong_chance(truth, sent, total))


def _test_size(campaign: CampaignPlan, share: float) -> int:
    emails = sum(campaign.sizes)
    return min(emails, max(len(campaign.means), round(share * emails)))


def test_points(campaign: CampaignPlan, share: float) -> IntArray:
    """Return after how many emails a `WaveCourse` of an A/B test has its points."""
    return np.array([0, _test_size(campaign, share), sum(campaign.sizes)])


def _true_means(campaign: CampaignPlan, replications: int, rng: Generator) -> FloatArray:
    """Assign the means to the arms: (R, K)."""
    means = np.tile(np.array(campaign.means), (replications, 1))
    return rng.permuted(means, axis=1) if campaign.shuffled else means


def _draw_rewards(
    campaign: CampaignPlan, truth: FloatArray, sent: IntArray, rng: Generator
) -> tuple[FloatArray, FloatArray]:
    """Draw the rewards of each arm's sends: Σ r and Σ (r − mean)², (R, K)."""
    if campaign.sds is None:
        total = rng.binomial(sent, np.clip(truth, 0, 1)).astype(np.float64)
        return total, total - total * np.divide(
            total, sent, out=np.zeros(sent.shape), where=sent > 0
        )
    by_mean = dict(zip(campaign.means, campaign.sds, strict=True))
    sds = np.vectorize(by_mean.__getitem__)(truth) if campaign.shuffled else np.array(campaign.sds)
    total = sent * truth + sds * np.sqrt(sent) * rng.standard_normal(truth.shape)
    freedom = np.maximum(sent - 1, 0)
    return total, sds**2 * np.where(freedom > 0, rng.chisquare(np.maximum(freedom, 1)), 0.0)


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
