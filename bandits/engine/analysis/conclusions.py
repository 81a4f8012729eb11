"""Conclusions on an experiment: its verdict, and the claims that hold as of a snapshot."""

import numpy as np

from bandits.array_types import IntArray
from bandits.engine.analysis.findings import Analysis
from bandits.engine.sums import recent_end
from bandits.inference.periods import period_bounds, period_days
from bandits.inference.recent_days import DAY, RECENT_DAYS
from bandits.store.values import ExperimentRecord
from bandits.verdict import (
    Comparison,
    Progress,
    Verdict,
    needed_days,
    verdict,
    weight_span,
)


def conclude(record: ExperimentRecord, analysis: Analysis, at: float | None) -> Verdict:
    """Decide on the next step, as of a snapshot `at`, None before the first."""
    comparison = Comparison(
        analysis.lead,
        _leader_value(analysis),
        analysis.personal_gain,
        _recent(record, analysis, at),
        bool(analysis.inference.ratio.alarms().any()),
        analysis.facts.lifts_move,
    )
    return verdict(_progress(record, analysis, at), comparison)


def _leader_value(analysis: Analysis) -> float:
    """Return the mean reward per decision of the leader, 0 without any."""
    if analysis.lead is None:
        return 0.0
    value = analysis.values[analysis.lead.arm]
    return (
        value.estimate
        if value.measurable
        else float(analysis.inference.arms.means[analysis.lead.arm])
    )


def _recent(record: ExperimentRecord, analysis: Analysis, at: float | None) -> tuple[float, float]:
    if at is None:
        return -np.inf, np.inf
    last = recent_end(record, at)
    return analysis.recent_lead(last + 1 - RECENT_DAYS, last)


def _progress(record: ExperimentRecord, analysis: Analysis, at: float | None) -> Progress:
    experiment, cohorts = record.configuration.experiment, analysis.inference.cohorts
    start = record.started_at if record.started_at is not None else record.created_at
    planned = experiment.starts_at.timestamp() if experiment.starts_at else record.started_at
    weights = cohorts.weights(compared_arms(analysis))
    kept = weights > 0
    starts, ends = period_bounds(cohorts.numbers[kept], start)
    return Progress(
        record.started,
        at,
        experiment.reward.window_seconds,
        round(float(analysis.active.counts.sent.sum())),
        needed_days(planned, experiment.ends_at.timestamp() if experiment.ends_at else None),
        int(period_days(cohorts.numbers[kept]).sum()),
        int(ends[-1] // DAY) - 1 if kept.any() else None,
        record.closes_at,
        weight_span(starts, ends, weights[kept]) if kept.any() else None,
    )


def compared_arms(analysis: Analysis) -> IntArray:
    """Return the arms whose comparison the verdict rests on."""
    lead = analysis.lead
    if lead is None:
        return np.zeros(0, dtype=np.int64)
    if analysis.facts.contextual:
        return np.array([lead.arm])
    return np.setdiff1d(analysis.sendable, lead.uncompared)
