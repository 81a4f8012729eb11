"""The learner: every experiment at its own pace, whatever happens to one of them."""

from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from bandits.errors import Unavailable
from webapp import learning
from webapp.learning import Learner


class Experiments:
    """An engine with experiments to learn; some of them fail."""

    def __init__(self, **states: str) -> None:
        self.store = self
        self.states = states
        self.learned: list[str] = []
        self.pruned: list[str] = []
        self.retained: list[str] = []
        self.retention_days: int | None = None
        self.old = 0
        self.failing: dict[str, Exception] = {}
        self.now = 1000.0
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
            configuration=SimpleNamespace(experiment=declared),
            stopped_at=900.0 if state == "stopped" else None,
        )

    def keep_to_schedule(self, record: Any) -> Any:
        return record

    def learn(self, key: str, *, between: Any = None) -> None:
        if key in self.failing:
            raise self.failing[key]
        self.learned.append(key)

    def prune(self, key: str, *, between: Any = None) -> None:
        self.pruned.append(key)

    def retain(self, key: str, *, between: Any = None, enough: float) -> int:
        removed = int(min(self.old, enough))
        self.old -= removed
        self.retained.append(key)
        return removed


@pytest.fixture
def time(monkeypatch) -> SimpleNamespace:
    """A monotonic clock that stands still until it is set."""
    standing = SimpleNamespace(now=50.0)
    standing.monotonic = lambda: standing.now
    standing.perf_counter = lambda: standing.now
    monkeypatch.setattr(learning, "time", standing)
    return standing


def test_drafts_and_archived_ones_are_left_alone(time) -> None:
    engine = Experiments(a="draft", b="running", c="paused", d="stopped", e="archived")
    Learner(engine, Event()).look()
    assert engine.learned == ["b", "c", "d"]


def test_many_old_rows_are_let_go_a_few_at_each_turn_so_that_others_learn(time) -> None:
    engine = Experiments(a="running", b="running")
    engine.old = 3 * learning._REMOVED_IN_A_TURN
    learner = Learner(engine, Event())
    for _ in range(6):
        learner.look()
        time.now += 5.0
    assert engine.learned == ["a", "b"] * 6
    assert engine.old == 0
    assert engine.retained == ["a", "b", "a", "b", "a"]


def test_an_archived_one_is_gone_through_where_its_rows_are_not_kept_for_ever(time) -> None:
    engine = Experiments(a="draft", b="running", e="archived")
    engine.retention_days = 30
    Learner(engine, Event()).look()
    assert engine.learned == engine.retained == ["b", "e"]


def test_what_is_old_is_let_go_now_and_then(time) -> None:
    engine = Experiments(a="running")
    learner = Learner(engine, Event())
    for _ in range(13):
        learner.look()
        time.now += 300.0
    assert len(engine.learned) == 13
    assert engine.pruned == engine.retained == ["a", "a"]  # an hour has passed


def test_each_waits_for_its_own_time_and_new_ones_are_noticed_within_a_second(time) -> None:
    engine = Experiments(a="running")
    learner = Learner(engine, Event())
    assert learner.look() == 1.0
    time.now += 4.9
    assert learner.look() == pytest.approx(0.1)
    engine.states["b"] = "running"
    time.now += 0.1
    learner.look()
    assert sorted(engine.learned) == ["a", "a", "b"]


def test_a_stopped_one_is_quiet_once_its_windows_have_closed(time) -> None:
    engine = Experiments(a="stopped")
    learner = Learner(engine, Event())
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


def test_one_that_fails_is_tried_less_and_less_and_stops_no_other(time) -> None:
    engine = Experiments(bad="running", good="running")
    engine.failing["bad"] = ValueError("broken")
    tried = []
    engine_learn = engine.learn
    engine.learn = lambda key, **_: (tried.append((key, time.now - 50.0)), engine_learn(key))[1]
    learner = Learner(engine, Event())
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


def test_a_store_that_is_gone_does_not_end_it(caplog) -> None:
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

    Learner(engine, SimpleNamespace(is_set=stop.is_set, wait=wait)).run()
    assert waits[:3] == [1, 2, 4]
    assert engine.learned == ["a"]
    assert "cannot read experiments" in caplog.text
