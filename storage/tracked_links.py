"""Tracked links: the keys that sign them, the hosts that they may lead to, and unsubscribes.

A key's secret is sealed as those of connections are: it has to be known to prove a signature. It is
kept for as long as the database, since people follow links of old emails.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

from msgspec import Struct
from sqlalchemy import delete, insert, select, update

from bandits.actors import Actor, actor_of
from bandits.errors import Conflict, InvalidInput, NotFound
from bandits.identifiers import pointer
from bandits.sampling import keyed_digests
from bandits.tracking_tokens import TrackingKey, is_host_rule
from storage.audit_log import record_change
from storage.connections.encryption import Cipher, NoEncryptionKey, is_encrypted
from storage.databases import NamedRow, Transaction
from storage.schema import (
    TRACKING_COUNTS,
    erased_decisions,
    link_hosts,
    tracking_keys,
    unsubscribes,
)
from storage.store_context import StoreContext

MOST_HOSTS = 100
UNSUBSCRIBE_SECONDS = 400 * 86_400.0
_AT_ONCE = 1000
_SIGNED_HERE = "links signed for API keys"
_ERASED = "erased decisions"
_MARK_BYTES = 16
_ALL = "all"  # hosts are one list


class TrackingCounts(Struct, frozen=True):
    """Counts of the events that a key's links caused.

    Attributes:
        recorded: in the log,
        repeated: that were there before,
        late: that came after their window or their campaign's end,
        without_decision: of a decision that is erased or unknown,
        expired: whose decision was not activated within a day,
        refused: that do not fit the campaign,
        machine: and that no person can have caused, and no campaign judges: requests for a head
            alone, hidden links, more than a hundred of one email in an hour.
    """

    recorded: int = 0
    repeated: int = 0
    late: int = 0
    without_decision: int = 0
    expired: int = 0
    refused: int = 0
    machine: int = 0

    def __add__(self, other: "TrackingCounts") -> "TrackingCounts":
        """Add up, count by count."""
        names = self.__struct_fields__
        return TrackingCounts(*(getattr(self, n) + getattr(other, n) for n in names))


class StoredTrackingKey(Struct, frozen=True):
    """Key of tracked links, without its secret; times are seconds since 1970.

    Attributes:
        id: number by which it is rotated and revoked.
        key_id: in each of its tokens.
        name: purpose, in its maker's words.
        replaced_at: of its rotation: its links go on to work and to count. None if it signs.
        revoked_at: from when its links count no more, and lead on all the same; None if never.
        event_at: of the last event of its links.
        encrypted: its secret is stored encrypted.
    """

    id: int
    key_id: str
    name: str
    created_at: float
    created_by: str
    replaced_at: float | None
    revoked_at: float | None
    event_at: float | None
    encrypted: bool
    counts: TrackingCounts

    @property
    def signs(self) -> bool:
        """True for a key that new links are to be signed with."""
        return self.replaced_at is None and self.revoked_at is None


class NewTrackingKey(Struct, frozen=True):
    """A key, and its text with the secret, which is shown this once."""

    key: StoredTrackingKey
    text: str


class KnownKey(Struct, frozen=True):
    """Secret that tokens of a key are proved by; `counts` is false for a revoked one."""

    secret: str
    counts: bool

    def __repr__(self) -> str:
        """Return the state alone: no log has the secret."""
        return f"KnownKey(counts={self.counts})"


class LinkRules(Struct, frozen=True):
    """All that is needed to answer a tracked link.

    Attributes:
        keys: by their ids.
        hosts: that links may lead to.
        unreadable: ids of keys that are encrypted under a key that is not here.
        server_secret: by which links are signed for API keys.
    """

    keys: Mapping[str, KnownKey]
    hosts: frozenset[str]
    unreadable: frozenset[str] = frozenset()
    server_secret: bytes = b""

    def __repr__(self) -> str:
        """Return what is not secret."""
        return f"LinkRules({sorted(self.keys)})"

    def secret(self, key_id: str, signer: int) -> str:
        """Return the secret that proves tokens of a key, signed for an API key unless 0."""
        secret = self.keys[key_id].secret
        if not signer:
            return secret
        return TrackingKey(key_id, secret).of_signer(signer, self.server_secret).secret


class Unsubscribe(Struct, frozen=True):
    """A recipient's unsubscribing, by a decision of an email; `at` is in seconds since 1970."""

    id: int
    decision_id: str
    at: float


def tracking_actor(key_id: str, signer: int = 0) -> Actor:
    """Name the links of a tracking key as the log names who wrote rows.

    Those that the server signed for an API key are an actor of their own, so that a void can take
    back what they reported, and leave the others.
    """
    return actor_of("tracking", f"{key_id}:{actor_of('key', signer)}" if signer else key_id)


class TrackedLinkStore:
    """Keys, hosts and unsubscribes of tracked links in one database.

    Times are seconds since 1970; `by` is the author. Any method may raise `Unavailable`.
    """

    def __init__(self, context: StoreContext, cipher: Cipher) -> None:
        """Work in the database of `context`; `cipher` seals secrets."""
        self._context = context
        self._database = context.database
        self._cipher = cipher

    def create(self, name: str, *, at: float, by: str) -> NewTrackingKey:
        """Make a key; its secret is in the result, and in links."""
        return self._context.write(
            lambda transaction: self._insert(transaction, "create", name, at=at, by=by)
        )

    def rotate(self, number: int, *, at: float, by: str) -> NewTrackingKey:
        """Make a key that replaces another; links that this one signed go on to work.

        Raises:
            NotFound: there is no such key.
            Conflict: it is replaced or revoked already.
        """

        def work(transaction: Transaction) -> NewTrackingKey:
            row = _read_to_change(transaction, number)
            if row.replaced_at is not None or row.revoked_at is not None:
                raise Conflict(f"tracking key {row.key_id} is replaced or revoked already")
            _update(transaction, number, {"replaced_at": at})
            return self._insert(
                transaction, "rotate", row.name, at=at, by=by, replaced_key_id=row.key_id
            )

        return self._context.write(work)

    def _insert(  # noqa: PLR0913 - a row's columns
        self,
        transaction: Transaction,
        action: str,
        name: str,
        *,
        at: float,
        by: str,
        replaced_key_id: str | None = None,
    ) -> NewTrackingKey:
        key = TrackingKey.generate()
        row = {
            "key_id": key.id,
            "name": name,
            "secret": self._cipher.seal(key.secret.encode()),
            "created_at": at,
            "created_by": by,
        }
        number = transaction.execute(
            insert(tracking_keys).values(row).returning(tracking_keys.c.id)
        ).scalar_one()
        after = {"name": name}
        if replaced_key_id is not None:
            after["replaces"] = replaced_key_id
        record_change(transaction, action, f"tracking_key:{key.id}", at=at, by=by, after=after)
        stored = transaction.execute(
            select(tracking_keys).where(tracking_keys.c.id == number)
        ).one()
        return NewTrackingKey(_key(stored), key.text)

    def revoke(self, number: int, *, at: float, by: str) -> StoredTrackingKey:
        """Count no event of a key's links from now on; doing it again changes nothing.

        They lead on: recipients did nothing wrong.

        Raises:
            NotFound: there is no such key.
        """

        def work(transaction: Transaction) -> StoredTrackingKey:
            row = _read_to_change(transaction, number)
            if row.revoked_at is None:
                _update(transaction, number, {"revoked_at": at})
                before = {"name": row.name}
                record_change(
                    transaction, "revoke", f"tracking_key:{row.key_id}", at=at, by=by, before=before
                )
            query = select(tracking_keys).where(tracking_keys.c.id == number)
            return _key(transaction.execute(query).one())

        return self._context.write(work)

    def all(self) -> list[StoredTrackingKey]:
        """Read every key, the newest first."""
        with self._database.reading() as transaction:
            query = select(tracking_keys).order_by(tracking_keys.c.id.desc())
            return [_key(row) for row in transaction.execute(query)]

    @cached_property
    def _server_secret(self) -> bytes:
        return self._context.secret(_SIGNED_HERE)

    def signing_key(self, key_id: str | None = None, *, signer: int = 0) -> TrackingKey:
        """Read a key with its secret, to sign links with: the newest unless one is named.

        Args:
            key_id: of the key.
            signer: number of an API key to sign for, by the secret that is derived for it.

        Raises:
            NotFound: there is none of this id.
            Conflict: there is none that signs, or the one that is named does not.
            NoEncryptionKey: its secret is encrypted under a key that is not here.
        """
        query = select(tracking_keys).order_by(tracking_keys.c.id.desc())
        with self._database.reading() as transaction:
            rows = transaction.execute(query).all()
        if key_id is not None:
            rows = [row for row in rows if row.key_id == key_id]
            if not rows:
                raise NotFound("tracking key", key_id)
        for row in rows:
            if row.replaced_at is None and row.revoked_at is None:
                key = TrackingKey(row.key_id, self._cipher.unseal(row.secret).decode())
                return key.of_signer(signer, self._server_secret) if signer else key
        raise Conflict(
            "no tracking key signs links: make one under Settings → Tracked links, or by"
            " `bandits tracking create NAME`"
        )

    def rules(self) -> LinkRules:
        """Read all that answers tracked links."""
        with self._database.reading(consistent=True) as transaction:
            hosts = frozenset(transaction.execute(select(link_hosts.c.host)).scalars())
            rows = transaction.execute(select(tracking_keys)).all()
        keys, unreadable = {}, set()
        for row in rows:
            try:
                secret = self._cipher.unseal(row.secret).decode()
            except NoEncryptionKey:
                unreadable.add(row.key_id)
            else:
                keys[row.key_id] = KnownKey(secret, row.revoked_at is None)
        return LinkRules(keys, hosts, frozenset(unreadable), self._server_secret)

    def hosts(self) -> list[str]:
        """Read the hosts that links may lead to, in alphabetical order."""
        with self._database.reading() as transaction:
            query = select(link_hosts.c.host).order_by(link_hosts.c.host)
            return list(transaction.execute(query).scalars())

    def set_hosts(self, hosts: Sequence[str], *, at: float, by: str) -> list[str]:
        """Let links lead to these hosts alone, also links of emails that were sent.

        Raises:
            InvalidInput: at ``/hosts`` or ``/hosts/{row}``.
        """
        cleaned = [host.strip().lower() for host in hosts]
        for row, host in enumerate(cleaned):
            if not is_host_rule(host):
                raise InvalidInput.at(
                    pointer("hosts", row),
                    "must be a host such as shop.example, or *.shop.example for all below it",
                )
        if len(set(cleaned)) > MOST_HOSTS:
            raise InvalidInput.at("/hosts", f"may be at most {MOST_HOSTS}")

        def work(transaction: Transaction) -> None:
            query = select(link_hosts.c.host).order_by(link_hosts.c.host).with_for_update()
            before, after = list(transaction.execute(query).scalars()), sorted(set(cleaned))
            if before == after:
                return
            removed = sorted(set(before) - set(after))
            transaction.execute(delete(link_hosts).where(link_hosts.c.host.in_(removed)))
            rows = [(host, at, by) for host in after if host not in before]
            transaction.insert(link_hosts, ("host", "added_at", "added_by"), rows)
            record_change(
                transaction,
                "configure",
                f"link_hosts:{_ALL}",
                at=at,
                by=by,
                before=before,
                after=after,
            )

        self._context.write(work)
        return self.hosts()

    def note(
        self,
        counts_by_key: Mapping[str, TrackingCounts],
        unsubscribed: Mapping[str, float],
        *,
        at: float,
    ) -> None:
        """Add to the counts of keys, and keep the decisions of those who unsubscribed.

        Args:
            counts_by_key: by the key's id; one that is unknown is passed over.
            unsubscribed: by decision, when; one that is there already stays as it is.
            at: of the last event.
        """

        def work(transaction: Transaction) -> None:
            for key_id, counts in sorted(counts_by_key.items()):
                added = {n: getattr(counts, n) for n in TRACKING_COUNTS}
                sums = {n: tracking_keys.c[n] + amount for n, amount in added.items() if amount}
                query = update(tracking_keys).where(tracking_keys.c.key_id == key_id)
                transaction.execute(query.values({**sums, "event_at": at}))
            transaction.insert(unsubscribes, ("decision_id", "at"), sorted(unsubscribed.items()))

        self._context.write(work)

    def unsubscribes(self, *, after: int = 0, limit: int) -> list[Unsubscribe]:
        """Read those who unsubscribed, the oldest first, behind a place in the list."""
        query = select(unsubscribes).where(unsubscribes.c.id > after)
        with self._database.reading() as transaction:
            rows = transaction.execute(query.order_by(unsubscribes.c.id).limit(limit))
            return [Unsubscribe(row.id, row.decision_id, row.at) for row in rows]

    def erase_of_decisions(self, ids: Sequence[str]) -> None:
        """Forget that the recipients of decisions unsubscribed."""

        def work(transaction: Transaction) -> None:
            for start in range(0, len(ids), _AT_ONCE):
                portion = ids[start : start + _AT_ONCE]
                condition = transaction.is_any(unsubscribes.c.decision_id, portion)
                transaction.execute(delete(unsubscribes).where(condition))

        self._context.write(work)

    def marks(self, ids: Sequence[str]) -> list[bytes]:
        """Hash ids of decisions as those of erased ones are kept."""
        return keyed_digests(self._erasure_secret, ids, size=_MARK_BYTES)

    def note_erased(self, transaction: Transaction, marks: Sequence[bytes]) -> None:
        """Keep that decisions with these marks are erased; links report nothing of them."""
        rows = [(mark,) for mark in sorted(marks)]
        transaction.insert(erased_decisions, ("mark",), rows)

    def erased(self, ids: Sequence[str]) -> set[str]:
        """Find those ids under which a decision was erased, whatever has them now."""
        by_mark = dict(zip(self.marks(ids), ids, strict=True))
        erased: set[str] = set()
        with self._database.reading() as transaction:
            for start in range(0, len(ids), _AT_ONCE):
                marks = list(by_mark)[start : start + _AT_ONCE]
                query = select(erased_decisions.c.mark).where(erased_decisions.c.mark.in_(marks))
                erased.update(by_mark[bytes(m)] for m in transaction.execute(query).scalars())
        return erased

    @cached_property
    def _erasure_secret(self) -> bytes:
        return self._context.secret(_ERASED)

    def remove_expired(self, *, at: float) -> None:
        """Remove unsubscribes that senders had 400 days to take over."""

        def work(transaction: Transaction) -> None:
            condition = unsubscribes.c.at < at - UNSUBSCRIBE_SECONDS
            transaction.execute(delete(unsubscribes).where(condition))

        self._context.write(work)

    def reseal(self) -> int:
        """Seal all secrets under the first key; return how many."""

        def work(transaction: Transaction) -> int:
            columns = (tracking_keys.c.id, tracking_keys.c.secret)
            rows = transaction.execute(select(*columns).with_for_update()).all()
            for number, secret in rows:
                renewed = self._cipher.seal(self._cipher.unseal(secret))
                _update(transaction, number, {"secret": renewed})
            return len(rows)

        return self._context.write(work)


def _read_to_change(transaction: Transaction, number: int) -> NamedRow:
    query = select(tracking_keys).where(tracking_keys.c.id == number).with_for_update()
    row = transaction.execute(query).one_or_none()
    if row is None:
        raise NotFound("tracking key", str(number))
    return row


def _update(transaction: Transaction, number: int, values: Mapping[str, object]) -> None:
    query = update(tracking_keys).where(tracking_keys.c.id == number)
    transaction.execute(query.values(values))


def _key(row: NamedRow) -> StoredTrackingKey:
    return StoredTrackingKey(
        row.id,
        row.key_id,
        row.name,
        row.created_at,
        row.created_by,
        row.replaced_at,
        row.revoked_at,
        row.event_at,
        is_encrypted(row.secret),
        TrackingCounts(*(getattr(row, name) for name in TRACKING_COUNTS)),
    )
