"""Fold due batches into the next snapshot, and rebuild a snapshot from the log."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import blake2b

from msgspec import structs

from bandits.allocation import NEWEST_RULE
from bandits.engine.receipt_sample import keep_sample
from bandits.engine.sums import Sums, SumsBuilder
from bandits.inference.sender_sums import SenderSums
from bandits.inference.state import InferenceState
from bandits.statistics import AGEING, AnswerDelays
from bandits.store import Store
from bandits.store.fold import Fold, LogAudit
from bandits.store.values import (
    DecisionColumns,
    ExperimentRecord,
    FoldIncrement,
    Resummation,
    Snapshot,
)


def _no_pause() -> None:
    """Go on at once."""


def _nothing(_record: ExperimentRecord, _snapshot: Snapshot, _inference: InferenceState) -> None:
    """Conclude nothing."""


def fold(
    store: Store,
    key: str,
    *,
    now: float,
    between: Callable[[], object] = _no_pause,
    conclude: Callable[[ExperimentRecord, Snapshot, InferenceState], object] = _nothing,
) -> Snapshot | None:
    """Fold what is due by `now`, exactly once; return the newest snapshot, None if nothing changed.

    A long backlog takes several folds; `between` is called between them, to let others write.
    `conclude` is called once with the snapshot and its sums of inference, when all is committed,
    unless these lack decisions, or hold some that other rules judged.

    Raises:
        NotFound: there is no experiment of this key.
        Unavailable: the store cannot record; nothing changed.
    """
    newest: tuple[Snapshot, InferenceState] | None = None
    while True:
        with store.snapshots.fold(key, now=now) as folding:
            newest = take_in(folding, now) or newest
            more = folding.more
        if not more:
            break
        between()
    if newest is None:
        return None
    snapshot, inference = newest
    if not (_is_resumming(folding) or folding.rescoring):
        record = structs.replace(folding.record, learned_version=snapshot.version)
        conclude(record, snapshot, inference)
    return snapshot


def _is_resumming(folding: Fold) -> bool:
    """Return true where the sums of a fold's snapshot lack decisions, and are made anew."""
    previous = folding.previous
    older = previous is not None and InferenceState.is_older(previous.inference_state)
    return older or folding.resummation is not None


def take_in(folding: Fold, now: float) -> tuple[Snapshot, InferenceState] | None:
    """Fold the increment that is due into a snapshot, and save it; None where nothing changed.

    Returns:
        The snapshot, and its sums of inference as they are before they are serialised.
    """
    previous = folding.previous
    at = now if previous is None else max(now, previous.at)  # a clock may step back
    builder = SumsBuilder(folding.record, folding.history, at, recording=True)
    for key in folding.unstarted:
        builder.allocations.allocation(*key)
    taken = None
    if folding.due is not None or _has_aged(folding, builder, at):
        due = FoldIncrement.nothing() if folding.due is None else folding.due
        sums = _next_sums(folding, builder, due)
        snapshot = _next_snapshot(folding, sums, due, at)
        folding.save(snapshot, _resummed(folding, builder, due))
        taken = snapshot, sums.inference
        keep_sample(folding, builder.allocations, float(sums.counts.sent.sum()))
    if builder.allocations.derived:
        folding.save_allocations(builder.allocations.derived)
    return taken


def _has_aged(folding: Fold, builder: SumsBuilder, at: float) -> bool:
    """Return true where time alone has changed what a timed statistic says."""
    problem, previous = folding.record.configuration.problem, folding.previous
    if previous is None or at < previous.at + problem.window / AGEING:
        return False
    statistic = builder.load(previous).statistic
    return isinstance(statistic, AnswerDelays) and bool(statistic.waiting.any())


def _next_sums(folding: Fold, builder: SumsBuilder, due: FoldIncrement) -> Sums:
    sums = add_increment(builder, builder.load(folding.previous), due)
    if not builder.invertible:
        sums = replace(sums, statistic=builder.fit(folding.learned()))
    if folding.previous is not None and SenderSums.is_older(folding.previous.senders):
        closed = builder.count_senders_closed(folding.learned())
        sums = replace(sums, senders=sums.senders.without_closed() + closed)
    return sums


def _next_snapshot(folding: Fold, sums: Sums, due: FoldIncrement, at: float) -> Snapshot:
    record, previous = folding.record, folding.previous
    version = 1 if previous is None else previous.version + 1
    upcoming = len(due.entered) + len(due.entered_due)
    if upcoming == 0 and previous is not None:
        upcoming = previous.upcoming
    return Snapshot(
        version,
        record.configuration.version,
        at,
        seed_of(record.salt, version),
        max(1, upcoming),
        *sums.dump(),
        allocation_rule=NEWEST_RULE,
        senders=sums.senders.dump(),
        verdicts=sums.verdicts.dump(),
        guardrails=sums.guardrails.dump(),
    )


def _resummed(folding: Fold, builder: SumsBuilder, due: FoldIncrement) -> Resummation | None:
    """Take into sums that are being made anew what is due of the decisions they have so far.

    It begins where the previous snapshot's sums are of an older format: the next one's will not
    say so any more.
    """
    previous, resummation = folding.previous, folding.resummation
    if previous is None or not _is_resumming(folding):
        return None
    if resummation is None:
        return begin_resummation(builder, previous)
    if resummation.place is None:
        return resummation
    configuration = folding.record.configuration
    so_far = InferenceState.load(resummation.inference_state).padded(configuration.compared)
    sums = add_increment(
        builder, replace(builder.zeros, inference=so_far), due.until(resummation.place)
    )
    return structs.replace(resummation, inference_state=sums.inference.dump())


def begin_resummation(builder: SumsBuilder, stored: Snapshot) -> Resummation:
    """Begin to sum anew what a stored snapshot has in an older format."""
    number = InferenceState.format_of(stored.inference_state)
    return Resummation(number, None, builder.zeros.inference.dump())


def add_increment(builder: SumsBuilder, sums: Sums, due: FoldIncrement) -> Sums:
    """Add what a fold takes in to sums as of the builder's moment."""
    removed = (
        (builder.sum_expired, due.expired),
        (builder.sum_pending, due.withdrawn),
        (builder.sum_learned, due.removed),
        (builder.sum_outcomes, due.before),
        (builder.sum_events_so_far, due.before),
        (builder.sum_events, due.events_before),
    )
    added = (
        (builder.sum_pending, due.entered),
        (builder.sum_learned, due.entered_due),
        (builder.sum_matured, due.matured),
        (builder.sum_pending, due.resumed),
        (builder.sum_learned, due.relearned),
        (builder.sum_outcomes, due.after),
        (builder.sum_events_so_far, due.after),
        (builder.sum_events, due.events_after),
        (builder.sum_closing, due.closing),
    )
    for sum_up, decisions in removed:
        if len(decisions):
            sums = sums - sum_up(decisions)
    for sum_up, decisions in added:
        if len(decisions):
            sums = sums + sum_up(decisions)
    return sums


def sum_log(
    builder: SumsBuilder,
    sums: Sums,
    learned: Iterable[DecisionColumns],
    pending: Iterable[DecisionColumns],
) -> Sums:
    """Add the decisions of a log, in portions."""
    for decisions in learned:
        sums = sums + builder.sum_learned(decisions)
    for decisions in pending:
        sums = sums + builder.sum_pending(decisions)
    return sums


def rebuild(audit: LogAudit) -> Sums:
    """Sum the whole log and what was removed of it anew, as of the newest snapshot's time."""
    at, folded = 0.0, None
    if audit.snapshot is not None:  # a policy that came since may have learned otherwise
        at = audit.snapshot.at
        folded = audit.history.configuration(audit.snapshot.configuration_version)
    builder = SumsBuilder(audit.record, audit.history, at, folded)
    sums = builder.load(audit.retained)
    if builder.invertible:
        return sum_log(builder, sums, audit.learned, audit.pending)
    learned = list(audit.learned)
    sums = sum_log(builder, sums, learned, audit.pending)
    return replace(sums, statistic=builder.fit(learned))


def seed_of(salt: bytes, version: int) -> int:
    """Make the seed of a policy's frozen draws on a snapshot."""
    digest = blake2b(version.to_bytes(8, "big"), digest_size=8, key=salt).digest()
    return int.from_bytes(digest, "big") >> 1  # a signed 64-bit column holds it
