"""Health of an experiment: the checks of its results, from sums alone."""

from collections.abc import Sequence

import numpy as np

from bandits.actors import key_number, split_actor
from bandits.engine.active_policy import ActivePolicy
from bandits.inference import lift_periods, periods
from bandits.inference.late_rewards import DIFFERS, LIMIT, LateRewardSums
from bandits.inference.sample_ratio import SampleRatio
from bandits.inference.sender_checks import KeyCounts, SenderAlarm, sender_alarms
from bandits.inference.sender_sums import SenderSums
from bandits.inference.state import InferenceState
from bandits.results import Drift, EligibleSetCount, Health, LateRewards, Split
from bandits.store.values import ActorCounts, ExperimentRecord, Snapshot

_DIGITS = 12  # of a p-value: without any evidence it is 1, and not 1 but for rounding


def examine(  # noqa: PLR0913 - all that health is of
    active: ActivePolicy,
    inference: InferenceState,
    record: ExperimentRecord,
    resummed: float | None = None,
    *,
    levels: Drift,
    lifts: Drift,
    senders: list[SenderAlarm],
    eligible_sets: Sequence[EligibleSetCount] = (),
    excluded_bounces: int = 0,
) -> Health:
    """Check what could be wrong with an experiment's numbers; `resummed` as in `Health`.

    What moved, and senders, were tested before.
    """
    data_quality = record.data_quality
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
        _late_rewards(inference.lateness, inference.late_so_far),
        levels,
        float(1 - complete / sent) if sent > 0 else None,
        float(1 - closed / sent) if sent > 0 else None,
        levels,
        lifts,
        resummed,
        0 if resummed is not None else round(inference.left_out.total),
        record.voided or 0,
        senders,
        list(eligible_sets),
        data_quality.cancelled,
        excluded_bounces,
    )


def count_excluded_bounces(actors: Sequence[ActorCounts]) -> int:
    """Count the decisions that connections cancelled, which they do for bounces alone."""
    of_connections = [a for a in actors if split_actor(a.actor)[0] == "connection"]
    return sum(actor.cancelled for actor in of_connections)


def check_senders(
    record: ExperimentRecord, snapshot: Snapshot | None, actors: Sequence[ActorCounts]
) -> list[SenderAlarm]:
    """Check each API key that sends for an experiment: `bandits.inference.sender_checks`.

    Args:
        record: the experiment.
        snapshot: its newest, None before the first.
        actors: what each actor wrote.
    """
    configuration = record.configuration
    if snapshot is None:
        return []
    sums = SenderSums.load(snapshot.senders, len(configuration.arms))
    counts = []
    for actor in actors:
        if key := key_number(actor.actor):
            columns = (actor.chosen, actor.activated, actor.cancelled, actor.answered)
            counts.append(KeyCounts(key, actor.first_at, *columns))
    awaits = configuration.experiment.await_activation
    return sender_alarms(sums, counts, awaits=awaits, now=snapshot.at)


def least_floor(active: ActivePolicy, inference: InferenceState) -> float:
    """Return the least minimum share that counted decisions were made under, or will be."""
    now = active.experiment.floor_among(len(active.unrestricted_arms))
    least = inference.floors.least
    return now if least is None else min(least, now)


def levels_drift(active: ActivePolicy, inference: InferenceState) -> Drift:
    """Test whether some arm's mean reward moved, among all recipients whoever got which arm."""
    sums = inference.periods
    if active.policy.statistic.contextual:
        sums = inference.lift_periods.levels(sums, active.control)
    evidence = sums.levels_evidence(_conversion(inference))
    p_value = round(float(np.exp(-max(evidence, 0.0))), _DIGITS)
    return Drift(p_value, p_value < periods.LEVEL, len(inference.periods.numbers))


def lifts_drift(active: ActivePolicy, inference: InferenceState) -> Drift:
    """Test whether some arm's lift over the control moved, beyond what moves all arms alike."""
    sums, conversion = inference.lift_periods, _conversion(inference)
    p_value, compared = sums.p_value(inference.periods, active.control, conversion)
    return Drift(p_value, p_value < lift_periods.LEVEL, compared)


def _conversion(inference: InferenceState) -> float:
    """Return the mean square of a conversion."""
    return float(inference.arms.prediction[2])


def _split(ratio: SampleRatio) -> Split:
    return Split(
        [round(n) for n in ratio.sent.tolist()],
        ratio.expected.tolist(),
        ratio.p_values.tolist(),
        np.flatnonzero(ratio.alarms()).tolist(),
        ratio.level,
    )


def _late_rewards(closed: LateRewardSums, so_far: LateRewardSums) -> LateRewards:
    p_value, overall = closed.differs_p_value, closed.overall
    differs = p_value < DIFFERS
    return LateRewards(
        closed.shares,
        overall,
        differs,
        p_value,
        differs or (overall or 0.0) > LIMIT or so_far.surely_late,
        LIMIT,
        so_far.overall,
    )
