"""Many replications of all contestants, in one process or several, with the same numbers."""

import signal
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import closing
from multiprocessing import active_children, get_context
from typing import Any, NamedTuple

from msgspec import Struct

from bandits.errors import BanditsError
from simulations.environments.contract import Environment
from simulations.ledger import Record, joined
from simulations.lineup import Entrant
from simulations.runner import Progress, play
from simulations.schedule import Run
from simulations.worlds import BLOCK

_POLL_SECONDS = 0.1


class Interrupted(BanditsError):
    """It was stopped before any replication of every contestant was finished."""


class Competition(Struct, frozen=True, eq=False):
    """What came out.

    Attributes:
        records: one for each contestant, all of the same replications.
        replications: how many were finished.
        interrupted: whether that is fewer than were asked for.
    """

    records: list[Record]
    replications: int
    interrupted: bool


class _Task(NamedTuple):
    environment: Environment
    entrant: Entrant
    run: Run
    replications: range


def compete(
    environment: Environment,
    entrants: Sequence[Entrant],
    run: Run,
    *,
    workers: int = 1,
    progress: Progress = lambda _: None,
) -> Competition:
    """Let all contestants play all replications, in blocks.

    A block's numbers depend on the seed and its position alone, so they are the same for any number
    of workers. When interrupted from the keyboard, the blocks that every contestant has finished
    are kept.

    Raises:
        Interrupted: there is no such block.
    """
    starts = range(0, run.replications, BLOCK)
    blocks = [range(start, min(start + BLOCK, run.replications)) for start in starts]
    tasks = [_Task(environment, entrant, run, block) for block in blocks for entrant in entrants]
    records: list[Record] = []
    interrupted = False
    results = _alone(tasks, progress) if workers == 1 else _together(tasks, workers, progress)
    with closing(results):
        try:
            for record in results:
                records.append(record)  # noqa: PERF402 - those before an interruption are kept
        except KeyboardInterrupt:
            interrupted = True
    finished = len(records) // len(entrants)
    if not finished:
        raise Interrupted("interrupted before the first replications were finished")
    kept = records[: finished * len(entrants)]
    sides = [joined(kept[i :: len(entrants)]) for i in range(len(entrants))]
    return Competition(sides, len(sides[0].wrong), interrupted)


def _alone(tasks: Iterable[_Task], progress: Progress) -> Generator[Record]:
    for task in tasks:
        yield play(task.entrant.contestant, task.environment, task.run, task.replications, progress)


def _together(tasks: Sequence[_Task], workers: int, progress: Progress) -> Generator[Record]:
    context = get_context("spawn")  # a copy of a process with threads may hang
    played = context.Value("Q", 0)
    others = set(active_children())
    with ProcessPoolExecutor(min(workers, len(tasks)), context, _listen, (played,)) as pool:
        try:
            futures = [pool.submit(_work, task) for task in tasks]
            seen = 0
            for future in futures:
                while not future.done():
                    wait([future], _POLL_SECONDS)
                    now = played.value
                    progress(now - seen)
                    seen = now
                yield future.result()
        except (KeyboardInterrupt, GeneratorExit):
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(active_children()) - others:
                process.terminate()
            raise


_played: Any = None  # in a worker process: the counter that it shares with the first


def _listen(played: Any) -> None:
    """Set up a worker: the keyboard's interruption is the first process's business."""
    global _played  # noqa: PLW0603 - a pool's set-up can leave things for its tasks in no other way
    _played = played
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(task: _Task) -> Record:
    def count(n: int) -> None:
        with _played.get_lock():
            _played.value += n

    return play(task.entrant.contestant, task.environment, task.run, task.replications, count)
