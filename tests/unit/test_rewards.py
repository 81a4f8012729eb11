"""From the events of a decision to the number it earned."""

import math
from itertools import permutations

import msgspec
import numpy as np
import pytest

from bandits.errors import Fault
from bandits.rewards import Metric, RewardRule, refuse_value

CLICKS_AND_ORDERS = RewardRule(
    {
        "unsubscribe": Metric(weight=-5.0),
        "click": Metric(weight=1.0),
        "order": Metric(weight=0.1, count="sum", high=50.0),
    }
)


def earned(rule: RewardRule, events: list[tuple[str, float]]) -> tuple[float, list[float]]:
    """Measure the events of a single decision."""
    rewards, parts = rule.measure(
        np.zeros(len(events), dtype=np.int64),
        np.array([rule.names.index(m) for m, _ in events], dtype=np.int64),
        np.array([v for _, v in events]),
        1,
    )
    return float(rewards[0]), parts[:, 0].tolist()


def test_a_reward_is_the_weighted_sum_of_its_metrics() -> None:
    events = [("click", 1.0), ("order", 20.0), ("unsubscribe", 1.0)]
    reward, parts = earned(CLICKS_AND_ORDERS, events)
    assert reward == pytest.approx(1 + 2 - 5)
    assert dict(zip(CLICKS_AND_ORDERS.names, parts, strict=True)) == {
        "click": 1.0,
        "order": 20.0,
        "unsubscribe": 1.0,
    }


def test_reward_of_silence_is_nothing() -> None:
    assert earned(CLICKS_AND_ORDERS, []) == (0.0, [0.0, 0.0, 0.0])


def test_metric_counts_once_or_sums_up_as_declared() -> None:
    reward, _ = earned(CLICKS_AND_ORDERS, [("click", 1.0)] * 2 + [("order", 10.0)] * 2)
    assert reward == pytest.approx(1 + 2)


def test_metric_counted_once_keeps_the_largest_value_in_every_order() -> None:
    rule = RewardRule({"stars": Metric(low=-1.0, high=5.0)})
    for order in permutations([2.0, 4.0, -1.0]):
        assert earned(rule, [("stars", v) for v in order])[0] == 4.0


def test_metric_counted_once_below_zero_is_not_silence() -> None:
    rule = RewardRule({"stars": Metric(low=-1.0, high=5.0)})
    assert earned(rule, [("stars", -1.0)])[0] == -1.0


def test_a_sum_is_held_to_its_bounds_only_when_it_is_complete() -> None:
    rule = RewardRule({"order": Metric(count="sum", low=-30.0, high=50.0)})
    for order in permutations([40.0, 40.0, -30.0]):  # held step by step it would differ
        assert earned(rule, [("order", v) for v in order])[0] == 50.0
    assert earned(rule, [("order", -30.0)] * 2)[0] == -30.0


def test_metric_of_the_latest_value_takes_the_last_of_each_decision() -> None:
    rule = RewardRule({"margin": Metric(low=-1.0, high=5.0, latest=True), "click": Metric()})
    events = [("margin", 4.0), ("click", 1.0), ("margin", -1.0)]
    assert earned(rule, events)[0] == pytest.approx(0.0)
    assert earned(rule, [("margin", 4.0), ("margin", 0.0)])[0] == pytest.approx(0.0)
    assert rule.needs_as_of("margin")
    assert not rule.needs_as_of("click")
    assert not rule.needs_as_of("open")


def test_rewards_stay_with_their_decisions() -> None:
    rule = RewardRule({"click": Metric()})
    rows, metrics = np.array([2, 0, 2]), np.zeros(3, dtype=np.int64)
    rewards, parts = rule.measure(rows, metrics, np.array([0.5, 1.0, 0.25]), 4)
    assert rewards.tolist() == [1.0, 0.0, 0.5, 0.0]
    assert parts.tolist() == [[1.0, 0.0, 0.5, 0.0]]


def test_a_rule_written_in_another_order_measures_the_same() -> None:
    # A database may give the keys of an object back in an order of its own.
    turned = msgspec.structs.replace(
        CLICKS_AND_ORDERS, metrics=dict(reversed(CLICKS_AND_ORDERS.metrics.items()))
    )
    rows, metrics = np.zeros(3, dtype=np.int64), np.arange(3)
    values = np.array([1.0, 30.0, 0.5])
    mine = CLICKS_AND_ORDERS.measure(rows, metrics, values, 1)
    theirs = turned.measure(rows, metrics, values, 1)
    assert turned == CLICKS_AND_ORDERS
    assert [a.tolist() for a in mine] == [a.tolist() for a in theirs]


def test_bounds_hold_every_reward_also_that_of_silence() -> None:
    assert CLICKS_AND_ORDERS.bounds == (-5.0, 6.0)
    assert RewardRule({"score": Metric(low=2.0, high=3.0)}).bounds == (0.0, 3.0)


MARGIN = RewardRule(
    {
        "order": Metric(0.45, "sum", -100.0, 500.0, by={"discount": {"d10": 0.36, "d60": -0.2}}),
        "unsubscribe": Metric(-5.0),
    }
)


def test_weights_follow_the_variant_and_are_the_own_one_where_it_has_none() -> None:
    assert MARGIN.weights({"line": "a", "discount": "d10"}) == {"order": 0.36, "unsubscribe": -5.0}
    assert MARGIN.weights({"discount": "d0"}) == {"order": 0.45, "unsubscribe": -5.0}
    assert not CLICKS_AND_ORDERS.has_weights_by_variant


def test_measure_weighs_each_decision_as_its_variant_does() -> None:
    variants = ({"discount": v} for v in ("d0", "d10", "d60", "d10"))
    weights = np.array([list(MARGIN.weights(v).values()) for v in variants]).T
    rows, metrics = np.array([0, 1, 2, 3, 1]), np.array([0, 0, 0, 0, 1])
    values = np.array([100.0, 100.0, 100.0, -50.0, 1.0])  # the last order was sent back
    rewards, parts = MARGIN.measure(rows, metrics, values, 4, weights)
    assert rewards.tolist() == pytest.approx([45.0, 36.0 - 5.0, -20.0, -18.0])
    assert parts[0].tolist() == [100.0, 100.0, 100.0, -50.0]  # values stay as they were told


def test_bounds_are_the_widest_over_variants() -> None:
    order = MARGIN.metrics["order"]
    assert order.bounds == pytest.approx((-100.0, 225.0))  # 500 at −0.2 and at 0.45
    assert MARGIN.bounds == pytest.approx((-105.0, 225.0))
    least = msgspec.structs.replace(MARGIN, goal="minimise")
    assert least.as_maximised(np.array([225.0, -105.0])).tolist() == pytest.approx([-105.0, 225.0])


def test_rule_with_weights_by_variant_is_no_single_answer() -> None:
    assert RewardRule({"click": Metric()}).is_single_answer
    assert not RewardRule({"click": Metric(by={"discount": {"d10": 0.5}})}).is_single_answer
    assert not Metric(by={"discount": {"d10": 0.5}}).is_own_reward


def test_currency_of_a_rule_is_that_of_all_its_metrics() -> None:
    euros = Metric(count="sum", high=500.0, currency="EUR")
    assert RewardRule({"order": euros}).currency == "EUR"
    assert RewardRule({"order": euros, "click": Metric()}).currency is None


def test_rule_refuses_mixed_currencies() -> None:
    money = {
        name: Metric(count="sum", high=500.0, currency=currency)
        for name, currency in (("order", "EUR"), ("fee", None), ("return", "USD"))
    }
    (fault,) = RewardRule(money).faults()
    assert fault.pointer == "/metrics/return/currency"
    assert fault.detail == "must be EUR as of the other metrics: a rule has one currency"


@pytest.mark.parametrize("code", ["eur", "EURO", "EUR\n", "€"])
def test_currency_is_three_capital_letters(code: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="currency"):
        msgspec.convert({"count": "sum", "currency": code}, Metric)


@pytest.mark.parametrize(
    ("metric", "binary"),
    [
        (Metric(), True),
        (Metric(weight=-2.0), True),  # whatever it is worth
        (Metric(count="sum"), False),
        (Metric(high=5.0), False),
        (Metric(low=-1.0), False),
    ],
)
def test_metric_is_binary_where_it_counts_once_from_0_to_1(metric: Metric, binary: bool) -> None:
    assert metric.is_binary is binary


def test_maturity_is_the_window_unless_declared() -> None:
    metrics = {"click": Metric()}
    assert RewardRule(metrics, window_seconds=60).maturity == 60
    assert RewardRule(metrics, window_seconds=60, maturity_seconds=0).maturity == 0


@pytest.mark.parametrize(
    ("metric", "place"),
    [
        (Metric(weight=0.0), "/metrics/click/weight"),
        (Metric(weight=math.nan), "/metrics/click/weight"),
        (Metric(low=1.0, high=1.0), "/metrics/click/high"),
        (Metric(high=math.inf), "/metrics/click/high"),
        (Metric(weight=1e300, high=1e300), "/metrics"),
        (Metric(weight=-1.0, high=1.1e50), "/metrics"),
        (Metric(high=1e-51), "/metrics"),
        (Metric(count="sum", latest=True), "/metrics/click/latest"),
        (Metric(by={"discount": {}}), "/metrics/click/by/discount"),
        (Metric(by={"discount": {"d/1": math.nan}}), "/metrics/click/by/discount/d~11"),
        (Metric(by={"discount": {"d1": -math.inf}}), "/metrics/click/by/discount/d1"),
        (Metric(by={"discount": {"d1": 1e300}}, high=1e300), "/metrics"),
        (Metric(currency="EUR"), "/metrics/click/currency"),
    ],
)
def test_a_rule_names_what_is_wrong_with_it(metric: Metric, place: str) -> None:
    assert [f.pointer for f in RewardRule({"click": metric}).faults()] == [place]


def test_maturity_may_not_outlast_the_window() -> None:
    rule = RewardRule({"click": Metric()}, window_seconds=60, maturity_seconds=61)
    assert rule.faults() == [Fault("/maturity_seconds", "must not be longer than window_seconds")]


@pytest.mark.parametrize(
    ("metric", "value", "says"),
    [
        (
            "opne",
            1.0,
            (
                "unknown metric 'opne'; known are click, order, unsubscribe, and without reward "
                "open, reply, complaint, bounce, refund, delivered, machine_open"
            ),
        ),
        ("open", 1.0, None),
        ("open", 2.0, "must lie in [0, 1]"),
        ("refund", 12.5, None),
        ("refund", -12.5, "must lie in [0, 1e+09]"),
        ("click", math.nan, "must be a finite number"),
        ("click", 1.5, "must lie in [0, 1]"),
        ("order", -0.01, "must lie in [0, 50]"),
        ("order", 50.0, None),
    ],
)
def test_an_event_that_does_not_fit_is_refused(metric: str, value: float, says: str | None) -> None:
    assert refuse_value(CLICKS_AND_ORDERS, metric, value) == says
