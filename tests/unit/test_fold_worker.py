"""The learner: every experiment at its own pace, whatever happens to one of them."""

from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from bandits.engine.retention import DEFAULT_SNAPSHOT_BYTES, ThinningPlan
from bandits.errors import Unavailable
from webapp import clock_guard, fold_worker
from webapp.clock_guard import FAR_SECONDS, STEADY_SECONDS, ClockGuard
from webapp.fold_worker import FoldWorker

HOUR, DAY, YEAR = 3600.0, 86_400.0, 365 * 86_400.0


class Experiments:
    """An engine with experiments to learn; some of them fail."""

    def __init__(self, **states: str) -> None:
        self.store = self.experiments = self.log = self
        self.states = states
        self.learned: list[str] = []
        self.pruned: list[str] = []
        self.retained: list[str] = []
        self.summed: list[str] = []
        self.portions_left = 0
        self.unscored = 0  # portions that other rules judge
        self.rescored: list[str] = []
        self.networks_pruned = 0
        self.folds = 1  # of each turn
        self.most_bytes = DEFAULT_SNAPSHOT_BYTES
        self.plan = ThinningPlan([], [], 0)
        self.retention_days: int | None = 30
        self.old = 0
        self.failing: dict[str, Exception] = {}
        self.now = self.newest = 1000.0
        self.broken = False

    def clock(self) -> float:
        return self.now

    def records(self) -> list[Any]:
        if self.broken:
            raise Unavailable("gone")
        return [self.record(key, state) for key, state in self.states.items()]

    def record(self, key: str, state: str) -> Any:
        declared = SimpleNamespace(
            learn_every_seconds=5.0,
            reward=SimpleNamespace(window_seconds=100.0),
            retention_days=self.retention_days,
        )
        return SimpleNamespace(
            key=key,
            state=state,
            started=state != "draft",
            created_at=900.0,
            started_at=900.0 if state != "draft" else None,
            configuration=SimpleNamespace(experiment=declared),
            stopped_at=900.0 if state == "stopped" else None,
        )

    def latest_decisions(self, key: str, *, limit: int) -> list[Any]:
        return [SimpleNamespace(made_at=self.newest)] if key == "a" else []

    def keep_to_schedule(self, record: Any) -> Any:
        return record

    def learn(self, key: str, *, between: Any = None) -> Any:
        if key in self.failing:
            raise self.failing[key]
        self.learned.append(key)
        for _ in range(self.folds - 1):
            between()
        return SimpleNamespace(version=len(self.learned)) if self.folds else None

    def prune(self, key: str, *, between: Any = None, most_bytes: int) -> ThinningPlan:
        assert most_bytes == self.most_bytes
        self.pruned.append(key)
        return self.plan

    def retain(self, key: str, *, between: Any = None, enough: float) -> int:
        removed = int(min(self.old, enough))
        self.old -= removed
        self.retained.append(key)
        return removed

    def sum_anew(self, key: str, *, between: Any = None, portions: float) -> bool:
        self.summed.append(key)
        self.portions_left = int(max(self.portions_left - portions, 0))
        return self.portions_left == 0

    def rescore(self, key: str, *, between: Any = None, portions: float) -> bool:
        self.rescored.append(key)
        self.unscored = int(max(self.unscored - portions, 0))
        return self.unscored == 0

    def prune_networks(self, *, between: Any = None) -> None:
        self.networks_pruned += 1


@pytest.fixture
def time(monkeypatch) -> SimpleNamespace:
    """A monotonic clock that stands still until it is set."""
    standing = SimpleNamespace(now=50.0)
    standing.monotonic = lambda: standing.now
    standing.perf_counter = lambda: standing.now
    monkeypatch.setattr(fold_worker, "time", standing)
    monkeypatch.setattr(clock_guard, "time", standing)
    return standing


def test_fold_worker_leaves_drafts_and_archived_experiments_alone(time) -> None:
    engine = Experiments(a="draft", b="running", c="paused", d="stopped", e="archived")
    engine.retention_days = None
    FoldWorker(engine, Event()).look()
    assert engine.learned == ["b", "c", "d"]


def test_retention_removes_a_few_rows_at_each_turn_so_that_others_are_folded(time) -> None:
    engine = Experiments(a="running", b="running")
    engine.old = 3 * fold_worker._REMOVED_IN_A_TURN
    learner = FoldWorker(engine, Event())
    for _ in range(6):
        learner.look()
        time.now += 5.0
    assert engine.learned == ["a", "b"] * 6
    assert engine.old == 0
    assert engine.retained == ["a", "b", "a", "b", "a"]


def test_log_is_summed_anew_a_few_portions_at_a_turn_until_nothing_is_left(time) -> None:
    engine = Experiments(a="running", d="draft", e="archived")
    engine.retention_days = None
    engine.portions_left = 3 * fold_worker._SUMMED_IN_A_TURN
    learner = FoldWorker(engine, Event())
    waits = [learner.look() for _ in range(3)]
    assert waits[0] == 0.0
    assert engine.portions_left == 0
    time.now += 100.0
    learner.look()
    assert engine.summed[:3] == ["a", "e", "a"]
    assert sorted(set(engine.summed)) == ["a", "e"]
    summed = len(engine.summed)
    time.now += 100.0
    learner.look()
    assert len(engine.summed) == summed
    assert set(engine.learned) == {"a"}


def test_emails_are_judged_anew_a_few_portions_at_a_turn_whenever_rules_change(time) -> None:
    engine = Experiments(a="running")
    engine.unscored = 2 * fold_worker._RESCORED_IN_A_TURN
    learner = FoldWorker(engine, Event())
    assert learner.look() == 0.0
    assert learner.look() > 0.0
    assert engine.unscored == 0
    time.now += 100.0
    engine.unscored = 1  # the rules change once more
    learner.look()
    assert engine.unscored == 0
    assert engine.learned == ["a"] * 3


def test_archived_experiment_is_folded_where_retention_is_declared(time) -> None:
    engine = Experiments(a="draft", b="running", e="archived")
    FoldWorker(engine, Event()).look()
    assert engine.learned == engine.retained == ["b", "e"]


def test_thinning_comes_after_a_few_folds_and_within_a_long_backlog(time) -> None:
    engine = Experiments(a="running", b="running")
    learner = FoldWorker(engine, Event())
    learner.look()
    assert engine.pruned == ["a", "b"]  # the first turn of all
    for _ in range(fold_worker._FOLDS_TO_THIN - 1):
        time.now += 5.0
        learner.look()
    assert engine.pruned == ["a", "b"]
    time.now += 5.0
    learner.look()
    assert engine.pruned == ["a", "b"] * 2
    learner._let_others_write = lambda: None  # type: ignore[method-assign]  # it would wait
    engine.folds = 3 * fold_worker._FOLDS_TO_THIN
    time.now += 5.0
    learner.look()
    assert engine.pruned == ["a", "b"] * 2 + ["a"] * 3 + ["b"] * 3
    assert len(engine.retained) == 2


def test_thinning_warns_hourly_of_snapshots_that_are_too_large(time, caplog) -> None:
    engine = Experiments(a="running")
    engine.most_bytes = 7
    engine.folds = 0
    learner = FoldWorker(engine, Event(), max_snapshot_bytes=7)
    learner.look()
    assert caplog.records == []
    engine.plan = ThinningPlan([1], [2, 3], 6)
    for _ in range(3):
        time.now += HOUR
        learner.look()
        time.now += 5.0
        learner.look()
    message = (
        "snapshots are beyond BANDITS_MAX_SNAPSHOT_BYTES (7): the oldest 2 were let go before their"
        " time, and 6 bytes are left"
    )
    assert [(r.getMessage(), r.experiment) for r in caplog.records] == [(message, "a")] * 3
    engine.plan = ThinningPlan([1], [], 8)  # all of them are needed
    time.now += 2 * HOUR
    learner.look()
    assert len(caplog.records) == 4


def test_retention_runs_once_an_hour(time) -> None:
    engine = Experiments(a="running")
    engine.folds = 0  # nothing is due
    learner = FoldWorker(engine, Event())
    for _ in range(13):
        learner.look()
        time.now += 300.0
    assert len(engine.learned) == 13
    assert engine.pruned == engine.retained == ["a", "a"]  # an hour has passed


def test_retention_removes_nothing_while_the_clock_is_years_ahead(time, caplog) -> None:
    engine = Experiments(a="running")
    learner = FoldWorker(engine, Event())
    learner.look()
    assert engine.retained == ["a"]
    time.now += HOUR
    engine.now += HOUR + 3 * YEAR
    learner.look()
    assert engine.retained == ["a"]
    assert engine.learned == ["a", "a"], "all else goes on"
    assert "1095.0 days further on" in caplog.text
    assert "6 hours" in caplog.text
    time.now += HOUR
    engine.now += HOUR - 3 * YEAR
    learner.look()
    assert engine.retained == ["a", "a"], "it was set right"


class Clocks:
    """A clock that people set and one that nobody sets, and a log that is written by the first."""

    def __init__(self, time: SimpleNamespace) -> None:
        self.steady = time
        self.now = 2_000_000_000.0
        self.newest: float | None = self.now
        self.belief = ClockGuard(lambda: self.now, lambda: self.newest)

    def busy(self, seconds: float) -> None:
        """Let time pass, in which somebody sends."""
        self.idle(seconds)
        self.newest = self.now

    def idle(self, seconds: float) -> None:
        """Let time pass, in which nobody sends."""
        self.now += seconds
        self.steady.now += seconds

    def believed(self) -> bool:
        return self.belief.ahead() == 0

    def restart(self) -> None:
        """Start the server anew: what it knew of the clock is gone."""
        self.belief = ClockGuard(lambda: self.now, lambda: self.newest)


@pytest.fixture
def clocks(time) -> Clocks:
    return Clocks(time)


def test_clock_guard_believes_a_clock_that_goes_on_however_long_nobody_sends(clocks) -> None:
    assert clocks.believed()
    for seconds in (HOUR, 10 * DAY, YEAR):
        clocks.idle(seconds)
        assert clocks.believed()


def test_clock_guard_believes_a_clock_a_little_ahead_or_stepped_back(clocks) -> None:
    assert clocks.believed()
    for step in (FAR_SECONDS - 1, -YEAR, 300.0):
        clocks.now += step
        assert clocks.believed()


def test_clock_guard_doubts_a_clock_that_jumped_also_where_it_wrote_the_log(clocks) -> None:
    assert clocks.believed()
    clocks.now += YEAR
    clocks.busy(60.0)
    assert clocks.belief.ahead() == pytest.approx(YEAR)
    clocks.busy(HOUR)
    assert not clocks.believed()
    clocks.now += YEAR  # from here on it has to be steady anew
    clocks.busy(STEADY_SECONDS - HOUR)
    assert not clocks.believed()
    clocks.busy(STEADY_SECONDS - 1)
    assert not clocks.believed()
    clocks.busy(1.0)
    assert clocks.believed()


def test_clock_guard_believes_a_clock_ahead_at_the_start_within_a_night(clocks) -> None:
    clocks.idle(40 * DAY)  # nobody sent, or it is wrong: nothing tells
    for _ in range(3):
        clocks.restart()
        assert not clocks.believed()
        clocks.idle(STEADY_SECONDS - 1)
        assert not clocks.believed()
        clocks.idle(DAY - STEADY_SECONDS)
        assert clocks.believed()


def test_clock_guard_believes_any_clock_with_an_empty_log(clocks) -> None:
    clocks.newest = None
    clocks.idle(YEAR)
    assert clocks.believed()


def test_clock_guard_never_believes_a_clock_that_other_machines_contradict(clocks) -> None:
    clocks.now += YEAR
    for _ in range(50):
        assert not clocks.believed()
        clocks.idle(HOUR)
        clocks.newest = clocks.now - YEAR
    clocks.now -= YEAR
    assert clocks.believed()


def test_fold_worker_keeps_each_experiments_pace_and_notices_new_ones_in_a_second(time) -> None:
    engine = Experiments(a="running")
    learner = FoldWorker(engine, Event())
    assert learner.look() == 1.0
    time.now += 4.9
    assert learner.look() == pytest.approx(0.1)
    engine.states["b"] = "running"
    time.now += 0.1
    learner.look()
    assert sorted(engine.learned) == ["a", "a", "b"]


def test_stopped_experiment_is_folded_no_more_once_its_windows_have_closed(time) -> None:
    engine = Experiments(a="stopped")
    learner = FoldWorker(engine, Event())
    for _ in range(3):  # stopped 100 seconds ago: its last window closes right now
        learner.look()
        time.now += 5.0
    assert engine.learned == ["a"] * 3
    engine.now += 100
    for _ in range(4):
        learner.look()
        time.now += 5.0
    assert engine.learned == ["a"] * 4
    time.now += 3600
    learner.look()
    assert engine.learned == ["a"] * 5


def test_fold_worker_backs_off_by_experiment(time) -> None:
    engine = Experiments(bad="running", good="running")
    engine.failing["bad"] = ValueError("broken")
    tried = []
    engine_learn = engine.learn
    engine.learn = lambda key, **_: (tried.append((key, time.now - 50.0)), engine_learn(key))[1]
    learner = FoldWorker(engine, Event())
    for _ in range(40):
        learner.look()
        time.now += 1.0
    assert [at for key, at in tried if key == "bad"] == [0, 1, 3, 7, 15, 31]
    assert [at for key, at in tried if key == "good"] == [0, 5, 10, 15, 20, 25, 30, 35]
    engine.failing.clear()
    time.now += 60
    learner.look()
    assert engine.learned[-2:] == ["bad", "good"]
    time.now += 5
    learner.look()
    assert engine.learned[-2:] == ["bad", "good"], "once it works it is back at its own pace"


def test_fold_worker_survives_a_store_that_is_gone(caplog) -> None:
    engine = Experiments(a="running")
    engine.broken = True
    stop = Event()
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            engine.broken = False
        if engine.learned:
            stop.set()

    FoldWorker(engine, SimpleNamespace(is_set=stop.is_set, wait=wait)).run()
    assert waits[:3] == [1, 2, 4]
    assert engine.learned == ["a"]
    assert "cannot read experiments" in caplog.text
