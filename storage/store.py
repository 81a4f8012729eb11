"""Store in a SQL database, composed of its parts; every method of a part is one transaction."""

from collections.abc import Sequence
from pathlib import Path

from storage.accounts import AccountStore
from storage.connections import Cipher, ConnectionStore
from storage.databases import Database, open_database
from storage.deletion.erase_subject import SubjectStore
from storage.drafts import DraftTable
from storage.log.decision_log import DecisionLog
from storage.outgoing import OutgoingStores
from storage.settings import data_folder
from storage.snapshots.snapshot_store import SnapshotStore
from storage.snapshots.void_store import VoidStore
from storage.spool import Spool
from storage.store_context import StoreContext
from storage.tracked_links import TrackedLinkStore


def open_store(
    database_url: str, encryption_keys: Sequence[str] = (), spool_folder: Path | None = None
) -> "SqlStore":
    """Prepare the store in a database; it connects on first use.

    Args:
        database_url: its address.
        encryption_keys: that secrets are encrypted under, the first one first.
        spool_folder: of events that are not in the database yet; by default as `data_folder` says.

    Raises:
        InvalidInput: the URL is none of ours.
    """
    folder = spool_folder or data_folder(database_url, "spool")
    return SqlStore(open_database(database_url), folder, Cipher(encryption_keys))


class SqlStore:
    """Experiments, log, snapshots, subjects and voids in a SQL database: `bandits.store.Store`.

    Any method of a part may raise `Unavailable`, also where `storage.upgrade` has not been run;
    then nothing was stored.
    """

    def __init__(
        self, database: Database, spool_folder: Path, cipher: Cipher | None = None
    ) -> None:
        """Work on `database`, and in the spool's folder; without a `cipher`, secrets are plain."""
        cipher = cipher or Cipher()
        context = StoreContext(database)
        self.database = database
        self.secret = context.secret
        self.experiments = context.experiments
        self.log = DecisionLog(context)
        self.snapshots = SnapshotStore(context)
        self.connections = ConnectionStore(context, cipher)
        self.tracked_links = TrackedLinkStore(context, cipher)
        self.spool = Spool(spool_folder, cipher)
        self.subjects = SubjectStore(context, self.connections, self.tracked_links, self.spool)
        self.voids = VoidStore(context)
        self.accounts = AccountStore(database)
        self.drafts = DraftTable(database)
        self.outgoing = OutgoingStores(database, cipher)

    def close(self) -> None:
        """Close every connection and file; the next use opens new ones."""
        self.database.close()
        self.spool.close()
