"""Simulations in several processes, and ones that are interrupted from the keyboard."""

import multiprocessing
import os
import signal

import pytest

from simulations import simulate
from simulations.environments import Bernoulli
from simulations.running.parallel import SimulationInterrupted, WorkerDied

EMAILS = Bernoulli((0.1, 0.2))


def interrupted_after(decisions):
    """Make a progress function that interrupts, as the keyboard does, after so many decisions."""
    seen = 0

    def progress(n):
        nonlocal seen
        seen += n
        if seen > decisions:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interruption_keeps_the_blocks_that_all_have_finished(workers):
    whole = simulate(EMAILS, ["thompson", "uniform"], horizon=50, replications=2000)
    part = simulate(
        EMAILS,
        ["thompson", "uniform"],
        horizon=50,
        replications=2000,
        workers=workers,
        progress=interrupted_after(50 * 250 * 7),
    )
    assert part.interrupted
    assert 0 < part.replications < 2000
    assert part.replications % 250 == 0
    for one, other in zip(part.outcomes, whole.outcomes, strict=True):
        blocks = {block.tobytes() for block in other.record.regret.reshape(8, 250, -1)}
        kept = one.record.regret.reshape(part.replications // 250, 250, -1)
        assert {block.tobytes() for block in kept} <= blocks
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interruption_before_anything_is_finished_says_so(workers):
    with pytest.raises(SimulationInterrupted):
        simulate(
            EMAILS,
            ["thompson"],
            horizon=20_000,
            replications=2000,
            workers=workers,
            progress=interrupted_after(0),
        )
    assert multiprocessing.active_children() == []


def test_progress_adds_up_to_every_decision_whatever_the_workers():
    for workers in (1, 2):
        seen = []
        simulate(
            EMAILS,
            ["thompson", "ab_test"],
            horizon=70,
            replications=300,
            workers=workers,
            progress=seen.append,
        )
        assert sum(seen) == 2 * 70 * 300


def test_worker_that_dies_is_an_error_and_not_a_wait_for_ever():
    def kill_one(_):
        victim = multiprocessing.active_children()[0]
        os.kill(victim.pid, signal.SIGKILL)

    with pytest.raises(WorkerDied):
        simulate(
            EMAILS, ["thompson"], horizon=50_000, replications=1000, workers=2, progress=kill_one
        )
    assert multiprocessing.active_children() == []
