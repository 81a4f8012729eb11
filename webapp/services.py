"""Services of one application: the engine and stores that its views and handlers work with."""

from dataclasses import dataclass, field
from typing import cast

from flask import Flask, current_app

from bandits.engine import Engine
from storage.accounts import AccountStore
from storage.connections import ConnectionStore
from storage.drafts import DraftTable
from webapp.metrics import FoldMetrics, RequestMetrics
from webapp.readiness import Readiness

_NAME = "bandits"


@dataclass(frozen=True, slots=True)
class Services:
    """The engine, the stores beside it and the metrics of one application.

    Attributes:
        metrics: of this process.
        folds: of the server's fold worker.
        readiness: of the database, as `/readyz` answers it.
    """

    engine: Engine
    accounts: AccountStore
    drafts: DraftTable
    connections: ConnectionStore
    metrics: RequestMetrics = field(default_factory=RequestMetrics)
    folds: FoldMetrics = field(default_factory=FoldMetrics)
    readiness: Readiness = field(default_factory=Readiness)

    def attach(self, app: Flask) -> None:
        """Make these the services of `app`."""
        app.extensions[_NAME] = self


def services() -> Services:
    """Return the running application's services."""
    return services_of(current_app)


def services_of(app: Flask) -> Services:
    """Return the services of `app`."""
    return cast("Services", app.extensions[_NAME])
