"""Experiments that start and stop at their dates, in every database."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Event

import pytest
from msgspec import convert
from msgspec.structs import replace

from bandits.engine import Engine
from bandits.errors import WrongState
from bandits.experiment import Experiment
from webapp.fold_worker import FoldWorker

START, END = 1_800_000_100.0, 1_800_000_200.0
LEARNERS = 4


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


@pytest.fixture
def clock():
    class Clock:
        now = START - 100

        def __call__(self) -> float:
            return self.now

    return Clock()


@pytest.fixture
def engine(store, clock) -> Engine:
    return Engine(store, clock)


@pytest.fixture
def learner(engine) -> FoldWorker:
    return FoldWorker(engine, Event())


@pytest.fixture
def draft(engine):
    """Make a draft with these dates; return its key."""

    def make(**dates):
        declared = {
            "key": "spring",
            "slots": [{"key": "subject_line", "variants": [{"key": "a"}, {"key": "b"}]}],
            "policy": {"name": "uniform"},
            "reward": {"metrics": {"click": {}}},
        }
        given = {name: moment(at) for name, at in dates.items()}
        return engine.create(convert(declared | given, Experiment), by="anna").key

    return make


def moves(store):
    return [
        (c.by, c.before["state"], c.after["state"])
        for c in reversed(store.accounts.changes())
        if c.action == "move"
    ]


def test_a_draft_starts_and_stops_at_its_dates_and_the_audit_log_says_by_schedule(
    store, clock, learner, draft
):
    key = draft(starts_at=START, ends_at=END)
    learner.look()
    assert store.experiments.record(key).state == "draft", "not a moment early"
    clock.now = START
    learner.look()
    assert (store.experiments.record(key).state, store.experiments.record(key).started_at) == (
        "running",
        START,
    )
    clock.now = END - 0.001
    learner.look()
    assert store.experiments.record(key).state == "running"
    clock.now = END + 3
    learner.look()
    assert (store.experiments.record(key).state, store.experiments.record(key).stopped_at) == (
        "stopped",
        END + 3,
    )
    assert moves(store) == [
        ("schedule", "draft", "running"),
        ("schedule", "running", "stopped"),
    ]


def test_schedule_of_several_fold_workers_starts_and_stops_once(store, clock, draft):
    key = draft(starts_at=START, ends_at=END)

    def look(_):
        FoldWorker(Engine(store, clock), Event()).look()

    with ThreadPoolExecutor(LEARNERS) as pool:
        for clock.now in (START, END):
            list(pool.map(look, range(2 * LEARNERS)))
    assert store.experiments.record(key).state == "stopped"
    assert [(before, after) for _, before, after in moves(store)] == [
        ("draft", "running"),
        ("running", "stopped"),
    ]


def test_schedule_leaves_an_experiment_that_another_fold_worker_started(
    engine, store, clock, draft
):
    draft(starts_at=START, ends_at=END)
    clock.now = START
    seen = store.experiments.record("spring")
    engine.keep_to_schedule(seen)
    engine.pause("spring", by="anna")
    assert engine.keep_to_schedule(seen).state == "paused", "a late learner resumes nothing"
    assert len(moves(store)) == 2


def test_paused_experiment_stops_at_its_end_and_without_dates_never_moves(
    engine, store, clock, learner, draft
):
    key = draft(ends_at=END)
    clock.now = START
    learner.look()
    assert store.experiments.record(key).state == "draft", "an end alone starts nothing"
    engine.start(key, by="anna")
    engine.pause(key, by="anna")
    clock.now = END
    learner.look()
    assert store.experiments.record(key).state == "stopped"


def test_a_draft_whose_end_passed_is_never_started(engine, store, clock, learner, draft):
    key = draft(starts_at=START, ends_at=END)
    clock.now = END + 1
    learner.look()
    assert store.experiments.record(key).state == "draft"
    with pytest.raises(WrongState, match="its ends_at has passed"):
        engine.start(key, by="anna")


def test_running_experiment_can_be_given_a_later_end(engine, store, clock, learner, draft):
    key = draft(ends_at=END)
    engine.start(key, by="anna")
    record = store.experiments.record(key)
    later = datetime.fromtimestamp(END + 50, UTC)
    edited = replace(record.configuration.experiment, ends_at=later)
    engine.edit(key, edited, version=record.configuration.version, by="anna")
    clock.now = END + 10
    learner.look()
    assert store.experiments.record(key).state == "running"
    clock.now = END + 50
    learner.look()
    assert store.experiments.record(key).state == "stopped"
