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
from simulations.running.loop import Progress, RunTask, run_task
from simulations.running.recorder import RunRecord, concatenate_records
from simulations.running.replications import BLOCK
from simulations.running.schedule import Run

_CONNECT_SECONDS = 10


class SchedulerUnreachable(BanditsError):
    """No Dask scheduler answers at this address."""


def _ignore_progress(n: int) -> None:
    """Count nothing: a worker elsewhere reports once its task is done."""


def _run_remotely(position: int, task: RunTask) -> tuple[int, RunRecord]:
    return position, run_task(task, _ignore_progress)


def run_on_cluster(
    tasks: Sequence[RunTask], scheduler: str, progress: Progress
) -> Generator[tuple[int, RunRecord]]:
    """Run tasks on the workers of a Dask scheduler: each record with its task's position.

    They need this package installed. When this generator is closed, the other tasks are cancelled.

    Args:
        tasks: the tasks.
        scheduler: its address, such as ``tcp://10.0.0.5:8786``.
        progress: called as tasks are finished.

    Raises:
        InvalidInput: Dask is not installed, or the address is none.
        SchedulerUnreachable: no scheduler answers there.
    """
    client = _connect(scheduler)
    from distributed import as_completed  # noqa: PLC0415 - an extra

    try:
        futures = [
            client.submit(_run_remotely, i, task, pure=False) for i, task in enumerate(tasks)
        ]
        for future in as_completed(futures, loop=client.loop):  # type: ignore[no-untyped-call]  # Dask has no types
            position, record = future.result()
            task = tasks[position]
            progress(task.run.horizon * len(task.replications))
            yield position, record
    finally:
        client.close()


def _connect(scheduler: str) -> Any:
    try:
        from distributed import Client  # noqa: PLC0415 - an extra
    except ImportError:
        raise InvalidInput.at(
            "", "a scheduler needs an extra: pip install 'email-bandits[scale]'"
        ) from None
    _check_scheduler(scheduler)
    return Client(  # type: ignore[no-untyped-call]  # Dask has no types
        scheduler, timeout=_CONNECT_SECONDS, set_as_default=False
    )


def _check_scheduler(scheduler: str) -> None:
    """Connect once to the scheduler's port: a client that cannot connect is slow to give up."""
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
    """The simulation was stopped before any replication of every learner was finished."""


class WorkerDied(BanditsError):
    """A worker process ended before its work was done; memory may have run out."""


class ReplicationRecords(Struct, frozen=True, eq=False):
    """Records of the replications that every learner has finished.

    Attributes:
        records: one for each learner, all of the same replications.
        replications: number of these.
        interrupted: true where these are fewer than the run has.
    """

    records: list[RunRecord]
    replications: int
    interrupted: bool


def run_replications(  # noqa: PLR0913 - the run, and its processes
    environment: Environment,
    learners: Sequence[LabelledLearner],
    run: Run,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress = lambda _: None,
) -> ReplicationRecords:
    """Run all learners in all replications, in blocks.

    A block's numbers depend on the seed and its position alone, so they are the same for any number
    of workers, here or on the cluster of a Dask scheduler. When interrupted from the keyboard, the
    blocks that every learner has finished are kept.

    Raises:
        SimulationInterrupted: there is no such block.
    """
    starts = range(0, run.replications, BLOCK)
    blocks = [range(start, min(start + BLOCK, run.replications)) for start in starts]
    tasks = [
        RunTask(environment, learner.factory, run, block)
        for block in blocks
        for learner in learners
    ]
    records: dict[int, RunRecord] = {}
    interrupted = False
    if scheduler is not None:
        results = run_on_cluster(tasks, scheduler, progress)
    elif workers > 1:
        results = _run_in_processes(tasks, workers, progress)
    else:
        results = _run_here(tasks, progress)
    with closing(results):
        try:
            for position, record in results:
                records[position] = record  # noqa: PERF403 - those before an interruption are kept
        except KeyboardInterrupt:
            interrupted = True
    width = len(learners)
    finished = [
        first
        for first in range(0, len(tasks), width)
        if all(first + i in records for i in range(width))
    ]
    if not finished:
        raise SimulationInterrupted("interrupted before the first replications were finished")
    joined = [concatenate_records([records[first + i] for first in finished]) for i in range(width)]
    return ReplicationRecords(joined, len(joined[0].wrong), interrupted)


def _run_here(tasks: Iterable[RunTask], progress: Progress) -> Generator[tuple[int, RunRecord]]:
    for position, task in enumerate(tasks):
        yield position, run_task(task, progress)


def _run_in_processes(
    tasks: Sequence[RunTask], n_workers: int, progress: Progress
) -> Generator[tuple[int, RunRecord]]:
    """Assign tasks to free processes: each record with its task's position."""
    context = get_context("spawn")  # a copy of a process with threads may hang
    workers = [_Worker(context) for _ in range(min(n_workers, len(tasks)))]
    try:
        waiting, unfinished = iter(enumerate(tasks)), len(tasks)
        for worker in workers:
            worker.assign(*next(waiting))
        while unfinished:
            for worker in _with_messages(workers):
                message = worker.receive()
                if isinstance(message, int):
                    progress(message)
                    continue
                yield worker.position, message
                unfinished -= 1
                if (following := next(waiting, None)) is not None:
                    worker.assign(*following)
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """A process that runs one task after another."""

    def __init__(self, context: SpawnContext) -> None:
        self.connection, far_end = context.Pipe()
        self.position = -1
        self._process = context.Process(target=_work, args=(far_end,), daemon=True)
        self._process.start()
        far_end.close()  # else its end could not be noticed

    def assign(self, position: int, task: RunTask) -> None:
        """Send it the task at this position."""
        self.position = position
        with suppress(ConnectionError):  # `receive` will raise
            self.connection.send(task)

    def receive(self) -> int | RunRecord:
        """Receive the number of decisions that it has just simulated, or its record.

        Raises:
            WorkerDied: the process has ended.
        """
        try:
            message: int | RunRecord = self.connection.recv()
        except (EOFError, ConnectionError):
            raise WorkerDied("a worker process died; its message is above") from None
        return message

    def stop(self) -> None:
        """End it, in the middle of a task too."""
        self._process.terminate()
        self._process.join()
        self.connection.close()


def _with_messages(workers: Sequence[_Worker]) -> list[_Worker]:
    ready = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in ready]


def _work(connection: "Connection[Any, Any]") -> None:
    """Run assigned tasks; the keyboard's interruption is the first process's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, ConnectionError):  # the first process is gone, so is the work
        while True:
            task: RunTask = connection.recv()
            connection.send(run_task(task, connection.send))
