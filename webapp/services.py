"""Services of one application: the engine and stores that its views and handlers work with."""

from dataclasses import dataclass, field
from threading import Lock
from typing import cast

from flask import Flask, current_app

from bandits.engine import Engine
from storage.accounts import AccountStore
from storage.connections import ConnectionStore
from storage.databases import DatabaseProgress
from storage.drafts import DraftTable
from storage.outgoing import OutgoingStores
from storage.spool import Spool
from storage.tracked_links import TrackedLinkStore
from webapp.metrics import FoldMetrics, RequestMetrics
from webapp.readiness import Readiness
from webapp.settings import DEFAULT_ROWS_PER_MINUTE

_NAME = "bandits"


@dataclass(slots=True)
class KeyRates:
    """Rows that API keys sent to this process, as `webapp.api.operation` counts them.

    Attributes:
        rows_per_minute: limit of keys that have none of their own.
        owed: by a key's number, the rows that its limit has not taken away yet, as of a time of
            `time.monotonic`.
        changing: held while a key's rows are counted.
    """

    rows_per_minute: int = DEFAULT_ROWS_PER_MINUTE
    owed: dict[int, tuple[float, float]] = field(default_factory=dict)
    changing: Lock = field(default_factory=Lock)


@dataclass(frozen=True, slots=True)
class Services:
    """The engine, the stores beside it and the metrics of one application.

    Attributes:
        metrics: of this process.
        folds: of the server's fold worker.
        progress: of the work of this process in the database.
        readiness: of the database, as `/readyz` answers it.
        rates: of this process.
    """

    engine: Engine
    accounts: AccountStore
    drafts: DraftTable
    connections: ConnectionStore
    tracked_links: TrackedLinkStore
    spool: Spool
    outgoing: OutgoingStores
    metrics: RequestMetrics = field(default_factory=RequestMetrics)
    folds: FoldMetrics = field(default_factory=FoldMetrics)
    progress: DatabaseProgress = field(default_factory=DatabaseProgress)
    readiness: Readiness = field(default_factory=Readiness)
    rates: KeyRates = field(default_factory=KeyRates)

    def attach(self, app: Flask) -> None:
        """Make these the services of `app`."""
        app.extensions[_NAME] = self


def services() -> Services:
    """Return the running application's services."""
    return services_of(current_app)


def services_of(app: Flask) -> Services:
    """Return the services of `app`."""
    return cast("Services", app.extensions[_NAME])
