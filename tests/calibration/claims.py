"""Claims that pages make, each measured at one look of R campaigns by the engine's own functions.

A claim is *wrong* where the truth speaks against it, and is *made* where it says more than "not
yet": an interval that is apart from 0, an arm that leads, an alarm.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from msgspec import structs

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.engine.analysis.event_findings import _family
from bandits.engine.analysis.findings import compare_arms
from bandits.engine.analysis.interactions import interaction_weights
from bandits.inference import lift_periods, periods
from bandits.inference.aipw_sums import AipwSums, ratio
from bandits.inference.confidence_sequences import lift_bounds, rate_bounds
from bandits.inference.estimates import (
    constant_rates,
    contrasts,
    gain_over_control_group,
    gain_over_equal_split,
    joined_arms,
    overlap_lifts,
    variant_weights,
)
from bandits.inference.intervals import ALPHA, Family, Finding, NotYet
from bandits.inference.lift_periods import lifts_p_value, weighted_levels
from bandits.inference.periods import levels_evidence
from bandits.inference.sample_ratio import ALARM
from bandits.rewards import Metric, RewardRule
from tests.calibration.worlds import Look, Weighted, World, facts_of, judge, one_of, overlap_of

LITTLE = 0.02
BINS = (0.0, 0.5, 0.8, 0.95, 1.0)  # of chances to be best
TOO_SURE = 0.03  # by how much a chance may exceed how often it is right, as ADR 41 has it
_ALONE = Family("values")
_TINY = 1e-12
NOTHING = NotYet("There is no leader yet.", "no decision is closed")


@dataclass(frozen=True)
class Figures:
    """A claim at one look of R campaigns.

    Attributes:
        wrong: the truth speaks against it.
        made: it says something.
        width: of its interval, NaN where there is none.
        limit: the share of campaigns in which it may ever be wrong.
        among: the campaigns of which that share is; all unless given.
    """

    wrong: BoolArray
    made: BoolArray
    width: FloatArray
    limit: float = ALPHA
    among: BoolArray | None = None


Claims = dict[str, Figures]
Claim = Callable[[World, Look], Claims]


def _intervals(findings: Sequence[Finding]) -> tuple[FloatArray, FloatArray]:
    """Return the ends (R,) of findings, NaN where one is not measurable."""
    ends = [(f.low, f.high) if f.measurable else (np.nan, np.nan) for f in findings]
    low, high = np.array(ends, dtype=np.float64).T
    return low, high


def _missed(low: FloatArray, high: FloatArray, truth: FloatArray) -> BoolArray:
    return np.asarray((truth < low - _TINY) | (truth > high + _TINY))


def _apart(low: FloatArray, high: FloatArray) -> BoolArray:
    return np.asarray((low > 0) | (high < 0))


def _together(figures: Sequence[Figures]) -> Figures:
    """Join claims that are to hold together: wrong where any is, made where any is."""
    return replace(
        figures[0],
        wrong=np.any([f.wrong for f in figures], axis=0),
        made=np.any([f.made for f in figures], axis=0),
    )


def _contrast(
    world: World, look: Look, sums: AipwSums, weights: FloatArray, family: Family
) -> Figures:
    low, high = _intervals(contrasts(facts_of(world), sums, weights, family))
    return Figures(_missed(low, high, look.truth.contrast(weights)), _apart(low, high), high - low)


def _weighted(
    world: World,
    look: Look,
    places: IntArray | None,
    family: Family,
    within: Weighted | None = None,
) -> Figures | None:
    """Measure lifts by overlap, all together; None where they are averages over all emails."""
    overlap = overlap_of(world, look)
    if overlap is None or places is None:
        return None
    weighted, evidence = look.weighted, look.evidence
    if within is not None:
        weighted, evidence = within, look.kinds
        overlap = structs.replace(overlap, sums=within.sums, worth=overlap.worth[:, None])
    ends = _intervals(overlap_lifts(overlap, evidence, places, family))
    low, high = (e.reshape(len(look.value), -1) for e in ends)
    truth = weighted.lifts(places).reshape(low.shape)
    wrong, made = _missed(low, high, truth).any(axis=1), _apart(low, high).any(axis=1)
    return Figures(wrong, made, (high - low)[:, 0])


def drifting(world: World, look: Look) -> BoolArray:
    """Mark campaigns whose levels are found to move, as `health.levels_drift` does."""
    days, conversion = look.periods, look.evidence.prediction[2]
    columns = days.so_far
    if world.personal:
        sizes = ratio(*(c.sum(axis=1) for c in (columns[2], columns[1])))
        columns = weighted_levels(days.lifts[:, : days.last + 1], sizes, 0)
    evidence = levels_evidence(days.numbers, *columns, conversion)
    return np.asarray(np.exp(-np.maximum(evidence, 0.0)) < periods.LEVEL)


def lifts_move(look: Look) -> BoolArray:
    """Mark campaigns whose lifts are found to move, as `health.lifts_drift` does."""
    days = look.periods
    p_values = lifts_p_value(
        days.numbers,
        *days.so_far,
        days.lifts[:, : days.last + 1],
        control=0,
        conversion=look.evidence.prediction[2],
    )
    return np.asarray(p_values < lift_periods.LEVEL)


def rates(world: World, look: Look) -> Claims:
    """The first arm's mean lies in its interval: exact where rates may be constant, else AIPW."""
    unit = np.eye(look.evidence.n_arms)[0]
    weighted = not constant_rates(facts_of(world), look.evidence)
    moving = np.ones(len(look.value), dtype=np.bool_) if weighted else drifting(world, look)
    low, high = _intervals(contrasts(facts_of(world), look.evidence, unit, _ALONE))
    if not weighted:
        exact = rate_bounds(look.evidence.earned[:, 0], look.evidence.sends[:, 0], ALPHA)
        low, high = (np.where(moving, w, e) for w, e in zip((low, high), exact, strict=True))
    wrong = _missed(low, high, look.truth.contrast(unit))
    return {"rate": Figures(wrong, np.isfinite(low), high - low)}


def lifts(world: World, look: Look) -> Claims:
    """Every arm's lift over the first lies in its interval, all together."""
    units, joined = np.eye(look.evidence.n_arms), joined_arms(look.evidence)
    family = Family.against_control(int(joined.sum()))
    others = np.flatnonzero(joined[1:]) + 1
    if not len(others):
        return {}
    comparisons = look.weighted.sums.comparisons
    places = [comparisons.places[-1, k, 0] for k in others.tolist()]
    figures = _weighted(world, look, np.array(places), family)
    if figures is not None:
        return {"lift": figures}
    return {
        "lift": _together(
            [_contrast(world, look, look.evidence, units[k] - units[0], family) for k in others]
        )
    }


def steady_lifts(world: World, look: Look) -> Claims:
    """The same by the exact interval, which is shown where a person vouches for steady rates."""
    sums, n_arms = look.evidence, look.evidence.n_arms
    if look.truth.levels_moved or not constant_rates(facts_of(world), sums):
        return {}
    arms = np.flatnonzero(joined_arms(sums))
    others = arms[arms > 0]
    if not len(others):
        return {}
    total, n = sums.earned, sums.sends
    alpha = Family.against_control(len(arms)).alpha_each
    low, high = lift_bounds(total[:, :1], n[:, :1], total[:, others], n[:, others], alpha)
    units = np.eye(n_arms)
    truth = np.stack([look.truth.contrast(units[k] - units[0]) for k in others], axis=1)
    wrong, made = _missed(low, high, truth).any(axis=1), _apart(low, high).any(axis=1)
    return {"lift, if vouched steady": Figures(wrong, made, (high - low)[:, 0])}


def slots(world: World, look: Look) -> Claims:
    """Lifts of variants over the first of their slot, and how they depend on each other's slot."""
    if not world.slots:
        return {}
    levels, sums = world.slot_levels, look.evidence
    cells = [(s, v) for s, n in enumerate(world.slots) for v in range(1, n)]
    family = Family("comparisons with the control's variants", len(cells))
    comparisons = look.weighted.sums.comparisons
    places = np.array([comparisons.places[s, v, 0] for s, v in cells])
    weighted = _weighted(world, look, places, family)
    of_variants = (
        [weighted]
        if weighted is not None
        else [
            _contrast(world, look, sums, variant_weights(levels, s, v, 0), family) for s, v in cells
        ]
    )
    pairs = [(a, b) for a in cells for b in cells if a[0] < b[0]]
    family = Family("dependencies between parts", len(pairs))
    every = np.ones(len(levels), dtype=np.bool_)
    weights = [
        interaction_weights(levels, every, (s, t), (v, w), (0, 0)) for (s, v), (t, w) in pairs
    ]
    of_pairs = [_contrast(world, look, sums, w, family) for w in weights]
    return {"slot lift": _together(of_variants), "slots depend": _together(of_pairs)}


def segments(world: World, look: Look) -> Claims:
    """Lifts over the first arm in each segment of recipients, all together."""
    campaigns, n_kinds = look.kinds.moments.shape[:2]
    if n_kinds == 1:
        return {}
    n_arms, units = look.kinds.n_arms, np.eye(look.kinds.n_arms)
    moments, earning = (
        a.reshape(campaigns * n_kinds, *a.shape[2:])
        for a in (look.kinds.moments, look.kinds.earning)
    )
    flat = AipwSums(look.kinds.eligible, moments, earning)
    family, figures = Family.segments(n_kinds, n_arms - 1), []
    within = look.within.sums.comparisons
    places = np.array([within.places[0, k, 0] for k in range(1, n_arms)])
    weighted = _weighted(world, look, places, family, look.within)
    if weighted is not None:
        return {"segment lift": weighted}
    for k in range(1, n_arms):
        c = units[k] - units[0]
        ends = _intervals(contrasts(facts_of(world), flat, c, family))
        low, high = (e.reshape(campaigns, n_kinds) for e in ends)
        wrong = _missed(low, high, look.truth.by_kind(c)).any(axis=1)
        figures.append(Figures(wrong, _apart(low, high).any(axis=1), (high - low).max(axis=1)))
    return {"segment lift": _together(figures)}


def events(world: World, look: Look) -> Claims:
    """Differences of events from the first arm, of all events and arms together."""
    if not world.events:
        return {}
    rule, sums = RewardRule({"click": Metric()}), look.events
    units, family, figures = np.eye(sums.n_arms), _family(rule, sums.n_arms), []
    for e, (_, by_arm) in enumerate(world.events):
        for k in range(1, sums.n_arms):
            c = units[k] - units[0]
            ends = _intervals(contrasts(facts_of(world), one_of(sums, e), c, family))
            wrong = _missed(*ends, np.array(by_arm) @ c)
            figures.append(Figures(wrong, _apart(*ends), ends[1] - ends[0]))
    return {"event difference": _together(figures)}


def gain_over_split(world: World, look: Look) -> Claims:
    """What the policy earned in all more than equal shares."""
    campaigns = range(len(look.value))
    findings = [
        gain_over_equal_split(facts_of(world), one_of(look.evidence, r), Family("gains"))
        for r in campaigns
    ]
    low, high = _intervals(findings)
    n = look.evidence.sends.sum(axis=-1)
    wrong = _missed(low, high, look.truth.gain)
    return {"gain over equal split": Figures(wrong, np.asarray(low > 0), (high - low) / n)}


def gain_over_group(world: World, look: Look) -> Claims:
    """What was earned in all more than if everybody outside the group had got the control."""
    groups = look.groups
    if groups is None:
        return {}
    findings = [
        gain_over_control_group(
            groups.emails(r, world.holdout), groups.clusters(r), Family("gains")
        )
        for r in range(len(look.value))
    ]
    low, high = _intervals(findings)
    decided, everyone = groups.sends[:, 0].sum(axis=-1), groups.sends.sum(axis=(1, 2))
    wrong = _missed(low, high, groups.gain / everyone * decided)
    width = (high - low) / decided
    return {"gain over control group": Figures(wrong, np.asarray(low > 0), width)}


def split(world: World, look: Look) -> Claims:
    """An alarm that arms are not sent by their shares."""
    alarms = look.ratio.alarms().any(axis=-1)
    return {"split alarm": _alarm(alarms, world.loss > 0, ALARM)}


def moves(world: World, look: Look) -> Claims:
    """Alarms that levels, or lifts, moved; lifts by policies of one share for all and others."""
    figures = {"levels move": _alarm(drifting(world, look), look.truth.levels_moved, periods.LEVEL)}
    if look.day % 7 == 6:  # lifts are looked at after whole weeks alone
        alarms = lifts_move(look)
        figures["lifts move"] = _alarm(alarms, look.truth.lifts_moved, lift_periods.LEVEL)
    return figures


def _alarm(alarms: BoolArray, right: bool, limit: float) -> Figures:
    wrong = alarms & (not right)
    return Figures(wrong, alarms, np.full(len(alarms), np.nan), limit)


def chances(world: World, look: Look) -> Claims:
    """The arm named as the best is it as often as said, by bins of the chance, at the last look."""
    if not world.spread or look.day < world.days - 1:
        return {}
    among = np.flatnonzero(look.evidence.sends.min(axis=0) > 0)
    estimate = compare_arms(look.evidence, among, 1.0)
    shown = ~drifting(world, look)  # pages say nothing where levels move
    chance, leader = estimate.chances.max(axis=-1), among[estimate.chances.argmax(axis=-1)]
    right = leader == look.means.argmax(axis=-1)
    figures = {}
    for first, last in pairwise(BINS):
        within = shown & (chance > first) & (chance <= last)
        if within.any():
            limit = 1 - float(chance[within].mean()) + TOO_SURE
            name = f"best, {100 * first:.0f} to {100 * last:.0f} %"
            nothing = np.full(len(chance), np.nan)
            figures[name] = Figures(within & ~right, within, nothing, limit, within)
    return figures


def verdicts(world: World, look: Look) -> Claims:
    """Each claim of a verdict: an arm leads, what is given up, and the next step."""
    judged = judge(world, look, lifts_move=lifts_move(look))
    rows, eligible = np.arange(len(judged)), np.flatnonzero(world.eligible(look.day))
    nothing = np.full(len(judged), np.nan)
    arms = np.array([-1 if j.verdict.arm is None else j.verdict.arm for j in judged])
    leads = np.array([j.verdict.leads for j in judged])
    left_out = [j.verdict.uncompared for j in judged]
    lost = _lost(look, arms, left_out, eligible, personal=world.personal)
    overall = np.stack([look.truth.contrast(u) for u in np.eye(look.evidence.n_arms)], axis=1)
    if world.personal:
        lost = look.value - overall[rows, arms]
    at_most = np.array([np.nan if j.verdict.at_most is None else j.verdict.at_most for j in judged])
    compared = np.isfinite(at_most)
    figures = {"at most": Figures(compared & (lost > at_most + _TINY), compared, at_most)}
    if not world.personal:
        figures["leads"] = Figures(leads & (lost > _TINY), leads, nothing)
    ships = np.array([j.verdict.action == "ship" for j in judged])
    today = look.means
    best = today[:, eligible].max(axis=1)
    if world.personal:
        best = np.full(len(judged), look.rates.max(axis=1).mean())
    figures["ship"] = Figures(ships & (today[rows, arms] < (1 - LITTLE) * best), ships, nothing)
    if world.personal:
        keeps = np.array([j.verdict.action == "keep_personalising" for j in judged])
        figures["keep personalising"] = Figures(keeps & (lost <= 0), keeps, nothing)
        costs = [j.verdict.cost for j in judged]
        low, high = _intervals([NOTHING if cost is None else cost for cost in costs])
        figures["gain over one arm for all"] = Figures(
            _missed(low, high, lost), _apart(low, high), high - low
        )
    return figures


def _lost(
    look: Look,
    arms: IntArray,
    uncompared: list[tuple[int, ...]],
    eligible: IntArray,
    *,
    personal: bool,
) -> FloatArray:
    """Return what each campaign's leader truly gives up against the arms it is compared with."""
    units, comparisons = np.eye(look.evidence.n_arms), look.weighted.sums.comparisons

    def more(arm: int, than: int) -> FloatArray:
        if personal:
            return look.truth.contrast(units[arm] - units[than])
        return look.weighted.lifts(np.array([comparisons.places[-1, arm, than]]))[:, 0]

    over = {
        (a, k): more(k, a) for a in set(arms.tolist()) - {-1} for k in eligible.tolist() if k != a
    }
    lost = np.zeros(len(arms))
    for r, (arm, left_out) in enumerate(zip(arms.tolist(), uncompared, strict=True)):
        rivals = [k for k in eligible.tolist() if k not in {arm, *left_out}]
        if arm >= 0 and rivals:
            lost[r] = max(float(np.broadcast_to(over[arm, k], len(arms))[r]) for k in rivals)
    return np.maximum(lost, 0.0)


CLAIMS: tuple[Claim, ...] = (
    rates,
    lifts,
    steady_lifts,
    slots,
    segments,
    events,
    gain_over_split,
    gain_over_group,
    split,
    moves,
    chances,
)


def all_claims(
    world: World, look: Look, claims: Sequence[Claim], *, judged: bool
) -> Iterator[tuple[str, Figures]]:
    """Measure every claim at a look, verdicts where they are `judged`."""
    for claim in claims:
        yield from claim(world, look).items()
    if judged:
        yield from verdicts(world, look).items()
