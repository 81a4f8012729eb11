"""Simulations from Python: the same as a scenario file's."""

import time
from collections.abc import Sequence

from simulations.competition import compete
from simulations.environments.contract import Environment
from simulations.lineup import Given, check, lineup
from simulations.result import Outcome, Result
from simulations.runner import Progress
from simulations.schedule import Run


def simulate(  # noqa: PLR0913 - each is a line of a scenario file
    environment: Environment,
    policies: Sequence[Given],
    *,
    horizon: int,
    batches: int | Sequence[int] | None = None,
    delay: int = 0,
    replications: int = 1000,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = lambda _: None,
) -> Result:
    """Compare policies and procedures in an environment.

    Args:
        environment: the world, say ``Bernoulli((.20, .18, .24))``.
        policies: names (``"thompson"``), entries as in a scenario (``{"name": "thompson", "floor":
            .01}``), policy objects, or procedures (``ABTest(share=.1)``).
        horizon: decisions in a replication.
        batches: equal batches, or the size of each; None learns after every decision.
        delay: batches before the feedback of a batch is visible.
        replications: independent repetitions; every policy faces the same ones.
        seed: the same seed gives the same numbers.
        workers: processes; the numbers do not depend on it.
        progress: called now and then with the number of decisions simulated since.

    Raises:
        InvalidInput: naming what does not fit.
        Interrupted: stopped from the keyboard before anything was finished.
    """
    sizes = batches if batches is None or isinstance(batches, int) else tuple(batches)
    run = Run(horizon=horizon, batches=sizes, delay=delay, replications=replications, seed=seed)
    return simulate_run(environment, policies, run, workers=workers, progress=progress)


def simulate_run(
    environment: Environment,
    policies: Sequence[Given],
    run: Run,
    *,
    workers: int = 1,
    progress: Progress = lambda _: None,
) -> Result:
    """Compare policies and procedures in an environment, as `run` says.

    Raises:
        InvalidInput: naming what does not fit.
        Interrupted: stopped from the keyboard before anything was finished.
    """
    entrants = lineup(policies)
    check(entrants, environment.problem, run)
    began = time.perf_counter()
    out = compete(environment, entrants, run, workers=workers, progress=progress)
    return Result(
        run,
        environment.arms,
        tuple(Outcome(e.label, record) for e, record in zip(entrants, out.records, strict=True)),
        time.perf_counter() - began,
        out.interrupted,
    )
