"""Alert watch: looks for what people want to be told of, and puts it into the outbox.

Each event has a name of its own there, so that no target is told of it twice, however often it is
found and by however many servers.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from threading import Event

from bandits.engine import Engine
from bandits.experiment import DAY
from bandits.results import Results
from bandits.store.values import ExperimentRecord
from storage.accounts import AccountStore
from storage.connections import Connection, ConnectionStore
from storage.outgoing import NewNotice, OutgoingStores
from webapp.notices.alert_kinds import WEEKLY, listeners
from webapp.pages.experiment.verdict_text import verdict_text

ALERT = "alert"  # kind of notice
WEEKLY_HOUR = 7  # on Mondays, in UTC
_LOOK_SECONDS = 10.0
_FAILING_SECONDS = 3600.0  # without a delivery that was accepted
_log = logging.getLogger(__name__)


class AlertWatch:
    """Thread that looks for alerts until it is stopped."""

    def __init__(
        self,
        engine: Engine,
        accounts: AccountStore,
        connections: ConnectionStore,
        outgoing: OutgoingStores,
        stop: Event,
    ) -> None:
        """Look at what `engine` and `connections` have; put alerts into the outbox."""
        self._engine = engine
        self._accounts = accounts
        self._connections = connections
        self._outgoing = outgoing
        self._stop = stop

    def run(self) -> None:
        """Look until stopped; no error ends the loop."""
        while not self._stop.is_set():
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - without it nobody is told any more
                _log.warning("cannot look for alerts: %s", error)
            self._stop.wait(_LOOK_SECONDS)

    def look(self) -> int:
        """Look once; return how many notices are new."""
        added = self._add(self._weekly())
        for record in self._engine.store.experiments.records():
            try:
                added += self._add(self._of_experiment(record))
            except Exception as error:  # noqa: BLE001 - one campaign must not keep all others quiet
                extra = {"experiment": record.key}
                _log.warning("cannot look for alerts: %s", error, extra=extra)
        for connection in self._connections.all():
            added += self._add(self._of_connection(connection))
        return added

    def _add(self, notices: Iterable[NewNotice]) -> int:
        return self._outgoing.outbox.add(notices, at=self._engine.clock())

    def _listeners(self, alert: str, since: float) -> list[str]:
        return listeners(self._outgoing.alerts, self._accounts, alert, since=since)

    def _weekly(self) -> list[NewNotice]:
        """Return the summaries of this week, on Monday."""
        now = datetime.fromtimestamp(self._engine.clock(), UTC)
        monday = now.replace(hour=WEEKLY_HOUR, minute=0, second=0, microsecond=0)
        if now.weekday() != 0 or now < monday:
            return []
        event = f"weekly:{monday:%Y-%m-%d}"
        targets = self._listeners(WEEKLY, monday.timestamp())
        return [NewNotice(event, target, WEEKLY) for target in targets]

    def _of_experiment(self, record: ExperimentRecord) -> list[NewNotice]:
        if record.state == "running":
            return [*self._winner(record), *self._no_traffic(record)]
        if record.state == "paused":
            return self._winner(record)
        return self._ended(record) if record.state == "stopped" else []

    def _winner(self, record: ExperimentRecord) -> list[NewNotice]:
        now = self._engine.clock()
        targets = self._listeners("winner", now)
        if not targets:
            return []
        results = self._engine.results(record.key)
        verdict, title = results.verdict, record.configuration.experiment.title
        if verdict.action != "ship" or verdict.arm is None:
            return []
        subject = f"{title} has a winner" if verdict.leads else f"{title} can end"
        return _notices(
            f"winner:{record.id}:{verdict.arm}",
            targets,
            alert="winner",
            subject=subject,
            text=verdict_sentences(record, results, now),
            path=f"/experiments/{record.key}",
        )

    def _ended(self, record: ExperimentRecord) -> list[NewNotice]:
        now, stopped_at = self._engine.clock(), record.stopped_at or 0.0
        if now - stopped_at > DAY:
            return []
        targets = self._listeners("ended", stopped_at)
        if not targets:
            return []
        title = record.configuration.experiment.title
        text = verdict_sentences(record, self._engine.results(record.key), now)
        return _notices(
            f"ended:{record.id}:{stopped_at:.0f}",
            targets,
            alert="ended",
            subject=f"{title} has ended",
            text=text,
            path=f"/experiments/{record.key}",
        )

    def _no_traffic(self, record: ExperimentRecord) -> list[NewNotice]:
        now, since = self._engine.clock(), record.started_at or record.created_at
        if now - since < DAY:
            return []
        targets = self._listeners("no_traffic", now)
        if not targets:
            return []
        latest = self._engine.store.log.latest_decisions(record.key, limit=1)
        changes = self._accounts.changes(subject=f"experiment:{record.key}", limit=1)
        since = max([since, *(d.made_at for d in latest), *(c.at for c in changes)])
        if now - since < DAY:
            return []
        title = record.configuration.experiment.title
        return _notices(
            f"no_traffic:{record.id}:{since:.0f}",
            targets,
            alert="no_traffic",
            subject=f"{title} has sent nothing for a day",
            text=(
                f"The campaign is running, but no email was chosen since {_moment(since)}. Check"
                " that your mailer still asks for emails, or upload a list."
            ),
            path=f"/experiments/{record.key}",
        )

    def _of_connection(self, connection: Connection) -> list[NewNotice]:
        now, rejected_at = self._engine.clock(), connection.rejected_at
        accepted_at = connection.delivered_at or connection.created_at
        if connection.paused or rejected_at is None or now - rejected_at > DAY:
            return []
        if rejected_at <= accepted_at or now - accepted_at < _FAILING_SECONDS:
            return []
        day = datetime.fromtimestamp(rejected_at, UTC).date()
        text = f"Its last delivery was refused: {connection.rejection}."
        if connection.delivered_at is None:
            text = f"{text} None was accepted so far."
        else:
            text = f"{text} The last one that was accepted came on {_moment(accepted_at)}."
        return _notices(
            f"connection_failing:{connection.id}:{day}",
            self._listeners("connection_failing", now),
            alert="connection_failing",
            subject=f"The connection {connection.key} fails",
            text=text,
            path=f"/settings/connections/{connection.key}",
        )


def _notices(event: str, targets: Iterable[str], **content: str) -> list[NewNotice]:
    return [NewNotice(event, target, ALERT, content) for target in targets]


def verdict_sentences(record: ExperimentRecord, results: Results, now: float) -> str:
    """Write a verdict as the campaign's page does."""
    if results.verdict.reason == "sender":  # its words name an API key, which only pages can
        return "Results cannot be trusted at the moment: look at the campaign's health."
    return verdict_text(record, results, now).text


def _moment(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%-d %b %Y, %H:%M} UTC"
