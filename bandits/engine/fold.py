"""Folding what is due into what is learned, and rebuilding it from the log."""

from collections.abc import Callable, Iterable
from hashlib import blake2b

import numpy as np

from bandits.engine.arm_counts import ArmCounts
from bandits.engine.inference_sums import EvidenceBuilder
from bandits.engine.statistic_sums import (
    StatisticBuilder,
    load_inference_state,
    load_retained,
    load_statistic,
)
from bandits.inference.state import InferenceState
from bandits.statistics import Statistic, dump
from bandits.store import Store
from bandits.store.fold import Fold, LogAudit
from bandits.store.values import DecisionColumns, FoldIncrement, Snapshot


def _no_pause() -> None:
    """Go on at once."""


def fold(
    store: Store, key: str, *, now: float, between: Callable[[], object] = _no_pause
) -> Snapshot | None:
    """Take in what is due by `now`, exactly once; the newest snapshot, None where nothing changed.

    A long queue is taken in several folds; `between` is called between them, to let others write.

    Raises:
        NotFound: there is no experiment of this key.
        Unavailable: the store cannot record; nothing changed.
    """
    newest: Snapshot | None = None
    while True:
        with store.snapshots.fold(key, now=now) as folding:
            newest = take_in(folding, now) or newest
            more = folding.more
        if not more:
            return newest
        between()


def take_in(folding: Fold, now: float) -> Snapshot | None:
    """Take in what a fold found due, and save it; None where nothing changed."""
    if folding.due is None:
        return None
    snapshot = _next_snapshot(folding, folding.due, now)
    folding.save(snapshot)
    return snapshot


def _next_snapshot(folding: Fold, due: FoldIncrement, now: float) -> Snapshot:
    record, previous = folding.record, folding.previous
    at = now if previous is None else max(now, previous.at)  # a clock may step back
    summing = StatisticBuilder(record.configuration, at)
    grounding = EvidenceBuilder(record, folding.history)
    statistic, tally = load_statistic(record.configuration, previous)
    if summing.family.invertible:
        since = at if previous is None else previous.at
        statistic = _moved_on(summing, statistic, due, since)
    else:
        statistic = _total(summing, folding.learned())
    version = 1 if previous is None else previous.version + 1
    upcoming = len(due.entered) + len(due.entered_due)
    if upcoming == 0 and previous is not None:
        upcoming = previous.upcoming
    return Snapshot(
        version,
        record.configuration.version,
        at,
        _seed(record.salt, version),
        max(1, upcoming),
        dump(statistic),
        _counted_on(summing, tally, due).dump(),
        _grounded(grounding, folding, due).dump(),
    )


def _grounded(grounding: EvidenceBuilder, folding: Fold, due: FoldIncrement) -> InferenceState:
    """Move what results rest on; a snapshot of before it was kept makes it summed anew."""
    previous = folding.previous
    if previous is not None and InferenceState.lacking(previous.inference_state):
        return _ground(grounding, folding.learned(), folding.pending())
    load_statistic = load_inference_state(folding.record.configuration, previous)
    return _grounded_on(grounding, load_statistic, due)


def _moved_on(
    summing: StatisticBuilder, load_statistic: Statistic, due: FoldIncrement, since: float
) -> Statistic:
    """Move what is known from `since` to the summing's moment and take in what is due."""
    earlier = np.ones(len(due.expired))  # a window's observations weigh 1 until they leave it
    out = load_statistic - summing.observed(due.expired, earlier)
    out = summing.fade(out, since)
    out = out - summing.observed(due.removed)
    out = out - summing.observed(due.before) + summing.observed(due.after)
    out = out - summing.waiting(due.matured) - summing.waiting(due.withdrawn)
    out = out + summing.waiting(due.entered)
    return out + summing.observed(due.matured) + summing.observed(due.entered_due)


def _counted_on(summing: StatisticBuilder, tally: ArmCounts, due: FoldIncrement) -> ArmCounts:
    out = tally + summing.sent(due.entered) + summing.sent(due.entered_due)
    out = out - summing.sent(due.withdrawn) - summing.sent(due.removed)
    out = out - summing.complete(due.removed)
    out = out - summing.complete(due.before) + summing.complete(due.after)
    return out + summing.complete(due.matured) + summing.complete(due.entered_due)


def _grounded_on(
    grounding: EvidenceBuilder, load_statistic: InferenceState, due: FoldIncrement
) -> InferenceState:
    out = load_statistic + grounding.sent(due.entered) + grounding.sent(due.entered_due)
    out = out - grounding.sent(due.withdrawn) - grounding.sent(due.removed)
    out = out - grounding.closed(due.removed)
    out = out - grounding.closed(due.before) + grounding.closed(due.after)
    out = out + grounding.closed(due.entered_due) + grounding.closed(due.matured)
    return out + grounding.closed(due.closing)


def _ground(
    grounding: EvidenceBuilder,
    learned: Iterable[DecisionColumns],
    pending: Iterable[DecisionColumns],
) -> InferenceState:
    out = grounding.nothing
    for decided in learned:
        out = out + grounding.sent(decided) + grounding.closed(decided)
    for decided in pending:
        out = out + grounding.sent(decided)
    return out


def rebuild(audit: LogAudit) -> tuple[Statistic, ArmCounts, InferenceState]:
    """Sum the whole log and its base anew, as of the newest snapshot's reference time."""
    at = 0.0 if audit.snapshot is None else audit.snapshot.at
    summing = StatisticBuilder(audit.record.configuration, at)
    if audit.snapshot is not None:  # a policy that came since may have learned otherwise
        summing.follow(audit.history.configuration(audit.snapshot.configuration_version))
    grounding = EvidenceBuilder(audit.record, audit.history)
    statistic, tally, grounds = load_retained(summing, audit.retained)
    learned: list[DecisionColumns] = []
    for decided in audit.learned:
        tally = tally + summing.sent(decided) + summing.complete(decided)
        grounds = grounds + grounding.sent(decided) + grounding.closed(decided)
        if summing.family.invertible:
            statistic = statistic + summing.observed(decided)
        else:
            learned.append(decided)
    if not summing.family.invertible:
        statistic = _total(summing, learned)
    for decided in audit.pending:
        tally = tally + summing.sent(decided)
        grounds = grounds + grounding.sent(decided)
        if summing.family.invertible:
            statistic = statistic + summing.waiting(decided)
    return statistic, tally, grounds


def _total(summing: StatisticBuilder, portions: Iterable[DecisionColumns]) -> Statistic:
    """Learn everything at once, for a family that cannot subtract; it knows no pending."""
    every = list(portions)
    if not every:
        return summing.family.zeros(summing.problem)
    offsets = np.cumsum([0, *(len(d) for d in every[:-1])])
    return summing.observed(
        DecisionColumns(
            np.concatenate([d.arms for d in every]),
            np.concatenate([d.contexts for d in every]),
            np.concatenate([d.holdout for d in every]),
            np.concatenate([d.started_at for d in every]),
            np.concatenate([d.event_rows + o for d, o in zip(every, offsets, strict=True)]),
            np.concatenate([d.event_metrics for d in every]),
            np.concatenate([d.event_values for d in every]),
            np.concatenate([d.event_times for d in every]),
            np.concatenate([d.propensities for d in every]),
            [restriction for d in every for restriction in d.eligible_sets],
            np.concatenate([d.configuration_versions for d in every]),
            np.concatenate([d.policy_versions for d in every]),
            np.concatenate([d.closed for d in every]),
        )
    )


def _seed(salt: bytes, version: int) -> int:
    digest = blake2b(version.to_bytes(8, "big"), digest_size=8, key=salt).digest()
    return int.from_bytes(digest, "big") >> 1  # a signed 64-bit column holds it
