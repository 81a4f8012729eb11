"""Worlds: campaigns side by side whose truth is known, with the verdict on each of them.

Campaigns run day by day, R at once, by Thompson sampling with a floor or in equal shares. Emails of
a day are closed by its end. What is judged is the engine's own code, campaign by campaign.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bandits.allocation import apply_floor
from bandits.array_types import AnyArray, BoolArray, FloatArray, IntArray
from bandits.inference import aipw
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.estimates import (
    EstimationContext,
    Lead,
    joined_arms,
    lead,
    personal_gain,
    recent_agreement,
)
from bandits.inference.intervals import ALPHA, Family
from bandits.inference.recent_days import DAY, RECENT_DAYS
from bandits.numerics.quadrature import beta_chances
from bandits.verdict import LITTLE, Comparison, Progress, Verdict, verdict

Rates = Callable[[int], Sequence[Sequence[float]]]


@dataclass(frozen=True)
class World:
    """Rates by day, kind of recipient and arm, and how a campaign sends.

    Attributes:
        rates: by the day, (C, K) for C kinds of recipients, who come equally often.
        days: how long a campaign runs.
        daily: emails a day.
        floor: least share of an arm that has joined.
        joins: the day on which each arm joins; on the first unless given.
        personal: the policy learns by kind of recipient, and is judged by its own value.
        uniform: equal shares instead of Thompson sampling.
    """

    rates: Rates
    days: int
    daily: int
    floor: float
    joins: tuple[int, ...] = ()
    personal: bool = False
    uniform: bool = False

    def at(self, day: int) -> FloatArray:
        """Return the rates of a day, (C, K)."""
        return np.array(self.rates(day), dtype=np.float64)

    def eligible(self, day: int) -> BoolArray:
        """Mark the arms (K,) that have joined by a day."""
        joins = np.array(self.joins or np.zeros(self.at(0).shape[1]))
        return np.asarray(joins <= day)


@dataclass(frozen=True)
class Look:
    """Everything so far, of R campaigns side by side.

    Attributes:
        evidence: sums of all days, replications lead.
        recent: sums of the last seven days.
        days: (K,) days since each arm joined.
        shares: (R, C, K) the day's shares.
        rates: (C, K) the day's rates.
        value: (R,) what the policy's shares were worth so far, per decision.
    """

    day: int
    evidence: AipwSums
    recent: AipwSums
    days: FloatArray
    shares: FloatArray
    rates: FloatArray
    value: FloatArray


def evidence_of(eligible: BoolArray, sent: AnyArray, won: AnyArray, shares: FloatArray) -> AipwSums:
    """Sum decisions (R, K) whose reward is 0 or 1 and whose shares (R, K) are the same."""
    inverse = np.where(eligible, 1 / np.where(shares > 0, shares, 1.0), 0.0)
    weights = np.stack([eligible.astype(float) + 0 * inverse, inverse, inverse**2], axis=1)
    moments = np.stack([sent, won, won], axis=1)[:, :, None, :] * weights[:, None]
    return AipwSums(eligible[None], moments[:, None], won[:, None].astype(np.float64))


def looks(world: World, seed: int, campaigns: int) -> Iterator[Look]:
    """Run campaigns, and look at the end of each day."""
    rng = np.random.default_rng(seed)
    n_kinds, n_arms = world.at(0).shape
    successes = trials = np.zeros((campaigns, n_kinds, n_arms))
    by_day: deque[AipwSums] = deque(maxlen=RECENT_DAYS)
    total, worth = AipwSums.zeros(n_arms, (campaigns,)), np.zeros(campaigns)
    for day in range(world.days):
        eligible, rates = world.eligible(day), world.at(day)
        shares = _shares(world, eligible, successes, trials)
        sent = rng.multinomial(world.daily // n_kinds, shares)
        won = rng.binomial(sent, rates)
        successes, trials = successes + won, trials + sent
        today = AipwSums.zeros(n_arms, (campaigns,))
        for kind in range(n_kinds):
            columns = (sent[:, kind], won[:, kind], shares[:, kind])
            today = today + evidence_of(eligible, *columns)
        by_day.append(today)
        total, recent = total + today, AipwSums.zeros(n_arms, (campaigns,))
        for part in by_day:
            recent = recent + part
        worth = worth + (shares * rates).sum(axis=-1).mean(axis=-1)
        joins = np.array(world.joins or np.zeros(n_arms))
        since = np.maximum(day + 1 - joins, 0)
        yield Look(day, total, recent, since, shares, rates, worth / (day + 1))


def _shares(
    world: World, eligible: BoolArray, successes: FloatArray, trials: FloatArray
) -> FloatArray:
    """Return shares (R, C, K): by kind of recipient where the policy is personal."""
    joined = np.flatnonzero(eligible)
    shares = np.zeros(trials.shape)
    if world.uniform:
        shares[..., joined] = 1 / len(joined)
        return shares
    if not world.personal:
        successes, trials = (a.sum(axis=1, keepdims=True) for a in (successes, trials))
    won, sent = successes[..., joined], trials[..., joined]
    chances = beta_chances(
        (won + 1).reshape(-1, len(joined)), (sent - won + 1).reshape(-1, len(joined))
    )
    shares[..., joined] = apply_floor(chances, world.floor).reshape(won.shape)
    return shares


@dataclass(frozen=True)
class Judged:
    """One campaign at one look: its verdict, its leader, and the leader's estimated value."""

    verdict: Verdict
    lead: Lead | None
    value: float


def one_of(evidence: AipwSums, campaign: int) -> AipwSums:
    """Take the sums of one of R campaigns."""
    return AipwSums(evidence.eligible, evidence.moments[campaign], evidence.earning[campaign])


def judge(world: World, look: Look, *, lifts_move: bool = False) -> list[Judged]:
    """Reach the verdict on each campaign, by the code that the engine runs."""
    facts = EstimationContext(
        contextual=world.personal, drifting=False, floor=world.floor, requested=False
    )
    campaigns = len(look.value)
    return [_judge_one(world, facts, look, r, lifts_move=lifts_move) for r in range(campaigns)]


def _judge_one(
    world: World, facts: EstimationContext, look: Look, campaign: int, *, lifts_move: bool
) -> Judged:
    evidence, recent = one_of(look.evidence, campaign), one_of(look.recent, campaign)
    among = np.flatnonzero(world.eligible(look.day))
    leader = lead(facts, evidence, among, ALPHA)
    gain, of_late, days, value = None, "unknown", look.day + 1, 0.0
    if leader is not None:
        value = float(evidence.means[leader.arm])
        compared = np.setdiff1d(among, leader.uncompared)
        days = int(look.days[compared].min())
        family = leader.family
        if world.personal:
            family = Family.personal(int(joined_arms(evidence).sum()))
            gain = personal_gain(facts, evidence, leader.arm, family)
        now, before = (
            _leader_scores(world, sums, leader.arm, among) for sums in (recent, evidence - recent)
        )
        of_late = recent_agreement(facts, now, before, LITTLE * value, family)
    progress = Progress(
        started=True,
        at=(look.day + 1) * DAY,
        window=0.0,
        sent=1,
        days_needed=7,
        closed_days=days,
        last_day=look.day,
        closes_at=None,
        span=None,
    )
    comparison = Comparison(
        leader, LITTLE * value, gain, of_late, split_alarmed=False, lifts_move=lifts_move
    )
    return Judged(verdict(progress, comparison), leader, value)


def _leader_scores(world: World, sums: AipwSums, leader: int, among: IntArray) -> aipw.Scores:
    if world.personal:
        return aipw.personal_gain(sums, leader).negated
    units = np.eye(sums.n_arms)
    return aipw.contrast_rows(sums, units[leader] - units[np.setdiff1d(among, [leader])])
