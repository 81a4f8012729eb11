"""The workspace and what leaves by itself: its name, the mail server, alerts, the outbox."""

from storage.connections.encryption import Cipher
from storage.databases import Database
from storage.outgoing.alert_subscriptions import AlertStore, AlertTarget, TargetKind
from storage.outgoing.mail_settings import MailSecurity, MailSettings, MailSettingsStore
from storage.outgoing.outbox import NewNotice, Notice, Outbox
from storage.outgoing.workspace import WorkspaceStore

__all__ = [
    "AlertStore",
    "AlertTarget",
    "MailSecurity",
    "MailSettings",
    "MailSettingsStore",
    "NewNotice",
    "Notice",
    "Outbox",
    "OutgoingStores",
    "TargetKind",
    "WorkspaceStore",
]


class OutgoingStores:
    """Stores of one database for what leaves by itself. Any method may raise `Unavailable`."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        """Work on `database`; `cipher` seals secrets."""
        self.workspace = WorkspaceStore(database)
        self.mail_settings = MailSettingsStore(database, cipher)
        self.alerts = AlertStore(database, cipher)
        self.outbox = Outbox(database)
