"""A withdrawn event counts for nothing, as if it had never been reported, in every database."""

from datetime import UTC, datetime
from threading import Event as Flag

import numpy as np
import pytest

from bandits.actors import actor_of
from bandits.engine import Engine
from bandits.engine.retention import remove_old
from bandits.errors import InvalidInput
from bandits.schemas import Request, Reward, Withdrawal
from bandits.store.values import Deeds
from storage import open_store
from storage.snapshots.verify import compare
from tests.conftest import Sender
from webapp.webhooks.match_worker import MatchWorker

KEY, OTHER = actor_of("key", 1), actor_of("key", 2)
START, HOUR = 1_800_000_000.0, 3600.0
RULE = {
    "metrics": {"click": {}, "buy": {"count": "sum", "high": 100.0}},
    "window_seconds": 10 * HOUR,
    "maturity_seconds": 2 * HOUR,
}


@pytest.fixture
def now() -> list[float]:
    return [START]


@pytest.fixture
def shop(store, engine, sender, now):
    sender.start(reward=RULE, holdout=0.3)
    return Shop(store, engine, now)


class Shop:
    """A campaign, and a key that reports to it."""

    def __init__(self, store, engine, now) -> None:
        self.store, self.engine, self.now = store, engine, now

    def choose(self, *ids: str) -> None:
        self.engine.choose("spring", [Request(f"of {i}", decision_id=i) for i in ids])

    def report(self, decision_id, event_id="e-1", metric="click", value=1.0, actor=KEY):
        return self.engine.reward([Reward(decision_id, event_id, metric, value)], actor=actor)

    def withdraw(self, *keys: tuple[str, str], actor=KEY, own_only=True, partial=False):
        rows = [Withdrawal(*key) for key in keys]
        return self.engine.withdraw(rows, actor=actor, own_only=own_only, partial=partial)

    def learn(self) -> None:
        while self.engine.learn("spring"):
            pass
        self.sums()

    def sums(self) -> dict[str, np.ndarray]:
        """Return what is learned by name; the log, summed anew, says the same."""
        with self.store.snapshots.audit("spring") as audit:
            reports = compare(audit, lambda _: None)
        assert [d for report in reports for d in report.differences()] == []
        learned = {r.name: np.asarray(r.stored) for r in reports if "data_quality" not in r.name}
        # Buckets of recipients are by a secret of each database.
        return learned | {"results.clusters": learned["results.clusters"].sum(axis=-1)}

    def earned(self, decision_id: str) -> float:
        return self.engine.receipt(decision_id).reward


@pytest.mark.parametrize("seed", range(3))
def test_withdrawals_leave_what_a_log_without_their_events_has(shop, makers, tmp_path, seed):
    """Any order: before the event, after it was learned, after its window, and doubled."""
    draws = np.random.default_rng(seed)
    url = makers.upgraded()
    other = open_store(url, spool_folder=tmp_path / "other")
    try:
        Sender(other).start(reward=RULE, holdout=0.3)
        plain = Shop(other, Engine(other, lambda: shop.now[0]), shop.now)
        ids = [f"d-{i}" for i in range(30)]
        shop.choose(*ids)
        plain.choose(*ids)
        events = [
            (i, f"e-{k}", name, float(draws.integers(1, 5)) if name == "buy" else 1.0)
            for i in ids
            for k, name in enumerate(draws.choice(["click", "buy", "open"], 2).tolist())
        ]
        withdrawn = {(i, e) for i, e, *_ in events if draws.random() < 0.4}
        steps = [("event", event) for event in events]
        steps += [("withdraw", key) for key in sorted(withdrawn)] * 2
        steps += [("learn", None)] * 6
        for kind, of in [steps[i] for i in draws.permutation(len(steps))]:
            shop.now[0] += 12 * HOUR / len(steps)
            if kind == "learn":
                shop.learn()
            elif kind == "withdraw":
                shop.withdraw(of)
            else:
                shop.report(*of)
                if of[:2] not in withdrawn:
                    plain.report(*of)
        shop.now[0] += 12 * HOUR
        shop.learn()
        plain.learn()
        sums, expected = shop.sums(), plain.sums()
        assert sums.keys() == expected.keys()
        for name in sums:
            assert np.allclose(sums[name], expected[name], rtol=1e-9, atol=1e-9), name
        assert [shop.earned(i) for i in ids] == [plain.earned(i) for i in ids]
    finally:
        other.close()
        makers.give_back(url)


def test_withdrawal_of_a_withdrawal_by_a_void_makes_the_event_count_again(shop):
    shop.choose("d-1")
    shop.report("d-1")
    shop.now[0] += HOUR
    since = shop.now[0]
    assert shop.withdraw(("d-1", "e-1"), actor=OTHER, own_only=False).accepted == 1
    shop.now[0] += 5 * HOUR
    shop.learn()
    assert shop.earned("d-1") == 0.0
    shop.engine.void(Deeds(OTHER, since, shop.now[0]), by="test")
    assert shop.earned("d-1") == 1.0
    shop.sums()
    assert shop.withdraw(("d-1", "e-1")).accepted == 1  # the void one does not stand in its way
    shop.learn()
    assert shop.earned("d-1") == 0.0
    (void,) = shop.engine.voids("spring")
    shop.engine.restore(void.id, by="test")
    shop.learn()
    assert shop.earned("d-1") == 0.0


def test_void_of_the_reporter_takes_a_withdrawn_event_once(shop):
    shop.choose("d-1", "d-2")
    shop.report("d-1", actor=OTHER)
    shop.report("d-2", actor=KEY)
    shop.now[0] += 3 * HOUR
    shop.learn()
    shop.withdraw(("d-1", "e-1"), own_only=False)
    shop.engine.void(Deeds(OTHER, START, shop.now[0]), by="test")
    shop.learn()
    assert (shop.earned("d-1"), shop.earned("d-2")) == (0.0, 1.0)


def test_key_withdraws_what_it_reported_and_a_manager_anything(shop):
    shop.choose("d-1", "d-2")
    shop.report("d-1", actor=OTHER)
    shop.report("d-2")
    with pytest.raises(InvalidInput, match="reported by another"):
        shop.withdraw(("d-2", "e-1"), ("d-1", "e-1"))
    assert shop.earned("d-2") == 1.0  # nothing of the call was done
    receipt = shop.withdraw(("d-2", "e-1"), ("d-1", "e-1"), partial=True)
    assert (receipt.accepted, [(r.row, r.reason) for r in receipt.refused]) == (
        1,
        [(1, "another_key")],
    )
    assert (shop.earned("d-1"), shop.earned("d-2")) == (1.0, 0.0)
    assert shop.withdraw(("d-1", "e-1"), own_only=False).accepted == 1
    assert shop.earned("d-1") == 0.0


def test_key_cannot_withdraw_beforehand_what_another_will_report(shop):
    shop.choose("d-1")
    assert shop.withdraw(("d-1", "e-1"), actor=OTHER).accepted == 1
    shop.report("d-1")
    shop.now[0] += 5 * HOUR
    shop.learn()
    assert shop.earned("d-1") == 1.0


def test_withdrawal_counts_once_and_of_no_decision_is_listed(shop):
    shop.choose("d-1")
    key = ("d-1", "e-1")
    assert shop.withdraw(key, key).repeated == 1
    receipt = shop.withdraw(key, ("nobody's", "e-1"))
    assert (receipt.accepted, receipt.repeated, receipt.unknown) == (0, 1, ["nobody's"])
    assert shop.report("d-1").accepted == 1
    assert shop.earned("d-1") == 0.0


def test_event_that_waits_is_withdrawn(shop, sender):
    waiting = [Reward("d-9", "e-1", "click"), Reward("d-9", "e-2", "click")]
    shop.engine.reward(waiting, actor=KEY, wait=True)
    assert shop.withdraw(("d-9", "e-1"), actor=OTHER).unknown == ["d-9"]
    assert shop.withdraw(("d-9", "e-1")).accepted == 1
    shop.choose("d-9")
    assert MatchWorker(shop.engine, shop.store.connections, Flag()).look() == 1
    assert [e.event_id for e in shop.store.log.events("d-9")] == ["e-2"]


def test_final_result_refuses_in_words(shop):
    shop.choose("d-1")
    shop.report("d-1")
    shop.learn()
    shop.engine.stop("spring", by="test")
    shop.now[0] += 11 * HOUR
    with pytest.raises(InvalidInput, match="is final since 20"):
        shop.withdraw(("d-1", "e-1"))
    receipt = shop.withdraw(("d-1", "e-1"), partial=True)
    assert [r.reason for r in receipt.refused] == ["too_late"]
    assert shop.earned("d-1") == 1.0


def test_erasure_and_retention_leave_no_withdrawal(shop, store):
    shop.choose("d-1", "d-2")
    for i in ("d-1", "d-2"):
        shop.report(i)
        shop.withdraw((i, "e-1"))
    assert shop.engine.erase("of d-1", by="test").decisions == 1
    shop.learn()
    shop.now[0] += 12 * HOUR
    shop.learn()
    shop.withdraw(("d-2", "e-2"))  # not counted yet: its decision stays
    assert remove_old(store, "spring", before=shop.now[0], between=int) == 0
    shop.learn()
    assert remove_old(store, "spring", before=shop.now[0], between=int) == 1
    shop.sums()
    with store.database.reading() as transaction:
        query = "SELECT count(*) FROM withdrawals"
        assert transaction.connection.exec_driver_sql(query).scalar_one() == 0


def test_withdrawn_event_is_shown_as_such(shop):
    shop.choose("d-1")
    shop.report("d-1")
    shop.withdraw(("d-1", "e-1"))
    (event,) = shop.engine.receipt("d-1").events
    assert event["withdrawn"]
    assert datetime.fromtimestamp(START, UTC) == event["occurred_at"]
