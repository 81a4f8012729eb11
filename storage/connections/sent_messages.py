"""Sent messages: what a messenger handed to the mail server, so that nothing is sent twice.

A message is noted before the end of its data is sent, and confirmed or removed by the server's
answer. Where a process ended between, the server most probably took it: it counts as sent.
"""

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import ColumnElement, delete, or_, select, update

from storage.connections.marks import marks_of
from storage.databases import Transaction
from storage.schema import sent_messages
from storage.store_context import StoreContext

State = Literal["sending", "sent"]

KEPT_SECONDS = 30 * 86_400.0
UNANSWERED_SECONDS = 600.0  # after so long, no process waits for the mail server any more
_COLUMNS = ("message", "subject", "connection_id", "state", "changed_at")


class SentMessageTable:
    """Sent messages of one database; times are seconds since 1970.

    Messages are state by a keyed hash of their ids. Any method may raise `Unavailable`.
    """

    def __init__(self, context: StoreContext) -> None:
        """Work in the database of `context`; `SqlStore.sent_messages` is one."""
        self._context = context

    def state(self, message_id: str, *, at: float) -> State | None:
        """Tell whether a message is sent, or is being sent just now; None if neither."""
        message = self._hash(message_id)
        with self._context.database.reading() as transaction:
            return _state(transaction, message, at)

    def begin(
        self, connection_id: int, message_id: str, subject_id: str, *, at: float
    ) -> State | None:
        """Note that a message is about to be sent; return None, or what it is already."""
        message, subject = self._hash(message_id), self._hash(subject_id)

        def work(transaction: Transaction) -> State | None:
            state = _state(transaction, message, at)
            if state is None:
                row = (message, subject, connection_id, "sending", at)
                if transaction.insert(sent_messages, _COLUMNS, [row]) == 0:
                    return "sending"  # another began meanwhile
            return state

        return self._context.write(work)

    def confirm(self, message_id: str, *, at: float) -> None:
        """Note that the mail server took a message."""
        condition = sent_messages.c.message == self._hash(message_id)
        query = update(sent_messages).where(condition).values(state="sent", changed_at=at)
        self._context.write(lambda transaction: transaction.execute(query))

    def remove(self, message_id: str) -> None:
        """Note that the mail server did not take a message: it may be sent again."""
        query = delete(sent_messages).where(sent_messages.c.message == self._hash(message_id))
        self._context.write(lambda transaction: transaction.execute(query))

    def _hash(self, name: str) -> bytes:
        (mark,) = marks_of(self._context.hash_subjects, [name])
        return mark


def _state(transaction: Transaction, message: bytes, at: float) -> State | None:
    query = select(sent_messages.c.state, sent_messages.c.changed_at)
    row = transaction.execute(query.where(sent_messages.c.message == message)).one_or_none()
    if row is None:
        return None
    return "sent" if row.changed_at < at - UNANSWERED_SECONDS else row.state


def remove_expired(transaction: Transaction, *, before: float) -> None:
    """Delete the messages that were sent before a time."""
    transaction.execute(delete(sent_messages).where(sent_messages.c.changed_at < before))


def of_subject(marks: Sequence[bytes]) -> ColumnElement[bool]:
    """Return the condition that a message is of a subject, by marks of its names and ids."""
    return or_(sent_messages.c.subject.in_(marks), sent_messages.c.message.in_(marks))
