"""Mail settings: the server that the workspace sends mails to people by."""

from typing import Literal

from msgspec import Struct
from sqlalchemy import delete, insert, select

from storage.audit_log import record_change
from storage.connections.encryption import Cipher
from storage.databases import Database
from storage.schema import mail_settings

MailSecurity = Literal["starttls", "tls", "none"]

_ONLY = 1  # its number


class MailSettings(Struct, frozen=True):
    """A mail server, how it is reached, and whom its mails are from."""

    host: str
    port: int
    security: MailSecurity
    user: str
    password: str
    sender: str

    def __repr__(self) -> str:
        """Return where it is, without the password."""
        return f"MailSettings({self.host}:{self.port})"


class MailSettingsStore:
    """The mail settings of one database."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        """Work on `database`; `cipher` seals the password."""
        self._database = database
        self._cipher = cipher

    def read(self) -> MailSettings | None:
        """Read the settings, None where nobody made any.

        Raises:
            NoEncryptionKey: the password is encrypted under a key that is not here.
        """
        with self._database.reading() as transaction:
            row = transaction.execute(select(mail_settings)).one_or_none()
        if row is None:
            return None
        password = self._cipher.unseal(bytes(row.password)).decode()
        return MailSettings(row.host, row.port, row.security, row.user, password, row.sender)

    def exists(self) -> bool:
        """Return True where somebody made settings."""
        with self._database.reading() as transaction:
            query = select(mail_settings.c.id)
            return transaction.execute(query).one_or_none() is not None

    def save(self, settings: MailSettings, *, at: float, by: str) -> None:
        """Replace the settings; the audit log has all but the password."""
        row = {
            "id": _ONLY,
            "host": settings.host,
            "port": settings.port,
            "security": settings.security,
            "user": settings.user,
            "password": self._cipher.seal(settings.password.encode()),
            "sender": settings.sender,
        }
        after = {name: row[name] for name in ("host", "port", "security", "user", "sender")}
        with self._database.writing() as transaction:
            transaction.execute(delete(mail_settings))
            transaction.execute(insert(mail_settings).values(row))
            record_change(
                transaction, "configure", f"mail_settings:{_ONLY}", at=at, by=by, after=after
            )

    def remove(self, *, at: float, by: str) -> None:
        """Remove the settings; removing none changes nothing."""
        query = delete(mail_settings).returning(mail_settings.c.host)
        with self._database.writing() as transaction:
            if hosts := transaction.execute(query).scalars().all():
                before = {"host": hosts[0]}
                record_change(
                    transaction, "remove", f"mail_settings:{_ONLY}", at=at, by=by, before=before
                )
