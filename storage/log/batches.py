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
    **columns: int,
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
    """Uses of an experiment's eligible sets by who asked for them.

    Attributes:
        first: by the digest of each set that counts, who asked first, of those whose use counts.
    """

    def __init__(self, transaction: Transaction, record: ExperimentRecord) -> None:
        """Read them; what is void counts for nothing."""
        self._transaction = transaction
        self._record = record
        self._noted: set[tuple[bytes, Actor]] = set()
        self._void: set[tuple[bytes, Actor]] = set()
        self.first: dict[bytes, Actor | None] = {}
        later: list[tuple[bytes, Actor]] = []
        voids = VoidLookup(transaction)
        uses = select(*(eligible_set_uses.c[name] for name in _USES[1:]))
        own = uses.where(eligible_set_uses.c.experiment_id == record.id)
        for digest, user, at in transaction.execute(own.order_by("used_at", "actor")).all():
            void = voids.number(record.id, user, at) is not None
            self._noted.add((digest, user))
            (self._void.add if void else later.append)((digest, user))
        sets = select(*(eligible_sets.c[name] for name in _SETS[1:]))
        for digest, user in transaction.execute(
            sets.where(eligible_sets.c.experiment_id == record.id)
        ):
            if (digest, user) not in self._void:  # nor those from before uses were noted
                self.first[digest] = user
        for digest, user in later:
            self.first.setdefault(digest, user)

    def note(self, digests: Sequence[bytes], actor: Actor, at: float) -> None:
        """Note that an actor asked for these sets, in their order, where no use of it counts yet."""
        number = self._record.id
        sets = [(number, digest, actor) for digest in digests]
        self._transaction.insert(eligible_sets, _SETS, sets)
        if void := [digest for digest in digests if (digest, actor) in self._void]:
            own = (eligible_set_uses.c.experiment_id == number, eligible_set_uses.c.actor == actor)
            again = update(eligible_set_uses).where(*own, eligible_set_uses.c.digest.in_(void))
            self._transaction.execute(again.values(used_at=at))
        uses = [(*one, at) for one in sets if one[1:] not in self._noted]
        self._transaction.insert(eligible_set_uses, _USES, uses)
