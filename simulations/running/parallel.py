"""Replications of all learners in parallel: processes here, or workers of a Dask cluster."""

import signal
import socket
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from bandits.errors import BanditsError, InvalidInput
from simulations.environments.interfaces import Environment
from simulations.learners.interfaces import LabelledLearner
from simulations.running.loop import Progress, RunTask, play_task
from simulations.running.recorder import RunRecord, joined
from simulations.running.replications import BLOCK
from simulations.running.schedule import Run

_CONNECT_SECONDS = 10


class SchedulerUnreachable(BanditsError):
    """Nobody answers as a Dask scheduler at this address."""


def _silent(n: int) -> None:
    """Count nothing: a worker elsewhere cannot tell how far it is before it is done."""


def _remote(position: int, task: RunTask) -> tuple[int, RunRecord]:
    return position, play_task(task, _silent)


def on_cluster(
    tasks: Sequence[RunTask], scheduler: str, progress: Progress
) -> Generator[tuple[int, RunRecord]]:
    """Have the workers of a Dask scheduler play, and yield each record with its task's position.

    They need this package installed. When this generator is closed, what is left is cancelled.

    Args:
        tasks: what is to be played.
        scheduler: its address, such as ``tcp://10.0.0.5:8786``.
        progress: called as tasks are finished.

    Raises:
        InvalidInput: Dask is not installed, or that is no address.
        SchedulerUnreachable: nobody answers there.
    """
    client = _connected(scheduler)
    from distributed import as_completed  # noqa: PLC0415 - an extra

    try:
        futures = [client.submit(_remote, i, task, pure=False) for i, task in enumerate(tasks)]
        for future in as_completed(futures, loop=client.loop):  # type: ignore[no-untyped-call]  # Dask has no types
            position, record = future.result()
            task = tasks[position]
            progress(task.run.horizon * len(task.replications))
            yield position, record
    finally:
        client.close()


def _connected(scheduler: str) -> Any:
    try:
        from distributed import Client  # noqa: PLC0415 - an extra
    except ImportError:
        raise InvalidInput.at(
            "", "a scheduler needs an extra: pip install 'email-bandits[scale]'"
        ) from None
    _knock(scheduler)
    return Client(  # type: ignore[no-untyped-call]  # Dask has no types
        scheduler, timeout=_CONNECT_SECONDS, set_as_default=False
    )


def _knock(scheduler: str) -> None:
    """Look whether anybody is there: a client that cannot connect is slow to give up."""
    try:
        parts = urlsplit(scheduler)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise InvalidInput.at("", f"scheduler {scheduler!r} is not of the form tcp://host:port")
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except OSError:
        raise SchedulerUnreachable(f"no Dask scheduler answers at {scheduler}") from None


class SimulationInterrupted(BanditsError):
    """It was stopped before any replication of every contestant was finished."""


class WorkerDied(BanditsError):
    """A process that simulated ended before its work was done; memory may have run out."""


class ReplicationRecords(Struct, frozen=True, eq=False):
    """What came out.

    Attributes:
        records: one for each contestant, all of the same replications.
        replications: how many were finished.
        interrupted: whether that is fewer than were asked for.
    """

    records: list[RunRecord]
    replications: int
    interrupted: bool


def run_replications(  # noqa: PLR0913 - what is played, and where
    environment: Environment,
    entrants: Sequence[LabelledLearner],
    run: Run,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress = lambda _: None,
) -> ReplicationRecords:
    """Let all contestants play all replications, in blocks.

    A block's numbers depend on the seed and its position alone, so they are the same for any number
    of workers, here or on the cluster of a Dask scheduler. When interrupted from the keyboard, the
    blocks that every contestant has finished are kept.

    Raises:
        Interrupted: there is no such block.
    """
    starts = range(0, run.replications, BLOCK)
    blocks = [range(start, min(start + BLOCK, run.replications)) for start in starts]
    tasks = [
        RunTask(environment, entrant.contestant, run, block)
        for block in blocks
        for entrant in entrants
    ]
    records: dict[int, RunRecord] = {}
    interrupted = False
    if scheduler is not None:
        results = on_cluster(tasks, scheduler, progress)
    elif workers > 1:
        results = _together(tasks, workers, progress)
    else:
        results = _alone(tasks, progress)
    with closing(results):
        try:
            for position, record in results:
                records[position] = record  # noqa: PERF403 - those before an interruption are kept
        except KeyboardInterrupt:
            interrupted = True
    width = len(entrants)
    finished = [
        first
        for first in range(0, len(tasks), width)
        if all(first + i in records for i in range(width))
    ]
    if not finished:
        raise SimulationInterrupted("interrupted before the first replications were finished")
    sides = [joined([records[first + i] for first in finished]) for i in range(width)]
    return ReplicationRecords(sides, len(sides[0].wrong), interrupted)


def _alone(tasks: Iterable[RunTask], progress: Progress) -> Generator[tuple[int, RunRecord]]:
    for position, task in enumerate(tasks):
        yield position, play_task(task, progress)


def _together(
    tasks: Sequence[RunTask], workers: int, progress: Progress
) -> Generator[tuple[int, RunRecord]]:
    """Deal tasks to processes that are free, and yield each record with its task's position."""
    context = get_context("spawn")  # a copy of a process with threads may hang
    team = [_Helper(context) for _ in range(min(workers, len(tasks)))]
    try:
        to_deal, left = iter(enumerate(tasks)), len(tasks)
        for helper in team:
            helper.deal(*next(to_deal))
        while left:
            for helper in _with_news(team):
                news = helper.news()
                if isinstance(news, int):
                    progress(news)
                    continue
                yield helper.position, news
                left -= 1
                if (following := next(to_deal, None)) is not None:
                    helper.deal(*following)
    finally:
        for helper in team:
            helper.stop()


class _Helper:
    """A process that plays one task after another."""

    def __init__(self, context: SpawnContext) -> None:
        self.line, far_end = context.Pipe()
        self.position = -1
        self._process = context.Process(target=_help, args=(far_end,), daemon=True)
        self._process.start()
        far_end.close()  # else its end could not be noticed

    def deal(self, position: int, task: RunTask) -> None:
        """Give it a task."""
        self.position = position
        with suppress(ConnectionError):  # `news` will tell
            self.line.send(task)

    def news(self) -> int | RunRecord:
        """Take how many decisions it has just simulated, or its record."""
        try:
            news: int | RunRecord = self.line.recv()
        except (EOFError, ConnectionError):
            raise WorkerDied("a worker process died; its message is above") from None
        return news

    def stop(self) -> None:
        """End it, whatever it is doing."""
        self._process.terminate()
        self._process.join()
        self.line.close()


def _with_news(team: Sequence[_Helper]) -> list[_Helper]:
    ready = wait([helper.line for helper in team])
    return [helper for helper in team if helper.line in ready]


def _help(line: "Connection[Any, Any]") -> None:
    """Play what is dealt; the keyboard's interruption is the first process's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, ConnectionError):  # the first process is gone, so is the work
        while True:
            task: RunTask = line.recv()
            line.send(play_task(task, line.send))
