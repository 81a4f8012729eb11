"""A metric of the latest value: the largest (as_of, event id) counts, in every database."""

from datetime import UTC, datetime
from threading import Event as Flag

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bandits.actors import actor_of
from bandits.engine import Engine
from bandits.engine.retention import remove_old
from bandits.engine.sums import load_inference_state
from bandits.errors import IdReused, InvalidInput
from bandits.schemas import Request, Reward, Withdrawal
from bandits.store.values import Deeds
from storage import open_store
from storage.snapshots.verify import compare
from tests.conftest import Sender
from webapp.signals.signal_event import SignalBatch, SignalEvent
from webapp.webhooks.match_worker import MatchWorker
from webapp.webhooks.signal_recorder import SignalRecorder

KEY, OTHER = actor_of("key", 1), actor_of("key", 2)
START, HOUR = 1_800_000_000.0, 3600.0
RULE = {
    "metrics": {
        "margin": {"latest": True, "low": -50.0, "high": 50.0},
        "click": {},
    },
    "window_seconds": 10 * HOUR,
    "maturity_seconds": 2 * HOUR,
}


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class OrderLog:
    """A campaign that earns the margin of each order as it is by now."""

    def __init__(self, store, engine, now) -> None:
        self.store, self.engine, self.now = store, engine, now

    def start(self, key: str = "spring", **declared) -> None:
        Sender(self.store).start(key, reward=RULE, **declared)

    def choose(self, *ids: str, key: str = "spring") -> None:
        self.engine.choose(key, [Request(f"of {i}", decision_id=i) for i in ids])

    def report(self, decision_id, event_id, value, as_of, actor=KEY, **options):
        time = None if as_of is None else moment(START + as_of)
        reward = Reward(decision_id, event_id, "margin", value, as_of=time)
        return self.engine.reward([reward], actor=actor, **options)

    def withdraw(self, decision_id, event_id):
        row = Withdrawal(decision_id, event_id)
        return self.engine.withdraw([row], actor=KEY, own_only=True, partial=False)

    def learn(self, key: str = "spring") -> None:
        while self.engine.learn(key):
            pass

    def sums(self, key: str = "spring") -> dict[str, np.ndarray]:
        """Return what is learned by name; the log, summed anew, says the same."""
        with self.store.snapshots.audit(key) as audit:
            reports = compare(audit, lambda _: None)
        assert [d for report in reports for d in report.differences()] == []
        return {r.name: np.asarray(r.stored) for r in reports if "data_quality" not in r.name}

    def step(self, kind: str, key: str, decision_id: str, e: int) -> None:
        match kind:
            case "learn":
                self.learn(key)
                self.sums(key)
            case "withdraw":
                self.withdraw(decision_id, f"e-{e}")
            case "report":
                self.report(decision_id, f"e-{e}", *CONTENT[e])

    def earned(self, decision_id: str) -> float:
        return self.engine.receipt(decision_id).reward


@pytest.fixture
def now() -> list[float]:
    return [START]


@pytest.fixture
def orders(store, engine, now):
    log = OrderLog(store, engine, now)
    log.start()
    return log


def test_latest_value_counts_in_whatever_order_it_comes(orders, now):
    orders.choose("d-1", "d-2", "d-3")
    reports = [("e-2", 5.0, 20.0), ("e-3", -7.0, 10.0), ("e-1", 9.0, 20.0)]
    for event in reports:
        orders.report("d-1", *event)
    for event in reversed(reports):
        orders.report("d-2", *event)
    orders.report("d-3", "e-1", 8.0, 10.0)
    orders.report("d-3", "e-2", 0.0, 30.0)
    assert [orders.earned(i) for i in ("d-1", "d-2", "d-3")] == [5.0, 5.0, 0.0]
    now[0] += 11 * HOUR
    orders.learn()
    assert orders.sums()["arm_counts.reward"].sum() == pytest.approx(10.0)
    assert event_counts(orders) == (2, 2)


def event_counts(orders: OrderLog) -> tuple[float, float]:
    """Return how many emails have a margin other than 0, and how often one counts."""
    record = orders.store.experiments.record("spring")
    snapshot = orders.store.snapshots.snapshot("spring", record.learned_version)
    events = load_inference_state(record.configuration, snapshot).events
    so_far = events.so_far[events.names.index("margin")].sum(axis=-1)
    return so_far[0], so_far[1]


def test_earlier_value_counts_once_the_latest_is_withdrawn_and_is_corrected_after_closing(
    orders, now
):
    orders.choose("d-1")
    orders.report("d-1", "e-1", 5.0, 10.0)
    orders.report("d-1", "e-2", 8.0, 20.0)
    now[0] += 11 * HOUR
    orders.learn()
    assert orders.earned("d-1") == 8.0
    orders.withdraw("d-1", "e-2")
    orders.learn()
    assert orders.earned("d-1") == 5.0
    assert orders.sums()["arm_counts.reward"].sum() == pytest.approx(5.0)
    orders.withdraw("d-1", "e-1")
    orders.learn()
    assert orders.sums()["arm_counts.reward"].sum() == pytest.approx(0.0)


def test_late_value_never_counts_though_it_is_the_latest(orders, now):
    orders.choose("d-1")
    orders.report("d-1", "e-1", 5.0, 10.0)
    now[0] += 11 * HOUR
    assert orders.report("d-1", "e-2", 8.0, 20.0).late == 1
    orders.learn()
    assert orders.earned("d-1") == 5.0
    assert orders.sums()["arm_counts.reward"].sum() == pytest.approx(5.0)


def test_value_before_the_maturity_counts_as_known_then(orders, now):
    """Late results are measured against what was known at maturity: the latest value then."""
    orders.choose("d-1")
    now[0] += HOUR
    orders.report("d-1", "e-1", 5.0, 10.0)
    now[0] += 2 * HOUR
    orders.report("d-1", "e-2", 8.0, 20.0)
    now[0] += 10 * HOUR
    orders.learn()
    moved, earned = (orders.sums()[f"results.lateness.{name}"] for name in ("moved", "earned"))
    assert (abs(moved).sum(), earned.sum()) == (pytest.approx(3.0), pytest.approx(8.0))


def test_void_of_the_latest_and_its_restoration(orders, now):
    orders.choose("d-1")
    orders.report("d-1", "e-1", 5.0, 10.0)
    now[0] += HOUR
    since = now[0]
    orders.report("d-1", "e-2", 8.0, 20.0, actor=OTHER)
    now[0] += 5 * HOUR
    orders.learn()
    orders.engine.void(Deeds(OTHER, since, now[0]), by="test")
    orders.learn()
    assert orders.earned("d-1") == 5.0
    assert orders.sums()["arm_counts.reward"].sum() == pytest.approx(5.0)
    (void,) = orders.engine.voids("spring")
    orders.engine.restore(void.id, by="test")
    orders.learn()
    assert orders.earned("d-1") == 8.0
    assert orders.sums()["arm_counts.reward"].sum() == pytest.approx(8.0)
    orders.engine.void(Deeds(OTHER, since, now[0]), by="test")
    assert orders.report("d-1", "e-2", 9.0, 5.0).accepted == 1  # in the place of the void one
    orders.learn()
    assert orders.earned("d-1") == 5.0
    orders.sums()


def test_removed_decisions_keep_their_latest_value_in_the_sums(orders, now, store):
    orders.choose("d-1")
    orders.report("d-1", "e-2", 8.0, 20.0)
    orders.report("d-1", "e-1", 5.0, 10.0)
    now[0] += 11 * HOUR
    orders.learn()
    assert remove_old(store, "spring", before=now[0], between=int) == 1
    assert orders.sums()["arm_counts.reward"].sum() == pytest.approx(8.0)


def test_reward_without_as_of_is_refused_by_its_row(orders):
    orders.choose("d-1")
    with pytest.raises(InvalidInput) as refusal:
        orders.engine.reward(
            [
                Reward("d-1", "e-1", "margin", 5.0, as_of=moment(START)),
                Reward("d-1", "e-2", "margin", 5.0),
                Reward("d-1", "e-3", "click"),
            ]
        )
    assert [f.pointer for f in refusal.value.faults] == ["/rewards/1/as_of"]
    assert "latest as_of counts" in refusal.value.faults[0].detail
    receipt = orders.report("d-1", "e-2", 5.0, None, partial=True)
    assert [(r.row, r.reason) for r in receipt.refused] == [(0, "invalid")]
    signals = [Reward("d-1", "e-2", "margin", 5.0)]
    outcome = orders.engine.record_signals(signals, actor=actor_of("connection", "shop"))
    assert "as_of is required" in outcome.refused[0]


def test_as_of_of_another_metric_is_kept_and_changes_nothing(orders):
    orders.choose("d-1")
    click = Reward("d-1", "e-1", "click", as_of=moment(START - 5.0))
    assert orders.engine.reward([click]).accepted == 1
    assert orders.earned("d-1") == 1.0
    (event,) = orders.engine.receipt("d-1").events
    assert event["as_of"] == moment(START - 5.0)


def test_event_id_with_another_as_of_is_refused(orders):
    """Else the first report would count, so that the order of arrival mattered."""
    orders.choose("d-1")
    orders.report("d-1", "e-1", 5.0, 10.0)
    assert orders.report("d-1", "e-1", 5.0, 10.0).repeated == 1
    with pytest.raises(IdReused):
        orders.report("d-1", "e-1", 5.0, 30.0)
    both = [Reward("d-1", "e-2", "margin", 5.0, as_of=moment(START + s)) for s in (1.0, 2.0)]
    with pytest.raises(IdReused):
        orders.engine.reward(both)


def test_event_that_waits_keeps_its_as_of(orders, store):
    for event in (("e-1", 5.0, 10.0), ("e-2", 8.0, 5.0)):
        assert orders.report("d-9", *event, wait=True).waiting == 1
    assert orders.report("d-9", "e-1", 5.0, 10.0, wait=True).waiting == 1  # as before
    with pytest.raises(IdReused):
        orders.report("d-9", "e-1", 5.0, 11.0, wait=True)
    orders.choose("d-9")
    assert MatchWorker(orders.engine, store.connections, Flag()).look() == 2
    assert orders.earned("d-9") == 5.0


def test_events_of_a_connection_keep_their_as_of_also_while_they_wait(orders, store):
    connection = store.connections.add(
        "standard_webhooks", "shop", {}, fields={}, metrics={}, at=START, by="test"
    )
    recorder = SignalRecorder(orders.engine)

    def deliver(*events: SignalEvent):
        batch = SignalBatch(events)
        return recorder.deliver(store.connections, connection, batch, at=START)

    def margin(event_id, value, as_of):
        time = None if as_of is None else moment(START + as_of)
        content = {"decision_ids": ("d-9",), "value": value, "as_of": time}
        return SignalEvent(name="margin", event_id=event_id, **content)

    assert len(deliver(margin("e-1", 5.0, 10.0)).unmatched) == 1
    orders.choose("d-9")
    assert MatchWorker(orders.engine, store.connections, Flag()).look() == 1
    outcome = deliver(margin("e-2", 8.0, 5.0), margin("e-3", 9.0, None))
    assert (outcome.recorded, len(outcome.refused)) == (1, 1)
    assert "as_of is required" in outcome.refused[0].reason
    assert orders.earned("d-9") == 5.0
    assert {e["as_of"] for e in orders.engine.receipt("d-9").events} == {
        moment(START + 10.0),
        moment(START + 5.0),
    }


EVENTS = st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans())  # decision, id, withdrawn
CONTENT = (  # of event ids: value and as_of; two have the same time
    (5.0, 30.0),
    (-20.0, 10.0),
    (0.0, 30.0),
    (12.5, 20.0),
    (3.0, -1e6),
)


def test_any_order_with_doubles_and_withdrawals_is_as_the_log_in_order(
    store, engine, now, makers, tmp_path
):
    """Shuffled, doubled, withdrawn and folded in between, beside what is left of it, in order."""
    keys = iter(range(10**9))
    url = makers.upgraded()
    other = open_store(url, spool_folder=tmp_path / "other")
    shuffled = OrderLog(store, engine, now)
    ordered = OrderLog(other, Engine(other, lambda: now[0]), now)

    @settings(
        max_examples=max(settings().max_examples // 10, 5),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(EVENTS, max_size=12), st.integers(0, 2**20))
    def run(rows, seed):
        draws, key = np.random.default_rng(seed), f"k{next(keys)}"
        ids = [f"{key}-{i}" for i in range(4)]
        for log in (shuffled, ordered):
            log.start(key)
            log.choose(*ids, key=key)
        withdrawn = {row[:2] for row in rows if row[2]}
        steps = [("report", row[:2]) for row in rows for _ in range(draws.integers(1, 3))]
        steps += [*(("withdraw", row) for row in withdrawn), *[("learn", (0, 0))] * 3]
        for kind, (of, e) in [steps[i] for i in draws.permutation(len(steps))]:
            now[0] += 9 * HOUR / len(steps)
            shuffled.step(kind, key, ids[of], e)
        kept = {row[:2] for row in rows} - withdrawn
        now[0] -= 9 * HOUR
        for of, e in sorted(kept, key=lambda row: (CONTENT[row[1]][1], row[1])):
            now[0] += HOUR / 3
            ordered.report(ids[of], f"e-{e}", *CONTENT[e])
        now[0] += 24 * HOUR
        for log in (shuffled, ordered):
            log.learn(key)
        for i, decision_id in enumerate(ids):
            newest = max(((CONTENT[e][1], e) for of, e in kept if of == i), default=None)
            expected = 0.0 if newest is None else CONTENT[newest[1]][0]
            for log in (shuffled, ordered):
                assert log.earned(decision_id) == pytest.approx(expected, abs=1e-9)
        sums, expected_sums = shuffled.sums(key), ordered.sums(key)
        assert sums.keys() == expected_sums.keys()
        for name in (name for name in sums if "late" not in name):  # which is by report times
            assert np.allclose(sums[name], expected_sums[name], rtol=1e-9, atol=1e-9), name

    try:
        run()
    finally:
        other.close()
        makers.give_back(url)
