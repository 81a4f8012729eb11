"""Single choices from 16 threads: our group commit beside each thread committing for itself.

On PostgreSQL, which can wait for company by itself before it flushes: `commit_delay`. Both sides
are the whole engine and store, without HTTP; only whether calls share a transaction differs.
"""

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from threading import Thread

import psycopg
from drivers import postgresql
from measuring import Row, compare
from msgspec import convert
from serving import KEY, SPRING

from bandits.engine import Engine
from bandits.experiment import Experiment
from bandits.schemas import Request
from bandits.waits import BatchingQueue
from storage import open_store, upgrade
from tests.patience import join

THREADS = 16
CHOICES = 1_000
DELAYS = (0, 200, 1_000)  # microseconds


def run(rounds: int) -> list[Row]:
    """Measure on a database for each delay."""
    rows = []
    for delay in DELAYS:
        with (
            tempfile.TemporaryDirectory() as name,
            postgresql(Path(name)) as place,
            _delayed(place.url, delay),
            closing(open_store(place.url)) as store,
        ):
            engine = Engine(store)
            engine.create(convert(SPRING, Experiment), by="bench")
            engine.start(KEY, by="bench")
            row = compare(
                f"{CHOICES:,} choices, {THREADS} threads, in groups, commit_delay {delay} µs",
                lambda engine=engine: _choose(engine),  # type: ignore[misc]  # a default
                lambda engine=engine: _alone(engine),  # type: ignore[misc]
                n=CHOICES,
                unit="decisions",
                beside="each commits for itself",
                rounds=rounds,
            )
            rows.append(row)
    return rows


@contextmanager
def _delayed(url: str, delay: int) -> Iterator[None]:
    upgrade(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET commit_delay = {delay}")
        connection.execute("ALTER SYSTEM SET commit_siblings = 2")
        connection.execute("SELECT pg_reload_conf()")
    yield


def _choose(engine: Engine) -> None:
    numbers = count()

    def client() -> None:
        while (number := next(numbers)) < CHOICES:
            engine.choose(KEY, [Request(f"u-{number}")])

    threads = [Thread(target=client) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    join(*threads)


def _alone(engine: Engine) -> None:
    """Have every call be decided and committed by its own thread."""
    do = BatchingQueue.do
    BatchingQueue.do = lambda queue, call: queue._alone(call)  # type: ignore[method-assign]
    try:
        _choose(engine)
    finally:
        BatchingQueue.do = do  # type: ignore[method-assign]
