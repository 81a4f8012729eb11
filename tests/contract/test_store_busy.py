"""What is slow or too much holds nobody up for long."""

from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from threading import Event as Signal
from typing import ClassVar

import numpy as np

from bandits import registry, waits
from bandits.engine import Engine
from bandits.errors import Unavailable
from bandits.policy import Parameters
from bandits.registry import register
from bandits.schemas import Request, Reward
from bandits.statistics import Moments
from tests.patience import LIMIT_SECONDS


def test_slow_policy_holds_up_no_other_reads_and_writes(store, sender, monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(registry.policies()))
    begun, answered = Signal(), Signal()

    @register("slow", label="Slow", support=(0.0, 1.0))
    class Slow(Parameters, frozen=True):
        """Take all the time there is.

        Source: every large model.
        """

        statistic: ClassVar[type[Moments]] = Moments

        def prepare(self, _known, problem, _upcoming, _rng):
            begun.set()
            assert answered.wait(LIMIT_SECONDS)
            return problem.n_arms

        def propensities(self, prepared, _contexts):
            return np.full(prepared, 1 / prepared)

    engine = Engine(store)
    sender.start(policy={"name": "slow"}, reward={"metrics": {"click": {}}})
    autumn = sender.start("autumn", policy={"name": "uniform"})
    with ThreadPoolExecutor(1) as pool:
        try:
            deciding = pool.submit(engine.choose, "spring", [Request(f"u-{i}") for i in range(500)])
            assert begun.wait(LIMIT_SECONDS)
            (made,) = engine.choose("autumn", [Request("u-1")])
            assert engine.reward([Reward(made.decision_id, "e", "click")]).accepted == 1
            assert engine.learn("autumn").version == 1
            assert store.experiments.record(autumn.key).learned_version == 1
            assert not deciding.done()
        finally:
            answered.set()
        assert len(deciding.result()) == 500


def test_group_commit_refuses_calls_beyond_its_queue(store, sender, monkeypatch):
    monkeypatch.setattr(waits, "MOST_WAITING", 3)
    record = sender.start()
    committing, go_on = Signal(), Signal()
    append = store.database.append

    def hold(*given):
        committing.set()
        assert go_on.wait(LIMIT_SECONDS)
        return append(*given)

    outcomes: Queue[object] = Queue()
    chosen = [sender.chosen() for _ in range(8)]

    def choose(some):
        try:
            outcomes.put(store.log.append_decisions(record, some, at=1.0))
        except Unavailable as error:
            outcomes.put(error)

    monkeypatch.setattr(store.database, "append", hold)
    with ThreadPoolExecutor(8) as pool:
        try:
            pool.submit(choose, chosen[0])
            assert committing.wait(LIMIT_SECONDS)
            for some in chosen[1:]:
                pool.submit(choose, some)
            refused = [outcomes.get(timeout=LIMIT_SECONDS) for _ in range(4)]
        finally:
            go_on.set()
    assert all(isinstance(r, Unavailable) for r in refused)
    assert {r.retry_after_seconds for r in refused} == {1}
    assert [outcomes.get_nowait() for _ in range(4)] == [{}] * 4
    assert len(store.log.decisions([c.ids[0] for c in chosen])) == 4
    assert (
        store.log.append_decisions(record, sender.chosen(), at=2.0) == {}
    )  # the queue is open again
