"""Voids: batches of the log that count for nothing, since what their actor did then is void.

A void is a row of its own beside the log, and so is its restoration: no row of the log changes.
From the snapshot of its version on, a batch that it covers is read as if it had never been
committed: its decisions are not sent, its events do not count, its cancellations cancel nothing and
its activations start no clock. So are batches that are committed later with such a time.
"""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, and_, exists, false, func, select

from bandits.store.values import Deeds, ExperimentRecord
from storage.databases import NamedRow, Transaction
from storage.schema import batch_of, batches, voids

_made_in = batches.alias("made_in")
_COLUMNS = (
    voids.c.id,
    voids.c.call_id,
    voids.c.restores,
    voids.c.actor,
    voids.c.since,
    voids.c.until,
)


class Voids(Struct, frozen=True):
    """What is void of an experiment."""

    deeds: tuple[Deeds, ...] = ()

    @classmethod
    def of(cls, deeds: Iterable[Deeds]) -> "Voids":
        """Put deeds of one actor together that follow each other, as parts of one void do."""
        joined: list[Deeds] = []
        for part in sorted(deeds, key=lambda d: (d.actor, d.since)):
            last = joined[-1] if joined else None
            if last is not None and last.actor == part.actor and last.until >= part.since:
                joined[-1] = Deeds(last.actor, last.since, max(last.until, part.until))
            else:
                joined.append(part)
        return cls(tuple(joined))

    def cover(self, batch: NamedRow) -> bool:
        """Return true where a batch, with `actor` and `created_at`, is void."""
        return any(
            batch.actor == d.actor and d.since <= batch.created_at < d.until for d in self.deeds
        )

    def left(self, rows: Iterable[NamedRow]) -> list[NamedRow]:
        """Return the batches that are not void."""
        return [row for row in rows if not self.cover(row)]

    def outside(self, table: Any) -> list[ColumnElement[bool]]:
        """Return the conditions that a row of `batches` or of its alias is not void, or not there.

        There are none where nothing is void, so that queries stay as they are.
        """
        return [
            ~func.coalesce(
                and_(
                    table.c.actor == d.actor,
                    table.c.created_at >= d.since,
                    table.c.created_at < d.until,
                ),
                false(),
            )
            for d in self.deeds
        ]

    def chosen_outside(self) -> list[ColumnElement[bool]]:
        """Return the conditions that a decision's own batch is not void."""
        if not self.deeds:
            return []
        condition = and_(_made_in.c.id == batch_of, *self.outside(_made_in))
        return [exists().select_from(_made_in).where(condition)]


NOTHING_VOID = Voids()


def read_voids(
    transaction: Transaction, record: ExperimentRecord, *, as_of: int | None = None
) -> Voids:
    """Read what is void of an experiment, as of a version, now unless given."""
    if record.voided is None:
        return NOTHING_VOID
    return Voids.of(map(deeds_of, rows_in_force(transaction, record, as_of=as_of)))


def deeds_of(row: NamedRow) -> Deeds:
    """Return what a row of a void is about."""
    return Deeds(row.actor, row.since, row.until)


def rows_in_force(
    transaction: Transaction, record: ExperimentRecord, *, as_of: int | None = None
) -> list[NamedRow]:
    """Read the rows of voids that are not restored, as of a version, now unless given."""
    query = select(*_COLUMNS).where(voids.c.experiment_id == record.id)
    if as_of is not None:
        query = query.where(voids.c.version <= as_of)
    rows = transaction.execute(query.order_by(voids.c.id)).all()
    restored = {row.restores for row in rows}
    return [row for row in rows if row.restores is None and row.id not in restored]
