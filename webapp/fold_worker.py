"""Fold worker: folds the due batches of every experiment, each at its own pace."""

import logging
import time
from collections import Counter
from functools import partial
from threading import Event

from bandits.engine import Engine
from bandits.engine.retention import DEFAULT_SNAPSHOT_BYTES
from bandits.errors import BanditsError
from bandits.experiment import DAY
from bandits.store.values import ExperimentRecord
from webapp.clock_guard import STEADY_SECONDS, ClockGuard, newest_recorded
from webapp.metrics import FoldMetrics

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0  # until an experiment that was just started is noticed
_QUIET_SECONDS = 3600.0  # between turns of a stopped experiment whose windows have all closed
_PAUSE_SECONDS = 0.05  # between the folds of a long queue, so that senders get a turn
_REMOVED_IN_A_TURN = 25_000  # old decisions, so that no other experiment waits long for its fold
_SUMMED_IN_A_TURN = 10  # portions of a log that is summed anew, so that folds go on meanwhile
_RESCORED_IN_A_TURN = 10  # portions of a log that other rules judge, likewise
_LONGEST_WAIT_SECONDS = 60.0  # after failures
_FOLDS_TO_THIN = 8  # after which snapshots are thinned, before the hour is over
_TOO_LARGE = (
    "snapshots are beyond BANDITS_MAX_SNAPSHOT_BYTES (%d): the oldest %d were let go before their"
    " time, and %d bytes are left"
)
_CLOCK_AHEAD = (
    "the clock is %.1f days further on than the newest decision and the time since then: nothing"
    " old is removed until it has gone on evenly for %g hours; set it right if it is wrong"
)


class FoldWorker:
    """Thread that folds running, paused and stopped experiments until it is stopped."""

    def __init__(
        self,
        engine: Engine,
        stop: Event,
        folds: FoldMetrics | None = None,
        *,
        max_snapshot_bytes: int = DEFAULT_SNAPSHOT_BYTES,
    ) -> None:
        """Fold by `engine` until `stop` is set.

        Args:
            engine: folds.
            stop: ends it.
            folds: counts folds.
            max_snapshot_bytes: that the snapshots of an experiment may have.
        """
        self._folds = folds or FoldMetrics()
        self._max_snapshot_bytes = max_snapshot_bytes
        self._folded: Counter[str] = Counter()  # since snapshots were thinned
        self._warn_at: dict[str, float] = {}
        self._engine = engine
        self._stop = stop
        self._next: dict[str, float] = {}
        self._prune_at: dict[str, float] = {}
        self._summed: set[str] = set()  # experiments whose sums lack nothing
        self._clock_guard = ClockGuard(engine.clock, lambda: newest_recorded(engine.store))
        self._failures: Counter[str] = Counter()

    def run(self) -> None:
        """Fold until stopped; no error ends the loop."""
        failures = 0
        while not self._stop.is_set():
            try:
                wait = self.look()
                failures = 0
            except Exception as error:  # noqa: BLE001 - without its fold worker no experiment learns
                failures += 1
                wait = _retry_seconds(failures)
                _log.warning("cannot read experiments, trying again in %g s: %s", wait, error)
            self._stop.wait(wait)

    def look(self) -> float:
        """Fold every experiment whose turn has come; return the seconds until the next turn."""
        soonest = time.monotonic() + _LOOK_SECONDS
        for record in self._engine.store.experiments.records():
            if self._stop.is_set():
                break
            record = self._keep_to_schedule(record)  # noqa: PLW2901 - the same one, as it stands now
            if record.state in {"running", "paused", "stopped"} or _has_retention(record):
                if self._next.get(record.key, 0.0) <= time.monotonic():
                    self._next[record.key] = time.monotonic() + self._learn(record)
                soonest = min(soonest, self._next[record.key])
            elif record.started:  # archived
                self._try_to_sum_anew(record)
        return max(soonest - time.monotonic(), 0.0)

    def _keep_to_schedule(self, record: ExperimentRecord) -> ExperimentRecord:
        """Start or stop an experiment at its scheduled time; a failure is tried again soon."""
        try:
            return self._engine.keep_to_schedule(record)
        except BanditsError as error:
            extra = {"experiment": record.key}
            _log.warning("cannot keep to the schedule yet: %s", error, extra=extra)
            return record

    def _learn(self, record: ExperimentRecord) -> float:
        """Fold one experiment; return the seconds until its next turn."""
        start = time.perf_counter()
        try:
            between = partial(self._between_folds, record)
            snapshot = self._engine.learn(record.key, between=between)
            if snapshot is not None:
                self._count_fold(record)
            self._prune(record)
            summed = self._sum_anew(record) and self._rescore(record)
        except Exception as error:  # noqa: BLE001 - one bad experiment must not stop the others
            self._failures[record.key] += 1
            self._folds.count_failure()
            wait = _retry_seconds(self._failures[record.key])
            unexpected = not isinstance(error, BanditsError)
            message = "learning failed, trying again in %g s: %s"
            extra = {"experiment": record.key}
            _log.warning(message, wait, error, exc_info=unexpected, extra=extra)
            return wait
        self._failures.pop(record.key, None)
        if snapshot is not None:
            seconds = time.perf_counter() - start
            self._folds.count(seconds)
            fold = {"experiment": record.key, "milliseconds": round(seconds * 1000, 3)}
            _log.debug("learned version %d", snapshot.version, extra=fold)
        return self._pace(record) if summed else 0.0

    def _sum_anew(self, record: ExperimentRecord) -> bool:
        """Sum some of a log anew where an upgrade asks for it; return True if nothing is left."""
        if record.key in self._summed:
            return True
        done = self._engine.sum_anew(
            record.key, between=self._let_others_write, portions=_SUMMED_IN_A_TURN
        )
        if done:
            self._summed.add(record.key)
        return done

    def _rescore(self, record: ExperimentRecord) -> bool:
        """Judge some emails anew where the rules have changed; return True if nothing is left."""
        return self._engine.rescore(
            record.key, between=self._let_others_write, portions=_RESCORED_IN_A_TURN
        )

    def _try_to_sum_anew(self, record: ExperimentRecord) -> None:
        try:
            self._sum_anew(record)
        except BanditsError as error:
            _log.warning("cannot sum anew yet: %s", error, extra={"experiment": record.key})

    def _prune(self, record: ExperimentRecord) -> None:
        """Delete old snapshots and old decisions, about hourly."""
        if self._prune_at.get(record.key, 0.0) <= time.monotonic():
            self._thin(record)
            self._engine.prune_networks(between=self._let_others_write)
            removed = self._retain(record)
            if removed < _REMOVED_IN_A_TURN:  # else there is more, at its next turn
                self._prune_at[record.key] = time.monotonic() + _QUIET_SECONDS

    def _between_folds(self, record: ExperimentRecord) -> None:
        """Let others write, and thin snapshots also while a long backlog is folded."""
        self._let_others_write()
        self._count_fold(record)

    def _count_fold(self, record: ExperimentRecord) -> None:
        """Thin snapshots once there are a few more: each may have tens of megabytes."""
        self._folded[record.key] += 1
        if self._folded[record.key] >= _FOLDS_TO_THIN:
            self._thin(record)

    def _thin(self, record: ExperimentRecord) -> None:
        """Delete snapshots that are old or too large together; warn of the latter about hourly."""
        self._folded[record.key] = 0
        most = self._max_snapshot_bytes
        plan = self._engine.prune(record.key, between=self._let_others_write, most_bytes=most)
        if not plan.by_size and plan.left <= most:
            return
        if self._warn_at.get(record.key, 0.0) <= time.monotonic():
            self._warn_at[record.key] = time.monotonic() + _QUIET_SECONDS
            extra = {"experiment": record.key}
            _log.warning(_TOO_LARGE, most, len(plan.by_size), plan.left, extra=extra)

    def _retain(self, record: ExperimentRecord) -> int:
        """Remove decisions past their retention by a trusted clock; return their number."""
        if record.configuration.experiment.retention_days is None:
            return 0
        if ahead := self._clock_guard.ahead():
            extra = {"experiment": record.key}
            _log.warning(_CLOCK_AHEAD, ahead / DAY, STEADY_SECONDS / 3600, extra=extra)
            return 0
        return self._engine.retain(
            record.key, between=self._let_others_write, enough=_REMOVED_IN_A_TURN
        )

    def _let_others_write(self) -> None:
        self._stop.wait(_PAUSE_SECONDS)

    def _pace(self, record: ExperimentRecord) -> float:
        """Return the seconds between two turns of an experiment."""
        experiment = record.configuration.experiment
        if record.stopped_at is not None:
            closes = record.stopped_at + experiment.reward.window_seconds
            if self._engine.clock() > closes + experiment.learn_every_seconds:
                return _QUIET_SECONDS
        return experiment.learn_every_seconds


def _has_retention(record: ExperimentRecord) -> bool:
    """Return True for an experiment whose old decisions are removed, even once it is archived."""
    return record.started and record.configuration.experiment.retention_days is not None


def _retry_seconds(failures: int) -> float:
    """Return the seconds until the next attempt, doubled by each failure."""
    return min(2.0 ** (failures - 1), _LONGEST_WAIT_SECONDS)
