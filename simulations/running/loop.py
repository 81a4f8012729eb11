"""The loop that every simulation runs: a learner plays, and its regret is recorded."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from threadpoolctl import ThreadpoolController

from simulations.environments.interfaces import Environment
from simulations.learners.interfaces import LearnerFactory
from simulations.running.recorder import RegretRecorder, RunRecord, curve_grid
from simulations.running.replications import Replications, learner_rng, warm_allocator
from simulations.running.schedule import Run

Progress = Callable[[int], None]  # called with the number of decisions just simulated


class RunTask(NamedTuple):
    """A learner, and the replications that it plays side by side."""

    environment: Environment
    factory: LearnerFactory
    run: Run
    replications: range


def run_task(task: RunTask, progress: Progress) -> RunRecord:
    """Run, on one processor: a simulation's matrices are so small that sharing them costs more."""
    with _thread_pools().limit(limits=1, user_api="blas"):
        return run_learner(task.factory, task.environment, task.run, task.replications, progress)


@cache
def _thread_pools() -> ThreadpoolController:
    """Find the libraries that have threads, once: it takes as long as hundreds of decisions."""
    return ThreadpoolController()


def run_learner(
    factory: LearnerFactory,
    environment: Environment,
    run: Run,
    replications: Sequence[int],
    progress: Progress,
) -> RunRecord:
    """Run a learner in the replications of these numbers, side by side."""
    warm_allocator()
    problem, n_replications = environment.problem, len(replications)
    rng = learner_rng(run.seed, replications[0])
    learner = factory.create_learner(problem, run, n_replications, rng)
    recorder = RegretRecorder(problem, curve_grid(run.horizon, run.schedule.ends), n_replications)
    delayed = run.feedback is not None
    rounds = Replications(environment, run.seed, replications, delayed=delayed)
    by_step = factory.schedule(run, problem).sequential
    for chunk in rounds.chunks(run.horizon, by_step=by_step):
        recorder.record(chunk, *learner.play(chunk))
        progress(chunk.n * n_replications)
    learner.finish()
    return recorder.finish(learner.shipped_shares(), learner.sends_to_decision())
