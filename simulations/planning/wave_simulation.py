"""A planned campaign, simulated wave by wave.

Where recipients are alike, a wave's sends need not be played one by one: given what is known, each
recipient draws from the same probabilities, so the wave's counts by arm are multinomial, and what
they earn is binomial, or normal for values. That is the law of `simulations.simulate` without
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

_SAME = 1e-12  # means closer than this are the same arm's worth


class CampaignPlan(Struct, frozen=True):
    """What is sent, and what it would earn.

    Attributes:
        sizes: emails of each wave.
        delay: how many further waves leave before a wave's results are known.
        means: what an email of each arm earns, K.
        sds: the standard deviation of that, K; None where an email earns 0 or 1.
        low: the smallest that a policy is told an email may earn.
        high: the largest.
        slot_levels: for each arm its variants' positions, as `Problem` has them.
        shuffled: which arm has which mean is unknown: every replication deals them anew.
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
        """What is chosen among; recipients are alike, so there is the constant feature alone."""
        n_arms = len(self.means)
        return Problem(np.arange(n_arms), np.array(self.slot_levels), 1, self.low, self.high)


class WaveCourse(Struct, frozen=True, eq=False):
    """How R replications went.

    Attributes:
        extra: (R, points), what was earned more than by an equal split after so many emails.
        wrong: (R,), the chance that the arm with the best results at the end is not the best.
    """

    extra: FloatArray
    wrong: FloatArray


def adaptive(  # noqa: PLR0913, PLR0917 - what is played, and by what
    campaign: CampaignPlan,
    policy: AnyPolicy,
    floor: float,
    replications: int,
    rng: Generator,
    told: Callable[[float], None] = lambda _: None,
) -> WaveCourse:
    """Play a policy that learns as the waves leave."""
    problem, alike = campaign.problem, np.ones((replications, 1))
    truth = _truth(campaign, replications, rng)
    family = policy.statistic
    learned = Accumulator(family, problem, (replications,))
    under_way: list[tuple[IntArray, FloatArray, FloatArray]] = []  # of each wave not learned yet
    counts, totals = np.zeros(truth.shape), np.zeros(truth.shape)
    extra = [np.zeros(replications)]
    for wave, size in enumerate(campaign.sizes):
        if len(under_way) > campaign.delay:
            learned.add(*_observations(problem, *under_way.pop(0)))
        known = learned.known
        for sent, _, _ in under_way:
            known = known + _waiting(family, problem, sent)
        prepared = policy.prepare(known, problem, size, rng)
        chances = apply_floor(policy.propensities(prepared, alike), floor)
        sent = rng.multinomial(size, chances / chances.sum(axis=1, keepdims=True))
        total, scatter = _earned(campaign, truth, sent, rng)
        under_way.append((sent, total, scatter))
        counts, totals = counts + sent, totals + total
        extra.append(extra[-1] + (sent * truth).sum(axis=1) - size * truth.mean(axis=1))
        told((wave + 1) / len(campaign.sizes))
    return WaveCourse(np.stack(extra, axis=1), _wrong(truth, counts, totals))


def ab_test(campaign: CampaignPlan, share: float, replications: int, rng: Generator) -> WaveCourse:
    """Play a test on a share of the recipients, split equally, and send the rest the winner."""
    truth = _truth(campaign, replications, rng)
    n_arms, emails = truth.shape[1], sum(campaign.sizes)
    tested = _tested(campaign, share)
    sent = np.full(truth.shape, tested // n_arms)
    sent[:, : tested % n_arms] += 1
    total, _ = _earned(campaign, truth, sent, rng)
    winner = _best(sent, total)
    after_test = (sent * truth).sum(axis=1) - tested * truth.mean(axis=1)
    gain = ((winner * truth).sum(axis=1) - truth.mean(axis=1)) * (emails - tested)
    extra = np.stack([np.zeros(replications), after_test, after_test + gain], axis=1)
    return WaveCourse(extra, _wrong(truth, sent, total))


def _tested(campaign: CampaignPlan, share: float) -> int:
    emails = sum(campaign.sizes)
    return min(emails, max(len(campaign.means), round(share * emails)))


def test_points(campaign: CampaignPlan, share: float) -> IntArray:
    """Return after how many emails a `WaveCourse` of an A/B test has its points."""
    return np.array([0, _tested(campaign, share), sum(campaign.sizes)])


def _truth(campaign: CampaignPlan, replications: int, rng: Generator) -> FloatArray:
    """Deal the means to the arms: (R, K)."""
    means = np.tile(np.array(campaign.means), (replications, 1))
    return rng.permuted(means, axis=1) if campaign.shuffled else means


def _earned(
    campaign: CampaignPlan, truth: FloatArray, sent: IntArray, rng: Generator
) -> tuple[FloatArray, FloatArray]:
    """Draw what each arm's sends earn, and how they scatter: Σ r and Σ (r − mean)², (R, K)."""
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


def _waiting(family: type[Statistic], problem: Problem, sent: IntArray) -> Any:
    arms = np.tile(problem.arms, (len(sent), 1))
    return family.waiting(problem, arms, np.ones((*arms.shape, 1)), sent.astype(np.float64))


def _best(counts: FloatArray, totals: FloatArray) -> FloatArray:
    """Share (R, K) among the arms with the best mean; what was never sent has none."""
    means = np.divide(totals, counts, out=np.full(counts.shape, -np.inf), where=counts > 0)
    return equal_shares(largest(means))


def _wrong(truth: FloatArray, counts: FloatArray, totals: FloatArray) -> FloatArray:
    top = truth.max(axis=1, keepdims=True)
    right = truth >= top - _SAME * np.abs(top)
    return 1 - (_best(counts, totals) * right).sum(axis=1)
