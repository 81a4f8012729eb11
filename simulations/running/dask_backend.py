"""Simulation on several machines, by Dask: the same numbers as on one."""

import socket
from collections.abc import Generator, Sequence
from typing import Any
from urllib.parse import urlsplit

from bandits.errors import BanditsError, InvalidInput
from simulations.running.loop import Progress, RunTask, play_task
from simulations.running.recorder import RunRecord

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
