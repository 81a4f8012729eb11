"""Appending decisions: each id once and, where an experiment says so, each subject once.

A few decisions are nearly always the same case: the experiment is as it was a moment ago, and
their ids are new. They are appended as such, in as few exchanges with the database as there
can be, in one transaction of their own. Where the case is another, that appends nothing, and the
general way finds out.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from operator import gt, itemgetter
from typing import Any

import numpy as np
from msgspec import Struct
from sqlalchemy import BigInteger, bindparam, delete, literal, select, update

from bandits.actors import Actor
from bandits.errors import IdReused
from bandits.ids import time_ordered_ids
from bandits.store import UnfitRepeat
from bandits.store.values import ExperimentRecord, NewDecisions, StoredDecision
from storage.databases import BulkInsert, SerializationConflict, Transaction
from storage.log.batches import REFERENCES, close_batch, open_batch
from storage.log.group_commit import MOST_ROWS
from storage.log.queries import read_decisions
from storage.schema import (
    PLACES,
    batch_of,
    batches,
    decisions,
    experiments,
    former_ids,
    of_batch,
    repeats,
    subjects,
)
from storage.store_context import StoreContext

_COLUMNS = (
    "id",
    "arm",
    "propensity",
    "context",
    "holdout",
    "fallback",
    "eligible_set",
    "digest",
    "subject",
    "shipped",
    "match_key",
)
_BATCH_COLUMNS = (
    "kind",
    "experiment_id",
    "actor",
    "size",
    "created_at",
    "due_at",
    "configuration_version",
    "policy_version",
    "clipped",
    "unknown",
    "missing",
    "index_pending",
)
_CLAIM = ("experiment_id", "subject", "decision_id")
_AT_ONCE = 10_000  # subjects in one statement
_RENAME = (
    update(decisions)
    .where(decisions.c.serial == bindparam("of", type_=decisions.c.serial.type))
    .values(id=bindparam("new", type_=decisions.c.id.type))
)

_EXPERIMENT_ID = bindparam("experiment_id", type_=experiments.c.id.type)
_FAST_APPEND = BulkInsert(
    into=batches,
    names=_BATCH_COLUMNS,
    row=select(*(bindparam(name, type_=batches.c[name].type) for name in _BATCH_COLUMNS)).where(
        experiments.c.id == _EXPERIMENT_ID,
        experiments.c.state == bindparam("state"),
        experiments.c.configuration_version == bindparam("configuration_version"),
        experiments.c.shipped.is_not_distinct_from(bindparam("arm_shipped")),
    ),
    returning=(
        batches.c.id,
        select(experiments.c.learned_version)
        .where(experiments.c.id == _EXPERIMENT_ID)
        .scalar_subquery()
        .label("learned_version"),
    ),
    table=decisions,
    serial="serial",
    columns=_COLUMNS,
    unique="id",
    places=PLACES,
)


class AppendDecisionsCall(Struct, frozen=True, eq=False):
    """A call that appends decisions.

    Attributes:
        context: database and experiments.
        record: the experiment they were made under.
        chosen: their columns,
        hashes: and the hashes of their subjects,
        match_keys: and those that events match by, None where it is the same.
        actor: who asked for them.
        at: when they were made, seconds since 1970.
        partial: rows whose id came before with another body are left out; else all are refused.
    """

    context: StoreContext
    record: ExperimentRecord
    chosen: NewDecisions
    hashes: Sequence[bytes]
    match_keys: Sequence[bytes | None]
    actor: Actor
    at: float
    partial: bool = False

    @property
    def kind(self) -> tuple[object, ...]:
        """Common properties of the decisions that one batch can hold."""
        record, chosen = self.record, self.chosen
        width = chosen.contexts.shape[1]
        version = record.configuration.version
        experiment = (record.id, record.state, version)
        call = ("choose", self.actor, self.partial)
        return (*call, *experiment, chosen.policy_version, chosen.shipped, width)

    def run(self) -> Mapping[int, StoredDecision]:
        """Append the decisions; return the earlier one for each row that was not appended.

        Raises:
            IdReused: an id was there before with another digest, or in another experiment.
            UnfitRepeat: subjects have decisions that rows may not be answered with.
            StaleRead: the experiment's state or configuration is no longer the record's.
        """
        record, chosen, context = self.record, self.chosen, self.context
        if len(chosen.ids) <= MOST_ROWS and not _claims_subjects(record, chosen):
            values = _batch_values(record, chosen, self.at)
            values |= {"kind": "choose", "experiment_id": record.id, "created_at": self.at}
            values |= {"actor": self.actor}
            values |= {"state": record.state, "arm_shipped": record.shipped}
            columns = _columns(chosen, self.hashes, self.match_keys)
            rows = sorted(zip(*columns, strict=True), key=itemgetter(0))
            batch = context.database.append(_FAST_APPEND, values, rows)
            if batch is not None:
                if batch[1] != record.learned_version:
                    context.experiments.forget(record.key)
                return {}
        return context.write(lambda transaction: self.run_group(transaction, [self])[0])

    def run_group(
        self, transaction: Transaction, calls: Sequence["AppendDecisionsCall"]
    ) -> list[Mapping[int, StoredDecision]]:
        """Append the decisions of several calls of one kind as one batch.

        Raises:
            SerializationConflict: two calls ask for the same decision, or another transaction came
                between.
        """
        self.context.experiments.check(transaction, self.record)
        chosen = _concatenate([call.chosen for call in calls])
        if len(set(chosen.ids)) < len(chosen.ids):
            raise SerializationConflict
        hashes = [digest for call in calls for digest in call.hashes]
        match_keys = [key for call in calls for key in call.match_keys]
        at = max(call.at for call in calls)
        earlier = append_decisions(
            transaction,
            self.record,
            chosen,
            hashes,
            match_keys,
            actor=self.actor,
            at=at,
            partial=self.partial,
        )
        results: list[Mapping[int, StoredDecision]] = []
        first = 0
        for call in calls:
            rows = range(first, first + len(call.chosen.ids))
            results.append({row - first: earlier[row] for row in rows if row in earlier})
            first = rows.stop
        return results


def append_decisions(  # noqa: PLR0913 - what is appended, by whom and when
    transaction: Transaction,
    record: ExperimentRecord,
    chosen: NewDecisions,
    hashes: Sequence[bytes],
    match_keys: Sequence[bytes | None],
    *,
    actor: Actor,
    at: float,
    partial: bool,
) -> Mapping[int, StoredDecision]:
    """Append decisions as a batch; return the earlier one for each row that was not appended.

    Raises:
        IdReused: an id was there before with another digest, or in another experiment, and not
            `partial`.
        UnfitRepeat: subjects have decisions that rows may not be answered with.
        SerializationConflict: another transaction came between; the whole must be done again.
    """
    values = _batch_values(record, chosen, at)
    batch = open_batch(transaction, "choose", record.id, actor=actor, at=at, **values)
    append = _BatchAppend(
        transaction, record, chosen, hashes, match_keys, batch, actor, at, partial
    )
    earlier = append.each_subject_once() if _claims_subjects(record, chosen) else append.all()
    if earlier:
        close_batch(transaction, batch, len(chosen.ids) - len(earlier))
    return earlier


def _claims_subjects(record: ExperimentRecord, chosen: NewDecisions) -> bool:
    return record.configuration.experiment.assignment == "per_subject" and not chosen.shipped


def _batch_values(record: ExperimentRecord, chosen: NewDecisions, at: float) -> dict[str, Any]:
    """Return columns of a batch of decisions, but for kind, experiment, actor and time."""
    experiment = record.configuration.experiment
    clipped, unknown, missing = chosen.mended
    return {
        "size": len(chosen.ids),
        "due_at": None if experiment.await_activation else at + experiment.reward.maturity,
        "configuration_version": record.configuration.version,
        "policy_version": chosen.policy_version,
        "clipped": clipped,
        "unknown": unknown,
        "missing": missing,
        "index_pending": None if experiment.attribution is None else True,
    }


def _columns(
    chosen: NewDecisions, hashes: Sequence[bytes], match_keys: Sequence[bytes | None]
) -> list[Sequence[Any]]:
    """Return decisions as the values of `_COLUMNS`."""
    n, d = chosen.contexts.shape
    nulls = [None] * n
    return [
        chosen.ids,
        chosen.arms.tolist(),
        chosen.propensities.tolist(),
        nulls if d == 1 else _pack_contexts(chosen),
        chosen.holdout.tolist(),
        chosen.fallback.tolist(),
        _empty_as_null(chosen.eligible_sets) if any(chosen.eligible_sets) else nulls,
        _empty_as_null(chosen.digests) if any(chosen.digests) else nulls,
        hashes,
        [chosen.shipped] * n,
        match_keys,
    ]


def _pack_contexts(chosen: NewDecisions) -> list[bytes]:
    n, d = chosen.contexts.shape
    packed = chosen.contexts.astype("<f8", copy=False).tobytes()
    width = 8 * d
    return [packed[i : i + width] for i in range(0, n * width, width)]


def _empty_as_null(values: Sequence[bytes]) -> list[bytes | None]:
    return [value or None for value in values]


def _concatenate(parts: Sequence[NewDecisions]) -> NewDecisions:
    """Concatenate the columns of decisions that one batch can hold."""
    if len(parts) == 1:
        return parts[0]
    clipped, unknown, missing = (sum(n) for n in zip(*(p.mended for p in parts), strict=True))
    return NewDecisions(
        [i for p in parts for i in p.ids],
        [s for p in parts for s in p.subjects],
        [d for p in parts for d in p.digests],
        np.concatenate([p.arms for p in parts]),
        np.concatenate([p.propensities for p in parts]),
        np.concatenate([p.contexts for p in parts]),
        np.concatenate([p.holdout for p in parts]),
        np.concatenate([p.fallback for p in parts]),
        [r for p in parts for r in p.eligible_sets],
        parts[0].policy_version,
        (clipped, unknown, missing),
        shipped=parts[0].shipped,
    )


@dataclass(frozen=True, slots=True)
class _BatchAppend:
    """Append of decisions as the rows of an open batch."""

    transaction: Transaction
    record: ExperimentRecord
    chosen: NewDecisions
    hashes: Sequence[bytes]
    match_keys: Sequence[bytes | None]
    batch: int
    actor: Actor
    at: float
    partial: bool

    def all(self) -> Mapping[int, StoredDecision]:
        """Append every row whose id is new; to look first would cost more than to insert."""
        rows = range(len(self.chosen.ids))
        if self._insert(rows) == len(rows):
            return {}
        inserted = select(decisions.c.id).where(of_batch(literal(self.batch, BigInteger)))
        new_ids = set(self.transaction.execute(inserted).scalars())
        used = [i for i in rows if self.chosen.ids[i] not in new_ids]
        earlier = self._earlier(used)
        free = [i for i in used if i not in earlier]
        if free and self._insert(free, place=len(rows)) < len(free):
            raise SerializationConflict  # another call took one a moment ago
        return earlier

    def each_subject_once(self) -> Mapping[int, StoredDecision]:
        """Append every row whose id is new and whose subject has no decision yet.

        Raises:
            UnfitRepeat: a subject has one that the row's eligible set excludes.
        """
        repeated = self._earlier([i for i, digest in enumerate(self.chosen.digests) if digest])
        new_ids = [i for i in range(len(self.chosen.ids)) if i not in repeated]
        owners = self._claim(new_ids)
        stored = self._read_owners(owners)
        void = {i for i, o in owners.items() if o in stored and stored[o].void is not None}
        if void:  # committed after the void was, which frees the subjects of those before
            self._free_subjects(void, owners)
            owners = {i: o for i, o in owners.items() if i not in void} | self._claim(sorted(void))
            stored = self._read_owners(owners)
        owners = self._fitting(owners, stored)
        rows = [i for i in new_ids if i not in owners]
        if self._insert(rows) < len(rows):
            raise SerializationConflict  # an id that was not there a moment ago
        of_this_call = set(owners.values()).difference(stored)
        stored |= read_decisions(self.transaction, list(of_this_call))
        self._note_repeats(stored[owner] for owner in owners.values())
        return {**repeated, **{row: stored[owner] for row, owner in owners.items()}}

    def _read_owners(self, owners: Mapping[int, str]) -> dict[str, StoredDecision]:
        """Read the decisions that have the subjects of these rows, but for those of this call."""
        earlier = set(owners.values()).difference(self.chosen.ids)
        stored = read_decisions(self.transaction, list(earlier))
        if len(stored) < len(earlier):
            raise SerializationConflict  # one was erased a moment ago
        return stored

    def _free_subjects(self, rows: Collection[int], owners: Mapping[int, str]) -> None:
        """Free the subjects of these rows from the decisions that have them."""
        claims = delete(subjects).where(
            subjects.c.experiment_id == self.record.id,
            subjects.c.subject.in_([self.hashes[i] for i in rows]),
            self.transaction.is_any(subjects.c.decision_id, [owners[i] for i in rows]),
        )
        self.transaction.execute(claims)

    def _fitting(
        self, owners: Mapping[int, str], stored: Mapping[str, StoredDecision]
    ) -> dict[int, str]:
        """Return the rows that may be answered with their subject's decision, with its id.

        The others are appended, if they are stand-ins already.

        Raises:
            UnfitRepeat: they are not.
        """
        ids, fallback = self.chosen.ids, self.chosen.fallback
        restrictions = self.chosen.eligible_sets
        if not any(restrictions[i] for i in owners):
            return dict(owners)
        arms: dict[str, int] = dict(zip(ids, self.chosen.arms.tolist(), strict=True))
        arms |= {owner: decision.arm for owner, decision in stored.items()}
        allowed = cache(self.record.configuration.allowed)
        unfit = {
            i
            for i, owner in owners.items()
            if restrictions[i] and arms[owner] not in allowed(restrictions[i])
        }
        if rows := sorted(i for i in unfit if not fallback[i]):
            raise UnfitRepeat(rows)
        return {i: owner for i, owner in owners.items() if i not in unfit}

    def _insert(self, rows: Sequence[int], *, place: int = 0) -> int:
        """Insert these rows from a place on, in the order of their ids, which serials follow."""
        ids = self.chosen.ids
        columns = _columns(self.chosen, self.hashes, self.match_keys)
        if len(rows) < len(ids) or any(map(gt, ids, islice(ids, 1, None))):
            order = sorted(rows, key=ids.__getitem__)
            columns = [[column[i] for i in order] for column in columns]
        first = self.batch * PLACES + place
        serials = range(first, first + len(rows))
        return self.transaction.insert(
            decisions, ("serial", *_COLUMNS), list(zip(serials, *columns, strict=True))
        )

    def _earlier(self, rows: Sequence[int]) -> dict[int, StoredDecision]:
        """Read the decisions that have the ids of these rows already, and count.

        Those that are void give their ids up to these rows.
        """
        ids, digests = self.chosen.ids, self.chosen.digests
        stored = read_decisions(self.transaction, [ids[i] for i in rows])
        if void := [decision_id for decision_id, d in stored.items() if d.void is not None]:
            self._release(void)
        earlier = {
            i: stored[ids[i]] for i in rows if ids[i] in stored and stored[ids[i]].void is None
        }
        same = []
        for i, decision in earlier.items():
            if decision.digest == digests[i] and decision.experiment == self.record.key:
                same.append(decision)
            elif not self.partial:
                raise IdReused("decision", ids[i])
        self._note_repeats(same)
        return earlier

    def _release(self, ids: Sequence[str]) -> None:
        """Give void decisions of these ids other ids, and note those that they had.

        Raises:
            SerializationConflict: another call did so for one of them a moment ago.
        """
        self.transaction.lock(REFERENCES, shared=True)
        rows = self.transaction.execute(
            select(decisions.c.serial, decisions.c.id, decisions.c.subject, batches.c.experiment_id)
            .join_from(decisions, batches, batches.c.id == batch_of)
            .where(self.transaction.is_any(decisions.c.id, ids))
            .order_by(decisions.c.serial)
            .with_for_update(of=decisions)
        ).all()
        if len(rows) < len(ids):
            raise SerializationConflict
        claims = delete(subjects).where(
            subjects.c.experiment_id.in_({row.experiment_id for row in rows}),
            subjects.c.subject.in_([row.subject for row in rows]),
            self.transaction.is_any(subjects.c.decision_id, ids),
        )
        self.transaction.execute(claims)  # of what was committed after the void was
        former = [(row.serial, row.id) for row in rows]
        self.transaction.insert(former_ids, ("decision", "id"), former)
        fresh = time_ordered_ids(len(rows), self.at)
        values = [{"of": row.serial, "new": i} for row, i in zip(rows, fresh, strict=True)]
        self.transaction.execute(_RENAME, values)

    def _note_repeats(self, answered: Iterable[StoredDecision]) -> None:
        """Note that the actor was answered with decisions of others that wait to be activated."""
        others = {
            decision.id
            for decision in answered
            if decision.started_at is None
            and decision.cancelled_at is None
            and decision.actor not in {self.actor, None}
        }
        if others:
            self.transaction.lock(REFERENCES, shared=True)
            numbers = self.transaction.find_numbers(
                decisions.c.serial, decisions.c.id, sorted(others)
            )
            rows = [(number, self.actor) for number in sorted(numbers) if number]
            self.transaction.insert(repeats, ("decision", "actor"), rows)

    def _claim(self, rows: Sequence[int]) -> dict[int, str]:
        """Claim the subjects of these rows; return the decision that has it, for the others.

        A fallback claims nothing: its subject may still get a decision of its own.
        """
        ids, hashes, fallback = self.chosen.ids, self.hashes, self.chosen.fallback
        first: dict[bytes, int] = {}
        for i in sorted(rows, key=lambda i: (hashes[i], i)):
            if not fallback[i]:
                first.setdefault(hashes[i], i)
        claims = [(self.record.id, subject, ids[i]) for subject, i in first.items()]
        inserted = self.transaction.insert(subjects, _CLAIM, claims)
        if inserted == len(rows):
            return {}
        owners = self._owners(sorted({hashes[i] for i in rows}))
        if any(subject not in owners for subject in first):
            raise SerializationConflict  # it was cancelled, and thereby freed, a moment ago
        return {i: owner for i in rows if (owner := owners.get(hashes[i], ids[i])) != ids[i]}

    def _owners(self, hashes: Sequence[bytes]) -> dict[bytes, str]:
        """Read the decision of each subject that has one."""
        owners: dict[bytes, str] = {}
        for start in range(0, len(hashes), _AT_ONCE):
            query = select(subjects.c.subject, subjects.c.decision_id).where(
                subjects.c.experiment_id == self.record.id,
                subjects.c.subject.in_(hashes[start : start + _AT_ONCE]),
            )
            owners.update((row[0], row[1]) for row in self.transaction.execute(query))
        return owners
