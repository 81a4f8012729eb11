"""Spool worker: records what workers have answered and written to the spool."""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from threading import Event

from msgspec.structs import replace

from bandits.actors import Actor
from bandits.engine import Engine
from bandits.errors import Unavailable
from bandits.event_ids import connection_event_id
from bandits.tracking_tokens import TokenKind
from storage import SqlStore
from storage.connections import NewUnmatchedEvent
from storage.spool import SpoolRecord
from storage.tracked_links import TrackingCounts, tracking_actor
from webapp.links import tracked_hit
from webapp.links.tracked_hit import TrackedHit, hit_of
from webapp.signals.signal_event import SignalBatch
from webapp.webhooks import spooled_delivery
from webapp.webhooks.signal_recorder import SignalRecorder

WAIT_SECONDS = 86_400.0  # for an activation
_LOOK_SECONDS = 0.5
_AGAIN_SECONDS = 30.0  # between looks at events whose decision waits for its activation
_PRUNE_SECONDS = 3600.0
_LONGEST_WAIT_SECONDS = 30.0  # after failures
_HOUR_SECONDS = 3600.0
MOST_EVENTS_AN_HOUR = 100  # opens and clicks of one email: a reader makes a few, a scanner some ten
_TimedHit = tuple[float, TrackedHit]
_log = logging.getLogger(__name__)


class SpoolWorker:
    """Thread that drains the spool until it is stopped."""

    def __init__(self, engine: Engine, store: SqlStore, stop: Event) -> None:
        """Record by `engine` what is in the spool of `store`, until `stop` is set."""
        self._engine = engine
        self._store = store
        self._stop = stop
        self._recorder = SignalRecorder(engine)
        self._prune_at = 0.0

    def run(self) -> None:
        """Drain until stopped; no error ends the loop."""
        failures = 0
        while not self._stop.is_set():
            try:
                self.look()
                failures = 0
            except Exception as error:  # noqa: BLE001 - without it nothing of the spool is counted
                failures += 1
                _log.warning("cannot record what is in the spool: %s", error)
            self._stop.wait(min(_LOOK_SECONDS * 2.0**failures, _LONGEST_WAIT_SECONDS))

    def look(self) -> int:
        """Record everything in the spool that is due; return how many records."""
        now = self._engine.clock()
        count = self._store.spool.drain(self._handle, now=now, wait_seconds=_AGAIN_SECONDS)
        if self._prune_at <= time.monotonic():
            self._store.tracked_links.remove_expired(at=now)
            self._prune_at = time.monotonic() + _PRUNE_SECONDS
        return count

    def _handle(self, records: Sequence[SpoolRecord]) -> list[SpoolRecord]:
        """Record a portion; where one of it fails in a way of its own, it alone waits.

        Raises:
            Unavailable: the store cannot record, or the thread is to stop.
        """
        if self._stop.is_set():
            raise Unavailable("the server stops")
        try:
            return self._record(records)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - one bad record must not stop the others
            if len(records) > 1:
                return [waiting for record in records for waiting in self._handle([record])]
            age = self._engine.clock() - records[0].received_at
            _log.error("cannot record one of the %s", records[0].topic, exc_info=error)
            return list(records) if age < WAIT_SECONDS else []

    def _record(self, records: Sequence[SpoolRecord]) -> list[SpoolRecord]:
        hits = defaultdict(list)
        for record in records:
            if record.topic == tracked_hit.TOPIC:
                hit = hit_of(record)
                hits[hit.key_id, hit.signer].append((record.received_at, hit))
            else:
                spooled_delivery.record_delivery(record, self._recorder, self._store.connections)
        waiting: list[SpoolRecord] = []
        counts: dict[str, TrackingCounts] = {}
        unsubscribed: dict[str, float] = {}
        for (key_id, signer), hits_of_key in hits.items():
            actor = tracking_actor(key_id, signer)
            counted, ahead = self._record_hits(actor, hits_of_key, unsubscribed)
            counts[key_id] = counts.get(key_id, TrackingCounts()) + counted
            waiting += ahead
        if counts:
            at = max(at for hits_of_key in hits.values() for at, _ in hits_of_key)
            self._store.tracked_links.note(counts, unsubscribed, at=at)
        return waiting

    def _record_hits(
        self,
        actor: Actor,
        hits: Sequence[_TimedHit],
        unsubscribed: dict[str, float],
    ) -> tuple[TrackingCounts, list[SpoolRecord]]:
        """Record hits of links that one actor signed, each with its time.

        Args:
            actor: in whose name they are recorded.
            hits: in the order that they came.
            unsubscribed: gets the decisions of those who unsubscribed.

        Returns:
            What became of them, and those that wait for an activation.
        """
        secret = self._store.log.trace_key()
        for at, hit in hits:
            if hit.kind is TokenKind.UNSUBSCRIBE:  # of an erased subject too: it is a new wish
                for decision_id in hit.decision_ids:
                    unsubscribed.setdefault(decision_id, at)
        present, erased = self._without_erased(hits)
        left = self._recordable(present, secret)
        events = [hit.event(at, secret) for at, hit in left]
        outcome = self._recorder.record_as(actor, {}, SignalBatch(tuple(events)))
        for reason in sorted({refusal.reason for refusal in outcome.refused}):
            _log.warning("events of tracked links do not fit: %s", reason)
        unknown = self._unknown(outcome.unmatched)
        waiting, expired = [], 0
        ahead = {(e.decision_id, e.event_id) for e in outcome.unmatched} - unknown
        for (at, hit), event in zip(left, events, strict=True):
            event_id = connection_event_id(actor, event.event_id)
            ids = tuple(i for i in hit.decision_ids if (i, event_id) in ahead)
            if ids and self._engine.clock() - at >= WAIT_SECONDS:
                expired += len(ids)
            elif ids:
                waiting.append(replace(hit, decision_ids=ids).record(at))
        counts = TrackingCounts(
            outcome.recorded,
            outcome.repeated,
            outcome.late,
            outcome.without_decision + len(unknown) + erased,
            expired,
            len(outcome.refused),
            len(present) - len(left),
        )
        return counts, waiting

    def _without_erased(self, hits: Sequence[_TimedHit]) -> tuple[list[_TimedHit], int]:
        """Leave erased decisions out of hits, also where a later one has the id; count them."""
        erased = self._store.tracked_links.erased(_ids(hits))
        present, count = [], 0
        for at, hit in hits:
            ids = tuple(i for i in hit.decision_ids if i not in erased)
            count += len(hit.decision_ids) - len(ids)
            if ids:
                present.append((at, replace(hit, decision_ids=ids)))
        return present, count

    def _recordable(self, hits: Sequence[_TimedHit], secret: bytes) -> list[_TimedHit]:
        """Leave out hits that no person can have made, and those of an email that has too many.

        Where a campaign judges opens and clicks, a machine's are recorded with their signs, since
        the other events of the email are judged by them. Where it does not, they would count.
        """
        ids = _ids(hits)
        judging = self._judging(ids) if any(hit.is_machine for _, hit in hits) else frozenset()
        counts = self._counts_by_hour(ids, hits)
        seen: set[tuple[str, str]] = set()
        left = []
        for at, hit in hits:
            if hit.kind is TokenKind.UNSUBSCRIBE:
                left.append((at, hit))
                continue
            event_id, own = hit.event_id(at, secret), []
            for decision_id in hit.decision_ids:
                if hit.is_machine and decision_id not in judging:
                    continue
                place = decision_id, int(at // _HOUR_SECONDS)
                if (decision_id, event_id) not in seen:
                    counts[place] += 1
                    seen.add((decision_id, event_id))
                if counts[place] <= MOST_EVENTS_AN_HOUR:
                    own.append(decision_id)
            if own:
                left.append((at, replace(hit, decision_ids=tuple(own))))
        return left

    def _judging(self, ids: Sequence[str]) -> frozenset[str]:
        """Find the decisions whose campaigns judge opens and clicks."""
        refs = self._store.log.targets(ids).refs
        keys = {ref.experiment for ref in refs if ref is not None}
        recent = self._store.experiments.recent
        judging = {k for k in keys if recent(k).configuration.experiment.machine_rules is not None}
        return frozenset(
            i
            for i, ref in zip(ids, refs, strict=True)
            if ref is not None and ref.experiment in judging
        )

    def _counts_by_hour(
        self, ids: Sequence[str], hits: Sequence[_TimedHit]
    ) -> Counter[tuple[str, int]]:
        """Count the events of links that are recorded, by decision, in the hours of these hits."""
        if not hits:
            return Counter()
        hours = [int(at // _HOUR_SECONDS) for at, _ in hits]
        since, until = min(hours) * _HOUR_SECONDS, (max(hours) + 1) * _HOUR_SECONDS
        times = self._store.log.times_of_links(ids, since=since, until=until)
        return Counter((i, int(at // _HOUR_SECONDS)) for i, at in times)

    def _unknown(self, events: Sequence[NewUnmatchedEvent]) -> set[tuple[str, str]]:
        """Find the events whose decision does not exist: of an erased subject, say."""
        refs = self._store.log.targets([event.decision_id for event in events]).refs
        return {
            (event.decision_id, event.event_id)
            for event, ref in zip(events, refs, strict=True)
            if ref is None
        }


def _ids(hits: Sequence[_TimedHit]) -> list[str]:
    return sorted({i for _, hit in hits for i in hit.decision_ids})
