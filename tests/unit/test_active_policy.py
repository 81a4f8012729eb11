"""One experiment as it decides: what is drawn from, and what happens when a policy fails."""

import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event
from typing import Any

import msgspec
import numpy as np
import pytest

from bandits.array_types import FloatArray, IntArray
from bandits.engine.active_policy import ActivePolicy
from bandits.engine.arm_counts import ArmCounts
from bandits.experiment import Experiment
from bandits.registry import make
from bandits.sampling import uniform
from bandits.statistics import Moments, Statistic, dump
from bandits.store.values import Snapshot
from bandits.versions import Configuration, encode_restriction
from tests.patience import LIMIT_SECONDS

SALT = b"a salt of 16 by."
EVERYBODY = np.ones((1, 1))


def configuration(variants: str = "abc", **changes: Any) -> Configuration:
    """Declare an experiment of one slot with these variants."""
    declared: dict[str, Any] = {
        "key": "spring",
        "slots": [{"key": "subject", "variants": [{"key": v} for v in variants]}],
        "policy": {"name": "thompson"},
        "reward": {"metrics": {"click": {}}},
    }
    return Configuration.first(msgspec.convert(declared | changes, Experiment))


def learned(config: Configuration, arms: list[int], rewards: list[float]) -> Snapshot:
    """Make the snapshot of these matured decisions."""
    problem, n = config.problem, len(arms)
    chosen, earned = np.array(arms), np.array(rewards)
    statistic: Statistic = Moments.from_observations(
        problem, chosen, earned, np.ones((n, 1)), np.ones(n)
    )
    tally = ArmCounts.from_complete(
        problem.n_arms, chosen, np.zeros(n, dtype=bool), earned, earned[None]
    )
    return Snapshot(4, config.version, 0.0, 1, 1, dump(statistic), tally.dump())


def live(config: Configuration, snapshot: Snapshot | None = None) -> ActivePolicy:
    """Make it decide."""
    return ActivePolicy("spring", SALT, config, snapshot)


def draw(deciding: ActivePolicy, ids: list[str]) -> tuple[IntArray, FloatArray, bool]:
    """Draw for decisions that may get any arm."""
    u = deciding.uniforms(ids)
    return deciding.choose(deciding.unrestricted_arms, EVERYBODY, u)


class Failing:
    """A policy that cannot decide."""

    statistic = Moments
    contributions = None

    def __init__(self, answer: FloatArray | None = None) -> None:
        self.answer = answer

    def prepare(self, *_: object) -> None:
        """Have nothing to prepare."""

    def propensities(self, prepared: None, contexts: FloatArray) -> FloatArray:
        """Return what is no distribution, or raise."""
        if self.answer is None:
            raise ZeroDivisionError
        return self.answer


class Counting:
    """A policy that prepares once it may, and counts how often it has to."""

    statistic = Moments

    def __init__(self) -> None:
        self.prepared = 0
        self.may = Event()
        self.may.set()

    def prepare(self, known: Moments, *_: object) -> FloatArray:
        """Wait until it may."""
        assert self.may.wait(LIMIT_SECONDS)
        self.prepared += 1
        return np.full(known.count.shape[-1], 1 / known.count.shape[-1])

    def propensities(self, prepared: FloatArray, contexts: FloatArray) -> FloatArray:
        """Return equal shares."""
        return prepared


def test_decision_is_drawn_by_the_hash_of_its_id_alone() -> None:
    deciding = live(configuration(policy={"name": "uniform", "params": {"weights": [1, 2, 1]}}))
    ids = [f"id-{i}" for i in range(200)]
    arms, propensities, fallback = draw(deciding, ids)
    shares = deciding.probabilities(deciding.unrestricted_arms, EVERYBODY)
    expected = [int(np.searchsorted(shares.cumsum(), uniform(SALT, f"draw:{i}"))) for i in ids]
    assert not fallback
    assert arms.tolist() == expected
    assert propensities.tolist() == shares[arms].tolist()
    assert set(expected) == {0, 1, 2}


def test_floor_is_in_the_logged_propensity() -> None:
    snapshot = learned(
        configuration(), [0] * 100 + [1] * 100 + [2] * 100, [1.0] * 100 + [0.0] * 200
    )
    bare = live(configuration(floor=0.0), snapshot)
    floored = live(configuration(floor=0.1), snapshot)
    arms = bare.unrestricted_arms
    exact, raised = (x.probabilities(arms, EVERYBODY) for x in (bare, floored))
    assert exact[1] < 1e-12
    assert raised == pytest.approx(0.1 + 0.7 * exact, abs=1e-15)


def test_default_floor_gives_every_eligible_arm_a_little() -> None:
    config = configuration("abcdefghij")
    snapshot = learned(config, [0] * 50 + [1] * 50, [1.0] * 50 + [0.0] * 50)
    deciding = live(config, snapshot)
    among_two = deciding.probabilities(np.array([0, 1]), EVERYBODY)
    assert among_two[1] == pytest.approx(0.01, abs=1e-9)
    assert deciding.probabilities(deciding.unrestricted_arms, EVERYBODY).min() >= 0.005


@pytest.mark.parametrize(("matured", "held_down"), [(999, True), (1000, False)])
def test_a_newcomer_is_held_to_its_share_until_a_thousand_have_matured(
    matured: int, held_down: bool
) -> None:
    first = configuration("ab", floor=0.0)
    wider = configuration("abc", floor=0.0).experiment
    joined = first.next_version(wider, started=True)
    arms = [0] * 100 + [1] * 100 + [2] * matured
    snapshot = learned(joined, arms, [0.0] * 200 + [1.0] * matured)
    share = live(joined, snapshot).probabilities(np.arange(3), EVERYBODY)[2]
    assert share == pytest.approx(1 / 3 if held_down else 1.0)


def test_a_snapshot_from_before_an_arm_joined_still_decides() -> None:
    first = configuration("ab")
    snapshot = learned(first, [0, 1, 1], [1.0, 0.0, 0.0])
    joined = first.next_version(configuration("abc").experiment, started=True)
    deciding = live(joined, snapshot)
    assert deciding.probabilities(deciding.unrestricted_arms, EVERYBODY).shape == (3,)
    assert deciding.counts.complete.tolist() == [1, 2, 0, 0]


def test_restriction_computes_on_the_restricted_statistic() -> None:
    config = configuration(floor=0.0)
    snapshot = learned(config, [0, 0, 1, 1, 2, 2], [1.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    deciding = live(config, snapshot)
    arms = deciding.eligible(encode_restriction({"subject": ["a", "c"]}))
    restricted = deciding.probabilities(arms, EVERYBODY)
    policy = make("thompson")
    prepared = policy.prepare(
        deciding.statistic.take(arms), deciding.problem.take(arms), 1, np.random.default_rng(0)
    )
    assert restricted == pytest.approx(policy.propensities(prepared, EVERYBODY))
    everyone = deciding.probabilities(deciding.unrestricted_arms, EVERYBODY)[arms]
    assert restricted != pytest.approx(everyone / everyone.sum(), abs=1e-3)  # not renormalised


@pytest.mark.parametrize(
    "answer",
    [
        None,
        np.array([0.5, np.nan, 0.5]),
        np.array([1.2, -0.2, 0.0]),
        np.array([0.5, 0.4, 0.0]),
    ],
)
def test_policy_that_goes_wrong_gives_the_control(
    answer: FloatArray | None, caplog: pytest.LogCaptureFixture
) -> None:
    deciding = live(configuration(control={"subject": "b"}))
    deciding.policy = Failing(answer)
    with caplog.at_level(logging.ERROR):
        arms, propensities, fallback = deciding.choose(
            deciding.unrestricted_arms, EVERYBODY, ["x", "y"]
        )
    assert fallback
    assert arms.tolist() == [1, 1]
    assert propensities.tolist() == [1.0, 1.0]
    assert "policy of experiment spring failed" in caplog.text


def test_fallback_arm_is_the_first_eligible_where_the_control_is_not() -> None:
    deciding = live(configuration(control={"subject": "b"}))
    assert deciding.fallback_arm(np.array([0, 1, 2])) == 1
    assert deciding.fallback_arm(np.array([2, 0])) == 2


def test_prepare_is_done_by_one_thread_and_awaited_by_the_others() -> None:
    deciding = live(configuration())
    deciding.policy = policy = Counting()
    policy.may.clear()
    sets = [np.array([0, 1, 2]), np.array([0, 2])] * 8
    asking = count(1)

    def decide(arms: IntArray) -> list[float]:
        if next(asking) == len(sets):
            policy.may.set()
        shares: list[float] = deciding.probabilities(arms, EVERYBODY).tolist()
        return shares

    with ThreadPoolExecutor(len(sets)) as threads:
        answers = list(threads.map(decide, sets))
    assert policy.prepared == 2
    assert [len(a) for a in answers] == [3, 2] * 8


def test_prepared_states_are_kept_for_so_many_eligible_sets_only() -> None:
    deciding = live(configuration())
    deciding.policy = Counting()
    deciding._prepared_at_most = 2
    for arms in ([0, 1], [0, 2], [1, 2], [0, 1, 2]):
        assert len(deciding.probabilities(np.array(arms), EVERYBODY)) == len(arms)
        assert len(deciding._prepared) <= 2


def test_held_out_subjects_are_fixed_and_about_as_many_as_declared() -> None:
    # 20,000 subjects at 5 %: 1,000 with sd 31; six of those err once in 5e8 choices of the salt.
    deciding = live(configuration(holdout=0.05))
    subjects = [f"s{i}" for i in range(20_000)]
    held = deciding.held_out(subjects)
    assert abs(int(held.sum()) - 1000) < 6 * 31
    assert deciding.held_out(subjects[::-1]).tolist() == held[::-1].tolist()
    assert not live(configuration()).held_out(subjects).any()


def test_held_out_subjects_are_independent_of_the_draw() -> None:
    # Were both read from one hash, the held out would be those of the lowest draws.
    deciding = live(configuration(holdout=0.5))
    subjects = [f"s{i}" for i in range(4_000)]
    held = deciding.held_out(subjects)
    draws = np.array([uniform(SALT, f"draw:{s}") for s in subjects])
    # Two means of 2,000 uniforms differ with sd .0091; five of those err once in 1.7e6.
    assert abs(draws[held].mean() - draws[~held].mean()) < 5 * 0.0091
