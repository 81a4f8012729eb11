"""Batches: the rows that one transaction wrote to the log, and the eligible sets they name."""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Literal

from sqlalchemy import delete, insert, select, update

from bandits.actors import Actor
from bandits.store.values import ExperimentRecord
from storage.databases import Transaction
from storage.schema import batches, eligible_set_uses, eligible_sets
from storage.snapshots.voids import VoidLookup

# The lock of rows that refer to decisions: shared by calls that insert such rows, alone for those
# that delete decisions. Every process on a database has to use the same name.
REFERENCES = "references to decisions"

Kind = Literal["choose", "activate", "reward", "cancel"]

_INSERT = insert(batches).returning(batches.c.id)


def open_batch(  # noqa: PLR0913 - a row's columns, by keyword
    transaction: Transaction,
    kind: Kind,
    experiment_id: int,
    *,
    actor: Actor | None,
    at: float,
    due_at: float | None,
    **columns: float,
) -> int:
    """Insert a batch, its rows to follow; return its number.

    Args:
        transaction: one that writes.
        kind: of its rows.
        experiment_id: the experiment of all of them.
        actor: who writes them; None for rows that are gone when the transaction ends.
        at: when, seconds since 1970.
        due_at: when a fold may take it in; None for decisions that wait to be activated.
        columns: its size, and other columns. Where its rows turn out to be fewer, `close_batch`
            corrects them.
    """
    row: dict[str, Any] = {
        "kind": kind,
        "experiment_id": experiment_id,
        "actor": actor,
        "created_at": at,
        "due_at": due_at,
        **columns,
    }
    number: int = transaction.execute(_INSERT, row).scalar_one()
    return number


def close_batch(transaction: Transaction, batch_id: int, size: int, **counts: int) -> None:
    """Correct the counts of a batch; delete it where it has neither rows nor counts."""
    condition = batches.c.id == batch_id
    if size or any(counts.values()):
        transaction.execute(update(batches).where(condition).values(size=size, **counts))
    else:
        transaction.execute(delete(batches).where(condition))


_SETS = ("experiment_id", "digest", "actor")
_USES = (*_SETS, "used_at")
_BEFORE = 0.0  # the time of uses that were not noted yet: a void of all that an actor did has them


def admit(  # noqa: PLR0913 - what is admitted, for whom and when
    transaction: Transaction,
    record: ExperimentRecord,
    eligible: Sequence[bytes],
    *,
    actor: Actor,
    at: float,
    most: int,
) -> Sequence[bytes]:
    """Insert eligible sets, all distinct, that are new; return those that are too many, if any.

    As `bandits.store.LogPort.admit` declares: where there are such, none is inserted.
    """
    transaction.lock(f"eligible sets {record.id}")
    digests = {blake2b(r, digest_size=16).digest(): r for r in eligible}
    uses = _EligibleSetUses(transaction, record)
    new = [digest for digest in digests if digest not in uses.first]
    used = Counter(uses.first.values())
    own = used.pop(actor, 0)
    room = max((most - used.total()) * 3 // 4 - own, 0)
    if len(new) > room:
        return [digests[digest] for digest in new[room:]]
    uses.note(sorted(digests), actor, at)
    return []


def count_eligible_sets(
    transaction: Transaction, record: ExperimentRecord
) -> dict[Actor | None, int]:
    """Count an experiment's eligible sets by who asked for them first, None where unknown.

    Those that only void requests had do not count.
    """
    counts = Counter(_EligibleSetUses(transaction, record).first.values())
    return dict(sorted(counts.items(), key=lambda count: count[0] or ""))


class _EligibleSetUses:
    """Uses of an experiment's eligible sets, by who asked for them.

    Attributes:
        first: by the digest of each set that counts, who asked first, of those whose use counts.
    """

    def __init__(self, transaction: Transaction, record: ExperimentRecord) -> None:
        """Read them; what is void counts for nothing."""
        self._transaction = transaction
        self._record = record
        self._times: dict[tuple[bytes, Actor | None], float] = {}
        self.first: dict[bytes, Actor | None] = {}
        columns = (eligible_sets.c[name] for name in _SETS[1:])
        sets = select(*columns).where(eligible_sets.c.experiment_id == record.id)
        introduced = [(row[0], row[1]) for row in transaction.execute(sets)]
        self._times.update(dict.fromkeys(introduced, _BEFORE))
        columns = (eligible_set_uses.c[name] for name in _USES[1:])
        uses = select(*columns).where(eligible_set_uses.c.experiment_id == record.id)
        for digest, user, at in transaction.execute(uses.order_by("used_at", "actor")):
            self._times[digest, user] = at
        voids = VoidLookup(transaction)
        self._void = {
            (digest, user)
            for (digest, user), at in self._times.items()
            if voids.number(record.id, user, at) is not None
        }
        for digest, user in self._times:  # who introduced each comes first
            if (digest, user) not in self._void:
                self.first.setdefault(digest, user)

    def note(self, digests: Sequence[bytes], actor: Actor, at: float) -> None:
        """Note that an actor asked for these sets, ascending, where no use of it counts yet."""
        number = self._record.id
        void = [digest for digest in digests if (digest, actor) in self._void]
        rows = [
            (number, digest, actor)
            for digest in digests
            if digest in void or (digest, actor) not in self._times
        ]
        self._transaction.insert(eligible_sets, _SETS, rows)
        self._transaction.insert(eligible_set_uses, _USES, [(*row, at) for row in rows])
        if void:
            again = update(eligible_set_uses).where(
                eligible_set_uses.c.experiment_id == number,
                eligible_set_uses.c.actor == actor,
                eligible_set_uses.c.digest.in_(void),
            )
            self._transaction.execute(again.values(used_at=at))
