"""Findings on arms, variants and segments, of which results are made."""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from bandits.array_types import FloatArray, IntArray
from bandits.engine.active_policy import ActivePolicy
from bandits.engine.analysis.health import least_floor, levels_drift, lifts_drift
from bandits.inference.estimates import (
    EstimationContext,
    Lead,
    contrast,
    contrasts,
    gain_over_control_group,
    gain_over_equal_split,
    lead,
    lifts,
    values,
    variant_weights,
)
from bandits.inference.intervals import ALPHA, Family, Finding, NotYet
from bandits.inference.state import InferenceState
from bandits.numerics import best_arm
from bandits.numerics.posterior import BetaPosterior, StudentPosterior
from bandits.results import BayesNote, FeatureResult, Gain, Segment, SegmentLift
from bandits.segments import Segmentation
from bandits.statistics import Moments

_ALONE = Family("values")
_NOTHING = NotYet(
    "No email's results are final yet.", "no decision that counts has closed its window"
)
_CONTEXTUAL = (
    "This learning method decides by recipient, so no version is best for everybody, and one "
    "chance for all would mislead. Look at the value of each version and at segments."
)
_DRIFTING = (
    "Rates moved while this ran. Chances to be best take them as constant and would mislead; "
    "intervals and lifts hold all the same."
)


class Analysis:
    """Findings on one experiment, each computed when it is first read."""

    def __init__(self, active: ActivePolicy, inference: InferenceState) -> None:
        """Read `inference` for the arms of the active policy."""
        low, high = active.experiment.reward.bounds
        self.active = active
        self.inference = inference
        self.minimised = active.experiment.reward.goal == "minimise"
        self.levels_drift = levels_drift(inference)
        self.lifts_drift = lifts_drift(active, inference)
        self.facts = EstimationContext(
            contextual=active.policy.statistic.contextual,
            drifting=self.levels_drift.found,
            floor=least_floor(active, inference),
            low=low,
            high=high,
            lifts_move=self.lifts_drift.found,
        )
        self.levels = active.problem.slot_levels
        self.control = self.levels[active.control]
        self.sendable = np.sort(active.unrestricted_arms)
        n_lifts = int(sum(np.unique(column).size - 1 for column in self.levels.T))
        self.slot_family = Family("comparisons with the control's variants", max(1, n_lifts))
        self.arm_family = Family.against_control(active.problem.n_arms)
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
        return lifts(self.facts, self.inference.arms, self.active.control, self.arm_family)

    def variant_value(self, slot: int, variant: int) -> Finding:
        """Find the mean reward per decision of a variant, under an equal mix of other slots."""
        if len(self.control) == 1:  # then a variant is an arm
            return self.values[self._arm_of(variant)]
        shown = self.levels[:, slot] == variant
        weights = shown / max(1, np.count_nonzero(shown))
        return self._if_closed(lambda: self._contrast(weights, _ALONE))

    def variant_lift(self, slot: int, variant: int) -> Finding | None:
        """Find the lift of a variant over the control's variant; None for that itself."""
        weights = self._lift_weights(slot, variant)
        if weights is None:
            return None
        if len(self.control) == 1:
            return self.lifts[self._arm_of(variant)]
        return self._if_closed(lambda: self._contrast(weights, self.slot_family))

    def _arm_of(self, variant: int) -> int:
        return int(np.flatnonzero(self.levels[:, 0] == variant)[0])

    def _contrast(self, weights: FloatArray, family: Family) -> Finding:
        return contrast(self.facts, self.inference.arms, weights, family)

    def _lift_weights(self, slot: int, variant: int) -> FloatArray | None:
        against = int(self.control[slot])
        return None if variant == against else variant_weights(self.levels, slot, variant, against)

    def _if_closed(self, find: Callable[[], Finding]) -> Finding:
        return find() if self.closed.any() else _NOTHING

    @cached_property
    def lead(self) -> Lead | None:
        """Leader among the arms that can be sent, by the larger or the smaller reward."""
        arms = self.inference.arms.negated if self.minimised else self.inference.arms
        return lead(self.facts, arms, self.sendable, ALPHA)

    @cached_property
    def gain(self) -> Gain:
        """Gain, or loss avoided, over an equal split and over the control group."""
        arms, groups = self.inference.arms, self.inference.groups
        if self.minimised:
            arms, groups = arms.negated, groups.negated
        family = Family("gains")
        over_equal = self._if_closed(lambda: gain_over_equal_split(self.facts, arms, family))
        if self.active.experiment.holdout == 0:
            return Gain(over_equal, None)
        over_control = self._if_closed(lambda: gain_over_control_group(groups, family))
        return Gain(over_equal, over_control)

    @cached_property
    def outlook(self) -> tuple[BayesNote, dict[int, tuple[float, float]]]:
        """Note on the Bayes numbers, and the chance to be best and expected loss by arm."""
        if self.facts.contextual:
            return BayesNote(shown=False, note=_CONTEXTUAL), {}
        if self.facts.drifting:
            return BayesNote(shown=False, note=_DRIFTING), {}
        if not self.closed.any():
            return BayesNote(shown=False, note=_NOTHING.reason), {}
        estimate = self._best_arm(self.sendable)
        pairs = zip(estimate.chances.tolist(), estimate.losses.tolist(), strict=True)
        by_arm = dict(zip(self.sendable.tolist(), pairs, strict=True))
        return BayesNote(shown=True, note=estimate.warning), by_arm

    def _best_arm(self, among: IntArray) -> best_arm.BestArmEstimate:
        rule, sums = self.active.experiment.reward, self.inference.arms.moments.sum(axis=0)
        count, total, square = (sums[i, 0, among] for i in range(3))
        low, high = rule.bounds
        if self.minimised:  # mirrored, as it is learned
            ends = low + high
            total, square = ends * count - total, ends**2 * count - 2 * ends * total + square
        moments = Moments(count, total, square, np.zeros_like(count))
        if low >= 0 and high <= 1:
            rates = BetaPosterior.from_moments(moments, 1.0, 1.0)
            return best_arm.beta_best_arm(rates.alpha, rates.beta)
        return best_arm.student_best_arm(*StudentPosterior(moments, high - low, 1.0, 1.0).marginal)

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
            (slot.key, variant.key, self._by_segment(weights))
            for s, slot in enumerate(self.active.experiment.slots)
            for v, variant in enumerate(slot.variants)
            if self.features and (weights := self._lift_weights(s, v)) is not None
        ]

    def _by_segment(self, weights: FloatArray) -> list[Finding]:
        if not self.closed.any():
            return [_NOTHING] * len(self.inference.segments.moments)
        return contrasts(self.facts, self.inference.segments, weights, self.segment_family)

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
