"""Match worker: records events that waited for their decision, and indexes decisions by subject."""

import logging
import time
from threading import Event

from bandits.engine import Engine
from storage.connections import ConnectionStore
from webapp.webhooks.signal_recorder import SignalRecorder

_LOOK_SECONDS = 2.0
_PAUSE_SECONDS = 0.05  # between portions, so that senders get a turn
_PRUNE_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 60.0  # after failures
_PORTION = 1000
_NAMED = 3  # reasons of events that do not fit
_log = logging.getLogger(__name__)


class MatchWorker:
    """Thread that matches events of connections until it is stopped."""

    def __init__(self, engine: Engine, connections: ConnectionStore, stop: Event) -> None:
        """Record by `engine` the events that wait in `connections`, until `stop` is set."""
        self._engine = engine
        self._connections = connections
        self._recorder = SignalRecorder(engine)
        self._stop = stop
        self._prune_at = 0.0

    def run(self) -> None:
        """Match until stopped; no error ends the loop."""
        failures = 0
        while not self._stop.is_set():
            wait = _LOOK_SECONDS
            try:
                self.look()
                failures = 0
            except Exception as error:  # noqa: BLE001 - without it no event that waits is counted
                failures += 1
                wait = min(_LOOK_SECONDS * 2.0**failures, _LONGEST_WAIT_SECONDS)
                _log.warning("cannot match events, trying again in %g s: %s", wait, error)
            self._stop.wait(wait)

    def look(self) -> int:
        """Record every event whose decision is there by now; return how many waited no longer."""
        self._engine.index_subjects(between=self._let_others_write)
        settled = self._settle_waiting()
        for connection in self._connections.all():
            while connection.unmatched and not self._stop.is_set():
                events = self._connections.ready_events(connection.key, limit=_PORTION)
                if not events:
                    break
                self._recorder.settle(self._connections, connection, events)
                settled += len(events)
                self._let_others_write()
        if self._prune_at <= time.monotonic():
            at = self._engine.clock()
            self._connections.remove_expired(at=at)
            for actor, count in sorted(self._engine.store.log.remove_expired(at=at).items()):
                _log.warning(
                    "%d events of %s waited a day for a decision that did not come", count, actor
                )
            self._prune_at = time.monotonic() + _PRUNE_SECONDS
        return settled

    def _settle_waiting(self) -> int:
        """Record the events of all others than connections; return how many."""
        settled = 0
        while not self._stop.is_set():
            portion = self._engine.settle_waiting(limit=_PORTION)
            for actor, reasons in portion.refused.items():
                examples = "; ".join(sorted(set(reasons))[:_NAMED])
                _log.warning("%d events of %s do not fit: %s", len(reasons), actor, examples)
            if not portion.count:
                break
            settled += portion.count
            self._let_others_write()
        return settled

    def _let_others_write(self) -> None:
        self._stop.wait(_PAUSE_SECONDS)
