"""Appending decisions: each id once and, where an experiment says so, each subject once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import gt
from typing import Any

from sqlalchemy import BigInteger, literal, select

from bandits.errors import IdReused
from bandits.store.values import ExperimentRecord, NewDecisions, StoredDecision
from storage.databases import SerializationConflict, Transaction
from storage.log.batches import close_batch, open_batch
from storage.log.queries import read_decisions
from storage.schema import PLACES, decisions, of_batch, subjects

COLUMNS = (
    "id",
    "arm",
    "propensity",
    "context",
    "holdout",
    "fallback",
    "restriction",
    "digest",
    "subject",
    "shipped",
)
_CLAIM = ("experiment_id", "subject", "decision_id")
_AT_ONCE = 10_000  # subjects in one statement


def append_decisions(
    transaction: Transaction,
    record: ExperimentRecord,
    chosen: NewDecisions,
    hashes: Sequence[bytes],
    *,
    at: float,
) -> Mapping[int, StoredDecision]:
    """Append decisions; return the earlier one for each row that was not appended.

    Raises:
        IdReused: an id was there before with another digest, or in another experiment.
        Raced: another transaction came between; the whole must be done again.
    """
    return _DecisionAppend(transaction, record, chosen, hashes).run(at)


def opened(record: ExperimentRecord, chosen: NewDecisions, at: float) -> dict[str, Any]:
    """Return what a batch of decisions is opened with, but for whose it is and since when."""
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
    }


def columns_of(chosen: NewDecisions, hashes: Sequence[bytes]) -> list[Sequence[Any]]:
    """Return decisions as the values of `COLUMNS`."""
    return [
        chosen.ids,
        chosen.arms.tolist(),
        chosen.propensities.tolist(),
        _contexts(chosen),
        chosen.holdout.tolist(),
        chosen.fallback.tolist(),
        _or_null(chosen.restrictions),
        _or_null(chosen.digests),
        hashes,
        [chosen.shipped] * len(chosen.ids),
    ]


def _contexts(chosen: NewDecisions) -> Sequence[bytes | None]:
    n, d = chosen.contexts.shape
    if d == 1:
        return [None] * n
    packed = chosen.contexts.astype("<f8", copy=False).tobytes()
    width = 8 * d
    return [packed[i : i + width] for i in range(0, n * width, width)]


@dataclass(frozen=True, slots=True)
class _DecisionAppend:
    """One call's rows on their way into the log."""

    transaction: Transaction
    record: ExperimentRecord
    chosen: NewDecisions
    hashes: Sequence[bytes]

    def run(self, at: float) -> Mapping[int, StoredDecision]:
        experiment, chosen = self.record.configuration.experiment, self.chosen
        batch = open_batch(
            self.transaction, "choose", self.record.id, at=at, **opened(self.record, chosen, at)
        )
        once = experiment.assignment == "per_subject" and not chosen.shipped
        earlier = self._once_each(batch) if once else self._all(batch)
        if earlier:
            close_batch(self.transaction, batch, len(chosen.ids) - len(earlier))
        return earlier

    def _all(self, batch: int) -> Mapping[int, StoredDecision]:
        """Append every row whose id is new; to look first would cost more than to insert."""
        rows = range(len(self.chosen.ids))
        if self._insert(batch, rows) == len(rows):
            return {}
        return self._known(rows, batch)

    def _once_each(self, batch: int) -> Mapping[int, StoredDecision]:
        """Append every row whose id is new and whose subject has no decision yet."""
        known = self._known([i for i, digest in enumerate(self.chosen.digests) if digest])
        left = [i for i in range(len(self.chosen.ids)) if i not in known]
        taken = self._claim(left)
        fresh = [i for i in left if i not in taken]
        if self._insert(batch, fresh) < len(fresh):
            raise SerializationConflict  # an id that was not there a moment ago
        found = read_decisions(self.transaction, list(set(taken.values())))
        if any(decision_id not in found for decision_id in taken.values()):
            raise SerializationConflict  # it was erased a moment ago
        return {**known, **{row: found[decision_id] for row, decision_id in taken.items()}}

    def _insert(self, batch: int, rows: Sequence[int]) -> int:
        """Insert these rows sorted by their ids, which is the order they get places in."""
        ids = self.chosen.ids
        columns = columns_of(self.chosen, self.hashes)
        if len(rows) < len(ids) or any(map(gt, ids, islice(ids, 1, None))):
            order = sorted(rows, key=ids.__getitem__)
            columns = [[column[i] for i in order] for column in columns]
        first = batch * PLACES
        serials = range(first, first + len(rows))
        return self.transaction.insert(
            decisions, ("serial", *COLUMNS), list(zip(serials, *columns, strict=True))
        )

    def _known(self, rows: Sequence[int], batch: int | None = None) -> dict[int, StoredDecision]:
        """Find the earlier decisions of rows whose ids were there before this batch."""
        ids, digests = self.chosen.ids, self.chosen.digests
        mine = set() if batch is None else self._ids_of(batch)
        wanted = [ids[i] for i in rows if ids[i] not in mine]
        found = read_decisions(self.transaction, wanted)
        known = {i: found[ids[i]] for i in rows if ids[i] in found}
        for i, stored in known.items():
            if stored.digest != digests[i] or stored.experiment != self.record.key:
                raise IdReused("decision", ids[i])
        return known

    def _ids_of(self, batch: int) -> set[str]:
        query = select(decisions.c.id).where(of_batch(literal(batch, BigInteger)))
        return set(self.transaction.execute(query).scalars())

    def _claim(self, rows: Sequence[int]) -> dict[int, str]:
        """Claim the subjects of these rows; return whose decision it is for the others.

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
        owners: dict[bytes, str] = {}
        for start in range(0, len(hashes), _AT_ONCE):
            query = select(subjects.c.subject, subjects.c.decision_id).where(
                subjects.c.experiment_id == self.record.id,
                subjects.c.subject.in_(hashes[start : start + _AT_ONCE]),
            )
            owners.update((row[0], row[1]) for row in self.transaction.execute(query))
        return owners


def _or_null(values: Sequence[bytes]) -> Sequence[bytes | None]:
    return [v or None for v in values] if any(values) else [None] * len(values)
