"""Workers, launchers and whole servers are killed under load, and nothing acknowledged is lost."""

import os
import random
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bandits.errors import Unavailable
from tests.conftest import SOAK
from tests.patience import LIMIT_SECONDS, wait_until
from webapp.worker import FileLock

ROUNDS = 25 if SOAK else 3
VICTIMS = ("worker", "launcher", "everything")


def processes() -> dict[int, tuple[int, str]]:
    """Map every running process to its parent and its command."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            command = (path / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if fields[0] != "Z":
            found[int(path.name)] = (int(fields[1]), command)
    return found


def workers_of(launcher: int) -> list[int]:
    """List the web workers that a launcher started."""
    return [n for n, (p, c) in processes().items() if p == launcher and "spawn_main" in c]


def kill(*numbers: int) -> None:
    for number in numbers:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue


class Supervised:
    """A server that is started again where it has ended, as a service is."""

    def __init__(self, start: Callable[..., Any], *options: str, **where: str) -> None:
        self._start = partial(start, *options, **where)
        self.server = self._start()
        self._at = ("--port", self.server.url.rpartition(":")[2])

    def keep(self) -> None:
        """Start it again if it ended by itself."""
        if self.server.process.poll() is not None:
            assert self.server.process.returncode == 1
            assert "crash loop" in self.server.log.read_text(), "two workers killed in a row"
            self.restart()

    def restart(self) -> None:
        self.server.process.stdout.close()
        self.server = self._start(*self._at, folder=self.server.folder)

    def version(self) -> int:
        with self.server.client() as api:
            return api.get("/api/v1/experiments/spring").json()["policy_version"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_kills_lose_nothing_acknowledged_and_count_nothing_twice(
    kind, start_server, start_load, request
) -> None:
    chance = random.Random(None if SOAK else 7)
    options: tuple[str, ...] = ()
    where = {}
    if kind == "postgresql":
        where = {"database_url": request.getfixturevalue("postgresql").empty()}
        options = ("--workers", "2")
    held = Supervised(start_server, *options, **where)
    load = start_load(held.server)
    victims = [VICTIMS[i % len(VICTIMS)] for i in range(ROUNDS)]
    chance.shuffle(victims)
    for victim in victims:
        load.await_more(chance.randrange(50, 400), meanwhile=held.keep)
        workers = workers_of(held.server.process.pid)
        if kind == "sqlite" and workers:
            lock = Path(f"{held.server.database}.lock")
            with pytest.raises(Unavailable, match="already serves"):
                FileLock(lock).acquire(0)
        if victim == "worker":
            kill(*workers[:1])
            continue
        kill(held.server.process.pid, *(workers if victim == "everything" else ()))
        held.server.process.wait(LIMIT_SECONDS)
        if kind == "postgresql":  # on SQLite the successor waits for their lock
            gone = lambda left=workers: not set(left) & processes().keys()  # noqa: E731
            wait_until(gone, "end of the workers")
        held.restart()
    load.await_more(300, meanwhile=held.keep)
    before = held.version()
    # The learner goes on, no lock is stuck.
    wait_until(held.version, "third fold", lambda newest: newest > before + 2)
    load.stop()
    server = held.server
    assert server.stop() == 0
    load.check()
    assert load.learned > 0, "two learners at once"
    log = server.log.read_text()  # of a worker whose parent is killed while it starts, Python tells
    assert log.count("Traceback") == log.count("in spawn_main")
    verified = server.bandits("verify", check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    if kind == "sqlite":
        check_that_a_loss_would_be_seen(load, server)


def check_that_a_loss_would_be_seen(load, server) -> None:
    """Lose one acknowledged order behind the server's back."""
    orders = (key for key, value in load.ledger.events.items() if value > 1)
    decision, event = next(key for key in orders if key[0] not in load.ledger.marking)
    lost = "DELETE FROM events WHERE event_id = ? AND decision = "
    with closing(sqlite3.connect(server.database)) as connection, connection:
        one = "(SELECT serial FROM decisions WHERE id = ?)"
        assert connection.execute(lost + one, (event, decision)).rowcount == 1
    with pytest.raises(AssertionError):
        load.check()
    assert server.bandits("verify", check=False).returncode == 1
