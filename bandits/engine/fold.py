"""Fold due batches into the next snapshot, and rebuild a snapshot from the log."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import blake2b

from bandits.engine.sums import Sums, SumsBuilder
from bandits.inference.state import InferenceState
from bandits.store import Store
from bandits.store.fold import Fold, LogAudit
from bandits.store.values import DecisionColumns, FoldIncrement, Snapshot


def _no_pause() -> None:
    """Go on at once."""


def fold(
    store: Store, key: str, *, now: float, between: Callable[[], object] = _no_pause
) -> Snapshot | None:
    """Fold what is due by `now`, exactly once; return the newest snapshot, None if nothing changed.

    A long backlog takes several folds; `between` is called between them, to let others write.

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
    """Fold the increment that is due into a snapshot, and save it; None where nothing changed."""
    if folding.due is None:
        return None
    snapshot = _next_snapshot(folding, folding.due, now)
    folding.save(snapshot)
    return snapshot


def _next_snapshot(folding: Fold, due: FoldIncrement, now: float) -> Snapshot:
    record, previous = folding.record, folding.previous
    at = now if previous is None else max(now, previous.at)  # a clock may step back
    builder = SumsBuilder(record, folding.history, at)
    sums = add_increment(builder, builder.load(previous), due)
    if not builder.invertible:
        sums = replace(sums, statistic=builder.fit(folding.learned()))
    if previous is not None and InferenceState.is_older(previous.inference_state):
        number = InferenceState.format_of(previous.inference_state)
        kept = {n: getattr(sums.inference, n) for n in InferenceState.fields_since(number)}
        log = sum_log(builder, builder.zeros, folding.learned(), folding.pending())
        sums = replace(sums, inference=replace(log.inference, **kept))
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
        *sums.dump(),
    )


def add_increment(builder: SumsBuilder, sums: Sums, due: FoldIncrement) -> Sums:
    """Add what a fold takes in to sums as of the builder's moment."""
    removed = (
        (builder.sum_expired, due.expired),
        (builder.sum_pending, due.withdrawn),
        (builder.sum_learned, due.removed),
        (builder.sum_outcomes, due.before),
    )
    added = (
        (builder.sum_pending, due.entered),
        (builder.sum_learned, due.entered_due),
        (builder.sum_matured, due.matured),
        (builder.sum_outcomes, due.after),
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


def _seed(salt: bytes, version: int) -> int:
    digest = blake2b(version.to_bytes(8, "big"), digest_size=8, key=salt).digest()
    return int.from_bytes(digest, "big") >> 1  # a signed 64-bit column holds it
