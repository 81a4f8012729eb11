"""Store in a SQL database, composed of its parts; every method of a part is one transaction."""

from collections.abc import Sequence

from storage.accounts import AccountStore
from storage.connections import Cipher, ConnectionStore
from storage.databases import Database, open_database
from storage.deletion.erase_subject import SubjectStore
from storage.drafts import DraftTable
from storage.log.decision_log import DecisionLog
from storage.snapshots.snapshot_store import SnapshotStore
from storage.snapshots.void_store import VoidStore
from storage.store_context import StoreContext


def open_store(database_url: str, encryption_keys: Sequence[str] = ()) -> "SqlStore":
    """Prepare the store in a database; it connects on first use.

    Args:
        database_url: its address.
        encryption_keys: that secrets of connections are encrypted under, the first one first.

    Raises:
        InvalidInput: the URL is none of ours.
    """
    return SqlStore(open_database(database_url), Cipher(encryption_keys))


class SqlStore:
    """Experiments, log, snapshots, subjects and voids in a SQL database: `bandits.store.Store`.

    Any method of a part may raise `Unavailable`, also where `storage.upgrade` has not been run;
    then nothing was stored.
    """

    def __init__(self, database: Database, cipher: Cipher | None = None) -> None:
        """Work on `database`; without a `cipher`, secrets of connections are kept plain."""
        context = StoreContext(database)
        self.database = database
        self.secret = context.secret
        self.experiments = context.experiments
        self.log = DecisionLog(context)
        self.snapshots = SnapshotStore(context)
        self.connections = ConnectionStore(context, cipher or Cipher())
        self.subjects = SubjectStore(context, self.connections)
        self.voids = VoidStore(context)
        self.accounts = AccountStore(database)
        self.drafts = DraftTable(database)

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        self.database.close()
