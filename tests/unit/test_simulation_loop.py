"""The loop itself, with a learner whose every call is written down."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.errors import InvalidInput
from bandits.policy import Parameters
from bandits.problem import Problem
from bandits.registry import make, policies
from bandits.statistics import Ridge
from simulations.ab_tests.procedures import ABTest
from simulations.environments import Bernoulli, Hillstrom, Logistic
from simulations.learners.memory import DecisionForgetting
from simulations.learners.policy_learner import PolicyLearnerFactory
from simulations.learners.scheduled_learner import ScheduledLearner
from simulations.running.loop import run_learner
from simulations.running.replications import Chunk, CommonRandomNumbers, Replications
from simulations.running.schedule import Run, Schedule

EMAILS = Bernoulli((0.2, 0.18, 0.24))


class Diary:
    """A learner that takes turns, and writes down its calls."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.rewards: list[FloatArray] = []
        self.position = 0

    def check(self, problem: Problem, run: Run) -> None:
        pass

    def schedule(self, run: Run, problem: Problem) -> Schedule:
        return run.schedule

    def create_learner(
        self, problem: Problem, run: Run, replications: int, rng: Generator
    ) -> ScheduledLearner:
        self.n_arms = problem.n_arms
        return ScheduledLearner(self, run.schedule, run.feedback)

    def planned_size(self, problem: Problem) -> None:
        return None

    def begin(self, upcoming: int, *, last: bool) -> None:
        self.events.append(("begin", upcoming, last))

    def choose(self, contexts: FloatArray) -> IntArray:
        replications, n = contexts.shape[:2]
        turns = np.arange(self.position, self.position + n) % self.n_arms
        self.position += n
        return np.tile(turns, (replications, 1))

    def send(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> int:
        self.events.append(("sent", arms.shape[1]))
        self.rewards.append(rewards)
        return arms.shape[1]

    def learn(self, feedback: int) -> None:
        self.events.append(("learn", feedback))

    def correct(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> str:
        return "correction"

    def shipped_shares(self) -> None:
        return None

    def sends_to_decision(self) -> FloatArray:
        return np.full(2, np.nan)


def played(run: Run, environment: Any = EMAILS) -> Diary:
    diary = Diary()
    run_learner(diary, environment, run, range(2), lambda _: None)
    return diary


def test_a_batch_learns_before_the_next_begins():
    assert played(Run(horizon=5, batches=(2, 3))).events == [
        ("begin", 2, False),
        ("sent", 2),
        ("learn", 2),
        ("begin", 3, True),
        ("sent", 3),
        ("learn", 3),
    ]


def test_delayed_feedback_is_visible_that_many_batches_later_and_the_rest_at_the_end():
    events = played(Run(horizon=10, batches=(1, 2, 3, 4), delay=2)).events
    assert events == [
        ("begin", 1, False),
        ("sent", 1),
        ("begin", 2, False),
        ("sent", 2),
        ("begin", 3, False),
        ("sent", 3),
        ("learn", 1),
        ("begin", 4, True),
        ("sent", 4),
        ("learn", 2),
        ("learn", 3),
        ("learn", 4),
    ]


def test_a_batch_longer_than_a_stretch_in_memory_begins_once():
    diary = played(Run(horizon=20_000, batches=2))
    assert [event for event in diary.events if event[0] == "begin"] == [
        ("begin", 10_000, False),
        ("begin", 10_000, True),
    ]
    assert len([event for event in diary.events if event[0] == "sent"]) > 2
    assert sum(event[1] for event in diary.events if event[0] == "learn") == 20_000


def test_potential_rewards_do_not_depend_on_when_somebody_learns():
    by_step = np.hstack(played(Run(horizon=300, seed=3)).rewards)
    in_batches = np.hstack(played(Run(horizon=300, seed=3, batches=4)).rewards)
    late = np.hstack(played(Run(horizon=300, seed=3, batches=50, delay=7)).rewards)
    np.testing.assert_array_equal(by_step, in_batches)
    np.testing.assert_array_equal(by_step, late)


def test_seed_decides_the_rewards():
    one = np.hstack(played(Run(horizon=300, seed=3)).rewards)
    other = np.hstack(played(Run(horizon=300, seed=4)).rewards)
    assert (one != other).any()


def test_a_replication_is_the_same_whoever_stands_beside_it():
    def world(numbers: range) -> Any:
        (chunk,) = Replications(Hillstrom(), 5, numbers).chunks(40, by_step=False)
        return chunk

    alone, among = world(range(3, 4)), world(range(6))
    np.testing.assert_array_equal(alone.contexts[0], among.contexts[3])
    np.testing.assert_array_equal(alone.outcomes.noise[0], among.outcomes.noise[3])


def test_arms_earn_the_same_round_by_round_however_many_replications_there_are():
    """Few are looked up in what all arms would earn; of many only what was chosen is computed."""
    for environment, n in product((EMAILS, Logistic.drawn(3, 3)), (2, 100)):
        (chunk,) = Replications(environment, 5, range(n)).chunks(40, by_step=True)
        assert 0 < earned_by_step(chunk).mean() < 1


def test_arms_earn_by_their_own_rates_where_each_replication_has_others():
    rates = np.random.default_rng(7).random((100, 1, 3))
    noise = np.random.default_rng(8).random((100, 40))
    chunk = Chunk(0, np.ones((100, 40, 1)), rates, CommonRandomNumbers(EMAILS, noise))
    by_replication = earned_by_step(chunk).mean(axis=1)
    assert np.corrcoef(by_replication, rates.mean(axis=(1, 2)))[0, 1] > 0.5


def earned_by_step(chunk: Chunk) -> FloatArray:
    """Send arms at random, round by round: what they earn, (R, n), as if sent all at once."""
    shape = chunk.contexts.shape[:2]
    arms, rewards_of = np.random.default_rng(6).integers(0, 3, shape), chunk.rewards_by_step()
    rewards = np.stack([rewards_of(step, arms[:, step]) for step in range(chunk.n)], axis=1)
    np.testing.assert_array_equal(rewards, chunk.send(0, arms)[1])
    return rewards


def test_regret_is_what_the_sends_missed():
    run = Run(horizon=1000, batches=7, seed=2)
    record = run_learner(
        PolicyLearnerFactory(make("thompson")), EMAILS, run, range(10), lambda _: None
    )
    np.testing.assert_allclose(record.regret[:, -1], record.sends @ [0.04, 0.06, 0.0])
    np.testing.assert_allclose(record.best[:, -1], 240)
    np.testing.assert_allclose(record.control[:, -1], 200)
    np.testing.assert_allclose(record.best[0], 0.24 * record.grid)
    assert (np.diff(record.regret, axis=1) >= -1e-9).all()


def test_regret_in_a_contextual_world_is_against_the_best_for_each():
    run = Run(horizon=20_000, batches=2, seed=2)
    record = run_learner(ABTest(share=1.0), Hillstrom(), run, range(4), lambda _: None)
    assert (record.best[:, -1] > record.control[:, -1]).all()
    best_single = 20_000 * 0.18276  # by how much customers differ, ± 9 in 20,000 of them
    assert (record.best[:, -1] > best_single + 20).all()


def test_a_curve_has_the_ends_of_few_batches_and_ends_at_the_horizon():
    run = Run(horizon=1003, batches=(10, 993), seed=2)
    record = run_learner(ABTest(share=0.5), EMAILS, run, range(2), lambda _: None)
    assert 10 in record.grid
    assert record.grid[-1] == 1003


def test_steps_and_prepared_anew_have_the_same_law():
    """A window longer than the run forgets nothing, but goes through `prepare` at every step.

    False-alarm rate of the bound: 6e-5, by the normal law of a mean of 400 replications.
    """
    run = Run(horizon=150, seed=2)
    for name in ("thompson", "ucb1"):
        policy = make(name)
        stepped = run_learner(
            PolicyLearnerFactory(policy), EMAILS, run, range(400), lambda _: None
        ).regret[:, -1]
        prepared = run_learner(
            PolicyLearnerFactory(policy, forgetting=DecisionForgetting(window=1000)),
            EMAILS,
            run,
            range(400),
            lambda _: None,
        ).regret[:, -1]
        error = (stepped.var() / 400 + prepared.var() / 400) ** 0.5
        assert abs(stepped.mean() - prepared.mean()) < 4 * error


def test_the_floor_is_every_arms_least_share():
    run = Run(horizon=4000, batches=2, seed=2)
    record = run_learner(
        PolicyLearnerFactory(make("thompson"), floor=0.1), EMAILS, run, range(50), lambda _: None
    )
    second_half = record.sends.mean(axis=0) - 4000 / 6  # the first batch is split equally
    assert (second_half > 0.1 * 2000 - 4 * (2000 * 0.1 / 50) ** 0.5).all()


@pytest.mark.parametrize("name", policies())
def test_a_greedy_last_batch_sends_one_arm_only_to_recipients_who_are_alike(name):
    run = Run(horizon=3600, batches=(600, 3000), seed=2)
    contestant = PolicyLearnerFactory(make(name), greedy_last_batch=True)
    record = run_learner(contestant, EMAILS, run, range(20), lambda _: None)
    assert (record.sends.max(axis=1) > 3000 + 150).all()


@pytest.mark.parametrize("name", policies())
def test_a_greedy_last_batch_with_nothing_known_is_split_equally(name):
    run = Run(horizon=3000, batches=1, seed=2)
    contestant = PolicyLearnerFactory(make(name), greedy_last_batch=True)
    sends = run_learner(contestant, EMAILS, run, range(20), lambda _: None).sends.mean(axis=0)
    assert np.abs(sends - 1000).max() < 4 * (3000 * 2 / 9 / 20) ** 0.5


def test_a_contextual_policy_that_predicts_nothing_cannot_be_greedy():
    class Silent(Parameters, frozen=True):
        statistic = Ridge

    Silent.name, Silent.support = "silent", (0.0, 1.0)
    run = Run(horizon=6000, batches=2)
    with pytest.raises(InvalidInput, match="silent does not tell what it predicts") as error:
        PolicyLearnerFactory(Silent(), greedy_last_batch=True).check(EMAILS.problem, run)
    assert error.value.faults[0].pointer == "/greedy_last_batch"
