"""Events whose earlier ones of the same id are void: one of each id counts, in every database."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bandits.actors import actor_of
from bandits.engine.fold import fold
from bandits.engine.sums import load_sums
from bandits.errors import IdReused
from bandits.store.values import Deeds, Event
from storage.snapshots.observations import Observations
from storage.snapshots.verify import compare

HONEST, THIEF = actor_of("key", 1), actor_of("key", 2)
ACTORS = [HONEST, THIEF, actor_of("key", 3)]
RULE = {
    "metrics": {"order": {"count": "sum", "high": 100.0}},
    "window_seconds": 1000.0,
    "maturity_seconds": 10.0,
}


class Log:
    """A running experiment, its decisions, and what actors report of them."""

    def __init__(self, engine, sender, key: str, n: int, now: list[float]) -> None:
        self.engine, self.sender, self.store, self.now = engine, sender, sender.store, now
        self.record = sender.start(key, reward=RULE)
        chosen = sender.chosen(n)
        self.store.log.append_decisions(self.record, chosen, actor=HONEST, at=now[0])
        self.ids = chosen.ids

    def report(self, actor, rows, value, *, event_id="e", metric="order") -> list[int]:
        """Report an event of each decision; return the positions of those that came before."""
        now = self.now[0]
        new = [Event(self.ids[row], event_id, metric, value, now) for row in rows]
        return list(self.store.log.append_events(self.sender.told(new), actor=actor, at=now))

    def void(self, actor) -> int:
        self.now[0] += 1.0
        deeds = Deeds(actor, 0.0, self.now[0])
        (part,) = self.engine.void(deeds, by="anna", experiment=self.record.key).experiments
        assert part.void is not None
        return part.void

    def learn(self) -> None:
        while fold(self.store, self.record.key, now=self.now[0]):
            pass

    def check(self, reward: float) -> None:
        """See that the sums are those of the log, and the reward in them."""
        with self.store.snapshots.audit(self.record.key) as audit:
            assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []
        record = self.store.experiments.record(self.record.key)
        snapshot = self.store.snapshots.snapshot(record.key, record.learned_version)
        counts = load_sums(record.configuration, snapshot).counts
        assert counts.reward.sum() == pytest.approx(reward)

    def counting(self, row: int = 0) -> list[float]:
        """Return the values of a decision's events that count."""
        events = self.store.log.events(self.ids[row])
        return [e.value for e in events if not (e.late or e.void)]


@pytest.fixture
def log(engine, sender, now) -> Log:
    now[0] = 1.0
    return Log(engine, sender, "spring", 3, now)


def test_event_counts_once_what_was_reported_under_its_id_is_void(log, now):
    """Before: it was refused, or taken for a repetition, for good."""
    log.report(THIEF, [0, 1], 90.0)
    now[0] = 20.0
    log.learn()
    log.check(180.0)
    with pytest.raises(IdReused):
        log.report(HONEST, [0], 5.0)
    log.void(THIEF)
    log.check(0.0)
    assert log.report(HONEST, [0], 5.0) == []
    assert log.report(HONEST, [0], 5.0) == [0]
    with pytest.raises(IdReused):
        log.report(HONEST, [0], 6.0)
    log.learn()
    log.check(5.0)
    events = log.store.log.events(log.ids[0])
    assert [(e.event_id, e.value, e.void) for e in events] == [("e", 90.0, True), ("e", 5.0, False)]
    assert log.engine.receipt(log.ids[0]).reward == 5.0


def test_event_stays_in_its_place_once_the_void_is_restored(log, now):
    log.report(THIEF, [0, 1], 90.0)
    now[0] = 20.0
    log.learn()
    number = log.void(THIEF)
    log.report(HONEST, [0], 5.0)
    log.learn()
    log.engine.restore(number, by="anna")
    log.check(5.0 + 90.0)
    assert (log.counting(0), log.counting(1)) == ([5.0], [90.0])
    log.void(HONEST)  # and so are the decisions; nothing is left
    log.check(0.0)


def test_event_that_stood_in_a_place_gives_it_back_where_it_is_void(log, now):
    third = ACTORS[2]
    log.report(THIEF, [0], 90.0)
    now[0] = 20.0
    number = log.void(THIEF)
    log.report(third, [0], 5.0)
    log.engine.restore(number, by="anna")  # before a fold has seen either
    log.learn()
    log.check(5.0)
    log.void(third)
    log.check(90.0)
    assert log.report(HONEST, [0], 90.0) == [0]


def test_event_of_another_metric_corrects_what_was_learned(log, now):
    """The one in whose place it stands counts again when it comes, and earned something."""
    log.report(THIEF, [0], 90.0)
    now[0] = 20.0
    log.learn()
    number = log.void(THIEF)
    log.report(HONEST, [0], 1.0, metric="open")
    log.engine.restore(number, by="anna")
    log.check(90.0)
    log.learn()
    log.check(0.0)


def test_sums_of_earlier_versions_are_made_again_from_the_log(log, store, now):
    log.report(THIEF, [0, 1], 90.0)
    now[0] = 20.0
    log.learn()
    version = store.experiments.record("spring").learned_version
    log.void(THIEF)
    log.report(HONEST, [0, 1], 5.0)
    log.learn()
    record = store.experiments.record("spring")
    with store.database.reading() as transaction:
        for as_of, values in {version: [90.0, 90.0], record.learned_version: [5.0, 5.0]}.items():
            (learned,) = Observations(transaction, record, as_of=as_of).learned()
            assert learned.event_values.tolist() == values


def test_many_events_at_once_are_put_in_place_by_one_of_two_calls(engine, sender, now):
    now[0] = 1.0
    log = Log(engine, sender, "spring", 300, now)
    rows = range(300)
    log.report(THIEF, rows, 90.0)
    log.void(THIEF)
    both = Barrier(2)

    def report(actor) -> int:
        both.wait(30)
        return 300 - len(log.report(actor, rows, 5.0))

    with ThreadPoolExecutor(2) as threads:
        counted = list(threads.map(report, [HONEST, ACTORS[2]]))
    assert sum(counted) == 300
    now[0] = 20.0
    log.learn()
    log.check(1500.0)


class Model:
    """What should count of two ids of three decisions, told report by report."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.reports: dict[tuple[int, str], list[tuple[int, float, float]]] = {}
        self.voids: dict[int, list[tuple[int, float]]] = {1: [], 2: []}  # by actor

    def counting(self, row: int, event_id: str) -> list[float]:
        """Return the values reported under an id that are not void, the newest last."""
        return [
            value
            for actor, at, value in self.reports.get((row, event_id), [])
            if all(at >= until for _, until in self.voids.get(actor, []))
        ]

    def report(self, actor: int, row: int, value: int) -> None:
        event_id = "ab"[value % 2]
        earlier = self.counting(row, event_id)
        if earlier and earlier[-1] != value:
            with pytest.raises(IdReused):
                self.log.report(ACTORS[actor], [row], float(value), event_id=event_id)
            return
        repeated = self.log.report(ACTORS[actor], [row], float(value), event_id=event_id)
        assert repeated == ([0] if earlier else [])
        if not earlier:
            stored = self.reports.setdefault((row, event_id), [])
            stored.append((actor, self.log.now[0], float(value)))

    def void(self, actor: int) -> None:
        counting = (at for stored in self.reports.values() for of, at, _ in stored if of == actor)
        if any(all(at >= until for _, until in self.voids[actor]) for at in counting):
            self.voids[actor].append((self.log.void(ACTORS[actor]), self.log.now[0]))

    def restore(self, actor: int) -> None:
        if self.voids[actor]:
            self.log.engine.restore(self.voids[actor].pop()[0], by="anna")

    def wait(self) -> None:
        self.log.now[0] += 6.0

    def learn(self) -> None:
        self.log.learn()

    def check(self) -> None:
        self.log.now[0] += 20.0
        self.log.learn()
        total = 0.0
        for row in range(3):
            newest = [values[-1] for i in "ab" if (values := self.counting(row, i))]
            assert sorted(self.log.counting(row)) == sorted(newest)
            total += sum(newest)
        self.log.check(total)


# The one who chose, actor 0, stays: without its decisions there would be nothing to count.
REPORT = st.tuples(st.just("report"), st.integers(0, 2), st.integers(0, 2), st.integers(1, 3))
CHANGE = st.tuples(st.sampled_from(["void", "restore"]), st.integers(1, 2))
STEPS = st.lists(
    st.one_of(REPORT, REPORT, CHANGE, st.tuples(st.sampled_from(["learn", "wait"]))),
    min_size=3,
    max_size=16,
)


def test_event_of_each_id_counts_once_whatever_is_void(engine, sender, now):
    numbers = count()

    @settings(
        max_examples=settings().max_examples // 6,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(STEPS)
    def run(steps):
        now[0] = 1.0
        model = Model(Log(engine, sender, f"k{next(numbers)}", 3, now))
        for name, *arguments in steps:
            now[0] += 0.5
            getattr(model, name)(*arguments)
        model.check()

    run()
