"""Estimates: values, lifts and the leader, each by the interval whose conditions hold.

Everything is read from two sums over decisions whose window has closed: `AipwSums` by arm, and,
where there is a control group, `AipwSums` by group. The method follows from what an experiment *is*
(does it use context, was every arm always eligible, was drift found, what are its rewards), never
from which interval looks better; where no method's conditions hold, the finding is `NotYet`.

A rate is shown by its exact sequence while nothing speaks against constant rates. A *lift* is what
people act on, and a base rate that moves with the weekday while shares move too misleads it most:
it is weighted (AIPW) unless a person vouches that rates are steady, for an email that goes out
within hours, say.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from msgspec import Struct
from scipy.special import ndtri

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.inference import aipw
from bandits.inference.aipw import Scores
from bandits.inference.aipw_sums import AipwSums, ratio
from bandits.inference.clusters import ClusterSums
from bandits.inference.confidence_sequences import lift_bounds, rate_bounds
from bandits.inference.intervals import (
    GAIN,
    LIFT,
    OVERLAP,
    RANDOMISED,
    RATE,
    WEIGHTED,
    Family,
    Finding,
    Guarantee,
    Interval,
    NotYet,
)
from bandits.inference.overlap import OverlapSums, compare

BURN_IN_CONVERSIONS = 50  # in the compared arms together
BURN_IN_DECISIONS = 25  # of each compared arm
PASSED_ALONE = 1 / 3  # looks at which a steady leader is no worse, where no trend is looked for
LIKELY = 1.645  # standard errors of a one-sided bound of 95 %

Recent = Literal["agrees", "contradicts", "unknown"]
BURN_IN_OF_GROUP = 10  # independent conversions of the control group, and of the others
_TIGHTEST_OF_GROUP = 25.0  # independent conversions of the smaller group, where it is tightest
_PRIOR_OF_GROUP = 6.0  # independent conversions that the variance over both groups counts for

_NO_FLOOR = NotYet(
    "This needs a minimum share above 0 for every variant, whenever a counted email was chosen.",
    "without a floor, inverse-propensity weights have no bound",
)

_REMOVED = NotYet(
    "This cannot be told: the emails' rows were removed after their time before it was known "
    "which of them went to the same recipient.",
    "no counted decision has a cluster",
)


class EstimationContext(Struct, frozen=True):
    """Properties of an experiment that decide which intervals hold.

    Attributes:
        contextual: its policy uses the context.
        drifting: the arms' levels were found to move; see `bandits.inference.periods`.
        floor: the least probability that an eligible arm can have, or could when a counted decision
            was made.
        steady: a person vouches that rates stay constant for as long as it runs.
        low: the least reward.
        high: the largest reward.
        requested: requests may have narrowed the arms that they could get, perhaps by recipient.
        lifts_move: comparisons with the control were found to move; see
            `bandits.inference.lift_periods`.
    """

    contextual: bool
    drifting: bool
    floor: float
    low: float = 0.0
    high: float = 1.0
    steady: bool = False
    requested: bool = True
    lifts_move: bool = False


class Overlap(Struct, frozen=True, eq=False):
    """Sums of arms beside other arms, and how much their emails are worth.

    Attributes:
        sums: of comparisons that are kept.
        worth: (..., K) conversions of equal size that one of an arm is worth, at most 1.
        control: the arm that the control group gets.
        design_effect: (..., 1) of the control group's recipients, who may get several emails; 1
            without any.
    """

    sums: OverlapSums
    worth: FloatArray
    control: int
    design_effect: FloatArray | float = 1.0

    def scores(self, evidence: AipwSums, places: IntArray) -> Scores:
        """Score C comparisons by their places (C,); see `bandits.inference.overlap.compare`."""
        with_control = self.sums.comparisons.involve(self.control)[places]
        effect = np.where(with_control, self.design_effect, 1.0)
        return compare(self.sums, places, evidence, worth=self.worth, design_effect=effect)


def constant_rates(facts: EstimationContext, evidence: AipwSums) -> bool:
    """Return true where intervals for constant rates may be shown.

    Arms that join or pause change who can get an arm with time alone: a rate that is constant stays
    so. A request may narrow its arms by recipient: then an arm's rate is a mix that moves with the
    shares.
    """
    unrestricted = len(evidence.eligible) == 1 and bool(evidence.eligible.all())
    unrestricted = unrestricted or not facts.requested
    unit = facts.low >= 0 and facts.high <= 1
    return unrestricted and unit and not facts.contextual and not facts.drifting


def values(facts: EstimationContext, evidence: AipwSums, family: Family) -> list[Finding]:
    """Find the mean reward per decision of each of K arms."""
    if constant_rates(facts, evidence):
        total, n = _counts(evidence)
        bounds = rate_bounds(total, n, family.alpha_each)
        return _exact(bounds, total / np.maximum(n, 1), n, family, RATE)
    return contrast_rows(facts, evidence, np.eye(evidence.n_arms), family)


def lifts(
    facts: EstimationContext,
    evidence: AipwSums,
    reference: int,
    family: Family,
    overlap: Overlap | None = None,
) -> dict[int, Finding]:
    """Find how much more reward per decision each other arm earns than `reference`, by arm.

    Args:
        facts: of the experiment.
        evidence: by arm.
        reference: the arm that all others are compared with.
        family: which claims hold together.
        overlap: sums of comparisons, where these may be weighted by their overlap.
    """
    arms = range(evidence.n_arms)
    others = [k for k in arms if k != reference]
    places = None if overlap is None else overlap.sums.comparisons.arms(reference, others)
    if facts.steady and constant_rates(facts, evidence):
        total, n = _counts(evidence)
        mean = total / np.maximum(n, 1)
        bounds = lift_bounds(total[reference], n[reference], total, n, family.alpha_each)
        fewest = np.minimum(n, n[reference])
        findings = _exact(bounds, mean - mean[reference], fewest, family, LIFT)
    elif overlap is not None and places is not None:
        opposite = overlap.sums.comparisons.opposite[places]
        over = overlap_lifts(overlap, evidence, opposite, family)
        return dict(zip(others, over, strict=True))
    else:
        units = np.eye(evidence.n_arms)
        findings = contrast_rows(facts, evidence, units - units[reference], family)
    return {k: findings[k] for k in arms if k != reference}


def contrast(
    facts: EstimationContext, evidence: AipwSums, weights: FloatArray, family: Family
) -> Finding:
    """Find Σ_k c_k μ(k) per decision, by AIPW, whatever the arms' rates do.

    Args:
        facts: of the experiment.
        evidence: by arm.
        weights: (K,) c; see `variant_weights` for a slot's.
        family: which claims hold together with this one.
    """
    if facts.floor <= 0:
        return _NO_FLOOR
    scores = aipw.contrast(evidence, weights)
    return _weighted(scores, family, WEIGHTED, per=max(float(scores.n), 1.0))


def contrasts(
    facts: EstimationContext, evidence: AipwSums, weights: FloatArray, family: Family
) -> list[Finding]:
    """Find the same contrast in each of C segments: evidence of lead (C,), weights (K,)."""
    n_segments = len(evidence.moments)
    if facts.floor <= 0:
        return [_NO_FLOOR] * n_segments
    return _each_weighted(aipw.contrast(evidence, weights), family)


def overlap_lifts(
    overlap: Overlap, evidence: AipwSums, places: IntArray, family: Family
) -> list[Finding]:
    """Find how much more one side of C comparisons earns than the other.

    Args:
        overlap: sums of comparisons, in all or by segment.
        evidence: by arm, likewise.
        places: (C,) of the comparisons.
        family: which claims hold together.

    Returns:
        A finding of each comparison, in each segment.
    """
    return _each_weighted(overlap.scores(evidence, places), family, OVERLAP)


def contrast_rows(
    facts: EstimationContext, evidence: AipwSums, weights: FloatArray, family: Family
) -> list[Finding]:
    """Find several contrasts, weights (C, K), as `contrast` does each of them."""
    if facts.floor <= 0:
        return [_NO_FLOOR] * len(weights)
    return _each_weighted(aipw.contrast_rows(evidence, weights), family)


def variant_weights(slot_levels: IntArray, slot: int, variant: int, against: int) -> FloatArray:
    """Return the contrast (K,) of two variants of a slot, under an equal mix of the other slots.

    The mix is over those combinations of the other slots that go with both variants, so that like
    is compared with like where some combinations are excluded.

    Args:
        slot_levels: (K, n_slots) the variant of each slot that each arm shows.
        slot: which slot.
        variant: the variant judged.
        against: the variant it is compared with.

    Returns:
        All 0 where no combination goes with both.
    """
    rest = np.delete(slot_levels, slot, axis=1)
    level = slot_levels[:, slot]
    _, mix = np.unique(rest, axis=0, return_inverse=True)
    mix = mix.reshape(-1)
    both = np.isin(mix, mix[level == variant]) & np.isin(mix, mix[level == against])
    gained = both & (level == variant)
    return (gained.astype(float) - (both & (level == against))) / max(1, np.count_nonzero(gained))


def gain_over_equal_split(facts: EstimationContext, evidence: AipwSums, family: Family) -> Finding:
    """Find what was earned in all more than by equal shares; not yet while that may be 0."""
    if facts.floor <= 0:
        return _NO_FLOOR
    gain = _weighted(aipw.gain_over_equal_split(evidence), family, GAIN, per=1.0)
    if gain.measurable and gain.contains(0):
        return NotYet(
            "So far the gain is too small, or too uncertain, to be told from 0.",
            f"the interval [{gain.low:.4g}, {gain.high:.4g}] contains 0",
        )
    return gain


def gain_over_control_group(groups: AipwSums, clusters: ClusterSums, family: Family) -> Finding:
    """Find what was earned in all more than if everybody outside it had got the control.

    Emails of one recipient count together: the variance is that of independent emails times the
    design effect of `clusters`, and so many times fewer are the conversions that the burn-in asks
    for. Recipients who converted would be the better measure, and are not known from sums.

    Args:
        groups: over *all* recipients as one experiment of two arms, 0 those that were decided for
            and 1 the held out, drawn with probabilities 1 − h and h.
        clusters: the same by bucket of their recipients.
        family: which claims hold together with this one.
    """
    scores = aipw.contrast(groups, np.array([1.0, -1.0]))
    sends, n = groups.sends, float(scores.n)
    if not clusters.decisions and n > 0:
        return _REMOVED
    if sends.min() < BURN_IN_DECISIONS:
        return _not_enough(0.0, 0.0)
    weights = groups.moments[..., 0, 1, :].sum(axis=0) / sends  # 1 / (1 − h) and 1 / h
    conversions = groups.earning.sum(axis=0)
    design_effect = clusters.design_effect(sends, conversions, float(1 / weights[1]))
    independent = conversions / design_effect
    if independent.sum() < BURN_IN_CONVERSIONS or independent.min() < BURN_IN_OF_GROUP:
        return _not_enough(float(independent.sum()), float(independent.min()))
    size = float(groups.prediction[2])
    clustered = replace(
        scores,
        variation=np.asarray(_group_variation(groups, size, design_effect) * design_effect),
        variation_expected=np.asarray(tightest_variation(weights, size, design_effect)),
    )
    total, margin = float(scores.total), float(clustered.margin(family.alpha_each))
    per = n / float(sends[0])
    low, high = (total - margin) / per, (total + margin) / per
    return Interval(low, high, total / per, family.alpha_each, RANDOMISED.key, family)


def _group_variation(groups: AipwSums, conversion: float, design_effect: float) -> float:
    """Return the variation of scores of two groups, were emails of one recipient independent.

    The variance of each is drawn towards that over both, and never below its own. A gain makes them
    differ, so it is drawn by little, and by as much as the group's *independent* conversions leave
    open: a group of many emails to few recipients has hardly more of these than one of few emails.

    Args:
        groups: of `gain_over_control_group`.
        conversion: the mean square of a conversion.
        design_effect: of recipients who get several emails.
    """
    moments = groups.moments.sum(axis=0)
    sends, total, square = moments[:, 0]
    mean = ratio(moments[1, 1], moments[0, 1])
    own = np.maximum(ratio(moments[2, 1], moments[0, 1]) - mean**2, 0.0)
    both = square.sum() / sends.sum() - (total.sum() / sends.sum()) ** 2
    events = sends * own / conversion / design_effect
    drawn = (events * own + _PRIOR_OF_GROUP * both) / (events + _PRIOR_OF_GROUP)
    observed = moments[2, 2] - 2 * mean * moments[1, 2] + mean**2 * moments[0, 2]
    modelled = np.maximum(own, drawn) * moments[0, 2]
    return float(max(observed.sum(), modelled.sum()))


def tightest_variation(weights: FloatArray, conversion: float, design_effect: float) -> float:
    """Return the variation of scores at which the interval of a randomised difference is tightest.

    It is that of 25 independent conversions in the smaller group.

    Args:
        weights: (2,) one over the probability of either group.
        conversion: the mean square of a conversion.
        design_effect: of recipients who get several emails.
    """
    return float(_TIGHTEST_OF_GROUP * weights.max() * weights.sum() * conversion * design_effect**2)


def _not_enough(independent: float, fewest: float) -> NotYet:
    """Make the finding of a control group with too few conversions that are independent."""
    return NotYet(
        f"Not enough yet: {min(independent, BURN_IN_CONVERSIONS):,.0f} of {BURN_IN_CONVERSIONS} "
        f"successes, and {min(fewest, BURN_IN_OF_GROUP):,.0f} of {BURN_IN_OF_GROUP} in the "
        "smaller group, where those of one recipient count together.",
        "the asymptotic interval errs too often before its burn-in",
    )


class Lead(Struct, frozen=True):
    """Arm that does best so far, and the arms that could still be better.

    Attributes:
        arm: the one whose value is surely the largest: the lower end of its interval is. Of an arm
            with few decisions the estimate alone may be the largest by luck. Where another is shown
            to be better, it is that one. While no comparison is measurable yet, the one of the
            largest estimate.
        leads: every other arm that is compared is shown to be worse; all comparisons at once.
        rivals: arms that are compared and could still be better.
        at_most: sending only `arm` gives up at most this much reward per decision against those
            that are compared, with the family's confidence; None while none is.
        family: the comparisons this rests on.
        uncompared: arms whose comparison with `arm` is not measurable yet, because they joined
            later, say.
    """

    arm: int
    leads: bool
    rivals: tuple[int, ...]
    at_most: float | None
    family: Family
    uncompared: tuple[int, ...] = ()


def joined_arms(evidence: AipwSums) -> BoolArray:
    """Return which arms (K,) any counted decision could have got.

    Families count these alone, paused or not, so that an arm that joins or pauses widens nothing
    before its emails count.
    """
    joined: BoolArray = np.any(evidence.eligible, axis=0)
    return joined


def lead(
    facts: EstimationContext,
    evidence: AipwSums,
    among: IntArray,
    alpha: float,
    overlap: Overlap | None = None,
) -> Lead | None:
    """Find the leader `among` arms that can still be sent (m,), each pair at α/(K − 1).

    However the data choose the leader, a wrong one has to beat the truly best arm in their own
    comparison, so α/(K − 1) is enough, K the arms that joined. None before the first decision.
    """
    total, n = _counts(evidence)
    constant = facts.steady and constant_rates(facts, evidence)
    mean = total / np.maximum(n, 1) if constant else evidence.means
    sent = among[n[among] > 0]
    if not len(sent):
        return None
    family = Family.leading(int(joined_arms(evidence).sum()), alpha)
    largest = int(sent[np.argmax(mean[sent])])

    def against(arm: int) -> dict[int, Finding]:
        by_arm = lifts(facts, evidence, arm, family, overlap)
        return {k: by_arm[k] for k in among.tolist() if k != arm}

    best = _surest(facts, evidence, sent, family)
    lifts_over_best = {} if best is None else against(best)
    # An arm with hardly any reward has no interval by itself, yet it may be shown to be better:
    # where less is better, that is the best there is.
    better = {k: f.low for k, f in lifts_over_best.items() if f.measurable and f.low > 0}
    if better:
        best = max(better, key=better.__getitem__)
        lifts_over_best = against(best)
    compared = {k: f for k, f in lifts_over_best.items() if f.measurable}
    if best is None or (lifts_over_best and not compared):
        best, lifts_over_best = largest, against(largest)
        compared = {k: f for k, f in lifts_over_best.items() if f.measurable}
    rivals = tuple(k for k, f in compared.items() if f.high >= 0)
    uncompared = tuple(k for k in lifts_over_best if k not in compared)
    settled = bool(compared) or not uncompared
    at_most = max([0.0, *(f.high for f in compared.values())]) if settled else None
    return Lead(best, settled and not rivals, rivals, at_most, family, uncompared)


def recent_agreement(  # noqa: PLR0913 - all that it rests on
    facts: EstimationContext,
    now: Scores,
    before: Scores,
    trends: FloatArray | None,
    *,
    little: float,
    family: Family,
) -> Recent:
    """Compare the last days of a leader with what it is to be shipped for, against m others.

    They agree where, against each of the others, their own sequence shows that at most `little` is
    lost, or where they are not enough for that and show no decline: an estimate that is no less
    than before, and no trend downwards over all days, each by so much that a steady leader passes
    in m/(m + 1) of looks; and a lower bound of 95 % at `little` or better. A leader that declines
    has to pass against all that it may fall behind, so bars are lower where these are more. They
    contradict where another is shown to be better. Bounds are one-sided, so they err half as often
    as the family says.

    Args:
        facts: of the experiment.
        now: scores of the leader less each of the others on the last days, (m,).
        before: the same on earlier days.
        trends: (m,) z of the trend in the same differences over all days; None where a trend says
            nothing, since a policy that learns catches up with a leader that is steady.
        little: reward per decision that does not matter.
        family: of the comparisons.
    """
    if facts.floor <= 0:
        return "unknown"
    measurable = _measurable(now)
    mean, error = now.mean, now.error
    margin = now.margin(family.alpha_each) / np.maximum(now.n, 1.0)
    if np.any(measurable & (mean + margin < 0)):
        return "contradicts"
    shown = measurable & (mean - margin >= -little)
    unsure = max(int(np.count_nonzero(~shown)), 1)
    passed = PASSED_ALONE if trends is None else unsure / (unsure + 1)
    least_change = _least_passing(passed, unsure) * np.hypot(error, before.error)
    declined = _measurable(before) & (mean - before.mean < least_change)
    if trends is not None:
        declined |= trends < _least_passing(passed, unsure)
    likely = measurable & ~declined & (mean - LIKELY * error >= -little)
    return "agrees" if np.all(shown | likely) else "unknown"


def _least_passing(passed: float, m: int) -> float:
    """Return the standard normal that m independent ones exceed together with this probability."""
    return float(ndtri(1 - passed ** (1 / m)))


def _measurable(scores: Scores) -> BoolArray:
    enough: BoolArray = scores.conversions >= BURN_IN_CONVERSIONS
    return enough & (scores.fewest_sends >= BURN_IN_DECISIONS)


def personal_gain(
    facts: EstimationContext, evidence: AipwSums, arm: int, family: Family
) -> Finding:
    """Find what a policy that chooses by recipient earns more per decision than one arm for all."""
    if facts.floor <= 0:
        return _NO_FLOOR
    scores = aipw.personal_gain(evidence, arm)
    return _weighted(scores, family, WEIGHTED, per=max(float(scores.n), 1.0))


def _surest(
    facts: EstimationContext, evidence: AipwSums, sent: IntArray, family: Family
) -> int | None:
    """Choose the arm of the largest lower bound; None while no arm has one."""
    units = np.eye(evidence.n_arms)
    arms = sent.tolist()
    values_by_arm = zip(arms, contrast_rows(facts, evidence, units[arms], family), strict=True)
    lows = {k: f.low for k, f in values_by_arm if f.measurable}
    return max(lows, key=lows.__getitem__, default=None)


def _counts(evidence: AipwSums) -> tuple[FloatArray, FloatArray]:
    """Return Σ r and n of each arm, (K,) each."""
    return evidence.earned, evidence.sends


def _exact(
    bounds: tuple[FloatArray, FloatArray],
    estimates: FloatArray,
    n: FloatArray,
    family: Family,
    guarantee: Guarantee,
) -> list[Finding]:
    """Make a finding of each of K exact intervals, over n (K,) decisions."""
    columns = zip(*(a.tolist() for a in (*bounds, estimates, n)), strict=True)
    return [
        Interval(low, high, estimate, family.alpha_each, guarantee.key, family)
        if decisions > 0
        else NotYet("No email's results are final yet.", "an arm has no decision that counts")
        for low, high, estimate, decisions in columns
    ]


def _each_weighted(
    scores: Scores, family: Family, guarantee: Guarantee = WEIGHTED
) -> list[Finding]:
    """Make the finding of each of several scored contrasts, per decision."""
    margins = scores.margin(family.alpha_each)
    columns = (scores.n, scores.total, margins, scores.conversions, scores.fewest_sends)
    rows = zip(*(column.reshape(-1).tolist() for column in columns), strict=True)
    return [_finding(row, family, guarantee, per=max(row[0], 1.0)) for row in rows]


def _weighted(scores: Scores, family: Family, guarantee: Guarantee, *, per: float) -> Finding:
    """Make the finding of a scored contrast, expressed per `per` of its decisions."""
    margin = scores.margin(family.alpha_each)
    columns = (scores.n, scores.total, margin, scores.conversions, scores.fewest_sends)
    return _finding(tuple(map(float, columns)), family, guarantee, per=per)


def _finding(
    row: tuple[float, ...], family: Family, guarantee: Guarantee, *, per: float
) -> Finding:
    """Make a finding of decisions, total, its margin, conversions, and the fewest sends."""
    n, total, margin, conversions, fewest = row
    if n == 0:
        return NotYet(
            "No email could have been any of these variants and has complete results.",
            "no counted decision had all compared arms eligible",
        )
    if conversions < BURN_IN_CONVERSIONS or fewest < BURN_IN_DECISIONS:
        if guarantee is OVERLAP:
            return NotYet(
                f"Not enough yet: {min(conversions, BURN_IN_CONVERSIONS):,.0f} of "
                f"{BURN_IN_CONVERSIONS} successes of the version that has fewer.",
                "the asymptotic interval errs too often before its burn-in",
            )
        return NotYet(
            f"Not enough yet: {min(conversions, BURN_IN_CONVERSIONS):,.0f} of "
            f"{BURN_IN_CONVERSIONS} successes, and {min(fewest, BURN_IN_DECISIONS):,.0f} of "
            f"{BURN_IN_DECISIONS} complete emails of the rarest variant.",
            "the asymptotic interval errs too often before its burn-in",
        )
    low, high = (total - margin) / per, (total + margin) / per
    return Interval(low, high, total / per, family.alpha_each, guarantee.key, family)
