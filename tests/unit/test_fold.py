"""Folding and rebuilding, by hand."""

from typing import Any

import msgspec
import numpy as np
import pytest

from bandits.engine.active_policy import load_statistic
from bandits.engine.arm_counts import ArmCounts
from bandits.engine.fold import add_increment, seed_of
from bandits.engine.sums import StatisticBuilder, SumsBuilder
from bandits.errors import InvalidInput
from bandits.experiment import Experiment
from bandits.statistics import Moments, Ridge, Statistic, dump
from bandits.store.values import DecisionColumns, ExperimentRecord, FoldIncrement, Snapshot
from bandits.versions import Configuration

NOW = 1_000.0


def configuration(variants: str = "ab", **changes: Any) -> Configuration:
    """Declare an experiment of one slot with these variants."""
    declared: dict[str, Any] = {
        "key": "spring",
        "slots": [{"key": "subject", "variants": [{"key": v} for v in variants]}],
        "policy": {"name": "uniform"},
        "reward": {"metrics": {"click": {}, "order": {"weight": 0.1, "count": "sum", "high": 100}}},
    }
    return Configuration.first(msgspec.convert(declared | changes, Experiment))


def decided(
    arms: list[int],
    events: list[tuple[int, str, float]] | None = None,
    *,
    started_at: float = NOW,
    holdout: bool = False,
) -> DecisionColumns:
    """Make decisions of these arms; each event is (row, metric, value)."""
    events, n = events or [], len(arms)
    return DecisionColumns(
        np.array(arms, dtype=np.int64),
        np.ones((n, 1)),
        np.full(n, holdout),
        np.full(n, started_at),
        np.array([row for row, _, _ in events], dtype=np.int64),
        np.array([("click", "order").index(metric) for _, metric, _ in events], dtype=np.int64),
        np.array([value for _, _, value in events]),
        np.full(len(events), started_at),
        np.full(n, 0.5),
        [b""] * n,
        np.ones(n, dtype=np.int64),
        np.zeros(n, dtype=np.int64),
        np.zeros(n, dtype=np.bool_),
        np.ones(n, dtype=np.int64),
        np.zeros(n, dtype=np.uint64),
        np.ones(n, dtype=np.bool_),
        np.zeros(n, dtype=np.int64),
    )


def due(**groups: DecisionColumns) -> FoldIncrement:
    """Make what is due; groups that are not named are empty."""
    return FoldIncrement(*(groups.get(f, decided([])) for f in FoldIncrement.__struct_fields__))


class Beginning:
    """History of an experiment that has one configuration, and no snapshot yet."""

    def __init__(self, first: Configuration) -> None:
        self.first = first

    def configuration(self, version: int) -> Configuration:
        """Return the only one."""
        assert version == 1
        return self.first

    def snapshot(self, version: int) -> Snapshot | None:
        """Return that there is none."""
        assert version == 0

    def allocation(self, *key: Any) -> None:
        """Return that none is stored."""


def folded(config: Configuration, *steps: tuple[float, FoldIncrement]) -> tuple[Any, ArmCounts]:
    """Fold one after the other, each at its time."""
    record = ExperimentRecord(1, "spring", "running", b"salt", config, 0, NOW)
    sums = SumsBuilder(record, Beginning(config), NOW).zeros
    since = steps[0][0]
    for at, step in steps:
        builder = SumsBuilder(record, Beginning(config), at)
        sums = add_increment(builder, builder.fade(sums, since), step)
        since = at
    return sums.statistic, sums.counts


def test_decision_is_pending_until_it_matures() -> None:
    sent, matured = decided([0, 1, 1]), decided([0, 1, 1], [(1, "click", 1.0)])
    statistic, tally = folded(configuration(), (NOW, due(entered=sent)))
    assert statistic.pending.tolist() == [1, 2]
    assert statistic.count.tolist() == [0, 0]
    assert tally.sent.tolist() == [1, 2, 0]
    assert tally.complete.tolist() == [0, 0, 0]
    statistic, tally = folded(
        configuration(), (NOW, due(entered=sent)), (NOW, due(matured=matured))
    )
    assert statistic.pending.tolist() == [0, 0]
    assert statistic.count.tolist() == [1, 2]
    assert statistic.total.tolist() == [0, 1]
    assert tally.sent.tolist() == [1, 2, 0]
    assert tally.complete.tolist() == [1, 2, 0]


def test_decision_due_at_once_is_never_pending() -> None:
    statistic, tally = folded(
        configuration(), (NOW, due(entered_due=decided([1], [(0, "click", 1.0)])))
    )
    assert statistic.pending.tolist() == [0, 0]
    assert statistic.total.tolist() == [0, 1]
    assert tally.sent.tolist() == tally.complete.tolist() == [0, 1, 0]


def test_a_late_reward_corrects_what_was_learned() -> None:
    before = decided([1], [(0, "click", 1.0)])
    after = decided([1], [(0, "click", 1.0), (0, "order", 30.0)])
    statistic, tally = folded(
        configuration(), (NOW, due(entered_due=before)), (NOW, due(before=before, after=after))
    )
    assert statistic.count.tolist() == [0, 1]
    assert statistic.total.tolist() == [0, 4]
    assert statistic.square.tolist() == [0, 16]
    assert tally.reward.tolist() == [0, 4, 0]
    assert tally.metrics.tolist() == [[0, 1, 0], [0, 30, 0]]


def test_cancelled_decision_before_or_after_maturity_was_never_there() -> None:
    mine = decided([1], [(0, "click", 1.0)])
    nothing = folded(configuration(), (NOW, due()))
    for steps in (
        [due(entered=mine), due(withdrawn=mine)],
        [due(entered=mine), due(matured=mine), due(removed=mine)],
        [due(entered_due=mine), due(removed=mine)],
    ):
        statistic, tally = folded(configuration(), *((NOW, s) for s in steps))
        assert dump(statistic) == dump(nothing[0])
        assert tally.dump() == nothing[1].dump()


def test_held_out_decisions_are_counted_apart_and_never_learned() -> None:
    held = decided([0, 0], [(0, "click", 1.0)], holdout=True)
    entered, matured = (NOW, due(entered=held)), (NOW, due(matured=held))
    for steps, complete, reward in (([entered], 0, 0), ([entered, matured], 2, 1)):
        statistic, tally = folded(configuration(), *steps)
        assert statistic.count.tolist() == statistic.pending.tolist() == [0, 0]
        assert tally.sent.tolist() == [0, 0, 2]
        assert tally.complete.tolist() == [0, 0, complete]
        assert tally.reward.tolist() == [0, 0, reward]


def test_observation_after_one_half_life_weighs_half_but_counts_whole() -> None:
    config = configuration(forgetting={"half_life_seconds": 60})
    old, new = decided([0], [(0, "click", 1.0)]), decided([1], started_at=NOW + 60)
    statistic, tally = folded(config, (NOW, due(entered_due=old)), (NOW + 60, due(entered_due=new)))
    assert statistic.count == pytest.approx([0.5, 1])
    assert statistic.total == pytest.approx([0.5, 0])
    assert tally.complete.tolist() == [1, 1, 0]


def test_observation_learned_late_already_weighs_less() -> None:
    config = configuration(forgetting={"half_life_seconds": 60})
    statistic, _ = folded(config, (NOW, due()), (NOW + 120, due(matured=decided([0]))))
    assert statistic.count == pytest.approx([0.25, 0])


def test_pending_decisions_do_not_fade() -> None:
    config = configuration(forgetting={"half_life_seconds": 60})
    statistic, _ = folded(config, (NOW, due(entered=decided([0]))), (NOW + 60, due()))
    assert statistic.pending.tolist() == [1, 0]


@pytest.mark.parametrize(("age", "weight"), [(60.0, 1.0), (60.125, 0.0)])
def test_forgetting_window_ends_just_after_its_last_second(age: float, weight: float) -> None:
    summing = StatisticBuilder(configuration(forgetting={"window_seconds": 60}), NOW)
    assert summing.weights(np.array([NOW - age])).tolist() == [weight]


def test_observation_leaves_the_window_as_it_was_learned() -> None:
    config = configuration(forgetting={"window_seconds": 60})
    before = decided([1], [(0, "click", 1.0)])
    after = decided([1], [(0, "click", 1.0), (0, "order", 30.0)])
    correction = due(before=before, after=after, expired=before)
    statistic, tally = folded(
        config, (NOW, due(entered_due=before)), (NOW + 61, correction), (NOW + 62, due())
    )
    assert statistic.count.tolist() == statistic.total.tolist() == [0, 0]
    assert tally.reward.tolist() == [0, 4, 0]


def test_a_clock_stepped_back_does_not_make_the_past_heavier() -> None:
    config = configuration(forgetting={"half_life_seconds": 60})
    statistic, _ = folded(config, (NOW, due(entered_due=decided([0]))), (NOW - 60, due()))
    assert statistic.count.tolist() == [1, 0]


def test_fold_of_empty_parts_works_for_every_statistic() -> None:
    for policy in ("uniform", "linucb"):
        context = [{"kind": "number", "name": "recency", "low": 0, "high": 1}]
        config = configuration(policy={"name": policy}, context=context)
        none = msgspec.structs.replace(decided([]), contexts=np.ones((0, 2)))
        empty = FoldIncrement(*([none] * len(FoldIncrement.__struct_fields__)))
        statistic, _ = folded(config, (NOW, empty))
        assert dump(statistic) == dump(load_statistic(config, None)[0])


@pytest.mark.parametrize(
    "statistic",
    [
        Moments(*(np.arange(2.0) + i for i in range(4))),
        Ridge(np.ones((2, 3, 3)), np.ones((2, 3)), np.full((2, 3, 3), 2.0)),
    ],
)
def test_arms_that_joined_have_room_at_the_end(statistic: Statistic) -> None:
    context = [{"kind": "category", "name": "channel", "values": ["Web", "Phone"]}]
    policy = {"name": "uniform" if statistic.family == "moments" else "linucb"}
    first = configuration(policy=policy, context=context)
    wider = first.next_version(
        configuration("abc", policy=policy, context=context).experiment, started=True
    )
    snapshot = Snapshot(1, 1, NOW, 0, 1, dump(statistic), ArmCounts.zeros(2, 2).dump())
    grown, tally = load_statistic(wider, snapshot)
    assert dump(grown.take(np.array([0, 1]))) == dump(statistic)
    newcomer = grown.take(np.array([2]))
    assert dump(newcomer) == dump(newcomer - newcomer)
    assert tally.n_arms == 3


def test_a_snapshot_of_another_family_is_not_taken_for_this_one() -> None:
    context = [{"kind": "number", "name": "recency", "low": 0, "high": 1}]
    linear = configuration(policy={"name": "linucb"}, context=context)
    snapshot = Snapshot(
        1, 1, NOW, 0, 1, dump(Moments.zeros(linear.problem)), ArmCounts.zeros(2, 2).dump()
    )
    with pytest.raises(ValueError, match="a moments statistic was stored, not a ridge one"):
        load_statistic(linear, snapshot)


def test_every_version_has_its_own_seed_that_a_database_can_hold() -> None:
    seeds = [seed_of(b"salt", version) for version in range(1, 1000)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= s < 2**63 for s in seeds)
    assert seed_of(b"salt", 1) == seeds[0] != seed_of(b"other", 1)


def test_minimised_metric_is_learned_as_the_exact_mirror() -> None:
    rule = {"metrics": {"click": {}}}
    events = [(0, "click", 1.0), (3, "click", 0.25)]
    mirrored = [(1, "click", 1.0), (2, "click", 1.0), (3, "click", 0.75)]
    least = configuration(reward=rule | {"goal": "minimise"})
    most = configuration(reward=rule)
    learned, tally = folded(least, (NOW, due(entered_due=decided([0, 0, 1, 1], events))))
    expected, _ = folded(most, (NOW, due(entered_due=decided([0, 0, 1, 1], mirrored))))
    for field in ("count", "total", "square"):
        assert getattr(learned, field).tolist() == getattr(expected, field).tolist()
    assert tally.reward.tolist() == [1.0, 0.25, 0.0]  # what people see stays as it is


@pytest.mark.parametrize(("goal", "earned"), [("maximise", 0.7), ("minimise", 1.3)])
def test_cost_of_a_variant_always_makes_it_worse(goal: str, earned: float) -> None:
    rule = {"metrics": {"click": {}}, "goal": goal, "costs": {"subject": {"b": 0.3}}}
    config = configuration(reward=rule, policy={"name": "thompson_gaussian"})
    clicks = decided([0, 1], [(0, "click", 1.0), (1, "click", 1.0)])
    statistic, tally = folded(config, (NOW, due(entered_due=clicks)))
    assert tally.reward.tolist() == pytest.approx([1.0, earned, 0.0])
    dear, free = statistic.total[1], statistic.total[0]
    assert dear == pytest.approx(free - 0.3)
    problem = config.problem
    assert problem.low <= min(statistic.total)
    assert max(statistic.total) <= problem.high


def test_the_cost_of_an_unknown_variant_is_refused() -> None:
    with pytest.raises(InvalidInput, match="/reward/costs/subject: unknown variant"):
        configuration(reward={"metrics": {"click": {}}, "costs": {"subject": {"z": 1.0}}})
