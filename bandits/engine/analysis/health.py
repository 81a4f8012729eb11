"""Health of an experiment: the checks of its results, from sums alone."""

import numpy as np

from bandits.engine.active_policy import ActivePolicy
from bandits.inference.late_rewards import DIFFERS, LIMIT, LateRewardSums
from bandits.inference.periods import FOUND
from bandits.inference.sample_ratio import ALARM, SampleRatio
from bandits.inference.state import InferenceState
from bandits.results import Drift, Health, LateRewards, Split
from bandits.store.values import DataQualityCounts


def examine(
    active: ActivePolicy,
    inference: InferenceState,
    data_quality: DataQualityCounts,
    resummed: float | None = None,
) -> Health:
    """Check what could be wrong with an experiment's numbers; `resummed` as in `Health`."""
    sent, complete = active.counts.sent.sum(), active.counts.complete.sum()
    closed = inference.arms.sends.sum() + inference.groups.sends[1]
    return Health(
        _split(inference.ratio),
        active.experiment.floor_among(len(active.unrestricted_arms)),
        least_floor(active, inference),
        inference.arms.effective_sizes.tolist(),
        data_quality.clipped,
        data_quality.unknown,
        data_quality.missing,
        data_quality.repeated,
        data_quality.late,
        data_quality.skewed,
        data_quality.early,
        _late_rewards(inference.lateness),
        drift_of(inference),
        float(1 - complete / sent) if sent > 0 else None,
        float(1 - closed / sent) if sent > 0 else None,
        resummed,
        0 if resummed is not None else round(inference.left_out.total),
    )


def least_floor(active: ActivePolicy, inference: InferenceState) -> float:
    """Return the least minimum share that counted decisions were made under, or will be."""
    now = active.experiment.floor_among(len(active.unrestricted_arms))
    least = inference.floors.least
    return now if least is None else min(least, now)


def drift_of(inference: InferenceState) -> Drift:
    """Test whether rates moved."""
    p_value = inference.periods.drift_p_value
    return Drift(p_value, p_value < FOUND, len(inference.periods.numbers))


def _split(ratio: SampleRatio) -> Split:
    return Split(
        [round(n) for n in ratio.sent.tolist()],
        ratio.expected.tolist(),
        ratio.p_values.tolist(),
        np.flatnonzero(ratio.alarms()).tolist(),
        ALARM,
    )


def _late_rewards(lateness: LateRewardSums) -> LateRewards:
    p_value, overall = lateness.differs_p_value, lateness.overall
    differs = p_value < DIFFERS
    return LateRewards(
        lateness.shares,
        overall,
        differs,
        p_value,
        differs or (overall or 0.0) > LIMIT,
        LIMIT,
    )
