"""View model of the results page: rows, sentences and interval bars."""

from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct

from bandits.experiment import Experiment, Slot, Variant
from bandits.inference.intervals import Finding, Interval
from bandits.results import ArmResult, Results, VariantResult
from bandits.store.values import ExperimentRecord
from webapp.charts import ArmStyle, arm_styles
from webapp.pages.experiment.guardrail_text import GuardrailView, guardrail_view
from webapp.pages.experiment.health import HealthCheck, health_checks
from webapp.pages.experiment.labels import Measure, arm_name, reward_measure, variant_names
from webapp.pages.experiment.questions import Answer, answer_questions
from webapp.pages.experiment.verdict_text import VerdictText, is_final, verdict_text

_REACH = 4.0  # an interval this many times as wide as the middle one is drawn cut off


class IntervalBar(Struct, frozen=True):
    """An interval on a scale, in per cent of its width; a cut end lies beyond the scale."""

    left: float
    right: float
    at: float
    cut_left: bool
    cut_right: bool


class BarScale(Struct, frozen=True):
    """Range of a column of bars."""

    low: float
    high: float

    @classmethod
    def from_findings(cls, findings: Iterable[Finding | None], *values: float) -> "BarScale | None":
        """Span the measurable findings and the `values`; None without a measurable finding.

        One interval that is far wider than the others would leave them no room: it is cut off.
        """
        measurable = [f for f in findings if f is not None and f.measurable]
        if not measurable:
            return None
        below = np.array([f.estimate - f.low for f in measurable])
        above = np.array([f.high - f.estimate for f in measurable])
        reach = _REACH * float(np.median(np.maximum(below, above)))
        lows = [max(f.low, f.estimate - reach) for f in measurable]
        highs = [min(f.high, f.estimate + reach) for f in measurable]
        low, high = min(*lows, *values, *highs), max(*highs, *values, *lows)
        room = 0.02 * (high - low) or 0.02 * abs(high) or 1.0
        return cls(low - room if low < 0 or low > room else 0.0, high + room)

    def place(self, value: float) -> float:
        """Return the place of a value, in per cent of the width."""
        share = (value - self.low) / (self.high - self.low)
        return round(100.0 * min(max(share, 0.0), 1.0), 2)

    def bar(self, interval: Interval) -> IntervalBar:
        """Return the bar of an interval."""
        return IntervalBar(
            self.place(interval.low),
            self.place(interval.high),
            self.place(interval.estimate),
            interval.low < self.low,
            interval.high > self.high,
        )


def missing_reasons(findings: Sequence[Finding | None]) -> list[str]:
    """List the reasons, each once, of the findings that are not measurable yet."""
    reasons = [f.reason for f in findings if f is not None and not f.measurable]
    return list(dict.fromkeys(reasons))


_FIRST_ROWS = 3  # versions shown at once, with the control; others are a click away
_FEW_ROWS = 5  # so many are all shown


def first_rows(order: Sequence[int], control: int) -> list[int]:
    """Return the arms whose rows are shown at once: the first of an order, and the control."""
    if len(order) <= _FEW_ROWS:
        return list(order)
    first = list(order[:_FIRST_ROWS])
    return first if control in first else [*first, control]


class ArmRow(Struct, frozen=True):
    """One arm's row: its style, its variants' names by slot, and its figures."""

    style: ArmStyle
    names: tuple[str, ...]
    result: ArmResult


class VariantRow(Struct, frozen=True):
    """One variant's row, over all variants of the other slots."""

    variant: Variant
    result: VariantResult


class PartRows(Struct, frozen=True):
    """One slot and its variants' rows."""

    slot: Slot
    rows: tuple[VariantRow, ...]


class BarScales(Struct, frozen=True):
    """Scales of the columns of bars, the same in every table of the page; None without findings."""

    value: BarScale | None
    lift: BarScale | None


class ResultsView(Struct, frozen=True):
    """Results as the experiment's page shows them.

    Attributes:
        arms: rows in the arms' own order, as charts and exports list them.
        ranked: the best so far first, those without results last.
        final: the result cannot change any more.
    """

    verdict: VerdictText
    measure: Measure
    arms: tuple[ArmRow, ...]
    ranked: tuple[ArmRow, ...]
    parts: tuple[PartRows, ...]
    scales: BarScales
    health: tuple[HealthCheck, ...]
    answers: tuple[Answer, ...]
    guardrails: GuardrailView
    sent: int
    complete: int
    final: bool
    results: Results

    @property
    def trusted(self) -> bool:
        """False while emails are not sent as intended: then nothing is compared."""
        return self.results.verdict.action != "check_health"

    @property
    def first(self) -> tuple[ArmRow, ...]:
        """The rows shown at once."""
        return tuple(row for row in self.ranked if row.result.index in self._first)

    @property
    def others(self) -> tuple[ArmRow, ...]:
        """The rows that are a click away."""
        return tuple(row for row in self.ranked if row.result.index not in self._first)

    @property
    def _first(self) -> list[int]:
        order = [row.result.index for row in self.ranked]
        return first_rows(order, self.control.result.index)

    @property
    def reward(self) -> float:
        """What all emails earned so far."""
        control_group = self.results.holdout
        return sum(row.result.reward for row in self.arms) + (
            control_group.reward if control_group else 0.0
        )

    @property
    def attention(self) -> list[HealthCheck]:
        """The checks that somebody has to look at."""
        return [check for check in self.health if check.tone in {"watch", "wrong"}]

    @property
    def too_new(self) -> frozenset[int]:
        """Arms that are left out of a comparison which others are in."""
        uncompared = self.results.verdict.uncompared
        compares = len(uncompared) < len(self.arms) - 1 and self.verdict.leader is not None
        return frozenset(uncompared if compares else ())

    @property
    def control(self) -> ArmRow:
        """The control's row."""
        return next(row for row in self.arms if row.result.control)

    @property
    def reference(self) -> float | None:
        """Estimate of the control, which the bars of values are compared with."""
        value = self.control.result.value
        return value.estimate if value.measurable else None

    @property
    def waiting_reasons(self) -> list[str]:
        """Reasons of findings of arms that are not measurable yet, once there are results.

        Of comparisons that have too few results, each with its own figures, one stands for all.
        """
        if not self.trusted:
            return ["Emails are not sent as intended."]
        findings = [f for row in self.arms for f in (row.result.value, row.result.lift)]
        reasons = missing_reasons(findings) if self.complete else []
        few = [reason for reason in reasons if reason.startswith("Not enough yet")]
        return [*few[:1], *(reason for reason in reasons if reason not in few)]

    @property
    def proofs(self) -> list[Interval]:
        """One interval for each guarantee behind the page."""
        gain = self.results.gain
        findings: list[Finding | None] = [
            self.verdict.proof,
            *(row.result.value for row in self.arms),
            *(row.result.lift for row in self.arms),
            gain.over_equal_split,
            gain.over_control_group,
        ]
        by_promise: dict[str, Interval] = {}
        for finding in findings:
            if isinstance(finding, Interval):
                by_promise.setdefault(finding.promise, finding)
        return list(by_promise.values())


def results_view(record: ExperimentRecord, results: Results, now: float) -> ResultsView:
    """Build the page's rows and sentences, as of `now` in seconds since 1970."""
    experiment = record.configuration.experiment
    labels = [arm_name(experiment, a.variants) for a in results.arms]
    control = next(a.index for a in results.arms if a.control)
    arms = tuple(
        ArmRow(style, variant_names(experiment, result.variants), result)
        for style, result in zip(arm_styles(labels, control), results.arms, strict=True)
    )
    control_group = results.holdout
    sent = sum(a.sent for a in results.arms) + (control_group.sent if control_group else 0)
    complete = sum(a.complete for a in results.arms) + (
        control_group.complete if control_group else 0
    )
    measure = reward_measure(experiment.reward)
    quoted_labels = [f"“{label}”" for label in labels]  # a subject line is a sentence of its own
    parts = _parts(experiment, results)
    return ResultsView(
        verdict_text(record, results, now),
        measure,
        arms,
        _ranked(arms, results),
        parts,
        _scales(arms, parts),
        health_checks(experiment, results, quoted_labels, measure),
        answer_questions(record, results),
        guardrail_view(experiment, results),
        sent,
        complete,
        is_final(record, now),
        results,
    )


def _ranked(arms: Sequence[ArmRow], results: Results) -> tuple[ArmRow, ...]:
    sign = 1.0 if results.goal == "minimise" else -1.0
    leader = results.verdict.arm

    def place(row: ArmRow) -> tuple[bool, bool, float, int]:
        value = row.result.value
        estimate = value.estimate if value.measurable else row.result.mean
        signed_estimate = sign * (estimate or 0.0)
        return row.result.index != leader, estimate is None, signed_estimate, row.result.index

    return tuple(sorted(arms, key=place))


def _parts(experiment: Experiment, results: Results) -> tuple[PartRows, ...]:
    return tuple(
        PartRows(
            slot,
            tuple(VariantRow(v, r) for v, r in zip(slot.variants, result.variants, strict=True)),
        )
        for slot, result in zip(experiment.slots, results.slots, strict=True)
    )


def _scales(arms: Sequence[ArmRow], parts: Sequence[PartRows]) -> BarScales:
    results: list[ArmResult | VariantResult] = [row.result for row in arms]
    results += [row.result for part in parts for row in part.rows]
    return BarScales(
        BarScale.from_findings([r.value for r in results]),
        BarScale.from_findings([r.lift for r in results], 0.0),
    )
