"""Alerts: of what people want to be told by mail, and the webhooks and chats that are told."""

import secrets
from base64 import b64encode
from collections.abc import Collection
from typing import Literal

from msgspec import Struct
from sqlalchemy import delete, insert, select

from bandits.errors import NotFound
from storage.audit_log import record_change
from storage.connections.encryption import Cipher
from storage.databases import Database, NamedRow
from storage.schema import alert_choices, alert_targets, users

TargetKind = Literal["webhook", "chat"]

_SECRET_BYTES = 32
_PREFIX = "whsec_"  # as Standard Webhooks begins secrets


class AlertTarget(Struct, frozen=True):
    """A webhook or a chat that is told of alerts; times are seconds since 1970.

    Attributes:
        url: that is called.
        secret: that signs what is sent; empty for a chat.
        alerts: names of those that it is told of.
    """

    id: int
    name: str
    kind: TargetKind
    url: str
    secret: str
    alerts: frozenset[str]
    created_at: float
    created_by: str

    def __repr__(self) -> str:
        """Return the name alone: address and secret are secret."""
        return f"AlertTarget({self.name!r})"


class AlertStore:
    """Chosen alerts of one database."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        """Work on `database`; `cipher` seals addresses and secrets."""
        self._database = database
        self._cipher = cipher

    def choices(self, user_id: int) -> frozenset[str]:
        """Read the alerts that a user wants by mail."""
        query = select(alert_choices.c.alert).where(alert_choices.c.user_id == user_id)
        with self._database.reading() as transaction:
            return frozenset(transaction.execute(query).scalars())

    def choose(self, user_id: int, alerts: Collection[str], *, at: float) -> None:
        """Replace the alerts that a user wants by mail."""
        rows = [{"user_id": user_id, "alert": a, "chosen_at": at} for a in sorted(alerts)]
        with self._database.writing() as transaction:
            transaction.execute(delete(alert_choices).where(alert_choices.c.user_id == user_id))
            if rows:
                transaction.execute(insert(alert_choices), rows)

    def readers(self, alert: str) -> dict[int, float]:
        """Return who wants an alert by mail: since when, by number of the user."""
        query = select(alert_choices.c.user_id, alert_choices.c.chosen_at).where(
            alert_choices.c.alert == alert
        )
        with self._database.reading() as transaction:
            rows = transaction.execute(query.join(users, users.c.id == alert_choices.c.user_id))
            return {row.user_id: row.chosen_at for row in rows}

    def targets(self) -> list[AlertTarget]:
        """Read all webhooks and chats.

        Raises:
            NoEncryptionKey: one is encrypted under a key that is not here.
        """
        with self._database.reading() as transaction:
            rows = transaction.execute(select(alert_targets).order_by(alert_targets.c.id))
            return [self._target(row) for row in rows]

    def target(self, number: int) -> AlertTarget:
        """Read a webhook or chat.

        Raises:
            NotFound: there is none of this number.
        """
        query = select(alert_targets).where(alert_targets.c.id == number)
        with self._database.reading() as transaction:
            row = transaction.execute(query).one_or_none()
        if row is None:
            raise NotFound("alert target", str(number))
        return self._target(row)

    def add_target(  # noqa: PLR0913 - a row's columns
        self,
        name: str,
        kind: TargetKind,
        url: str,
        alerts: Collection[str],
        *,
        at: float,
        by: str,
    ) -> AlertTarget:
        """Add a webhook, with a new secret that signs what it is sent, or a chat."""
        random = b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
        secret = _PREFIX + random if kind == "webhook" else ""
        row = {
            "name": name,
            "kind": kind,
            "url": self._cipher.seal(url.encode()),
            "secret": self._cipher.seal(secret.encode()),
            "alerts": " ".join(sorted(alerts)),
            "created_at": at,
            "created_by": by,
        }
        with self._database.writing() as transaction:
            query = insert(alert_targets).values(row).returning(alert_targets.c.id)
            number = int(transaction.execute(query).scalar_one())
            after = {"name": name, "kind": kind, "alerts": row["alerts"]}
            subject = f"alert_target:{number}"
            record_change(transaction, "add", subject, at=at, by=by, after=after)
        return AlertTarget(number, name, kind, url, secret, frozenset(alerts), at, by)

    def remove_target(self, number: int, *, at: float, by: str) -> str:
        """Remove a webhook or chat; return its name.

        Raises:
            NotFound: there is none of this number.
        """
        query = delete(alert_targets).where(alert_targets.c.id == number)
        with self._database.writing() as transaction:
            name = transaction.execute(query.returning(alert_targets.c.name)).scalar_one_or_none()
            if name is None:
                raise NotFound("alert target", str(number))
            before, subject = {"name": name}, f"alert_target:{number}"
            record_change(transaction, "remove", subject, at=at, by=by, before=before)
        return str(name)

    def _target(self, row: NamedRow) -> AlertTarget:
        return AlertTarget(
            row.id,
            row.name,
            row.kind,
            self._cipher.unseal(bytes(row.url)).decode(),
            self._cipher.unseal(bytes(row.secret)).decode(),
            frozenset(row.alerts.split()),
            row.created_at,
            row.created_by,
        )
