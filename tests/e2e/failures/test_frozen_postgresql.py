"""PostgreSQL answers nobody, or takes no writes: calls are refused soon, and nothing is lost.

Answers are timed by the client that gets them. The bounds are wider here than what
docs/operations.md says, for a machine that is busy with other tests; what was measured is printed.
"""

import itertools
import os
import signal
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
import pytest

from tests.conftest import SOAK
from tests.patience import join, wait_until

HELD_SECONDS = 60.0 if SOAK else 0.0  # at least; always until every caller was refused
CALLERS = 80  # more than the threads of a web worker, all of which the database keeps
PAUSE_SECONDS = 1.0  # of a caller between its calls
LOOK_SECONDS = 0.02  # between looks at /healthz
REFUSED_SECONDS = 15.0  # waits that added up would take longer
ALIVE_SECONDS = 1.0  # the median


class Callers:
    """Many who ask for one choice each, again and again, and one who asks for the health."""

    def __init__(self, server) -> None:
        self.acknowledged: set[str] = set()
        self.asked: set[str] = set()
        self.refused: dict[int, list[float]] = {}  # seconds until 503, by caller
        self.alive: list[float] = []
        self.failures: list[object] = []
        self._stop = threading.Event()
        self._server = server
        self._threads = [
            threading.Thread(target=self._call, args=(n,), daemon=True) for n in range(CALLERS)
        ]
        self._threads.append(threading.Thread(target=self._look, daemon=True))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        join(*self._threads)

    def forget(self) -> None:
        """Time anew."""
        self.refused, self.alive = {}, []

    def _call(self, number: int) -> None:
        with self._server.client() as api:
            for count in itertools.count():
                if self._stop.wait(PAUSE_SECONDS):
                    return
                self._choose(api, number, f"caller-{number}-{count}")

    def _choose(self, api, number: int, decision_id: str) -> None:
        self.asked.add(decision_id)
        body = {"subject_id": decision_id, "decision_id": decision_id}
        try:
            answer = api.post("/api/v1/experiments/spring/choose", json=body)
        except httpx.HTTPError as error:
            self.failures.append(error)
            return
        if answer.status_code == 503:
            problem = answer.json()["type"]
            if problem != "/problems/unavailable" or answer.headers["Retry-After"] != "1":
                self.failures.append(answer.text)
            self.refused.setdefault(number, []).append(answer.elapsed.total_seconds())
        elif answer.status_code in {200, 201}:
            self.acknowledged.add(decision_id)
        else:
            self.failures.append(answer.text)

    def _look(self) -> None:
        with self._server.client() as api:
            while not self._stop.wait(LOOK_SECONDS):
                answer = api.get("/healthz")
                if answer.status_code != 200:
                    self.failures.append(answer.text)
                self.alive.append(answer.elapsed.total_seconds())

    def check_refused(self, what: str) -> None:
        """Wait until each was refused, and hold the seconds that it took to the bounds."""
        wait_until(
            lambda: [len(self.refused.get(n, [])) for n in range(CALLERS)],
            "refusals of all callers",
            lambda counts: min(counts) >= 1,
        )
        threading.Event().wait(HELD_SECONDS)
        seconds = [s for each in list(self.refused.values()) for s in list(each)]
        alive = list(self.alive)
        print(  # noqa: T201 - the figures of docs/operations.md
            f"\n{what}: {len(seconds)} refusals, the slowest after {max(seconds):.2f} s;"
            f" /healthz {len(alive)} times, median {1000 * statistics.median(alive):.1f} ms,"
            f" slowest {1000 * max(alive):.0f} ms"
        )
        assert self.failures == []
        assert max(seconds) <= REFUSED_SECONDS
        assert statistics.median(alive) <= ALIVE_SECONDS


@pytest.fixture
def start_callers() -> Iterator[Callable[..., Callers]]:
    """Let many call a server."""
    started: list[Callers] = []

    def start(server) -> Callers:
        started.append(Callers(server))
        started[-1].start()
        return started[-1]

    yield start
    for callers in started:
        callers._stop.set()


@contextmanager
def frozen(postmaster: int) -> Iterator[list[int]]:
    """Stop a PostgreSQL server and all of its processes, as a debugger does; yield their ids."""
    os.kill(postmaster, signal.SIGSTOP)  # then it makes no more of them
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text()
    processes = [postmaster, *map(int, children.split())]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield processes
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


@contextmanager
def locked(database_url: str) -> Iterator[None]:
    """Keep everybody from the tables of the log and of the API keys."""
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE decisions, events, api_keys IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def read_only(database_url: str) -> Iterator[None]:
    """Let a server take no writes."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")


def test_postgresql_that_is_frozen_locked_or_read_only_refuses_soon_and_recovers(
    restartable, start_server, start_load, start_callers
) -> None:
    database_url = restartable.get_uri()
    server = start_server(database_url=database_url, BANDITS_WAIT_SECONDS="8")
    load = start_load(server)
    callers = start_callers(server)
    states = {
        "frozen": lambda: frozen(restartable.get_pid()),
        "locked": lambda: locked(database_url),
        "read-only": lambda: read_only(database_url),
    }
    with server.client() as api:

        def ready() -> int:
            return api.get("/readyz").status_code

        for what, state in states.items():
            load.await_more(50)
            wait_until(lambda: len(callers.acknowledged), "choices", lambda n: n >= CALLERS)
            with state():
                callers.forget()
                callers.check_refused(what)
                if what != "locked":  # the table that is looked at is not
                    wait_until(ready, "not ready", lambda code: code == 503)
                    assert ready() == 503
            before = callers.acknowledged.copy()
            load.await_more(50)
            wait_until(ready, "ready", lambda code: code == 200)
            wait_until(
                lambda before=before: len(callers.acknowledged - before),
                "choices after it",
                lambda count: count >= CALLERS,
            )
    callers.stop()
    load.ledger.asked.update(callers.asked)
    load.stop()
    assert server.stop() == 0
    load.check()
    check_stored(database_url, callers)
    log = server.log.read_text()
    assert "the database answers again" in log
    assert "Traceback" not in log
    verified = server.bandits("verify", check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def check_stored(database_url: str, callers: Callers) -> None:
    """Hold the log to what was acknowledged: each is there, once."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT id FROM decisions WHERE id LIKE 'caller-%'").fetchall()
    stored = [decision_id for (decision_id,) in rows]
    assert len(set(stored)) == len(stored)
    assert callers.acknowledged <= set(stored) <= callers.asked


def test_postgresql_standby_that_is_promoted_takes_over_by_itself(
    restartable, make_standby, start_server, start_load
) -> None:
    """The primary freezes, and is killed for good once its standby is promoted."""
    standby = make_standby(restartable)
    primary_url = restartable.get_uri()
    with psycopg.connect(primary_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")
    hosts = f"{parse_qs(urlsplit(primary_url).query)['host'][0]},{standby.folder}"
    both = f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=read-write"
    server = start_server(database_url=both, BANDITS_WAIT_SECONDS="8")
    load = start_load(server)
    with server.client() as api:

        def ready() -> int:
            return api.get("/readyz").status_code

        load.await_more(100)
        with frozen(restartable.get_pid()) as processes:
            wait_until(ready, "not ready", lambda code: code == 503)
            standby.promote()
            for process in processes:
                os.kill(process, signal.SIGKILL)
        load.await_more(100)
        wait_until(ready, "ready", lambda code: code == 200)
    load.stop()
    assert server.stop() == 0
    load.check()
