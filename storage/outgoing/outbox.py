"""Outbox: what is to be sent to people and programs, one row for each event and target.

A row is claimed before it is sent, and marked just before its content is handed over. What ends in
between is tried again; what ends after that may have arrived, so it is not sent a second time.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec
from msgspec import Struct
from sqlalchemy import delete, select, update

from storage.databases import Database, NamedRow
from storage.schema import OUTBOX_FORMAT, outbox
from storage.stored_format import pack_json

NoticeState = Literal["waiting", "sending", "sent", "failed"]

CLAIM_SECONDS = 120.0  # that an attempt may last before another sender takes over
_LONGEST_ERROR = 300
_COLUMNS = (
    "event",
    "target",
    "kind",
    "content",
    "state",
    "created_at",
    "due_at",
    "attempts",
    "error",
)
_CUT_OFF = "The server ended while it was sent. It may have arrived, so it is not sent again."


class NewNotice(Struct, frozen=True):
    """Something to send.

    Attributes:
        event: of which each target is told once.
        target: ``user:NUMBER``, ``target:NUMBER``, or whom else the kind says.
        kind: what it is, which says how it is written.
        content: what it says.
    """

    event: str
    target: str
    kind: str
    content: Mapping[str, str] = {}


class Notice(Struct, frozen=True):
    """A row of the outbox; times are seconds since 1970.

    Attributes:
        due_at: of the next attempt.
        attempts: made so far, with the one that is claimed.
        error: of the last attempt; empty without one.
    """

    id: int
    event: str
    target: str
    kind: str
    content: Mapping[str, str]
    state: NoticeState
    created_at: float
    due_at: float
    attempts: int
    sent_at: float | None
    error: str


class Outbox:
    """The outbox of one database. Any method may raise `Unavailable`."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self._database = database

    def add(self, notices: Iterable[NewNotice], *, at: float) -> int:
        """Add what its targets have not been told of before; return how many that are."""
        rows = sorted(
            (n.event, n.target, n.kind, _stored(n.content), "waiting", at, at, 0, "")
            for n in notices
        )
        if not rows:
            return 0
        with self._database.writing() as transaction:
            return transaction.insert(outbox, _COLUMNS, rows)

    def claim(self, *, at: float) -> Notice | None:
        """Claim a notice that is due for an attempt; None where none is."""
        due = (outbox.c.state == "waiting") & (outbox.c.due_at <= at)
        query = select(outbox.c.id).where(due).order_by(outbox.c.due_at, outbox.c.id).limit(1)
        with self._database.reading() as transaction:
            number = transaction.execute(query).scalar_one_or_none()
        if number is None:
            return None
        values = {"due_at": at + CLAIM_SECONDS, "attempts": outbox.c.attempts + 1}
        claimed = update(outbox).where(due, outbox.c.id == number).values(values)
        with self._database.writing() as transaction:
            row = transaction.execute(claimed.returning(outbox)).one_or_none()
        return None if row is None else _notice(row)

    def begin(self, notice: Notice) -> bool:
        """Note that a claimed notice is handed over now; False where another sender took it."""
        ours = (outbox.c.id == notice.id) & (outbox.c.attempts == notice.attempts)
        query = update(outbox).where(ours, outbox.c.state == "waiting").values(state="sending")
        with self._database.writing() as transaction:
            return bool(transaction.execute(query.returning(outbox.c.id)).all())

    def confirm(self, notice: Notice, *, at: float) -> None:
        """Note that a notice is sent."""
        self._change(notice, state="sent", sent_at=at, error="")

    def retry(self, notice: Notice, error: str, *, due_at: float) -> None:
        """Note that an attempt failed, and when the next one is due."""
        self._change(notice, state="waiting", due_at=due_at, error=error[:_LONGEST_ERROR])

    def fail(self, notice: Notice, error: str) -> None:
        """Note that a notice is not sent any more."""
        self._change(notice, state="failed", error=error[:_LONGEST_ERROR])

    def _change(self, notice: Notice, **values: object) -> None:
        ours = (outbox.c.id == notice.id) & (outbox.c.attempts == notice.attempts)
        with self._database.writing() as transaction:
            transaction.execute(update(outbox).where(ours).values(values))

    def give_up(self, *, at: float) -> int:
        """Fail what was being sent when its sender ended; return how many that are."""
        lost = (outbox.c.state == "sending") & (outbox.c.due_at <= at)
        query = update(outbox).where(lost).values(state="failed", error=_CUT_OFF)
        with self._database.writing() as transaction:
            return len(transaction.execute(query.returning(outbox.c.id)).all())

    def remove_before(self, at: float) -> None:
        """Remove what was sent or given up, and made before a time."""
        old = outbox.c.state.in_(("sent", "failed")) & (outbox.c.created_at < at)
        with self._database.writing() as transaction:
            transaction.execute(delete(outbox).where(old))

    def latest(self, limit: int = 50) -> list[Notice]:
        """Read the notices that were made last, the newest first."""
        query = select(outbox).order_by(outbox.c.id.desc()).limit(limit)
        with self._database.reading() as transaction:
            return [_notice(row) for row in transaction.execute(query)]


def _stored(content: Mapping[str, str]) -> str:
    """Encode content as its column stores it, for an insertion past the column's type."""
    return pack_json(msgspec.json.encode(content).decode(), OUTBOX_FORMAT)


def _notice(row: NamedRow) -> Notice:
    return Notice(
        row.id,
        row.event,
        row.target,
        row.kind,
        msgspec.json.decode(row.content, type=dict[str, str]),
        row.state,
        row.created_at,
        row.due_at,
        row.attempts,
        row.sent_at,
        row.error,
    )
