"""The same work by MABWiser, river and obp, in the same run, by processor seconds.

Rates and recipients are the same for both sides. MABWiser and obp choose for one recipient after
another where they offer nothing else. Where a peer does in one call what we do, it may.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from bare_linucb import bare_linucb
from mabwiser.mab import MAB, LearningPolicy
from measuring import Row, compare
from peers import obp_example, obp_simulation, obp_taught, river_example, river_loop
from river import bandit, proba
from threadpoolctl import threadpool_limits

from bandits.array_types import FloatArray, IntArray
from bandits.policy import AnyPolicy, sample_arms
from bandits.problem import Problem
from bandits.registry import make
from bandits.sampling import draw
from bandits.statistics import Moments, Ridge
from simulations import simulate
from simulations.environments import Bernoulli, Logistic

K = 10
D = 20
SEEN = 20_000
BATCH = 100_000
RATES = tuple(np.linspace(0.10, 0.28, K).tolist())
STEPS = 10_000
NOBODY = np.ones((1, 0))
compared = partial(compare, clock=time.process_time)


def run(rounds: int) -> list[Row]:
    """Measure all, on one processor."""
    with threadpool_limits(1):
        return [
            batch_thompson(rounds),
            *(choosing for choosing in linucb_choices(rounds)),
            *(simulated("thompson", n, rounds) for n in (100, 1000)),
            simulated("thompson", 100, rounds, example=True),
            *(simulated("ucb1", n, rounds) for n in (100, 1000)),
            simulated("ucb1", 100, rounds, example=True),
            variates(rounds),
            *(simulated_linucb(n, rounds) for n in (10, 100, 250)),
            simulated_linucb(10, rounds, example=True),
            linucb_calls(rounds),
        ]


def batch_thompson(rounds: int) -> Row:
    """Choose for a million recipients, where MABWiser chooses for one at a time."""
    rng = np.random.default_rng(1)
    arms = rng.integers(K, size=SEEN)
    clicks = (rng.random(SEEN) < np.array(RATES)[arms]).astype(np.int64)
    theirs = MAB(list(range(K)), LearningPolicy.ThompsonSampling(), seed=1)
    theirs.fit(arms, clicks)
    policy, problem = make("thompson"), Problem.of(K)
    known = Moments.from_observations(
        problem, arms, clicks * 1.0, np.ones((SEEN, 0)), np.ones(SEEN)
    )
    prepared = policy.prepare(known, problem, 1, rng)
    u = rng.random(1_000_000)

    def one_by_one() -> None:
        for _ in range(5_000):
            theirs.predict()

    return compared(
        f"Thompson choices, K={K}, 1,000,000 recipients",
        lambda: draw(policy.propensities(prepared, NOBODY), u),
        one_by_one,
        n=len(u),
        reference_n=5_000,
        unit="choices",
        beside="MABWiser",
        rounds=rounds,
        least_ratio=100,
    )


def linucb_choices(rounds: int) -> list[Row]:
    """Choose for 100,000 recipients at once, and one after another: an arm each, as peers do."""
    rng = np.random.default_rng(2)
    arms, contexts = rng.integers(K, size=SEEN), rng.standard_normal((SEEN, D))
    rewards = (rng.random(SEEN) < 0.2).astype(np.float64)
    mabwiser = MAB(list(range(K)), LearningPolicy.LinUCB(alpha=0.25), seed=1)
    mabwiser.fit(arms, rewards, contexts)
    obp = obp_taught(arms, rewards, contexts)
    policy, prepared = _prepared_linucb(arms, rewards, contexts)
    x = rng.standard_normal((BATCH, D))
    rows = [x[i : i + 1] for i in range(500)]
    recipients = f"LinUCB choices, K={K}, d={D}"
    many = compared(
        f"{recipients}, {BATCH:,} recipients at once",
        lambda: sample_arms(policy, prepared, x, rng),
        lambda: mabwiser.predict(x),
        n=BATCH,
        unit="choices",
        beside="MABWiser",
        rounds=rounds,
        least_ratio=2,
    )
    others: dict[str, Callable[[FloatArray], object]] = {
        "MABWiser": mabwiser.predict,
        "obp": obp.select_action,
    }
    single = [
        compared(
            f"{recipients}, one after another",
            lambda: [sample_arms(policy, prepared, row, rng) for row in rows],
            lambda choose=choose: [choose(row) for row in rows],  # type: ignore[misc]  # a default
            n=len(rows),
            unit="choices",
            beside=name,
            rounds=rounds,
            least_ratio=5,
        )
        for name, choose in others.items()
    ]
    return [many, *single]


def _prepared_linucb(
    arms: IntArray, rewards: FloatArray, contexts: FloatArray
) -> tuple[AnyPolicy, object]:
    problem, policy = Problem.of(K, D), make("linucb")
    known = Ridge.from_observations(problem, arms, rewards, contexts, np.ones(len(arms)))
    prepared = policy.prepare(known, problem, 1, np.random.default_rng(3))
    policy.propensities(prepared, contexts[:1])
    return policy, prepared


def simulated(name: str, replications: int, rounds: int, *, example: bool = False) -> Row:
    """Simulate 10,000 steps, learning after each; river's loop is one replication.

    It is the least that can be called one, or, as its documentation has it, goes through its own
    world and sums what it earns.
    """
    loop = river_example if example else river_loop
    theirs: dict[str, Callable[[], object]] = {
        "thompson": lambda: bandit.ThompsonSampling(reward_obj=proba.Beta(1, 1), seed=1),
        "ucb1": lambda: bandit.UCB(delta=1, seed=1),
    }
    return compared(
        f"{name} simulated, K={K}, {replications:,} x {STEPS:,} steps",
        lambda: simulate(
            Bernoulli(RATES), [name], horizon=STEPS, replications=replications, seed=1
        ),
        lambda: loop(theirs[name](), RATES, STEPS),
        n=replications * STEPS,
        reference_n=STEPS,
        unit="steps",
        beside="river's loop, as documented" if example else "river's pull and update",
        rounds=rounds,
        least_ratio={"thompson": 30, "ucb1": 50}[name],
    )


def variates(rounds: int) -> Row:
    """Draw the beta variates of such a simulation and nothing else."""
    rng = np.random.default_rng(4)
    alpha, beta = rng.uniform(1, 400, (100, K)), rng.uniform(1, 1600, (100, K))

    def alone() -> None:
        for _ in range(STEPS):
            rng.beta(alpha, beta)

    return compared(
        f"thompson simulated, K={K}, 100 x {STEPS:,} steps",
        lambda: simulate(Bernoulli(RATES), ["thompson"], horizon=STEPS, replications=100, seed=1),
        alone,
        n=100 * STEPS,
        unit="steps",
        beside="its beta variates alone",
        rounds=rounds,
        least_ratio=0.5,
    )


def simulated_linucb(replications: int, rounds: int, *, example: bool = False) -> Row:
    """Simulate LinUCB with ten features, learning after each step; obp's is one replication.

    It goes through our world, told in the fewest calls, or, as its examples do, through its own.
    """
    world, steps = Logistic.drawn(K, 9, seed=3), 2_000
    given = world.rounds(0, steps, np.random.default_rng(5))
    return compared(
        f"linucb simulated, K={K}, d=10, {replications:,} x {steps:,} steps",
        lambda: simulate(world, ["linucb"], horizon=steps, replications=replications, seed=1),
        obp_example(world, steps) if example else obp_simulation(world, given),
        n=replications * steps,
        reference_n=steps,
        unit="steps",
        beside=f"obp's simulator, {'its own' if example else 'our'} world",
        rounds=rounds,
        least_ratio=50,
    )


def linucb_calls(rounds: int) -> Row:
    """Make the calls of numpy that such a simulation cannot do without, and nothing else."""
    world, steps, replications = Logistic.drawn(K, 9, seed=3), 2_000, 10
    return compared(
        f"linucb simulated, K={K}, d=10, {replications:,} x {steps:,} steps",
        lambda: simulate(world, ["linucb"], horizon=steps, replications=replications, seed=1),
        lambda: bare_linucb(K, 10, replications, steps),
        n=replications * steps,
        unit="steps",
        beside="its calls of numpy alone",
        rounds=rounds,
        least_ratio=0.8,
    )
