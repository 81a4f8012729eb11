"""Conclusions on an experiment: its verdict, and the claims that hold as of a snapshot."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from bandits.array_types import IntArray
from bandits.engine.analysis.findings import Analysis
from bandits.engine.analysis.receipts import moment
from bandits.engine.sums import recent_end
from bandits.inference.estimates import Recent
from bandits.inference.intervals import Interval
from bandits.inference.periods import period_bounds, period_days
from bandits.inference.recent_days import DAY, RECENT_DAYS
from bandits.inference.sender_checks import SenderAlarm, distrusted
from bandits.store.values import ExperimentRecord
from bandits.verdict import (
    LITTLE,
    Comparison,
    Progress,
    Statement,
    Verdict,
    needed_days,
    verdict,
    weight_span,
)


def conclude(
    record: ExperimentRecord,
    analysis: Analysis,
    at: float | None,
    senders: Sequence[SenderAlarm] = (),
) -> Verdict:
    """Decide on the next step, as of a snapshot `at`, None before the first.

    Args:
        record: the experiment.
        analysis: of its sums.
        at: time of the snapshot.
        senders: alarms of the API keys that send for it.
    """
    little = LITTLE * _leader_value(analysis)
    comparison = Comparison(
        analysis.lead,
        little,
        analysis.personal_gain,
        _recent(record, analysis, at, little),
        bool(analysis.inference.ratio.alarms().any()),
        analysis.facts.lifts_move,
        distrusted(senders),
    )
    return verdict(_progress(record, analysis, at), comparison)


def _leader_value(analysis: Analysis) -> float:
    """Return the mean reward per decision of the leader, above 0; 0 without any."""
    if analysis.lead is None:
        return 0.0
    value = analysis.values[analysis.lead.arm]
    means = analysis.inference.arms.means
    return abs(value.estimate if value.measurable else float(means[analysis.lead.arm]))


def _recent(
    record: ExperimentRecord, analysis: Analysis, at: float | None, little: float
) -> Recent:
    if at is None:
        return "unknown"
    last = recent_end(record, at)
    return analysis.recent(last + 1 - RECENT_DAYS, last, little)


def _progress(record: ExperimentRecord, analysis: Analysis, at: float | None) -> Progress:
    experiment = record.configuration.experiment
    days, last_day, span = _span(record, analysis, compared_arms(analysis))
    planned = experiment.starts_at.timestamp() if experiment.starts_at else record.started_at
    return Progress(
        record.started,
        at,
        experiment.reward.window_seconds,
        round(float(analysis.active.counts.sent.sum())),
        needed_days(planned, experiment.ends_at.timestamp() if experiment.ends_at else None),
        days,
        last_day,
        record.closes_at,
        span,
    )


def _span(
    record: ExperimentRecord, analysis: Analysis, arms: IntArray
) -> tuple[int, int | None, tuple[float, float] | None]:
    """Count the days on which closed decisions could have got all of `arms`.

    The last of them comes second. The dates that hold most of what is known come last: of these
    decisions, or, where lifts are weighted by overlap, of the weights of `arms` beside the control.
    """
    cohorts = analysis.inference.cohorts
    weights = cohorts.weights(arms)
    kept = weights > 0
    if not kept.any():
        return 0, None, None
    start = record.started_at if record.started_at is not None else record.created_at
    starts, ends = period_bounds(cohorts.numbers[kept], start)
    days = int(period_days(cohorts.numbers[kept]).sum())
    last_day = int(ends[-1] // DAY) - 1
    control = analysis.active.control
    if analysis.overlap is not None and control in arms:
        lifts = analysis.inference.lift_periods
        weights = lifts.weights(np.setdiff1d(arms, [control]))
        kept = weights > 0
        starts, ends = period_bounds(lifts.numbers[kept], start)
    if not kept.any():
        return days, last_day, None
    return days, last_day, weight_span(starts, ends, weights[kept])


def compared_arms(analysis: Analysis) -> IntArray:
    """Return the arms whose comparison the verdict rests on."""
    lead = analysis.lead
    if lead is None:
        return np.zeros(0, dtype=np.int64)
    if analysis.facts.contextual:
        return np.array([lead.arm])
    return np.setdiff1d(analysis.sendable, lead.uncompared)


def claims(record: ExperimentRecord, analysis: Analysis, at: float) -> list[Statement]:
    """State what holds as of a snapshot `at`: who leads, and what is better than the control."""
    statements, lead, control = [], analysis.lead, analysis.active.control
    if lead is not None and lead.leads and not analysis.facts.contextual:
        lead_lift = analysis.closest_lift
        if lead_lift is not None:
            dates = _dates(record, analysis, at, compared_arms(analysis))
            statements.append(Statement(moment(at), lead.arm, *dates, "leads", lead_lift))
    for arm, lift in analysis.lifts.items():
        if lift.measurable and is_better(lift, minimised=analysis.minimised):
            dates = _dates(record, analysis, at, np.array([arm, control]))
            statements.append(Statement(moment(at), arm, *dates, "better_than_control", lift))
    return statements


def _dates(
    record: ExperimentRecord, analysis: Analysis, at: float, arms: IntArray
) -> tuple[datetime, datetime]:
    """Find the dates that hold most decisions that could have got all of `arms`."""
    since, until = _span(record, analysis, arms)[2] or (at, at + 1)
    return moment(since), moment(until - 1)


def past(statements: Sequence[Statement], analysis: Analysis) -> list[Statement]:
    """Return the statements that do not hold as of now."""
    lead = analysis.lead

    def holds(statement: Statement) -> bool:
        if statement.kind == "leads":
            return lead is not None and lead.leads and lead.arm == statement.arm
        lift = analysis.lifts.get(statement.arm)
        if lift is None or not lift.measurable:
            return False
        return is_better(lift, minimised=analysis.minimised)

    return [statement for statement in statements if not holds(statement)]


def is_better(lift: Interval, *, minimised: bool) -> bool:
    """Return true where a lift is shown to be in the better direction."""
    return lift.high < 0 if minimised else lift.low > 0
