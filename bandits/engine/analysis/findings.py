"""Findings on arms, variants and segments, of which results are made."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
from msgspec import structs

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.engine.active_policy import ActivePolicy
from bandits.engine.analysis.health import least_floor, levels_drift, lifts_drift
from bandits.inference import aipw
from bandits.inference.aipw import Scores
from bandits.inference.aipw_sums import AipwSums, ratio
from bandits.inference.estimates import (
    EstimationContext,
    Lead,
    Overlap,
    Recent,
    contrast,
    contrast_rows,
    contrasts,
    gain_over_control_group,
    gain_over_equal_split,
    joined_arms,
    lead,
    lifts,
    overlap_lifts,
    personal_gain,
    recent_agreement,
    values,
    variant_weights,
)
from bandits.inference.intervals import ALPHA, RESUMMING, Family, Finding, Interval, NotYet
from bandits.inference.overlap import conversion_worth
from bandits.inference.state import InferenceState
from bandits.numerics.best_arm import BestArmEstimate, estimate_best_arm
from bandits.results import BayesNote, FeatureResult, Gain, Segment, SegmentLift
from bandits.segments import Segmentation

_ALONE = Family("values")
_ALONE_AT_MOST = 1.3  # emails to a recipient, above which those of the control group stand alone
_NOTHING = NotYet(
    "No email's results are final yet.", "no decision that counts has closed its window"
)
_ALONE_SENT = "Only one version has final results, so there is nothing yet to compare it with."
_CONTEXTUAL = (
    "This learning method decides by recipient, so no version is best for everybody, and one "
    "chance for all would mislead. Look at the value of each version and at segments."
)
_DRIFTING = (
    "Rates moved while this ran. Chances to be best take them as constant and would mislead; "
    "intervals and lifts hold all the same."
)


def compare_arms(sums: AipwSums, among: IntArray, span: float) -> BestArmEstimate:
    """Estimate which of the arms `among` (m,), each sent before, earns most, (..., m).

    Means are plain averages; the variance of a reward is drawn towards that of all arms as it is
    for intervals.

    Args:
        sums: of all arms, (..., K).
        among: the arms to compare.
        span: the length of the interval that rewards lie in.
    """
    sends = sums.sends
    everyone = sends.sum(axis=-1, keepdims=True)
    _, variance, conversion = sums.prediction
    # Where all rewards were equal: as if one more had been at an end of the range.
    unseen = (span / 2) ** 2 / (everyone + 1)
    variance = np.where(variance > 0, variance, unseen)
    earned = np.sqrt(conversion) * ratio(sums.earning.sum(axis=(-2, -1)), everyone[..., 0])
    means = sums.earned[..., among] / sends[..., among]
    return estimate_best_arm(means, variance[..., among] / sends[..., among], earned)


class Analysis:
    """Findings on one experiment, each computed when it is first read."""

    def __init__(
        self, active: ActivePolicy, inference: InferenceState, *, resumming: bool = False
    ) -> None:
        """Read `inference` for the arms of the active policy.

        Args:
            active: the newest policy.
            inference: the newest sums.
            resumming: some of the sums are being made anew, so that they lack decisions.
        """
        self.resumming = resumming
        low, high = active.experiment.reward.bounds
        self.active = active
        self.inference = inference
        self.minimised = active.experiment.reward.goal == "minimise"
        self.levels_drift = levels_drift(active, inference)
        self.lifts_drift = lifts_drift(active, inference)
        self.facts = EstimationContext(
            contextual=active.policy.statistic.contextual,
            drifting=self.levels_drift.found,
            floor=least_floor(active, inference),
            low=low,
            high=high,
            requested=resumming or inference.left_out.total > 0 or inference.cohorts.narrowed,
            lifts_move=self.lifts_drift.found,
        )
        self.levels = active.problem.slot_levels
        self.control = self.levels[active.control]
        self.sendable = np.sort(active.unrestricted_arms)
        joined = joined_arms(inference.arms)
        joined |= not joined.any()  # before any decision is closed, all are to be compared
        joined[active.control] = True
        if not inference.arms.sends.any():  # then every arm may yet join what is compared first
            joined[:] = True
        n_lifts = int(sum(np.unique(column).size - 1 for column in self.levels[joined].T))
        self.slot_family = Family("comparisons with the control's variants", max(1, n_lifts))
        self.arm_family = Family.against_control(int(joined.sum()))
        segmentation = Segmentation(active.experiment.context)
        self.features = segmentation.features
        self.segment_family = Family.segments(max(1, segmentation.size), max(1, n_lifts))

    @cached_property
    def closed(self) -> FloatArray:
        """Decisions that count, by arm (K,)."""
        return self.inference.arms.sends

    @cached_property
    def values(self) -> list[Finding]:
        """The mean reward per decision of each arm."""
        if not self.closed.any():
            return [_NOTHING] * len(self.closed)
        return values(self.facts, self.inference.arms, _ALONE)

    @cached_property
    def lifts(self) -> dict[int, Finding]:
        """Lift of each other arm over the control, by arm."""
        others = [k for k in range(len(self.closed)) if k != self.active.control]
        if not self.closed.any():
            return dict.fromkeys(others, _NOTHING)
        arms, control = self.inference.arms, self.active.control
        return lifts(self.facts, arms, control, self.arm_family, self.overlap)

    @cached_property
    def overlap(self) -> Overlap | None:
        """Sums of arms beside others; None where lifts are averages over all emails instead.

        That is where the policy decides by recipient, and where the shares of most counted emails
        depended on the recipient or are not kept.
        """
        sums, counted = self.inference.overlap, float(self.closed.sum())
        if self.facts.contextual or self.resumming or 2 * sums.decisions < counted:
            return None
        if self._emails_each > _ALONE_AT_MOST:
            return Overlap(sums, self._conversion_worth, self.active.control)
        sums = sums.replaced_by(self.inference.group_overlap)
        return Overlap(sums, self._conversion_worth, self.active.control, self._emails_each)

    @property
    def _conversion_worth(self) -> FloatArray:
        """Conversions of equal size that one of an arm is worth, (K,).

        It is 1 where values may be below 0, since their sum then says nothing of their number.
        """
        rule = self.active.experiment.reward
        if any(metric.bounds[0] < 0 for metric in rule.metrics.values()):
            return np.ones(len(self.closed))
        return conversion_worth(self.inference.arms, self.active.configuration.costs)

    @property
    def _emails_each(self) -> float:
        """Emails that a recipient gets, at least 1: more where somebody who returns counts twice.

        Where nobody is held out, and where each recipient has one decision, it is 1.
        """
        experiment = self.active.experiment
        if experiment.holdout == 0 or experiment.assignment == "per_subject":
            return 1.0
        return self.inference.clusters.emails_each

    def variant_value(self, slot: int, variant: int) -> Finding:
        """Find the mean reward per decision of a variant, under an equal mix of other slots."""
        if len(self.control) == 1:  # then a variant is an arm
            return self.values[self._arm_of(variant)]
        showing = self.levels[:, slot] == variant
        shown = next((showing & c for c in self._cohorts if (showing & c).any()), showing)
        weights = shown / max(1, np.count_nonzero(shown))
        return self._if_closed(lambda: self._contrast(weights, _ALONE))

    def variant_lift(self, slot: int, variant: int) -> Finding | None:
        """Find the lift of a variant over the control's variant; None for that itself."""
        weights = self._lift_weights(slot, variant)
        if weights is None:
            return None
        if len(self.control) == 1:
            return self.lifts[self._arm_of(variant)]
        if not self.closed.any():
            return _NOTHING
        overlap = self.overlap
        places = None if overlap is None else overlap.sums.comparisons.variant(slot, variant)
        if overlap is None or places is None:
            return self._contrast(weights, self.slot_family)
        return overlap_lifts(overlap, self.inference.arms, places, self.slot_family)[0]

    def _arm_of(self, variant: int) -> int:
        return int(np.flatnonzero(self.levels[:, 0] == variant)[0])

    def _contrast(self, weights: FloatArray, family: Family) -> Finding:
        return contrast(self.facts, self.inference.arms, weights, family)

    def _lift_weights(self, slot: int, variant: int) -> FloatArray | None:
        against = int(self.control[slot])
        if variant == against:
            return None
        for cohort in self._cohorts:
            weights = np.zeros(len(self.levels))
            weights[cohort] = variant_weights(self.levels[cohort], slot, variant, against)
            if weights.any():
                return weights
        return variant_weights(self.levels, slot, variant, against)

    @cached_property
    def _cohorts(self) -> list[BoolArray]:
        """Sets of arms (K,) that time alone left to decisions, those with most decisions first.

        An equal mix of a slot's other arms is over one of them, so that an arm that joins takes no
        decision from the comparisons that there are.
        """
        cohorts = self.inference.cohorts
        sets = cohorts.sets[~cohorts.requested]
        sizes = [-cohorts.weights(np.flatnonzero(arms)).sum() for arms in sets]
        return [sets[i] for i in np.argsort(sizes, kind="stable")]

    def _if_closed(self, find: Callable[[], Finding]) -> Finding:
        return find() if self.closed.any() else _NOTHING

    @cached_property
    def lead(self) -> Lead | None:
        """Leader among the arms that can be sent, by the larger or the smaller reward."""
        arms = self._as_learned(self.inference.arms)
        return lead(self.facts, arms, self.sendable, ALPHA, self._learned_overlap)

    @cached_property
    def _learned_overlap(self) -> Overlap | None:
        if self.overlap is None or not self.minimised:
            return self.overlap
        return structs.replace(self.overlap, sums=self.overlap.sums.negated)

    @cached_property
    def personal_gain(self) -> Finding | None:
        """Gain of a policy that decides by recipient over the leader for all; None for another."""
        if not self.facts.contextual or self.lead is None:
            return None
        arms = self._as_learned(self.inference.arms)
        return personal_gain(self.facts, arms, self.lead.arm, self.personal_family)

    def recent(self, first: int, last: int, little: float) -> Recent:
        """Compare these last days of sending with what the leader is to be shipped for."""
        if self.lead is None:
            return "unknown"
        recent = self.inference.recent
        earlier = self.inference.arms - recent.total(first, int(recent.days.max(initial=last)))
        now = self._leader_overlap(self.lead.arm) if not earlier.sends.any() else None
        if now is None:
            now = self._leader_scores(recent.total(first, last), self.lead.arm)
        before = self._leader_scores(earlier, self.lead.arm)
        trends = self._leader_trends(self.lead.arm)
        family = self.personal_family if self.facts.contextual else self.lead.family
        return recent_agreement(self.facts, now, before, trends, little=little, family=family)

    def _leader_scores(self, evidence: AipwSums, leader: int) -> Scores:
        """Score the leader less each other arm, or less a policy that decides by recipient."""
        sums = self._as_learned(evidence)
        if self.facts.contextual:
            return aipw.personal_gain(sums, leader).negated
        units = np.eye(len(self.closed))
        return aipw.contrast_rows(sums, units[leader] - units[self._others(leader)])

    def _leader_overlap(self, leader: int) -> Scores | None:
        """Score the leader less each other arm by overlap; None where that is not to be."""
        overlap = self._learned_overlap
        if overlap is None:
            return None
        places = overlap.sums.comparisons.arms(leader, self._others(leader).tolist())
        if places is None:
            return None
        return overlap.scores(self._as_learned(self.inference.arms), places)

    def _leader_trends(self, leader: int) -> FloatArray | None:
        """Return z of the trend in how much better the leader is than each other arm."""
        if self.facts.contextual:
            return None
        conversion = float(self.inference.arms.prediction[2])
        trends = self.inference.periods.lift_trends(leader, conversion)[self._others(leader)]
        return -trends if self.minimised else trends

    def _others(self, leader: int) -> IntArray:
        """Return the other arms that can be sent."""
        return np.setdiff1d(self.sendable, [leader])

    @cached_property
    def closest_lift(self) -> Interval | None:
        """Lift of the leader over the compared arm that comes closest to it, None without any."""
        if self.lead is None:
            return None
        sign = -1.0 if self.minimised else 1.0
        others = np.setdiff1d(self.sendable, [self.lead.arm, *self.lead.uncompared])
        arms, family, overlap = self.inference.arms, self.lead.family, self.overlap
        leader = self.lead.arm
        places = None if overlap is None else overlap.sums.comparisons.arms(leader, others.tolist())
        if overlap is not None and places is not None:
            over = overlap_lifts(overlap, arms, places, family)
        else:
            units = np.eye(len(self.closed))
            over = contrast_rows(self.facts, arms, units[leader] - units[others], family)
        measurable = [f for f in over if f.measurable]
        return min(measurable, key=lambda f: sign * f.estimate, default=None)

    @property
    def personal_family(self) -> Family:
        """Family of one arm for all against the policy: the arm is chosen among all of them."""
        return Family.personal(int(joined_arms(self.inference.arms).sum()))

    def _as_learned(self, evidence: AipwSums) -> AipwSums:
        return evidence.negated if self.minimised else evidence

    @cached_property
    def gain(self) -> Gain:
        """Gain, or loss avoided, over an equal split and over the control group."""
        inference = self.inference
        arms, groups = map(self._as_learned, (inference.arms, inference.groups))
        clusters = inference.clusters.negated if self.minimised else inference.clusters
        family = Family("gains")
        over_equal = self._if_closed(lambda: gain_over_equal_split(self.facts, arms, family))
        if self.active.experiment.holdout == 0:
            return Gain(over_equal, None)
        if self.resumming:
            return Gain(over_equal, RESUMMING)
        over_control = self._if_closed(lambda: gain_over_control_group(groups, clusters, family))
        return Gain(over_equal, over_control)

    @cached_property
    def outlook(self) -> tuple[BayesNote, dict[int, tuple[float, float]]]:
        """Note on the Bayes numbers, and the chance to be best and expected loss by arm."""
        if self.facts.contextual:
            return BayesNote(shown=False, note=_CONTEXTUAL), {}
        if self.facts.drifting:
            return BayesNote(shown=False, note=_DRIFTING), {}
        sent = self.sendable[self.closed[self.sendable] > 0]
        if not len(sent):
            return BayesNote(shown=False, note=_NOTHING.reason), {}
        if len(sent) == 1 < len(self.sendable):
            return BayesNote(shown=False, note=_ALONE_SENT), {}
        low, high = self.active.experiment.reward.bounds
        arms = self.inference.arms.negated if self.minimised else self.inference.arms
        estimate = compare_arms(arms, sent, high - low)
        pairs = zip(estimate.chances.tolist(), estimate.losses.tolist(), strict=True)
        by_arm = dict(zip(sent.tolist(), pairs, strict=True))
        return BayesNote(shown=True, note=estimate.warning), by_arm

    @cached_property
    def segments(self) -> list[FeatureResult]:
        """Lifts of variants within each segment, by feature."""
        segments = self.inference.segments
        closed, earned = segments.sends.sum(axis=-1), segments.earned.sum(axis=-1)
        by_variant = list(self._segment_lifts())
        results, first = [], 0
        for feature in self.features:
            rows = []
            for i, label in enumerate(feature.segments(), start=first):
                lifts_here = [SegmentLift(s, v, findings[i]) for s, v, findings in by_variant]
                mean = float(earned[i] / closed[i]) if closed[i] else None
                better = self._better(lifts_here)
                rows.append(Segment(label, round(closed[i]), mean, lifts_here, better))
            first += len(rows)
            results.append(FeatureResult(feature.name, rows, self.segment_family))
        return results

    def _segment_lifts(self) -> list[tuple[str, str, list[Finding]]]:
        return [
            (slot.key, variant.key, self._by_segment(s, v, weights))
            for s, slot in enumerate(self.active.experiment.slots)
            for v, variant in enumerate(slot.variants)
            if self.features and (weights := self._lift_weights(s, v)) is not None
        ]

    def _by_segment(self, slot: int, variant: int, weights: FloatArray) -> list[Finding]:
        segments = self.inference.segments
        if not self.closed.any():
            return [_NOTHING] * len(segments.moments)
        sums = self.inference.segment_overlap
        places = sums.comparisons.variant(slot, variant)
        if self.overlap is None or places is None:
            return contrasts(self.facts, segments, weights, self.segment_family)
        if self._emails_each <= _ALONE_AT_MOST:
            sums = sums.replaced_by(self.inference.group_segment_overlap)
        overlap = structs.replace(self.overlap, sums=sums)
        return overlap_lifts(overlap, segments, places, self.segment_family)

    def _better(self, lifts_here: list[SegmentLift]) -> dict[str, str]:
        """Name, by slot, the best of the variants shown to be better than the control's."""
        sign = -1.0 if self.minimised else 1.0
        best: dict[str, tuple[float, str]] = {}
        for segment_lift in lifts_here:
            lift = segment_lift.lift
            if not lift.measurable or lift.contains(0) or sign * lift.estimate <= 0:
                continue
            better = best.get(segment_lift.slot)
            if better is None or sign * lift.estimate > better[0]:
                best[segment_lift.slot] = (sign * lift.estimate, segment_lift.variant)
        return {slot: variant for slot, (_, variant) in best.items()}
