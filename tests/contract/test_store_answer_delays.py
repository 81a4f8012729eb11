"""Late answers in every database: folds, ageing and receipts say what the log says."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec import convert
from scipy.stats import chisquare

from bandits.actors import actor_of
from bandits.engine.active_policy import load_statistic
from bandits.errors import InvalidInput
from bandits.experiment import Experiment
from bandits.schemas import Request, Reward
from bandits.statistics import AnswerDelays, SendTimes
from storage.snapshots.verify import compare
from tests.conftest import Sender

KEY = actor_of("key", 1)
START, HOUR = 1_800_000_000.0, 3600.0
RULE = {"metrics": {"click": {}}, "window_seconds": 72 * HOUR, "maturity_seconds": 6 * HOUR}
POLICY = {"name": "thompson_delayed"}
BUCKET = 72 * HOUR / 64


class Campaign:
    """A campaign that learns how late answers are, and a log of it in Python."""

    def __init__(self, store, engine, now, key="spring", **declared) -> None:
        self.store, self.engine, self.now, self.key = store, engine, now, key
        Sender(store).start(key, **{"reward": RULE, "policy": POLICY} | declared)
        self.sent: dict[str, tuple[int, float]] = {}
        self.answered: dict[str, float] = {}
        self.cancelled: set[str] = set()

    def choose(self, *ids: str) -> None:
        new = [i for i in ids if i not in self.sent and i not in self.cancelled]
        rows = [Request(f"of {i}", decision_id=i) for i in new]
        arms = {"a": 0, "b": 1, "c": 2}
        for decision in self.engine.choose(self.key, rows):
            arm = arms[decision.slots["subject"]["variant"]]
            self.sent[decision.decision_id] = (arm, self.now[0])

    def click(self, *ids: str) -> None:
        for i in ids:
            if i in self.sent:
                self.engine.reward([Reward(i, f"e-{self.now[0]}", "click", 1.0)], actor=KEY)
                if self.now[0] <= self.sent[i][1] + RULE["window_seconds"]:
                    self.answered.setdefault(i, self.now[0])

    def cancel(self, *ids: str) -> None:
        of_these = [i for i in ids if i in self.sent]
        if of_these:
            result = self.engine.cancel(of_these, actor=KEY)
            too_late = {of_these[row.row] for row in result.refused}
            self.cancelled |= set(of_these) - too_late
            for i in set(of_these) - too_late:
                del self.sent[i]
                self.answered.pop(i, None)

    def step(self, kind: str, ids: list[str]) -> None:
        match kind:
            case "choose":
                self.choose(*ids)
            case "click":
                self.click(*ids)
            case "cancel":
                self.cancel(*ids)
            case "learn":
                self.learn()

    def learn(self):
        """Fold; the statistic is the log's, whichever way it came about."""
        while self.engine.learn(self.key):
            pass
        with self.store.snapshots.audit(self.key) as audit:
            reports = compare(audit, lambda _: None)
        assert [d for report in reports for d in report.differences()] == []
        return self.statistic()

    def statistic(self) -> AnswerDelays:
        record = self.store.experiments.record(self.key)
        version = record.learned_version
        snapshot = self.store.snapshots.snapshot(self.key, version) if version else None
        statistic, _ = load_statistic(record.configuration, snapshot)
        return statistic

    def expected(self) -> AnswerDelays:
        record = self.store.experiments.record(self.key)
        at = self.store.snapshots.snapshot(self.key, record.learned_version).at
        arms, times = zip(*self.sent.values(), strict=True)
        answers = np.array([self.answered.get(i, 0.0) for i in self.sent])
        rewards = (answers > 0).astype(float)
        sent_at = np.array(times)
        return AnswerDelays.from_sent(
            record.configuration.problem,
            np.array(arms),
            rewards,
            np.ones(len(arms)),
            SendTimes(sent_at, np.where(rewards > 0, answers, sent_at), at),
        )


def assert_same(one: AnswerDelays, other: AnswerDelays) -> None:
    for column in fields(AnswerDelays):
        first, second = getattr(one, column.name), getattr(other, column.name)
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-6, err_msg=column.name)


@pytest.fixture
def now() -> list[float]:
    return [START]


@pytest.fixture
def campaign(store, engine, now):
    return Campaign(store, engine, now)


def test_answers_before_maturity_are_learned(campaign, now):
    campaign.choose("d-1", "d-2", "d-3")
    now[0] += HOUR
    campaign.click("d-1")
    statistic = campaign.learn()
    assert statistic.answered.sum() == 1
    assert statistic.delays[..., 0].sum() == 1
    assert statistic.silent.sum() == 2
    assert_same(statistic, campaign.expected())


def test_answer_reported_twice_counts_once_with_its_first_delay(campaign, now):
    campaign.choose("d-1", "d-2")
    now[0] += HOUR
    campaign.click("d-1")
    campaign.learn()
    now[0] += 20 * HOUR
    campaign.click("d-1")
    assert campaign.learn().answered.sum() == 1
    assert_same(campaign.statistic(), campaign.expected())


def test_time_alone_makes_a_snapshot_until_every_window_is_over(campaign, now):
    campaign.choose("d-1", "d-2")
    campaign.learn()
    now[0] += BUCKET / 2
    assert campaign.engine.learn("spring") is None
    now[0] += BUCKET
    assert campaign.engine.learn("spring") is not None
    now[0] += 74 * HOUR
    assert not campaign.learn().waiting.any()
    assert campaign.statistic().closed.sum() == 2
    now[0] += 10 * HOUR
    assert campaign.engine.learn("spring") is None


def test_other_policies_make_no_snapshot_of_time_alone(store, engine, now):
    campaign = Campaign(store, engine, now, policy={"name": "thompson"})
    campaign.choose("d-1", "d-2")
    engine.learn("spring")
    now[0] += 2 * BUCKET
    assert engine.learn("spring") is None


def test_arms_in_the_log_are_as_frequent_as_its_propensities_say(campaign, now):
    """Pearson's chi-square, with a false alarm of 1e-6: of shares that are far from equal."""
    campaign.choose(*(f"first-{i}" for i in range(60)))
    now[0] += HOUR
    campaign.click(*(i for i in campaign.sent if campaign.sent[i][0] == 1 and i.endswith("1")))
    campaign.learn()
    rows = [Request(f"of {i}", decision_id=f"then-{i}") for i in range(4000)]
    decisions = campaign.engine.choose("spring", rows)
    arms = [d.slots["subject"]["variant"] for d in decisions]
    shares = {arm: d.propensity for arm, d in zip(arms, decisions, strict=True)}
    names = sorted(shares)
    counts = np.array([arms.count(name) for name in names])
    expected = len(arms) * np.array([shares[name] for name in names])
    assert expected.sum() == pytest.approx(len(arms))
    assert np.ptp(expected) > 400
    assert chisquare(counts, expected).pvalue > 1e-6


def test_receipts_derive_each_probability_again(campaign, now):
    for hour in range(6):
        campaign.choose(*(f"d-{hour}-{i}" for i in range(12)))
        now[0] += HOUR
        campaign.click(*(f"d-{hour}-{i}" for i in range(0, 12, 3)))
        campaign.learn()
    for i in campaign.sent:
        receipt = campaign.engine.receipt(i)
        assert receipt.derived, i


STEPS = st.tuples(
    st.sampled_from(["choose", "click", "cancel", "learn"]),
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.3, 5.0, 30.0, 80.0]),
)


@pytest.mark.parametrize("half_life", [None, 10 * HOUR])
def test_statistic_is_the_log_s_in_whatever_order_things_come(store, engine, now, half_life):
    declared = {} if half_life is None else {"forgetting": {"half_life_seconds": half_life}}
    keys = iter(range(10**6))

    @settings(
        max_examples=max(settings().max_examples // 10, 5),
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.lists(STEPS, min_size=3, max_size=14))
    def run(steps):
        key = f"k{next(keys)}"
        campaign = Campaign(store, engine, now, key, **declared)
        for kind, numbers, hours in steps:
            campaign.step(kind, [f"{key}-{n}" for n in numbers])
            now[0] += hours * HOUR
        statistic = campaign.learn()
        if half_life is None and campaign.sent:
            assert_same(statistic, campaign.expected())

    run()


@pytest.mark.parametrize(
    "reward",
    [
        {"metrics": {"click": {}, "order": {}}},
        {"metrics": {"order": {"count": "sum"}}},
        {"metrics": {"click": {"weight": 0.5}}},
        {"metrics": {"complaint": {}}, "goal": "minimise"},
        {"metrics": {"click": {}}, "costs": {"subject": {"a": 0.1}}},
        {"metrics": {"click": {"by": {"subject": {"a": 0.5}}}}},
    ],
)
def test_rewards_that_are_no_single_answer_are_refused(reward):
    with pytest.raises(InvalidInput, match="single metric"):
        declared(reward=reward).check()


def test_forgetting_by_a_window_is_refused():
    with pytest.raises(InvalidInput, match="half_life"):
        declared(forgetting={"window_seconds": 3600.0}).check()


def declared(**fields: Any) -> Experiment:
    slots = [{"key": "subject", "variants": [{"key": v} for v in "abc"]}]
    return convert(
        {"key": "spring", "slots": slots, "policy": POLICY, "reward": RULE} | fields, Experiment
    )
