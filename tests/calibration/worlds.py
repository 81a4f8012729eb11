"""Worlds: campaigns side by side whose truth is known, with the verdict on each of them.

Campaigns run day by day, R at once, by Thompson sampling with a floor or in equal shares. Emails of
a day are closed by its end. What is judged is the engine's own code.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from scipy.stats import beta

from bandits.allocation import apply_floor
from bandits.array_types import AnyArray, BoolArray, FloatArray, IntArray
from bandits.inference import aipw
from bandits.inference.aipw_sums import POWERS, AipwSums
from bandits.inference.clusters import BUCKETS, ClusterSums
from bandits.inference.estimates import (
    EstimationContext,
    Lead,
    Overlap,
    joined_arms,
    lead,
    personal_gain,
    recent_agreement,
)
from bandits.inference.intervals import ALPHA, Family
from bandits.inference.overlap import (
    Comparisons,
    OverlapSums,
    comparisons_of,
    conversion_worth,
)
from bandits.inference.periods import lift_trends, number_after
from bandits.inference.recent_days import DAY, RECENT_DAYS
from bandits.inference.sample_ratio import SampleRatio
from bandits.numerics.posterior import StudentPosterior
from bandits.numerics.quadrature import beta_chances
from bandits.statistics import Moments
from bandits.verdict import LITTLE, Comparison, Progress, Verdict, verdict

Rates = Callable[[int], Sequence[Sequence[float]] | FloatArray]

_ALIKE = (0.3, 1.2)  # Beta distribution of how much recipients who return click
_EVERYBODY = beta.ppf((np.arange(2000) + 0.5) / 2000, *_ALIKE) * sum(_ALIKE) / _ALIKE[0]
_REFUNDED, _HALF_REFUNDED = 0.10, 0.05  # parts of orders
_ORDER_PRIOR = (1000.0, 1.0, 1.0)  # of the policy that learns from orders


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
        pauses: arm, first day and the day after the last of each pause.
        switched: from this day on the arm of the largest mean gets all but the floors.
        half_life: days after which the policy has forgotten half; it forgets nothing unless given.
        spread: each campaign's arms have rates of their own: these times 1 + N(0, spread²).
        order: mean and deviation of the logarithm of an order; a reward is 0 or 1 unless given.
        holdout: the share of recipients who are held out.
        returning: the same recipients come every day, each with a rate of their own.
        slots: how many variants each slot has, where arms are all their combinations.
        events: name and rates by arm of events beside the reward.
        loss: the part of the last arm's emails that are drawn and never sent.
    """

    rates: Rates
    days: int
    daily: int
    floor: float
    joins: tuple[int, ...] = ()
    personal: bool = False
    uniform: bool = False
    pauses: tuple[tuple[int, int, int], ...] = ()
    switched: int | None = None
    half_life: float | None = None
    spread: float = 0.0
    order: tuple[float, float] | None = None
    holdout: float = 0.0
    returning: bool = False
    slots: tuple[int, ...] = ()
    events: tuple[tuple[str, tuple[float, ...]], ...] = ()
    loss: float = 0.0

    def at(self, day: int) -> FloatArray:
        """Return the rates of a day, (C, K)."""
        return np.array(self.rates(day), dtype=np.float64)

    def eligible(self, day: int) -> BoolArray:
        """Mark the arms (K,) that have joined by a day and are not paused."""
        eligible = np.array(self.joins or np.zeros(self.at(0).shape[1])) <= day
        for arm, start, end in self.pauses:
            eligible[arm] &= not start <= day < end
        return np.asarray(eligible)

    @property
    def by_subject(self) -> bool:
        """Recipients are drawn one by one."""
        return self.returning or self.holdout > 0

    @property
    def worth(self) -> float:
        """Mean reward of a conversion."""
        if self.order is None:
            return 1.0
        mean, deviation = self.order
        return float(np.exp(mean + deviation**2 / 2) * (1 - _REFUNDED - _HALF_REFUNDED / 2))

    @property
    def slot_levels(self) -> IntArray:
        """The variant of each slot that each arm shows, (K, number of slots)."""
        return np.stack(np.unravel_index(np.arange(np.prod(self.slots)), self.slots), axis=1)

    def comparisons(self, *, segments: bool = False) -> Comparisons:
        """Return what is compared: of arms and variants, or of variants within a segment."""
        levels = self.slot_levels if self.slots else np.arange(self.at(0).shape[1])[:, None]
        arms_with = "none" if segments else "any"
        return comparisons_of(tuple(map(tuple, levels.tolist())), 0, arms_with)


class Truth:
    """What arms and policy are really worth, over the decisions made, by the arms that they had."""

    def __init__(self) -> None:
        self._by_set: dict[bytes, tuple[BoolArray, FloatArray, FloatArray]] = {}
        self._rates: list[FloatArray] = []
        self.worth: FloatArray = np.zeros(1)
        self.gain: FloatArray = np.zeros(1)

    def add(
        self,
        rates: FloatArray,
        eligible: BoolArray,
        n: FloatArray,
        means: FloatArray,
        worth: FloatArray,
    ) -> None:
        """Add a day.

        Args:
            rates: (C, K) of the world.
            eligible: (K,) arms that could be had.
            n: (R,) decisions.
            means: (R, C, K) true mean rewards.
            worth: (R,) the policy's own value.
        """
        self._rates.append(rates.mean(axis=0))
        key = eligible.tobytes()
        nothing = (eligible, np.zeros_like(n), np.zeros_like(means))
        _, count, total = self._by_set.get(key, nothing)
        self._by_set[key] = (eligible, count + n, total + n[:, None, None] * means)
        overall = means.mean(axis=1)
        self.worth = self.worth + n * worth
        self.gain = self.gain + n * (worth - overall[:, eligible].mean(axis=-1))

    def contrast(self, weights: FloatArray) -> FloatArray:
        """Return Σ_k c_k μ(k) (R,) over decisions that could have got every arm with a weight."""
        return self.by_kind(weights).mean(axis=-1)

    def by_kind(self, weights: FloatArray) -> FloatArray:
        """Return the same by kind of recipient, (R, C)."""
        used = [v for v in self._by_set.values() if v[0][weights != 0].all()]
        if not used:
            return np.zeros((len(self.worth), 1))
        count, total = (np.sum([v[i] for v in used], axis=0) for i in (1, 2))
        values: FloatArray = total @ weights / np.maximum(count, 1)[:, None]
        return values

    @property
    def levels_moved(self) -> bool:
        """Some arm's mean changed by the day."""
        return self._differ(lambda means: means)

    @property
    def lifts_moved(self) -> bool:
        """Lifts over the first arm changed, as differences and also as multiples."""
        return self._differ(lambda m: m - m[:1]) and self._differ(lambda m: m / m[:1])

    def _differ(self, what: Callable[[FloatArray], FloatArray]) -> bool:
        days = np.array([what(rates) for rates in self._rates])
        return bool(np.ptp(days, axis=0).max() > 1e-9)


@dataclass
class Days:
    """Sums by period: decisions, Σ r and Σ r² (R, P, K), and what lifts need (R, P, 7, K)."""

    count: FloatArray
    total: FloatArray
    square: FloatArray
    lifts: FloatArray
    last: int = 0

    @classmethod
    def zeros(cls, world: World, campaigns: int) -> "Days":
        """Make the sums over no decision."""
        shape, n_arms = (campaigns, number_after(world.days) + 1), world.at(0).shape[1]
        return cls(*(np.zeros((*shape, n_arms)) for _ in range(3)), np.zeros((*shape, 7, n_arms)))

    @property
    def numbers(self) -> IntArray:
        """Periods so far."""
        return np.arange(self.last + 1)

    @property
    def so_far(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Decisions, Σ r and Σ r² of these periods."""
        return tuple(a[:, : self.last + 1] for a in (self.count, self.total, self.square))


def sum_groups(sends: FloatArray, won: FloatArray, holdout: float) -> AipwSums:
    """Sum both groups of a campaign, (2, B) each by bucket, as emails; rewards are 0 and 1."""
    weights = np.array([1 / (1 - holdout), 1 / holdout]) ** np.arange(POWERS)[:, None]
    n, successes = sends.sum(axis=-1), won.sum(axis=-1)
    moments = np.stack([n, successes, successes])[:, None] * weights
    return AipwSums(np.ones((1, 2), dtype=np.bool_), moments[None], successes[None])


def sum_clusters(sends: FloatArray, won: FloatArray) -> ClusterSums:
    """Sum both groups of a campaign, (2, B) each, by bucket; rewards are 0 and 1."""
    return ClusterSums(np.stack([sends, won, won]))


@dataclass
class Groups:
    """Both groups' emails by bucket (R, 2, B), and what all emails gain over the control, (R,)."""

    sends: FloatArray
    won: FloatArray
    gain: FloatArray

    def emails(self, campaign: int, holdout: float) -> AipwSums:
        """Sum both groups as emails, rewards 0 and 1."""
        return sum_groups(self.sends[campaign], self.won[campaign], holdout)

    def clusters(self, campaign: int) -> ClusterSums:
        """Sum both groups by bucket."""
        return sum_clusters(self.sends[campaign], self.won[campaign])


@dataclass(frozen=True)
class Sent:
    """Emails of a day: decisions, conversions, Σ r, Σ r² (R, C, K); true means (R, C, K).

    Of the held out, whose rewards are 0 and 1, there are decisions and conversions (R, 2); and the
    true means of everybody, (R, C, K).
    """

    sent: AnyArray
    earning: AnyArray
    total: FloatArray
    square: FloatArray
    means: FloatArray
    held_out: FloatArray | None = None
    of_all: FloatArray | None = None


@dataclass
class Weighted:
    """Sums by overlap, and Σ h (μ_a − μ_b) of each comparison, (..., G)."""

    sums: OverlapSums
    truth: FloatArray

    @classmethod
    def zeros(cls, comparisons: Comparisons, lead: tuple[int, ...]) -> "Weighted":
        """Make the sums over no decision."""
        sums = OverlapSums.zeros(comparisons, lead)
        return cls(sums, np.zeros((*lead, len(comparisons.keys))))

    def add(self, shares: FloatArray, moments: FloatArray, means: FloatArray) -> None:
        """Add decisions of shares, with moments (..., 4, K) and means, (..., K) both."""
        comparisons = self.sums.comparisons
        more = OverlapSums.from_counts(comparisons, shares[..., None, :], moments[..., None, :])
        self.sums = self.sums + more
        one, other = shares[..., comparisons.first], shares[..., comparisons.second]
        h = (
            moments[..., 0, :].sum(axis=-1)[..., None]
            * one
            * other
            / np.maximum(one + other, 1e-300)
        )
        lifts = means[..., comparisons.first] - means[..., comparisons.second]
        self.truth = self.truth + np.add.reduceat(h * lifts, comparisons.starts, axis=-1)

    def lifts(self, places: IntArray) -> FloatArray:
        """Return the true lifts of comparisons (..., C)."""
        weights = self.sums.sums[..., 6, places]
        return np.asarray(self.truth[..., places] / np.maximum(weights, 1e-300))


@dataclass(frozen=True)
class Look:
    """Everything so far, of R campaigns side by side.

    Attributes:
        evidence: sums of all days, replications lead.
        recent: sums of the last seven days.
        days: (K,) days on which each arm could be had.
        shares: (R, C, K) the day's shares.
        rates: (C, K) the day's rates.
        value: (R,) what the policy's shares were worth so far, per decision.
        means: (R, K) the day's true mean rewards.
        truth: of all days.
        kinds: sums by kind of recipient, (R, C) lead.
        events: sums of each event "it happened", (E, R) lead.
        ratio: (R, K) sends against shares.
        periods: sums by period.
        groups: of worlds with a control group.
        weighted: sums by overlap, (R,) lead.
        within: the same by kind of recipient, (R, C) lead.
    """

    day: int
    evidence: AipwSums
    recent: AipwSums
    days: FloatArray
    shares: FloatArray
    rates: FloatArray
    value: FloatArray
    means: FloatArray
    truth: Truth
    kinds: AipwSums
    events: AipwSums
    ratio: SampleRatio
    periods: Days
    groups: Groups | None
    weighted: Weighted
    within: Weighted


def evidence_of(
    eligible: BoolArray,
    sent: AnyArray,
    rewards: tuple[FloatArray, FloatArray, AnyArray],
    shares: FloatArray,
) -> AipwSums:
    """Sum decisions (..., K) of the same shares: Σ r, Σ r² and conversions of each are given."""
    total, square, earning = rewards
    inverse = np.where(eligible, 1 / np.where(shares > 0, shares, 1.0), 0.0)
    weights = np.stack([eligible.astype(float) + 0 * inverse, inverse, inverse**2], axis=-2)
    moments = np.stack([sent, total, square], axis=-2)[..., None, :] * weights[..., None, :, :]
    return AipwSums(
        eligible[None], moments[..., None, :, :, :], earning[..., None, :].astype(np.float64)
    )


class _Subjects:
    """Recipients drawn one by one: N a day, new ones every day unless they return."""

    def __init__(self, world: World, rng: Generator, campaigns: int) -> None:
        self.world, self.rng, self.shape = world, rng, (campaigns, world.daily)
        shape = (campaigns, 2, BUCKETS)
        self.groups = Groups(np.zeros(shape), np.zeros(shape), np.zeros(campaigns))
        self._come()

    def _come(self) -> None:
        first, second = _ALIKE
        self.own = self.rng.beta(first, second, self.shape) * (first + second) / first
        self.held_out = self.rng.random(self.shape) < self.world.holdout
        self.buckets = self.rng.integers(0, BUCKETS, self.shape)

    def send(self, rates: FloatArray, shares: FloatArray) -> Sent:
        """Send one email to each, at rates (R, K) and shares (R, K)."""
        if not self.world.returning:
            self._come()
        (campaigns, _), n_arms = self.shape, rates.shape[-1]
        row = np.arange(campaigns)[:, None]
        bounds = np.cumsum(shares, axis=1)[:, None, :-1]
        drawn = (self.rng.random(self.shape)[..., None] >= bounds).sum(axis=-1)
        arms = np.where(self.held_out, 0, drawn)
        chances = np.minimum(self.own[..., None] * rates[:, None, :], 1.0)  # (R, N, K)
        chance = np.take_along_axis(chances, arms[..., None], axis=-1)[..., 0]
        clicked = self.rng.random(self.shape) < chance
        self._group((row * 2 + self.held_out) * BUCKETS + self.buckets, clicked)
        decided = ~self.held_out
        cells = (row * n_arms + arms)[decided]
        sent, won = (
            np.bincount(cells, w, campaigns * n_arms).reshape(campaigns, 1, n_arms)
            for w in (None, clicked[decided])
        )
        means, everyone = self._means(rates, chances, decided)
        gain = ((everyone - everyone[:, :1]) * shares).sum(axis=1)
        self.groups.gain = self.groups.gain + self.shape[1] * gain
        held_out = np.stack([self.held_out.sum(axis=1), (self.held_out & clicked).sum(axis=1)], 1)
        beside = (held_out.astype(float), everyone[:, None])
        return Sent(sent, won, won * 1.0, won * 1.0, means[:, None], *beside)

    def _means(
        self, rates: FloatArray, chances: FloatArray, decided: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the true means (R, K) of those decided for, and of everybody.

        New recipients are drawn from all there are, and those who return are always the same.
        """
        if not self.world.returning:
            means = np.minimum(_EVERYBODY[:, None, None] * rates, 1.0).mean(axis=0)
            return means, means
        of_decided = np.einsum("rnk,rn->rk", chances, decided) / decided.sum(axis=1)[:, None]
        return of_decided, chances.mean(axis=1)

    def _group(self, cells: IntArray, clicked: BoolArray) -> None:
        shape = self.groups.sends.shape
        sends, won = (
            np.bincount(cells.ravel(), w, int(np.prod(shape))).reshape(shape)
            for w in (None, clicked.ravel())
        )
        self.groups.sends, self.groups.won = self.groups.sends + sends, self.groups.won + won


def _send(world: World, rng: Generator, rates: FloatArray, shares: FloatArray) -> Sent:
    """Send a day's emails to recipients who are alike within a kind, at rates (R, C, K)."""
    sent = rng.multinomial(world.daily // rates.shape[1], shares)
    if world.loss:
        sent[..., -1] -= rng.binomial(sent[..., -1], world.loss)
    ordered = rng.binomial(sent, rates)
    if world.order is None:
        return Sent(sent, ordered, ordered * 1.0, ordered * 1.0, rates)
    size = int(ordered.sum())
    refund = rng.random(size)
    kept = np.where(refund < _REFUNDED, 0.0, 1.0)
    kept[(refund >= _REFUNDED) & (refund < _REFUNDED + _HALF_REFUNDED)] = 0.5
    rewards = rng.lognormal(*world.order, size) * kept
    place = np.repeat(np.arange(ordered.size), ordered.ravel())
    earning, total, square = (
        np.bincount(place, w, ordered.size).reshape(ordered.shape)
        for w in (kept > 0, rewards, rewards**2)
    )
    return Sent(sent, earning, total, square, rates * world.worth)


class _Policy:
    """Thompson sampling in R campaigns, by kind of recipient where it is personal."""

    def __init__(self, world: World, campaigns: int) -> None:
        self.world = world
        n_kinds, n_arms = world.at(0).shape
        self.sums = np.zeros((3, campaigns, n_kinds, n_arms))

    def learn(self, emails: Sent) -> None:
        """Take a day in."""
        half_life = self.world.half_life
        kept = 1.0 if half_life is None else 0.5 ** (1 / half_life)
        self.sums = kept * self.sums + np.stack([emails.sent, emails.total, emails.square])

    def shares(self, day: int) -> FloatArray:
        """Return shares (R, C, K)."""
        joined = np.flatnonzero(self.world.eligible(day))
        shares = np.zeros(self.sums.shape[1:])
        if self.world.uniform:
            shares[..., joined] = 1 / len(joined)
            return shares
        sums = self.sums if self.world.personal else self.sums.sum(axis=2, keepdims=True)
        sums = sums[..., joined]
        chances = self._chances(sums.reshape(3, -1, len(joined)), day)
        shares[..., joined] = apply_floor(chances, self.world.floor).reshape(sums.shape[1:])
        return shares

    def _chances(self, sums: FloatArray, day: int) -> FloatArray:
        sent, total, square = sums
        if self.world.switched is not None and day >= self.world.switched:
            best = (total / np.maximum(sent, 1)).argmax(axis=-1)
            chances: FloatArray = np.eye(sent.shape[-1])[best]
            return chances
        if self.world.order is None:
            return beta_chances(total + 1, sent - total + 1)
        moments = Moments(sent, total, square, np.zeros_like(sent))
        return StudentPosterior(moments, *_ORDER_PRIOR).chances


def looks(world: World, seed: int, campaigns: int) -> Iterator[Look]:
    """Run campaigns, and look at the end of each day."""
    rng = np.random.default_rng(seed)
    n_kinds, n_arms = world.at(0).shape
    policy, subjects = _Policy(world, campaigns), None
    if world.by_subject:
        subjects = _Subjects(world, rng, campaigns)
    own = 1 + world.spread * rng.standard_normal((campaigns, 1, n_arms)) if world.spread else 1.0
    by_day: deque[AipwSums] = deque(maxlen=RECENT_DAYS)
    sums = _Sums(world, campaigns)
    for day in range(world.days):
        rates, shares = world.at(day), policy.shares(day)
        each = np.broadcast_to(np.clip(rates * own, 0, 1), (campaigns, n_kinds, n_arms))
        if subjects is not None:
            emails = subjects.send(each[:, 0], shares[:, 0])
        else:
            emails = _send(world, rng, each, shares)
        policy.learn(emails)
        by_day.append(sums.add(day, emails, shares, rng))
        recent = AipwSums.zeros(n_arms, (campaigns,))
        for part in by_day:
            recent = recent + part
        value = sums.truth.worth / np.maximum(sums.evidence.sends.sum(axis=-1), 1)
        yield Look(
            day,
            sums.evidence,
            recent,
            sums.days,
            shares,
            rates,
            value,
            emails.means.mean(axis=1),
            sums.truth,
            sums.kinds,
            sums.events,
            sums.ratio,
            sums.periods,
            subjects.groups if subjects is not None and world.holdout > 0 else None,
            sums.weighted,
            sums.within,
        )


@dataclass
class _Sums:
    """Sums over all days of R campaigns."""

    world: World
    campaigns: int
    truth: Truth = field(default_factory=Truth)

    def __post_init__(self) -> None:
        n_kinds, n_arms = self.world.at(0).shape
        self.evidence = AipwSums.zeros(n_arms, (self.campaigns,))
        self.kinds = AipwSums.zeros(n_arms, (self.campaigns, n_kinds))
        self.events = AipwSums.zeros(n_arms, (len(self.world.events), self.campaigns))
        none = np.zeros((self.campaigns, n_arms))
        self.ratio = SampleRatio(none, none, none)
        self.periods = Days.zeros(self.world, self.campaigns)
        self.days: FloatArray = np.zeros(n_arms)
        self.weighted = Weighted.zeros(self.world.comparisons(), (self.campaigns,))
        within = self.world.comparisons(segments=True)
        self.within = Weighted.zeros(within, (self.campaigns, n_kinds))

    def add(self, day: int, emails: Sent, shares: FloatArray, rng: Generator) -> AipwSums:
        """Add a day, and return its own sums by arm."""
        eligible = self.world.eligible(day)
        self.days = self.days + eligible
        rewards = (emails.total, emails.square, emails.earning)
        kinds = evidence_of(eligible, emails.sent, rewards, shares)
        self.kinds = self.kinds + kinds
        today = AipwSums(eligible[None], kinds.moments.sum(axis=1), kinds.earning.sum(axis=1))
        self.evidence = self.evidence + today
        if self.world.events:
            self.events = self.events + self._events(eligible, emails, shares, rng)
        n = emails.sent.sum(axis=-1, keepdims=True)
        columns = (emails.sent, n * shares, n * shares**2)
        sums = (self.ratio.sent, self.ratio.expected, self.ratio.square)
        self.ratio = SampleRatio(*(s + c.sum(axis=1) for s, c in zip(sums, columns, strict=True)))
        self._add_period(day, emails, shares)
        if not self.world.personal:
            self._add_weighted(emails, shares)
        worth = (shares * emails.means).sum(axis=-1).mean(axis=-1)
        decisions = emails.sent.sum(axis=(1, 2)).astype(float)
        self.truth.add(self.world.at(day), eligible, decisions, emails.means, worth)
        return today

    def _events(
        self, eligible: BoolArray, emails: Sent, shares: FloatArray, rng: Generator
    ) -> AipwSums:
        sent = emails.sent
        happened = np.stack([rng.binomial(sent, rates) for _, rates in self.world.events])
        many = np.broadcast_to(sent, happened.shape)
        sums = evidence_of(eligible, many, (happened, happened, happened), shares[None])
        return AipwSums(eligible[None], sums.moments.sum(axis=2), sums.earning.sum(axis=2))

    def _add_weighted(self, emails: Sent, shares: FloatArray) -> None:
        """Add a day's emails by overlap; those of the held out are the control's."""
        moments = np.stack(
            [emails.sent, emails.earning, emails.total, emails.square], axis=2
        ).astype(float)
        means, combined = emails.means, shares
        alone = self.world.returning  # then those held out are no emails of the control
        if emails.held_out is not None and emails.of_all is not None and not alone:
            n, won = emails.held_out.T
            moments[..., 0] += np.stack([n, won, won, won], axis=1)[:, None]
            combined = shares * (1 - self.world.holdout)
            combined[..., 0] += self.world.holdout
            means = emails.of_all
        self.within.add(combined, moments, means)
        self.weighted.add(combined[:, 0], moments.sum(axis=1), means.mean(axis=1))

    def _add_period(self, day: int, emails: Sent, shares: FloatArray) -> None:
        days, number = self.periods, number_after(day)
        days.last = number
        for sums, column in zip(
            (days.count, days.total, days.square),
            (emails.sent, emails.total, emails.square),
            strict=True,
        ):
            sums[:, number] += column.sum(axis=1)
        days.lifts[:, number] += _lift_sums(emails, shares, personal=self.world.personal)


def _lift_sums(emails: Sent, shares: FloatArray, *, personal: bool) -> FloatArray:
    """Sum as `LiftPeriodSums` does, the first arm being the control: (R, 7, K)."""
    both = (shares > 0) & (shares[..., :1] > 0)
    both[..., 0] = False
    inverse = 1 / np.where(shares > 0, shares, 1.0)
    if personal:
        own, of_control = both * inverse / 2, both * inverse[..., :1] / 2
    else:
        together = np.where(both, shares[..., :1] + shares, 1.0)
        own, of_control = both * shares[..., :1] / together, both * shares / together
    n, total = emails.sent, emails.total
    counted = n * (both | (np.arange(n.shape[-1]) == 0))
    parts = [counted, own * n, own * total, own**2 * n]
    parts += [of_control * n[..., :1], of_control * total[..., :1], of_control**2 * n[..., :1]]
    return np.stack([part.sum(axis=1) for part in parts], axis=1)


@dataclass(frozen=True)
class Judged:
    """One campaign at one look: its verdict, its leader, and the leader's estimated value."""

    verdict: Verdict
    lead: Lead | None
    value: float


def one_of(evidence: AipwSums, campaign: int) -> AipwSums:
    """Take the sums of one of R campaigns."""
    return AipwSums(evidence.eligible, evidence.moments[campaign], evidence.earning[campaign])


def facts_of(world: World, *, drifting: bool = False) -> EstimationContext:
    """State what the engine knows of campaigns in a world."""
    return EstimationContext(
        contextual=world.personal,
        drifting=drifting,
        floor=world.floor,
        high=1.0 if world.order is None else np.inf,
        requested=False,
    )


def overlap_of(world: World, look: Look, campaign: int | None = None) -> Overlap | None:
    """Read the sums by overlap as the engine does, of all campaigns or of one.

    None where the policy decides by recipient.
    """
    if world.personal:
        return None
    worth = np.ones((len(look.value), look.evidence.n_arms))
    if world.order is not None:
        worth = conversion_worth(look.evidence)
    sums = look.weighted.sums
    if campaign is None:
        return Overlap(sums, worth, 0)
    return Overlap(sums.at(campaign), worth[campaign], 0)


def judge(world: World, look: Look, *, lifts_move: bool | BoolArray = False) -> list[Judged]:
    """Reach the verdict on each campaign, by the code that the engine runs."""
    moved = np.broadcast_to(lifts_move, len(look.value)).tolist()
    return [_judge_one(world, look, r, lifts_move=moves) for r, moves in enumerate(moved)]


def _judge_one(world: World, look: Look, campaign: int, *, lifts_move: bool) -> Judged:
    facts = facts_of(world)
    evidence, recent = one_of(look.evidence, campaign), one_of(look.recent, campaign)
    among = np.flatnonzero(world.eligible(look.day))
    overlap = overlap_of(world, look, campaign)
    leader = lead(facts, evidence, among, ALPHA, overlap)
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
        if overlap is not None and look.day < RECENT_DAYS:  # there are no days before these
            others = np.setdiff1d(among, [leader.arm]).tolist()
            places = overlap.sums.comparisons.arms(leader.arm, others)
            if places is not None:
                now = overlap.scores(evidence, places)
        trends = None if world.personal else _trends(look, campaign, leader.arm, among)
        of_late = recent_agreement(facts, now, before, trends, little=LITTLE * value, family=family)
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


def _trends(look: Look, campaign: int, leader: int, among: IntArray) -> FloatArray:
    columns = (column[campaign] for column in look.periods.so_far)
    conversion = float(look.evidence.prediction[2][campaign])
    trends = lift_trends(look.periods.numbers, *columns, leader=leader, conversion=conversion)
    return trends[np.setdiff1d(among, [leader])]


def _leader_scores(world: World, sums: AipwSums, leader: int, among: IntArray) -> aipw.Scores:
    if world.personal:
        return aipw.personal_gain(sums, leader).negated
    units = np.eye(sums.n_arms)
    return aipw.contrast_rows(sums, units[leader] - units[np.setdiff1d(among, [leader])])
