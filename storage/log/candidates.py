"""Candidates: the decisions that an event may be of which names its subject, or its email's id.

Subjects are compared by two hashes: of what was sent, to the byte, and of the same trimmed, in NFC
and without case. The second finds a shop's `Ann@Shop.example` again that a mailer calls
`ann@shop.example`; where it is of more than one subject, the first one decides.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from sqlalchemy import bindparam, delete, select

from bandits.actors import Actor
from bandits.store import StaleRead
from bandits.store.values import Attribution, Candidate, ExperimentRecord
from storage.connections.marks import Hasher, normalise
from storage.databases import NamedRow, Transaction
from storage.log.batches import REFERENCES
from storage.log.queries import activated, cancelled, with_marks
from storage.log.subject_index import MATCH_KEY, find_subjects
from storage.schema import (
    attributions,
    batches,
    decisions,
    message_ids,
    of_batch,
    subjects,
)
from storage.snapshots.voids import VoidLookup, Voids, read_voids
from storage.store_context import FoldLockNeeded

_AT_ONCE = 10_000  # rows in one statement
_CANDIDATES = with_marks(
    decisions.c.serial,
    decisions.c.id,
    decisions.c.subject,
    MATCH_KEY.label("match_key"),
    batches.c.experiment_id,
    batches.c.actor,
    batches.c.created_at,
    batches.c.due_at,
    activated.c.actor.label("activated_by"),
    activated.c.created_at.label("activated_at"),
    cancelled.c.actor.label("cancelled_by"),
    cancelled.c.created_at.label("cancelled_at"),
).order_by(decisions.c.serial)
# Every call of a sender runs these, so they are made once, and get their values there.
_WENT = (
    select(attributions.c.event_id, MATCH_KEY, decisions.c.serial, decisions.c.id)
    .join(decisions, decisions.c.serial == attributions.c.decision)
    .where(attributions.c.source == bindparam("of_source"))
    .order_by(decisions.c.serial)
)
_OF_MESSAGES = (
    select(message_ids.c.message_id, decisions.c.id)
    .join(decisions, decisions.c.serial == message_ids.c.decision)
    .order_by(decisions.c.serial)
)


class _BatchOrigin(NamedTuple):
    """Who wrote a batch, and when: what a void goes by."""

    actor: Actor | None
    created_at: float


def other_match_keys(hasher: Hasher, names: Sequence[str]) -> list[bytes | None]:
    """Hash subjects as they are matched, None where that is the hash of the subject itself."""
    joined = "".join(names)
    if joined.isascii() and joined == joined.lower() and len(joined.split()) <= 1:
        return [None] * len(names)
    spelled = [normalise(name) for name in names]
    other = [i for i, name in enumerate(names) if spelled[i] != name]
    keys: list[bytes | None] = [None] * len(names)
    for i, key in zip(other, hasher([spelled[i] for i in other]), strict=True):
        keys[i] = key
    return keys


def match_keys(hasher: Hasher, names: Sequence[str]) -> list[bytes]:
    """Hash subjects as they are matched: without regard to case, spaces and Unicode's forms."""
    return hasher([normalise(name) for name in names])


def find_candidates(
    transaction: Transaction,
    records: Sequence[ExperimentRecord],
    hasher: Hasher,
    names: Sequence[str],
) -> list[list[Candidate]]:
    """Find the decisions of each of these subjects in experiments, the oldest first.

    Those are left out that were never sent as far as we know: cancelled, not activated, or void.

    Args:
        transaction: one that sees one moment.
        records: the experiments. The log is read of those that have no index, for subjects to the
            byte, or that are stored as they are matched.
        hasher: of subjects.
        names: of the subjects.
    """
    hashes = hasher(names)
    keys = match_keys(hasher, names)
    indexed = [r.id for r in records if r.configuration.experiment.attribution is not None]
    serials = set(find_subjects(transaction, indexed, sorted(set(keys))))
    for record in records:
        if record.id not in indexed:
            serials.update(_scan(transaction, record, sorted({*hashes, *keys})))
    sent = _read_sent(transaction, records, sorted(serials))
    by_key, by_subject = defaultdict(list), defaultdict(list)
    for row, candidate in sent:
        by_key[row.match_key].append((row.subject, candidate))
        by_subject[row.subject].append(candidate)
    answers: list[list[Candidate]] = []
    for key, digest in zip(keys, hashes, strict=True):
        alike = by_key[key]
        unique = len({subject for subject, _ in alike}) == 1
        answers.append(by_subject[digest] or ([c for _, c in alike] if unique else []))
    return answers


def _scan(transaction: Transaction, record: ExperimentRecord, hashes: Sequence[bytes]) -> list[int]:
    """Find the decisions of subjects in the log of an experiment, which is read once for all."""
    serials: list[int] = []
    for start in range(0, len(hashes), _AT_ONCE):
        portion = hashes[start : start + _AT_ONCE]
        if record.configuration.experiment.assignment == "per_subject":
            query = (
                select(decisions.c.serial)
                .join(subjects, subjects.c.decision_id == decisions.c.id)
                .where(
                    subjects.c.experiment_id == record.id,
                    subjects.c.subject.in_(portion),
                )
            )
        else:
            rows = select(decisions.c.serial).where(
                of_batch(batches.c.id), decisions.c.subject.in_(portion)
            )
            joined = transaction.join_each(batches, [], rows)
            query = joined.where(batches.c.experiment_id == record.id)
        serials += transaction.execute(query).scalars()
    return serials


def _read_sent(
    transaction: Transaction, records: Sequence[ExperimentRecord], serials: Sequence[int]
) -> list[tuple[NamedRow, Candidate]]:
    """Read those of these decisions that were sent, in the order of their serials."""
    by_number = {record.id: record for record in records}
    voids = {number: read_voids(transaction, record) for number, record in by_number.items()}
    sent = []
    for start in range(0, len(serials), _AT_ONCE):
        portion = serials[start : start + _AT_ONCE]
        for row in transaction.execute_any(_CANDIDATES, decisions.c.serial, portion):
            started_at = _started_at(row, voids[row.experiment_id])
            if started_at is not None:
                key = by_number[row.experiment_id].key
                sent.append((row, Candidate(row.serial, row.id, key, started_at)))
    return sent


def _started_at(row: NamedRow, voids: Voids) -> float | None:
    """Return when the clock of a decision started, None where it was never sent."""
    if voids.cover(row):
        return None
    if row.cancelled_at is not None and not voids.cover(
        _BatchOrigin(row.cancelled_by, row.cancelled_at)
    ):
        return None
    if row.due_at is not None:
        return float(row.created_at)
    if row.activated_at is None or voids.cover(_BatchOrigin(row.activated_by, row.activated_at)):
        return None
    return float(row.activated_at)


def read_attributions(
    transaction: Transaction, source: str, event_ids: Sequence[str]
) -> dict[str, Attribution]:
    """Read where events of a source went, by event id; others are left out."""
    went = defaultdict(list)
    of_source = {"of_source": source}
    for start in range(0, len(event_ids), _AT_ONCE):
        portion = event_ids[start : start + _AT_ONCE]
        rows = transaction.execute_any(_WENT, attributions.c.event_id, portion, of_source)
        for event_id, key, *credited in rows:
            went[event_id].append((key, tuple(credited)))
    numbers = sorted({number for parts in went.values() for _, (number, _) in parts})
    lapsed = _read_lapsed(transaction, numbers)
    return {
        event_id: Attribution(
            parts[0][0],
            [credit for _, credit in parts if credit[0] not in lapsed],
            [credit for _, credit in parts if credit[0] in lapsed],
        )
        for event_id, parts in went.items()
    }


def _read_lapsed(transaction: Transaction, serials: Sequence[int]) -> dict[int, int]:
    """Read which of these decisions are void or cancelled, with their experiments' numbers."""
    voids = VoidLookup(transaction)
    lapsed: dict[int, int] = {}
    for start in range(0, len(serials), _AT_ONCE):
        portion = serials[start : start + _AT_ONCE]
        for row in transaction.execute_any(_CANDIDATES, decisions.c.serial, portion):
            of = row.experiment_id
            is_void = voids.row(of, row.actor, row.created_at) is not None
            is_cancelled = (
                row.cancelled_at is not None
                and voids.row(of, row.cancelled_by, row.cancelled_at) is None
            )
            if is_void or is_cancelled:
                lapsed[row.serial] = of
    return lapsed


def attribute(
    transaction: Transaction,
    source: str,
    credited: Mapping[str, Sequence[int]],
    *,
    locked: Collection[int] = (),
) -> dict[str, Attribution]:
    """Note where events of a source go, each once; return where those go that were noted before.

    The notes of an event of which one is of a void or cancelled decision give way to its new ones.

    Raises:
        FoldLockNeeded: some do in an experiment that is not among the `locked` ones, where they
            could count again meanwhile.
        StaleRead: a decision was erased since its number was read.
    """
    transaction.lock(REFERENCES, shared=True)
    transaction.lock(f"attributions of {source}")
    noted = read_attributions(transaction, source, list(credited))
    earlier = {event_id: a for event_id, a in noted.items() if not a.lapsed}
    new = {event_id: serials for event_id, serials in credited.items() if event_id not in earlier}
    numbers = sorted(set(chain.from_iterable(new.values())))
    if transaction.count(decisions.c.serial, numbers) < len(numbers):
        raise StaleRead
    giving_way = {event_id: a for event_id, a in noted.items() if a.lapsed}
    if giving_way:
        _remove_notes(transaction, source, giving_way, locked)
    rows = sorted((source, event_id, serial) for event_id in new for serial in new[event_id])
    transaction.insert(attributions, ("source", "event_id", "decision"), rows)
    return earlier


def _remove_notes(
    transaction: Transaction,
    source: str,
    notes: Mapping[str, Attribution],
    locked: Collection[int],
) -> None:
    """Remove the notes of events of a source, under the locks of the folds that they concern.

    Raises:
        FoldLockNeeded: of an experiment that is not among the `locked` ones.
    """
    numbers = sorted({number for a in notes.values() for number, _ in a.lapsed})
    needed = set(_read_lapsed(transaction, numbers).values())
    if not needed.issubset(locked):
        raise FoldLockNeeded(needed)
    event_ids = sorted(notes)
    for start in range(0, len(event_ids), _AT_ONCE):
        portion = transaction.is_any(attributions.c.event_id, event_ids[start : start + _AT_ONCE])
        removed = delete(attributions).where(attributions.c.source == source, portion)
        transaction.execute(removed)


def has_message_ids(transaction: Transaction) -> bool:
    """Return True where the mailer's id of any email was told."""
    query = select(message_ids.c.decision).limit(1)
    return transaction.execute(query).first() is not None


def read_message_decisions(transaction: Transaction, names: Sequence[str]) -> dict[str, list[str]]:
    """Read the ids of the decisions that emails were sent for, by the mailer's id of the email."""
    ids = defaultdict(list)
    for start in range(0, len(names), _AT_ONCE):
        portion = names[start : start + _AT_ONCE]
        rows = transaction.execute_any(_OF_MESSAGES, message_ids.c.message_id, portion)
        for message_id, decision_id in rows:
            ids[message_id].append(decision_id)
    return dict(ids)


def read_message_ids(transaction: Transaction, ids: Sequence[str]) -> dict[str, list[str]]:
    """Read the mailer's ids of the emails of decisions, by the decision's id."""
    names = defaultdict(list)
    query = (
        select(decisions.c.id, message_ids.c.message_id)
        .join(decisions, decisions.c.serial == message_ids.c.decision)
        .order_by(message_ids.c.message_id)
    )
    for start in range(0, len(ids), _AT_ONCE):
        portion = transaction.is_any(decisions.c.id, ids[start : start + _AT_ONCE])
        for decision_id, message_id in transaction.execute(query.where(portion)):
            names[decision_id].append(message_id)
    return dict(names)
