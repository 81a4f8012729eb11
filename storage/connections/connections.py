"""Connections: mailers and shops that report events by themselves, with their secrets and counts.

Secrets are sealed by `storage.connections.encryption` and never shown again. During a rotation the
secrets before it go on working for a while.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import ColumnElement, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from bandits.errors import AlreadyExists, NotFound
from bandits.store.values import StoredSignal
from storage.audit_log import record_change
from storage.connections import refusals as refusal_rows
from storage.connections import sent_messages as sent_rows
from storage.connections import unmatched_events as unmatched_rows
from storage.connections.encryption import Cipher, is_encrypted
from storage.connections.marks import Hasher, marks_of
from storage.connections.refusals import MOST_BYTES, REFUSAL_SECONDS, NewRefusal, Refusal
from storage.connections.unmatched_events import (
    MOST_UNMATCHED,
    UNMATCHED_SECONDS,
    NewUnmatchedEvent,
    UnmatchedEvent,
)
from storage.databases import NamedRow, Transaction
from storage.schema import (
    CONNECTION_COUNTS,
    connections,
    refusals,
    sent_messages,
    unmatched_events,
)
from storage.store_context import StoreContext

ConnectionKey = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9_\-]{0,39}\Z",
        description="1 to 40 small letters, digits, - and _, the first a letter or digit",
    ),
]

NO_ROOM = f"more than {MOST_UNMATCHED:,} events of this connection wait for their decision"

_RECENT_SECONDS = 1.0  # for so long a connection works as it was read
_PORTION = 1000
_SENT = '{"sent": true}'
_UNMATCHED = (
    select(func.count())
    .select_from(unmatched_events)
    .where(unmatched_events.c.connection_id == connections.c.id)
    .scalar_subquery()
    .label("unmatched")
)


class ConnectionCounts(Struct, frozen=True):
    """Counts of a connection since it was added.

    Attributes:
        deliveries: verified requests.
        recorded: events that are counted,
        repeated: that had come before,
        late: that came after their window or their campaign's end,
        without_decision: that name no decision,
        expired: whose decision did not come within a day,
        refused: and that did not fit.
        rejected: requests that were not verified.
    """

    deliveries: int = 0
    recorded: int = 0
    repeated: int = 0
    late: int = 0
    without_decision: int = 0
    expired: int = 0
    refused: int = 0
    rejected: int = 0


class Connection(Struct, frozen=True):
    """A mailer or shop that reports events; times are seconds since 1970.

    Attributes:
        kind: name of the kind, which says how requests are verified and read.
        fields: values that are not secret, by name.
        metrics: the metric that events of a name feed, where it is not the name itself.
        paused: its requests are refused, and come again as far as the sender repeats them.
        excludes_bounces: emails that bounce for their address are taken out, as if cancelled.
        encrypted: its secrets are stored encrypted.
        previous_until: end of the secrets before the last rotation; None without any.
        delivered_at: time of the last verified request,
        event_at: of the last event that was counted or waits,
        rejected_at: and of the last request that was not verified.
        rejection: the reason of that.
        unmatched: number of events that wait for their decision.
        refusal_bytes: size of the refused events that are kept.
    """

    id: int
    key: str
    kind: str
    fields: Mapping[str, str]
    metrics: Mapping[str, str]
    paused: bool
    created_at: float
    created_by: str
    encrypted: bool
    previous_until: float | None
    delivered_at: float | None
    event_at: float | None
    rejected_at: float | None
    rejection: str
    unmatched: int
    refusal_bytes: int
    counts: ConnectionCounts
    excludes_bounces: bool = False


class ConnectionSecrets(Struct, frozen=True):
    """Secrets of a connection by name; `previous` is None but during a rotation."""

    current: Mapping[str, str]
    previous: Mapping[str, str] | None = None

    def __repr__(self) -> str:
        """Return the name alone: no log has secrets."""
        return "ConnectionSecrets(…)"


class DeliveryOutcome(Struct, frozen=True):
    """Outcome of the events of one verified request.

    Attributes:
        recorded: number of those counted,
        repeated: that had come before,
        late: that came too late to count,
        without_decision: and that name no decision.
        unmatched: those that wait for their decision.
        refused: those that did not fit.
    """

    recorded: int = 0
    repeated: int = 0
    late: int = 0
    without_decision: int = 0
    unmatched: Sequence[NewUnmatchedEvent] = ()
    refused: Sequence[NewRefusal] = ()


# Keeps what became of events in the transaction that writes them; it may be called again.
OutcomeWriter = Callable[[Transaction, DeliveryOutcome], None]


class ConnectionStore:
    """Connections of one database, and their events that are not in the log.

    Times are seconds since 1970; `by` is the author. Any method may raise `Unavailable`.
    """

    def __init__(self, context: StoreContext, cipher: Cipher) -> None:
        """Work in the database of `context`; `cipher` seals secrets and refused events."""
        self._context = context
        self._database = context.database
        self._cipher = cipher
        self._recent: dict[str, tuple[float, Connection, ConnectionSecrets]] = {}
        self.sent_messages = sent_rows.SentMessageTable(context)

    @property
    def encrypts(self) -> bool:
        """Return True where secrets are stored encrypted from now on."""
        return self._cipher.encrypts

    def add(  # noqa: PLR0913 - the parts of a connection
        self,
        kind: str,
        key: str,
        secrets: Mapping[str, str],
        *,
        fields: Mapping[str, str],
        metrics: Mapping[str, str],
        at: float,
        by: str,
        excludes_bounces: bool = False,
    ) -> Connection:
        """Add a connection.

        Raises:
            AlreadyExists: its key is taken.
        """
        row = {
            "key": key,
            "kind": kind,
            "secrets": self._seal(secrets),
            "fields": _pack(fields),
            "metrics": _pack(metrics),
            "excludes_bounces": excludes_bounces,
            "created_at": at,
            "created_by": by,
        }

        def work(transaction: Transaction) -> None:
            try:
                transaction.execute(insert(connections).values(row))
            except IntegrityError:
                raise AlreadyExists("connection", key) from None
            after: dict[str, object] = {"kind": kind, "fields": fields, "metrics": metrics}
            if excludes_bounces:
                after["excludes_bounces"] = True
            record_change(transaction, "add", f"connection:{key}", at=at, by=by, after=after)

        self._context.write(work)
        return self.find(key)

    def all(self) -> list[Connection]:
        """Read every connection, by key."""
        with self._database.reading() as transaction:
            query = _query().order_by(connections.c.key)
            return [_connection(row) for row in transaction.execute(query)]

    def find(self, key: str) -> Connection:
        """Read a connection.

        Raises:
            NotFound: there is none of this key.
        """
        with self._database.reading() as transaction:
            return _connection(_read(transaction, key))

    def open(self, key: str, *, at: float) -> tuple[Connection, ConnectionSecrets]:
        """Read a connection with its secrets, as they were within the last second.

        Raises:
            NotFound: there is none of this key.
            NoEncryptionKey: its secrets are encrypted under a key that is not here.
        """
        recent = self._recent.get(key)
        if recent is not None and time.monotonic() - recent[0] < _RECENT_SECONDS:
            return recent[1:]
        begun = time.monotonic()
        try:
            with self._database.reading() as transaction:
                row = _read(transaction, key)
        except NotFound:  # deleted, maybe by another process
            self._recent.pop(key, None)
            raise
        connection = _connection(row)
        previous = None
        if row.previous_until is not None and at < row.previous_until:
            previous = self._unseal(row.previous_secrets)
        secrets = ConnectionSecrets(self._unseal(row.secrets), previous)
        self._recent[key] = begun, connection, secrets
        return connection, secrets

    def recall(self, key: str) -> tuple[Connection, ConnectionSecrets] | None:
        """Return a connection as `open` read it last, however long ago; None if it never did.

        For use while the database is away: what was changed elsewhere since then is not known.
        """
        recent = self._recent.get(key)
        return None if recent is None else recent[1:]

    def rotate(
        self, key: str, secrets: Mapping[str, str], *, grace_seconds: float, at: float, by: str
    ) -> Connection:
        """Give a connection new secrets; those until now work for `grace_seconds` more.

        Only two sets ever work: one that was still in its grace from an earlier rotation ends.

        Raises:
            NotFound: there is none of this key.
        """
        sealed = self._seal(secrets)

        def work(transaction: Transaction) -> None:
            row = _read_to_change(transaction, key)
            values = {
                "secrets": sealed,
                "previous_secrets": row.secrets if grace_seconds > 0 else None,
                "previous_until": at + grace_seconds if grace_seconds > 0 else None,
            }
            _update(transaction, row.id, values)
            after = {"grace_seconds": grace_seconds}
            record_change(transaction, "rotate", f"connection:{key}", at=at, by=by, after=after)

        return self._change(key, work)

    def configure(  # noqa: PLR0913 - the parts that may change
        self,
        key: str,
        *,
        fields: Mapping[str, str],
        metrics: Mapping[str, str],
        at: float,
        by: str,
        excludes_bounces: bool = False,
    ) -> Connection:
        """Change the values of a connection that are not secret.

        Raises:
            NotFound: there is none of this key.
        """

        def work(transaction: Transaction) -> None:
            row = _read_to_change(transaction, key)
            old = _connection(row)
            before: dict[str, object] = {"fields": old.fields, "metrics": old.metrics}
            after: dict[str, object] = {"fields": fields, "metrics": metrics}
            if excludes_bounces != old.excludes_bounces:
                before["excludes_bounces"] = old.excludes_bounces
                after["excludes_bounces"] = excludes_bounces
            if before == after:
                return
            values = {
                "fields": _pack(fields),
                "metrics": _pack(metrics),
                "excludes_bounces": excludes_bounces,
            }
            _update(transaction, row.id, values)
            record_change(
                transaction,
                "configure",
                f"connection:{key}",
                at=at,
                by=by,
                before=before,
                after=after,
            )

        return self._change(key, work)

    def set_paused(self, key: str, *, paused: bool, at: float, by: str) -> Connection:
        """Pause a connection, or have it go on; doing it again changes nothing.

        Raises:
            NotFound: there is none of this key.
        """

        def work(transaction: Transaction) -> None:
            row = _read_to_change(transaction, key)
            if row.paused == paused:
                return
            _update(transaction, row.id, {"paused": paused})
            action = "pause" if paused else "resume"
            record_change(transaction, action, f"connection:{key}", at=at, by=by)

        return self._change(key, work)

    def delete(self, key: str, *, at: float, by: str) -> None:
        """Delete a connection with its secrets and all events of it that are not in the log.

        Raises:
            NotFound: there is none of this key.
        """

        def work(transaction: Transaction) -> None:
            row = _read_to_change(transaction, key)
            refusal_rows.remove_oldest(transaction, row.id, row.refusal_bytes + 1)
            for table in (refusals, unmatched_events, sent_messages):
                transaction.execute(table.delete().where(table.c.connection_id == row.id))
            transaction.execute(connections.delete().where(connections.c.id == row.id))
            before = {"kind": row.kind}
            record_change(transaction, "delete", f"connection:{key}", at=at, by=by, before=before)

        self._context.write(work)
        self._recent.pop(key, None)

    def reseal(self) -> int:
        """Seal all secrets and refused events under the first key; return how many connections."""

        def renew(sealed: bytes) -> bytes:
            return self._cipher.seal(self._cipher.unseal(sealed))

        def work(transaction: Transaction) -> int:
            columns = (connections.c.id, connections.c.secrets, connections.c.previous_secrets)
            rows = transaction.execute(select(*columns).with_for_update()).all()
            for number, current, previous in rows:
                old = None if previous is None else renew(previous)
                values = {"secrets": renew(current), "previous_secrets": old}
                _update(transaction, number, values)
            return len(rows)

        count = self._context.write(work)
        after: int | None = 0
        while after is not None:
            with self._database.writing() as transaction:
                after = refusal_rows.reseal(transaction, after=after, limit=_PORTION, renew=renew)
        return count

    def record_delivery(self, connection_id: int, outcome: DeliveryOutcome, *, at: float) -> None:
        """Count a verified request, and keep its events that wait or did not fit.

        Raises:
            NotFound: the connection was deleted meanwhile.
        """
        write = self.delivery_writer(connection_id, at=at)
        self._context.write(lambda transaction: write(transaction, outcome))

    def delivery_writer(self, connection_id: int, *, at: float) -> OutcomeWriter:
        """Return what does as `record_delivery`, in the transaction that writes the events."""
        hasher = self._context.hash_subjects  # its secret may need a transaction of its own

        def write(transaction: Transaction, outcome: DeliveryOutcome) -> None:
            self._keep_delivery(transaction, connection_id, outcome, hasher, at)

        return write

    def _keep_delivery(
        self,
        transaction: Transaction,
        connection_id: int,
        outcome: DeliveryOutcome,
        hasher: Hasher,
        at: float,
    ) -> None:
        counts = _counts_of(outcome) + Counter(deliveries=1)
        waiting = list(outcome.unmatched)
        refused = list(outcome.refused)
        if waiting:
            room = MOST_UNMATCHED - unmatched_rows.count_unmatched(transaction, connection_id)
            surplus = waiting[max(room, 0) :]
            refused += [_refusal_of(event) for event in surplus if event.decision_id]
            # Of emails whose ids were not told, nobody knows whether they are ours.
            counts["without_decision"] += sum(not event.decision_id for event in surplus)
            waiting = waiting[: max(room, 0)]
        values: dict[str, object] = {"delivered_at": at}
        if waiting or outcome.recorded or outcome.repeated or outcome.late:
            values["event_at"] = at
        _add(transaction, connection_id, counts, values)
        if waiting:
            marked = [(event, _mark_of(hasher, event)) for event in waiting]
            unmatched_rows.insert_unmatched(transaction, connection_id, marked, at=at)
        if refused:
            self._keep_refusals(transaction, connection_id, refused, at)

    def _keep_refusals(
        self, transaction: Transaction, connection_id: int, new: Sequence[NewRefusal], at: float
    ) -> None:
        inserted, size = refusal_rows.insert_refusals(
            transaction,
            connection_id,
            new,
            at=at,
            cipher=self._cipher,
            hasher=self._context.hash_subjects,
        )
        query = select(connections.c.refusal_bytes).where(connections.c.id == connection_id)
        excess = transaction.execute(query).scalar_one() + size - MOST_BYTES
        if excess > 0:
            size -= refusal_rows.remove_oldest(transaction, connection_id, excess)
        _add(transaction, connection_id, Counter(refused=inserted, refusal_bytes=size), {})

    def note_rejections(self, connection_id: int, count: int, reason: str, *, at: float) -> None:
        """Count requests that were not verified, the last one for `reason`."""

        def work(transaction: Transaction) -> None:
            values = {"rejected_at": at, "rejection": reason}
            _add(transaction, connection_id, Counter(rejected=count), values)

        self._context.write(work)

    def refusals(self, key: str, *, before: int | None = None, limit: int) -> list[Refusal]:
        """Read the events of a connection that did not fit, the newest first.

        Raises:
            NotFound: there is no connection of this key.
        """
        with self._database.reading() as transaction:
            number = _read(transaction, key).id
            return refusal_rows.read_refusals(transaction, number, before=before, limit=limit)

    def refusal_body(self, key: str, refusal_id: int) -> bytes:
        """Read what was sent as an event that did not fit.

        Raises:
            NotFound: there is no such connection or event.
            NoEncryptionKey: it is encrypted under a key that is not here.
        """
        with self._database.reading() as transaction:
            condition = refusals.c.connection_id == _read(transaction, key).id
            query = select(refusals.c.body).where(condition, refusals.c.id == refusal_id)
            body = transaction.execute(query).scalar_one_or_none()
        if body is None:
            raise NotFound("refused event", str(refusal_id))
        return self._cipher.unseal(body)

    def replace_refusal(
        self, key: str, refusal_id: int, outcome: DeliveryOutcome, *, at: float, by: str
    ) -> bool:
        """Remove an event that was replayed, and keep what became of it.

        Where it does not fit once more, it comes back, with the new reason.

        Returns:
            False where it was removed meanwhile.

        Raises:
            NotFound: there is no connection of this key.
        """
        hasher = self._context.hash_subjects

        def work(transaction: Transaction) -> bool:
            row = _read_to_change(transaction, key)
            query = select(refusals.c.size).where(
                refusals.c.connection_id == row.id, refusals.c.id == refusal_id
            )
            size = transaction.execute(query).scalar_one_or_none()
            if size is None:
                return False
            refusal_rows.remove_refusals(transaction, [refusal_id])
            counts = _counts_of(outcome)
            counts.update(refused=-1, refusal_bytes=-size)
            _add(transaction, row.id, counts, {})
            marked = [(event, _mark_of(hasher, event)) for event in outcome.unmatched]
            if marked:
                unmatched_rows.insert_unmatched(transaction, row.id, marked, at=at)
            if outcome.refused:
                self._keep_refusals(transaction, row.id, outcome.refused, at)
            after = {"refused_event": refusal_id}
            record_change(transaction, "replay", f"connection:{key}", at=at, by=by, after=after)
            return True

        return self._context.write(work)

    def ready_events(self, key: str, *, limit: int = _PORTION) -> list[UnmatchedEvent]:
        """Read events of a connection whose decisions' clocks run by now, the oldest first.

        Raises:
            NotFound: there is no connection of this key.
        """
        with self._database.reading() as transaction:
            number = _read(transaction, key).id
            return unmatched_rows.read_ready(transaction, number, limit=limit)

    def settlement_writer(
        self, connection_id: int, events: Sequence[UnmatchedEvent], *, at: float
    ) -> OutcomeWriter:
        """Return what removes events that waited, in the transaction that writes them.

        It counts what became of them, and keeps those that did not fit. It raises `NotFound` where
        the connection was deleted meanwhile, and they with it.
        """
        _ = self._context.hash_subjects  # its secret may need a transaction of its own

        def write(transaction: Transaction, outcome: DeliveryOutcome) -> None:
            unmatched_rows.remove_unmatched(transaction, [event.id for event in events])
            _add(transaction, connection_id, _counts_of(outcome), {})
            if outcome.refused:
                self._keep_refusals(transaction, connection_id, outcome.refused, at)

        return write

    def remove_expired(self, *, at: float) -> int:
        """Remove events that waited for too long, and old refusals; return how many events."""

        def work(transaction: Transaction) -> int:
            expired = Counter(
                unmatched_rows.remove_expired(transaction, before=at - UNMATCHED_SECONDS)
            )
            for number, count in sorted(expired.items()):
                _add(transaction, number, Counter(expired=count), {})
            rows = refusal_rows.read_expired(
                transaction, before=at - REFUSAL_SECONDS, limit=_PORTION
            )
            refusal_rows.remove_refusals(transaction, [row.id for row in rows])
            sizes: Counter[int] = Counter()
            for _, connection_id, size in rows:
                sizes[connection_id] += size
            for number, size in sorted(sizes.items()):
                _add(transaction, number, Counter(refusal_bytes=-size), {})
            sent_rows.remove_expired(transaction, before=at - sent_rows.KEPT_SECONDS)
            return expired.total()

        return self._context.write(work)

    def of_subject(self, subject_id: str, ids: Sequence[str]) -> list[StoredSignal]:
        """Read the events of a subject that are not in the log.

        Args:
            subject_id: the subject.
            ids: of its decisions.
        """
        signals: list[StoredSignal] = []
        with self._database.reading(consistent=True) as transaction:
            query = select(connections.c.id, connections.c.key)
            keys = {row[0]: row[1] for row in transaction.execute(query)}
            waiting, refused = self._rows_of(transaction, subject_id, ids)
            for condition in self._sent_to(subject_id, ids):
                query = select(sent_messages).where(condition)
                for row in transaction.execute(query):
                    key = keys[row.connection_id]
                    signals.append(StoredSignal(key, row.changed_at, "", _SENT))
        for event in waiting:
            content = msgspec.json.encode(event).decode()
            key = keys[event.connection_id]
            signals.append(StoredSignal(key, event.received_at, "", content))
        for row in refused:
            content = self._cipher.unseal(row.body).decode(errors="replace")
            key = keys[row.connection_id]
            signals.append(StoredSignal(key, row.received_at, row.reason, content))
        return signals

    def erase_of_subject(self, subject_id: str, ids: Sequence[str]) -> int:
        """Delete the events of a subject that are not in the log; return how many there were."""

        def work(transaction: Transaction) -> int:
            waiting, refused = self._rows_of(transaction, subject_id, ids)
            unmatched_rows.remove_unmatched(transaction, [event.id for event in waiting])
            refusal_rows.remove_refusals(transaction, [row.id for row in refused])
            sizes: Counter[int] = Counter()
            for row in refused:
                sizes[row.connection_id] += row.size
            for number, size in sorted(sizes.items()):
                _add(transaction, number, Counter(refusal_bytes=-size), {})
            count = len(waiting) + len(refused)
            for condition in self._sent_to(subject_id, ids):
                count += transaction.execute(delete(sent_messages).where(condition)).rowcount
            return count

        return self._context.write(work)

    def _sent_to(self, subject_id: str, ids: Sequence[str]) -> Iterator[ColumnElement[bool]]:
        """Yield conditions that together find the sent messages of a subject."""
        for start in range(0, len(ids) + 1, _PORTION):
            names = [subject_id, *ids[start : start + _PORTION]]
            yield sent_rows.of_subject(marks_of(self._context.hash_subjects, names))

    def _rows_of(
        self, transaction: Transaction, subject_id: str, ids: Sequence[str]
    ) -> tuple[list[UnmatchedEvent], list[NamedRow]]:
        waiting: dict[int, UnmatchedEvent] = {}
        refused: dict[int, NamedRow] = {}
        for start in range(0, len(ids) + 1, _PORTION):
            portion = ids[start : start + _PORTION]
            marks = marks_of(self._context.hash_subjects, [subject_id, *portion])
            for event in unmatched_rows.read_of_subject(transaction, portion, marks):
                waiting[event.id] = event
            for row in refusal_rows.read_marked(transaction, marks):
                refused[row.id] = row
        return list(waiting.values()), list(refused.values())

    def _change(self, key: str, work: Callable[[Transaction], None]) -> Connection:
        self._context.write(work)
        self._recent.pop(key, None)
        return self.find(key)

    def _seal(self, secrets: Mapping[str, str]) -> bytes:
        return self._cipher.seal(msgspec.json.encode(secrets))

    def _unseal(self, sealed: bytes) -> dict[str, str]:
        return msgspec.json.decode(self._cipher.unseal(sealed), type=dict[str, str])


def _query() -> Select[Any]:
    return select(connections, _UNMATCHED)


def _read(transaction: Transaction, key: str) -> NamedRow:
    row = transaction.execute(_query().where(connections.c.key == key)).one_or_none()
    if row is None:
        raise NotFound("connection", key)
    return row


def _read_to_change(transaction: Transaction, key: str) -> NamedRow:
    query = _query().where(connections.c.key == key).with_for_update(of=connections)
    row = transaction.execute(query).one_or_none()
    if row is None:
        raise NotFound("connection", key)
    return row


def _update(transaction: Transaction, number: int, values: Mapping[str, object]) -> None:
    transaction.execute(update(connections).where(connections.c.id == number).values(values))


def _add(
    transaction: Transaction, number: int, counts: Counter[str], values: Mapping[str, object]
) -> None:
    """Add to counts of a connection, and set other columns.

    Raises:
        NotFound: it was deleted meanwhile.
    """
    sums = {name: connections.c[name] + n for name, n in counts.items() if n}
    if not sums and not values:
        return
    query = update(connections).where(connections.c.id == number).values({**sums, **values})
    if transaction.execute(query).rowcount == 0:
        raise NotFound("connection", str(number))


def _connection(row: NamedRow) -> Connection:
    return Connection(
        row.id,
        row.key,
        row.kind,
        msgspec.json.decode(row.fields),
        msgspec.json.decode(row.metrics),
        row.paused,
        row.created_at,
        row.created_by,
        is_encrypted(row.secrets),
        row.previous_until,
        row.delivered_at,
        row.event_at,
        row.rejected_at,
        row.rejection or "",
        row.unmatched,
        row.refusal_bytes,
        ConnectionCounts(*(getattr(row, name) for name in CONNECTION_COUNTS)),
        row.excludes_bounces,
    )


def _pack(values: Mapping[str, str]) -> str:
    return msgspec.json.encode(values).decode()


def _counts_of(outcome: DeliveryOutcome) -> Counter[str]:
    return Counter(
        recorded=outcome.recorded,
        repeated=outcome.repeated,
        late=outcome.late,
        without_decision=outcome.without_decision,
    )


def _refusal_of(event: NewUnmatchedEvent) -> NewRefusal:
    return NewRefusal(NO_ROOM, event.body, event.body)


def _mark_of(hasher: Hasher, event: NewUnmatchedEvent) -> bytes | None:
    marks = marks_of(hasher, [event.recipient])
    return marks[0] if marks else None
