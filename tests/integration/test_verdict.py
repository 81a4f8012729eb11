"""The verdict of whole campaigns, driven through the engine with a clock of its own."""

import numpy as np
import pytest
from msgspec import convert

from bandits.engine import Engine
from bandits.engine.analysis import findings
from bandits.experiment import Experiment
from bandits.schemas import Request, Reward
from storage import open_store, upgrade
from storage.snapshots.verify import compare

HOUR, DAY = 3_600.0, 86_400.0
START = 20_000 * DAY


class Campaign:
    """A campaign whose emails answer by a table of rates."""

    def __init__(self, store, **declared) -> None:
        self.now = START
        self.engine = Engine(store, lambda: self.now, np.random.default_rng(1).bytes)
        self.rng = np.random.default_rng(1)
        reward = {"metrics": {"click": {}}, "window_seconds": DAY, "maturity_seconds": HOUR}
        reward |= declared.pop("reward", {})
        self.declared = {
            "key": "spring",
            "slots": [{"key": "s", "variants": [{"key": v} for v in "ab"]}],
            "policy": {"name": "uniform"},
            "reward": reward,
            **declared,
        }
        self.engine.create(convert(self.declared, Experiment), by="test")
        self.engine.start("spring", by="test")

    def add(self, variant):
        """Add a variant, as an edit of the running campaign does."""
        record = self.engine.store.experiments.record("spring")
        (slot,) = self.declared["slots"]
        slot["variants"].append({"key": variant})
        declared = convert(self.declared, Experiment)
        version = record.configuration.version
        self.engine.edit("spring", declared, version=version, by="test")

    def send(self, n, rates, contexts=({},)):
        """Send n emails, whose rates are by variant, and by context in turn."""
        names = [f"{self.now}-{i}" for i in range(n)]  # by which arms are drawn
        requests = [
            Request(name, decision_id=name, context=contexts[i % len(contexts)])
            for i, name in enumerate(names)
        ]
        decisions = self.engine.choose("spring", requests)
        clicks = [
            Reward(str(decision.decision_id), "e", "click")
            for i, decision in enumerate(decisions)
            if self.rng.random() < rates[decision.slots["s"]["variant"]][i % len(contexts)]
        ]
        self.engine.reward(clicks)

    def days(self, n, daily, rates, **sent):
        for _ in range(n):
            self.send(daily, rates, **sent)
            self.now += DAY
            self.engine.learn("spring")

    def verdict(self):
        """Read the verdict, after seeing that the log says the same of what it rests on."""
        with self.engine.store.snapshots.audit("spring") as audit:
            assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []
        return self.engine.results("spring").verdict

    def results(self):
        return self.engine.results("spring")


@pytest.fixture
def campaign(tmp_path):
    url = f"sqlite:///{tmp_path / 'verdict.db'}"
    upgrade(url)
    store = open_store(url)
    yield lambda **declared: Campaign(store, **declared)
    store.close()


BETTER = {"a": (0.1,), "b": (0.3,)}
WORSE = {"a": (0.3,), "b": (0.1,)}


def test_verdict_ships_after_seven_closed_days_that_agree(campaign) -> None:
    spring = campaign()
    spring.days(6, 400, BETTER)
    few = spring.verdict()
    assert (few.action, few.reason, few.closed_days) == ("keep_running", "few_days", 6)
    assert few.next_at is not None
    assert few.next_at.timestamp() == START + 7 * DAY
    spring.days(2, 400, BETTER)
    shipping = spring.verdict()
    assert (shipping.action, shipping.reason, shipping.arm) == ("ship", "leads", 1)
    assert (shipping.closed_days, shipping.recent, shipping.against) == (8, "agrees", "versions")
    assert shipping.since is not None
    assert shipping.until is not None
    assert (shipping.until.timestamp() + 1 - shipping.since.timestamp()) / DAY == 7


def test_verdict_3_hours_after_the_start_keeps_running(campaign) -> None:
    spring = campaign(reward={"window_seconds": HOUR, "maturity_seconds": 600})
    for _ in range(3):
        spring.send(2_000, BETTER)
        spring.now += 1.03 * HOUR
        spring.engine.learn("spring")
    conclusion = spring.verdict()
    assert (conclusion.action, conclusion.reason) == ("keep_running", "few_days")
    assert (conclusion.leads, conclusion.arm, conclusion.closed_days) == (True, 1, 1)


def test_verdict_on_emails_of_two_days_keeps_running_however_late_it_is(campaign) -> None:
    spring = campaign(reward={"window_seconds": 2 * DAY})
    spring.send(2_000, BETTER)
    spring.now += DAY
    spring.send(2_000, WORSE)
    spring.now += 9 * DAY
    spring.engine.learn("spring")
    conclusion = spring.verdict()
    assert (conclusion.action, conclusion.closed_days) == ("keep_running", 2)


def test_verdict_on_rates_that_have_crossed_does_not_ship_by_their_average(campaign) -> None:
    spring = campaign()
    spring.days(9, 600, {"a": (0.1,), "b": (0.4,)})
    assert spring.verdict().action == "ship"
    spring.days(8, 600, {"a": (0.25,), "b": (0.12,)})
    conclusion = spring.verdict()
    assert (conclusion.arm, conclusion.leads) == (1, True)
    assert (conclusion.action, conclusion.reason) == ("keep_running", "lifts_move")
    assert (conclusion.lifts_move, conclusion.recent) == (True, "contradicts")


def test_verdict_of_a_personal_policy_keeps_personalising(campaign) -> None:
    """Each channel has its version; version b alone would earn .225, the policy up to .31."""
    contexts = ({"channel": "x"}, {"channel": "y"})
    spring = campaign(
        policy={"name": "linucb"},
        floor=0.05,
        context=[{"kind": "category", "name": "channel", "values": ["x", "y"]}],
    )
    spring.days(9, 1_000, {"a": (0.30, 0.10), "b": (0.12, 0.33)}, contexts=contexts)
    conclusion = spring.verdict()
    assert (conclusion.action, conclusion.reason) == ("keep_personalising", "personal_better")
    assert (conclusion.against, conclusion.arm) == ("policy", 1)
    assert conclusion.cost.contains(0.081)
    assert 0 < conclusion.cost.low < conclusion.at_most < 0.13


def test_version_that_joins_leaves_what_was_known(campaign) -> None:
    spring = campaign()
    spring.days(9, 400, BETTER)
    before = spring.results()
    spring.add("c")
    joined = spring.results()
    assert [a.value for a in joined.arms[:2]] == [a.value for a in before.arms]
    assert joined.arms[1].lift == before.arms[1].lift
    assert joined.arms[2].lift.reason.startswith("No email could have been")
    assert joined.verdict.leads
    assert (joined.verdict.uncompared, joined.verdict.at_most) == ((2,), before.verdict.at_most)
    assert (joined.verdict.action, joined.verdict.reason) == ("keep_running", "not_enough")
    spring.days(4, 400, BETTER | {"c": (0.1,)})
    later = spring.verdict()
    assert (later.leads, later.rivals, later.uncompared) == (True, (), ())
    assert (later.reason, later.closed_days) == ("few_days", 4)
    results = spring.results()
    assert all(a.value.promise == "rate" for a in results.arms)
    width, earlier = (r.arms[1].value.high - r.arms[1].value.low for r in (results, before))
    assert width < earlier


def test_last_days_are_compared_by_overlap_while_there_are_none_before(campaign, monkeypatch):
    compared = []
    agreement = findings.recent_agreement

    def spy(facts, now, before, trends, **rest):
        compared.append((now.n.tolist(), before.n.tolist()))
        return agreement(facts, now, before, trends, **rest)

    monkeypatch.setattr(findings, "recent_agreement", spy)
    spring = campaign()
    spring.days(7, 400, BETTER)
    spring.verdict()
    assert compared[-1] == ([pytest.approx(7 * 400 / 4)], [0.0])  # under equal shares h is 1/4
    spring.days(3, 400, BETTER)
    spring.verdict()
    assert compared[-1] == ([pytest.approx(7 * 400)], [pytest.approx(2 * 400)])


def test_claim_that_more_data_withdraw_stays_as_a_dated_statement(campaign) -> None:
    spring = campaign()
    spring.days(4, 400, {"a": (0.10,), "b": (0.17,)})
    assert spring.verdict().leads
    assert spring.results().statements == []  # it holds as of now
    spring.days(8, 400, {"a": (0.15,), "b": (0.13,)})
    assert not spring.verdict().leads
    kinds = {s.kind: s for s in spring.results().statements}
    assert set(kinds) == {"leads", "better_than_control"}
    claim = kinds["leads"]
    assert claim.arm == 1
    assert claim.lift.low > 0
    assert (
        START <= claim.over_since.timestamp() < claim.over_until.timestamp() < claim.at.timestamp()
    )


def test_erasure_drops_statements_that_rested_on_it(store) -> None:
    spring = Campaign(store)
    spring.days(4, 400, {"a": (0.10,), "b": (0.17,)})
    spring.days(8, 400, {"a": (0.15,), "b": (0.13,)})
    assert spring.results().statements
    spring.engine.erase(f"{START}-0", by="test")
    results = spring.results()
    assert results.statements == []
    assert results.statements_reset.reason == "erasure"


def test_lifts_that_move_drop_statements_about_them(campaign) -> None:
    spring = campaign()
    spring.days(4, 400, BETTER)
    spring.days(8, 400, WORSE)
    results = spring.results()
    assert results.verdict.lifts_move
    assert (results.statements, results.statements_reset.reason) == ([], "lifts_move")
