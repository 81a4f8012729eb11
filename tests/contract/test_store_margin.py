"""A metric whose weight depends on a slot's variant, in every database."""

from typing import Any

import msgspec
import numpy as np
import pytest

from bandits.actors import actor_of
from bandits.engine.retention import remove_old
from bandits.engine.sums import load_inference_state
from bandits.errors import FixedOnceStarted, InvalidInput
from bandits.experiment import Experiment
from bandits.schemas import Request, Reward, Withdrawal
from bandits.store.values import Deeds
from storage.snapshots.verify import compare
from tests.conftest import Sender

KEY = actor_of("key", 1)
ORDER = {"count": "sum", "low": -100.0, "high": 100.0, "weight": 0.5, "currency": "EUR"}
BY = {"by": {"discount": {"d10": 0.4, "d60": -0.2}}}
RULE: dict[str, Any] = {
    "metrics": {"order": ORDER | BY, "click": {"weight": 0.25}},
    "window_seconds": 1000.0,
    "maturity_seconds": 10.0,
    "costs": {"discount": {"d10": 1.0}},
}
DISCOUNTS = ("d0", "d10", "d60")


class Shop:
    """A running campaign of three discounts, with emails that got one of them each."""

    def __init__(self, store, engine, now) -> None:
        self.store, self.engine, self.now = store, engine, now

    def start(self, rule: dict[str, Any] = RULE, **declared: Any) -> None:
        """Start it, and send an email with each discount, whose id is that discount."""
        slots = [{"key": "discount", "variants": [{"key": key} for key in DISCOUNTS]}]
        policy = {"name": "thompson_gaussian"}
        Sender(self.store).start(slots=slots, reward=rule, policy=policy, **declared)
        for discount in DISCOUNTS:
            self.send(discount)

    def send(self, discount: str) -> None:
        eligible = {"discount": [discount]}
        request = Request(f"of {discount}", decision_id=discount, eligible=eligible)
        (decision,) = self.engine.choose("spring", [request])
        assert decision.slots["discount"]["variant"] == discount

    def order(self, decision_id: str, value: float, event_id: str = "e-1") -> None:
        self.engine.reward([Reward(decision_id, event_id, "order", value)], actor=KEY)

    def learn(self, at: float) -> None:
        self.now[0] = at
        while self.engine.learn("spring"):
            pass

    def sums(self) -> dict[str, np.ndarray]:
        """Return what is learned by name; the log, summed anew, says the same."""
        with self.store.snapshots.audit("spring") as audit:
            reports = compare(audit, lambda _: None)
        assert [d for report in reports for d in report.differences()] == []
        return {r.name: np.asarray(r.stored) for r in reports if "data_quality" not in r.name}

    def earned(self) -> list[float]:
        """Return the rewards of the three emails by their receipts; those learned are the same."""
        earned = [self.engine.receipt(discount).reward for discount in DISCOUNTS]
        assert self.sums()["arm_counts.reward"][:3].tolist() == pytest.approx(earned)
        return earned


@pytest.fixture
def shop(store, engine, now) -> Shop:
    return Shop(store, engine, now)


def test_order_weighs_as_its_variant_says_in_receipts_and_in_what_is_learned(shop):
    shop.start()
    for discount in DISCOUNTS:
        shop.order(discount, 60.0)
    shop.learn(20.0)
    assert shop.earned() == pytest.approx([30.0, 24.0 - 1.0, -12.0])
    assert shop.engine.receipt("d10").weights == {"click": 0.25, "order": 0.4}
    assert shop.engine.receipt("d0").weights == {"click": 0.25, "order": 0.5}
    assert shop.sums()["statistic.total"].tolist() == pytest.approx([30.0, 23.0, -12.0])


def test_refund_correction_withdrawal_and_void_take_off_what_they_brought(shop):
    shop.start()
    for discount in DISCOUNTS:
        shop.order(discount, 60.0)
    shop.learn(20.0)
    shop.order("d10", -60.0, "e-2")  # sent back, after it was learned
    shop.order("d60", -10.0, "e-2")
    shop.learn(30.0)
    assert shop.earned() == pytest.approx([30.0, -1.0, -10.0])
    shop.engine.withdraw([Withdrawal("d10", "e-2")], actor=KEY, own_only=True, partial=False)
    shop.learn(1100.0)
    assert shop.earned() == pytest.approx([30.0, 23.0, -10.0])
    shop.engine.void(Deeds(KEY, 0.0, shop.now[0]), by="test")
    shop.learn(1200.0)
    assert shop.sums()["arm_counts.reward"].sum() == pytest.approx(-1.0)  # the cost of sending d10


def test_late_orders_are_measured_by_the_weights_of_their_variants(shop):
    """Late results are measured against the reward at maturity: both by the same weight."""
    shop.start()
    shop.order("d10", 50.0)
    shop.now[0] = 500.0
    shop.order("d10", 10.0, "e-2")
    shop.order("d60", 40.0)
    shop.learn(1100.0)
    record = shop.store.experiments.record("spring")
    snapshot = shop.store.snapshots.snapshot("spring", record.learned_version)
    lateness = load_inference_state(record.configuration, snapshot).lateness
    assert lateness.moved.tolist() == pytest.approx([0.0, 4.0, 8.0])
    assert lateness.earned.tolist() == pytest.approx([0.0, 24.0, 8.0])
    assert shop.earned() == pytest.approx([0.0, 23.0, -8.0])


def test_removed_decisions_keep_what_they_earned(shop):
    shop.start()
    for discount in DISCOUNTS:
        shop.order(discount, 60.0)
    shop.learn(1100.0)
    assert remove_old(shop.store, "spring", before=1100.0, between=int) == 3
    assert shop.sums()["arm_counts.reward"].tolist()[:3] == pytest.approx([30.0, 23.0, -12.0])


def test_minimised_weights_are_learned_as_the_mirror_within_the_widest_bounds(shop):
    rule = {"metrics": {"order": ORDER | BY}, "goal": "minimise"}
    shop.start(RULE | rule | {"costs": {}})
    for discount in DISCOUNTS:
        shop.order(discount, 60.0)
    shop.learn(20.0)
    assert shop.earned() == pytest.approx([30.0, 24.0, -12.0])
    assert shop.sums()["statistic.total"].tolist() == pytest.approx([-30.0, -24.0, 12.0])


def test_added_variant_has_its_weight_and_one_without_has_the_metrics_own(shop):
    shop.start()
    shop.order("d10", 60.0)
    shop.learn(20.0)
    for added, weights, expected in (("d20", {"d20": 0.3}, 18.0), ("d5", {"d20": 0.3}, 30.0)):
        record = shop.store.experiments.record("spring")
        declared = record.configuration.experiment
        (slot,) = msgspec.to_builtins(declared.slots)
        slots = [slot | {"variants": [*slot["variants"], {"key": added, "payload": {}}]}]
        metric = ORDER | {"by": {"discount": BY["by"]["discount"] | weights}}
        rule = RULE | {"metrics": RULE["metrics"] | {"order": metric}}
        again = msgspec.to_builtins(declared) | {"slots": slots, "reward": rule}
        version = record.configuration.version
        changed = msgspec.convert(again, Experiment)
        shop.engine.edit("spring", changed, version=version, by="test")
        shop.now[0] += 5.0
        shop.send(added)
        shop.order(added, 60.0)
        shop.learn(shop.now[0] + 20.0)
        assert shop.engine.receipt(added).reward == pytest.approx(expected)
        assert shop.sums()["arm_counts.reward"][1] == pytest.approx(23.0)
    metric["by"]["discount"]["d10"] = 0.1
    again["reward"] = rule | {"metrics": {"order": metric, "click": {"weight": 0.25}}}
    with pytest.raises(FixedOnceStarted, match="counted by the old rule"):
        shop.engine.edit(
            "spring", msgspec.convert(again, Experiment), version=version + 1, by="test"
        )


def test_results_say_the_weights_and_the_currency_beside_values_as_they_were_told(shop):
    shop.start()
    for discount in DISCOUNTS:
        shop.order(discount, 60.0)
    shop.learn(1100.0)
    results = shop.engine.results("spring")
    order = next(event for event in results.events if event.name == "order")
    assert (order.weight, order.weight_by, order.currency) == (0.5, BY["by"], "EUR")
    assert [arm.value for arm in order.arms] == [60.0, 60.0, 60.0]
    assert [arm.mean for arm in results.arms] == pytest.approx([30.0, 23.0, -12.0])


@pytest.mark.parametrize(
    ("by", "place", "detail"),
    [
        ({"shipping": {"d10": 1.0}}, "/shipping", "unknown slot; known are discount"),
        ({"discount": {"d99": 1.0}}, "/discount", "unknown variant 'd99'; known are d0, d10, d60"),
        ({"discount": {"d10": float("nan")}}, "/discount/d10", "must be a finite number"),
        ({"discount": {"d10": float("inf")}}, "/discount/d10", "must be a finite number"),
        ({"discount": {}}, "/discount", "must name at least one variant"),
    ],
)
def test_weights_that_do_not_fit_are_refused_at_their_place(by, place, detail):
    slots = [{"key": "discount", "variants": [{"key": key} for key in DISCOUNTS]}]
    rule = {"metrics": {"order": ORDER | {"by": by}}}
    declared = {"key": "s", "slots": slots, "policy": {"name": "uniform"}, "reward": rule}
    with pytest.raises(InvalidInput) as refusal:
        msgspec.convert(declared, Experiment).check()
    (fault,) = refusal.value.faults
    assert fault.pointer == f"/reward/metrics/order/by{place}"
    assert fault.detail == detail
