"""Simulations from Python, with the settings of a scenario file."""

import time
from collections.abc import Sequence

from bandits.problem import Problem
from simulations.environments.interfaces import Environment
from simulations.learner_config import LearnerSpec, check_learners, label_learners
from simulations.learners.interfaces import LearnerFactory
from simulations.reporting.result import Result
from simulations.reporting.summary import LearnerOutcome
from simulations.running.delays import Feedback
from simulations.running.loop import Progress
from simulations.running.parallel import run_replications
from simulations.running.schedule import Ramp, Run


def simulate(  # noqa: PLR0913 - each is a line of a scenario file
    environment: Environment,
    policies: Sequence[LearnerSpec],
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
        environment: the recipients, say ``Bernoulli((.20, .18, .24))``.
        policies: names (``"thompson"``), entries as in a scenario (``{"name": "thompson", "floor":
            .01}``), policy objects, or procedures (``ABTest(share=.1)``).
        horizon: decisions in a replication.
        batches: equal batches, the size of each, or a ``Ramp(first=1000)``; None learns after every
            decision.
        delay: batches before the feedback of a batch is visible.
        feedback: delays of each reward, instead of a delay in batches.
        after: decisions after the campaign, with the arm it shipped; None for as many as in it.
        replications: independent repetitions; every policy meets the same ones.
        seed: the same seed gives the same numbers.
        workers: processes; the numbers do not depend on it.
        scheduler: the address of a Dask scheduler whose workers are to simulate instead.
        progress: called now and then with the number of decisions simulated since.

    Raises:
        InvalidInput: naming the field that does not fit.
        SimulationInterrupted: stopped from the keyboard before anything was finished.
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


def simulate_run(  # noqa: PLR0913 - the run, and its processes
    environment: Environment,
    policies: Sequence[LearnerSpec],
    run: Run,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress = lambda _: None,
) -> Result:
    """Compare policies and procedures in an environment, with the settings of `run`.

    Raises:
        InvalidInput: naming the field that does not fit.
        SimulationInterrupted: stopped from the keyboard before anything was finished.
    """
    learners = label_learners(policies)
    check_learners(learners, environment.problem, run)
    began = time.perf_counter()
    finished = run_replications(
        environment, learners, run, workers=workers, scheduler=scheduler, progress=progress
    )
    return Result(
        run,
        environment.arms,
        tuple(
            LearnerOutcome(
                learner.label, record, _size_beyond(learner.factory, environment.problem, run)
            )
            for learner, record in zip(learners, finished.records, strict=True)
        ),
        time.perf_counter() - began,
        finished.interrupted,
    )


def _size_beyond(factory: LearnerFactory, problem: Problem, run: Run) -> int | None:
    """Return the decisions that it was planned for, where the campaign has fewer."""
    size = factory.planned_size(problem)
    return size if size is not None and size > run.horizon else None
