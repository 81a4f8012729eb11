"""Simulated steps: email5, Thompson learning after every decision."""

import numpy as np
from measuring import Row, compare

from simulations import simulate
from simulations.environments import Bernoulli

MEANS = (0.18, 0.20, 0.21, 0.22, 0.24)
REPLICATIONS = 1000
HORIZON = 1000


def run(rounds: int) -> list[Row]:
    """Measure sequential Thompson sampling beside drawing the same beta variates alone."""
    steps = REPLICATIONS * HORIZON
    rng = np.random.default_rng(3)

    def ours() -> None:
        simulate(Bernoulli(MEANS), ["thompson"], horizon=HORIZON, replications=REPLICATIONS, seed=1)

    def variates() -> None:
        alpha, beta = np.full((REPLICATIONS, 5), 40.0), np.full((REPLICATIONS, 5), 160.0)
        for _ in range(HORIZON):
            rng.beta(alpha, beta)

    return [
        compare(
            f"Thompson simulation, email5, {REPLICATIONS:,} x {HORIZON:,} steps",
            ours,
            variates,
            n=steps,
            unit="steps",
            beside="drawing its beta variates alone",
            rounds=rounds,
            goal=600_000,
        )
    ]
