"""Retention as the learner does it, by a clock that may be wrong."""

from threading import Event

import pytest

from bandits.schemas import Request
from webapp.fold_worker import FoldWorker

DAY, YEAR = 86_400.0, 365 * 86_400.0
START = 1_800_000_000.0
RULE = {"metrics": {"click": {}}, "window_seconds": DAY, "maturity_seconds": 3600.0}


@pytest.fixture
def now():
    return [START]


def test_a_clock_that_is_years_ahead_at_one_look_removes_nothing(engine, sender, now, caplog):
    sender.start(reward=RULE, retention_days=30, policy={"name": "thompson"})
    ids = [d.decision_id for d in engine.choose("spring", [Request(f"u-{i}") for i in range(5)])]
    engine.learn("spring")
    now[0] = START + 5 * YEAR
    FoldWorker(engine, Event()).look()
    assert set(engine.store.log.decisions(ids)) == set(ids)
    assert "days further on" in caplog.text


def test_decisions_older_than_the_retention_go_by_a_clock_that_is_right(engine, sender, now):
    sender.start(reward=RULE, retention_days=30, policy={"name": "thompson"})
    old = engine.choose("spring", [Request(f"u-{i}") for i in range(5)])
    now[0] = START + 31 * DAY
    (new,) = engine.choose("spring", [Request("v")])
    FoldWorker(engine, Event()).look()
    assert set(engine.store.log.decisions([d.decision_id for d in [*old, new]])) == {
        new.decision_id
    }
