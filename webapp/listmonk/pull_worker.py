"""Pull worker: fetches clicks and views from listmonk servers, which report nothing by themselves.

A pull begins an hour before the last complete one; what comes again counts once.
"""

import logging
import time
from threading import Event

from bandits.engine import Engine
from storage.connections import Connection, ConnectionStore, DeliveryOutcome
from webapp.egress import EgressGuard
from webapp.list_tools.tool_api import ToolUnavailable
from webapp.listmonk.listmonk_api import Export, ListmonkApi
from webapp.signals.delivery import Delivery, DeliveryRefused
from webapp.signals.kind_registry import connection_kind
from webapp.webhooks.signal_recorder import SignalRecorder

PULL_SECONDS = 300.0
OVERLAP_SECONDS = 3600.0
_LOOK_SECONDS = 5.0
_EXPORTS: tuple[Export, ...] = ("clicks", "views")
_log = logging.getLogger(__name__)


class PullWorker:
    """Thread that pulls until it is stopped."""

    def __init__(
        self, engine: Engine, connections: ConnectionStore, guard: EgressGuard, stop: Event
    ) -> None:
        """Record by `engine` what the listmonk servers of `connections` tell."""
        self._engine = engine
        self._connections = connections
        self._guard = guard
        self._stop = stop
        self._recorder = SignalRecorder(engine)
        self._due: dict[int, float] = {}

    def run(self) -> None:
        """Pull until stopped; no error ends the loop."""
        while not self._stop.is_set():
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - without it no click is counted any more
                _log.warning("cannot pull events: %s", error)
            self._stop.wait(_LOOK_SECONDS)

    def look(self) -> int:
        """Pull from every server whose turn it is; return the number of events counted."""
        recorded = 0
        for connection in self._connections.all():
            if connection.paused or not connection.fields.get("api_url"):
                continue
            if self._due.get(connection.id, 0.0) > time.monotonic():
                continue
            self._due[connection.id] = time.monotonic() + PULL_SECONDS
            try:
                recorded += self.pull(connection)
            except (OSError, ToolUnavailable, DeliveryRefused) as error:
                _log.warning("cannot pull events of %s: %s", connection.key, error)
                at = self._engine.clock()
                self._connections.note_rejections(connection.id, 1, f"pull: {error}", at=at)
        return recorded

    def pull(self, connection: Connection) -> int:
        """Pull from one server; return the number of events counted.

        Raises:
            EgressRefused: its address may not be called.
            ToolUnavailable: it does not answer as it should.
            DeliveryRefused: its answer is no export.
        """
        at = self._engine.clock()
        complete_at = connection.delivered_at or connection.created_at
        _, secrets = self._connections.open(connection.key, at=at)
        parse = connection_kind(connection.kind).parse
        user = connection.fields.get("api_user", "")
        token = secrets.current.get("api_token", "")
        recorded = 0
        with ListmonkApi(self._guard, connection.fields["api_url"], user, token) as api:
            for name in _EXPORTS:
                for part in api.export(name, complete_at - OVERLAP_SECONDS):
                    batch = parse(Delivery("POST", {}, part))
                    # Until all is here, the time of the last complete pull stays.
                    outcome = self._recorder.deliver(
                        self._connections, connection, batch, at=complete_at
                    )
                    recorded += outcome.recorded
        self._connections.record_delivery(connection.id, DeliveryOutcome(), at=at)
        return recorded
