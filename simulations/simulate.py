"""Simulations from Python: the same as a scenario file's."""

import time
from collections.abc import Sequence
from typing import cast

from bandits.problem import Problem
from simulations.entries import Given, check, lineup
from simulations.environments.interfaces import Environment
from simulations.learners.interfaces import FixedSize, LearnerFactory
from simulations.reporting.result import Result
from simulations.reporting.summary import LearnerOutcome
from simulations.running.delays import Feedback
from simulations.running.loop import Progress
from simulations.running.parallel import run_replications
from simulations.running.schedule import Ramp, Run


def simulate(  # noqa: PLR0913 - each is a line of a scenario file
    environment: Environment,
    policies: Sequence[Given],
    *,
    horizon: int,
    batches: int | Sequence[int] | Ramp | None = None,
    delay: int = 0,
    feedback: Feedback | None = None,
    after: int | None = None,
    replications: int = 1000,
    seed: int = 0,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress = lambda _: None,
) -> Result:
    """Compare policies and procedures in an environment.

    Args:
        environment: the world, say ``Bernoulli((.20, .18, .24))``.
        policies: names (``"thompson"``), entries as in a scenario (``{"name": "thompson", "floor":
            .01}``), policy objects, or procedures (``ABTest(share=.1)``).
        horizon: decisions in a replication.
        batches: equal batches, the size of each, or a ``Ramp(first=1000)``; None learns after every
            decision.
        delay: batches before the feedback of a batch is visible.
        feedback: when each reward arrives, instead of a delay in batches.
        after: decisions after the campaign, with what it shipped; None for as many as in it.
        replications: independent repetitions; every policy faces the same ones.
        seed: the same seed gives the same numbers.
        workers: processes; the numbers do not depend on it.
        scheduler: the address of a Dask scheduler whose workers are to simulate instead.
        progress: called now and then with the number of decisions simulated since.

    Raises:
        InvalidInput: naming what does not fit.
        Interrupted: stopped from the keyboard before anything was finished.
    """
    sizes = tuple(batches) if isinstance(batches, Sequence) else batches
    run = Run(
        horizon=horizon,
        batches=sizes,
        delay=delay,
        feedback=feedback,
        after=after,
        replications=replications,
        seed=seed,
    )
    return simulate_run(
        environment, policies, run, workers=workers, scheduler=scheduler, progress=progress
    )


def simulate_run(  # noqa: PLR0913 - what is played, and where
    environment: Environment,
    policies: Sequence[Given],
    run: Run,
    *,
    workers: int = 1,
    scheduler: str | None = None,
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
    out = run_replications(
        environment, entrants, run, workers=workers, scheduler=scheduler, progress=progress
    )
    return Result(
        run,
        environment.arms,
        tuple(
            LearnerOutcome(
                entrant.label, record, _planned_beyond(entrant.contestant, environment.problem, run)
            )
            for entrant, record in zip(entrants, out.records, strict=True)
        ),
        time.perf_counter() - began,
        out.interrupted,
    )


def _planned_beyond(contestant: LearnerFactory, problem: Problem, run: Run) -> int | None:
    """Return for how many decisions it was planned, where the campaign has fewer."""
    if not hasattr(contestant, "planned"):
        return None
    planned = cast("FixedSize", contestant).planned(problem)
    return planned if planned > run.horizon else None
