"""Choices in this process: the snapshot is prepared, the uniforms are given."""

import numpy as np
from measuring import Row, compare

from bandits.problem import Problem
from bandits.registry import make
from bandits.sampling import draw
from bandits.statistics import Moments, Ridge

K = 10
D = 20


def run(rounds: int) -> list[Row]:
    """Measure a policy without context, and one with."""
    return [thompson(1_000_000, rounds), linucb(100_000, rounds)]


def thompson(recipients: int, rounds: int) -> Row:
    """A million recipients share one distribution; the limit is finding a million numbers in it."""
    rng = np.random.default_rng(1)
    problem = Problem.of(K)
    n = 50_000
    arms = rng.integers(K, size=n)
    clicks = (rng.random(n) < 0.02 + 0.002 * arms).astype(np.float64)
    known = Moments.from_observations(problem, arms, clicks, np.ones((n, 0)), np.ones(n))
    policy = make("thompson")
    prepared = policy.prepare(known, problem, 1, rng)
    nobody = np.ones((1, 0))
    policy.propensities(prepared, nobody)
    u = rng.random(recipients)
    edges = np.sort(rng.random(K))
    return compare(
        f"Thompson choices, K={K}, {recipients:,} recipients",
        lambda: draw(policy.propensities(prepared, nobody), u),
        lambda: np.searchsorted(edges, u),
        n=recipients,
        unit="choices",
        beside="a bare searchsorted",
        rounds=rounds,
        goal=10_000_000,
    )


def linucb(recipients: int, rounds: int) -> Row:
    """Everybody has a distribution of their own; the limit is one matrix product an arm."""
    rng = np.random.default_rng(2)
    problem = Problem.of(K, D)
    n = 20_000
    arms, contexts = rng.integers(K, size=n), rng.standard_normal((n, D))
    rewards = (rng.random(n) < 0.2).astype(np.float64)
    known = Ridge.from_observations(problem, arms, rewards, contexts, np.ones(n))
    policy = make("linucb")
    prepared = policy.prepare(known, problem, 1, rng)
    x, u = rng.standard_normal((recipients, D)), rng.random(recipients)
    factors = rng.standard_normal((K, D, D))

    def products() -> None:
        for factor in factors:
            x @ factor

    return compare(
        f"LinUCB choices, K={K}, d={D}, {recipients:,} recipients",
        lambda: draw(policy.propensities(prepared, x), u),
        products,
        n=recipients,
        unit="choices",
        beside="its matrix products alone",
        rounds=rounds,
        goal=600_000,
    )
