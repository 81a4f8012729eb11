"""Connection watch: waits for a silent server are ended, waits for honest work never."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from threading import Thread

import psycopg
import pytest
from sqlalchemy import text

from bandits.errors import Unavailable
from storage import databases, open_store, upgrade
from storage.databases import ReadOnlyDatabase, connection_watch, open_database
from tests.patience import LIMIT_SECONDS, join, wait_until

_ASKED = (
    "SELECT query_start FROM pg_stat_activity"
    " WHERE query = 'SELECT 1' AND datname = current_database()"
)


class Relay:
    """A relay before a PostgreSQL server that passes nothing on any more once it is `cut`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut = False
        self._sockets = [self._listener]
        self._threads: list[Thread] = []
        self._run(self._accept)

    def _run(self, work, *arguments) -> None:
        self._threads.append(Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                outer, _ = self._listener.accept()
            except OSError:
                return
            inner = socket.socket(socket.AF_UNIX)
            inner.connect(self._path)
            self._sockets += [outer, inner]
            self._run(self._pass, outer, inner)
            self._run(self._pass, inner, outer)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                if self.cut:
                    return  # neither end hears of it
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        join(*self._threads)


@pytest.fixture
def relay(postgresql_server) -> Iterator[Relay]:
    folder = psycopg.conninfo.conninfo_to_dict(postgresql_server.uri())["host"]
    running = Relay(f"{folder}/.s.PGSQL.5432")
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch) -> None:
    """Have the watch ask soon: that it does is what is tested here."""
    monkeypatch.setattr(connection_watch, "LONG_SECONDS", 0.1)


def test_watch_ends_waits_for_a_silent_server_and_refuses_until_it_answers(
    postgresql, relay, monkeypatch
) -> None:
    monkeypatch.setattr(connection_watch, "ANSWER_SECONDS", 2.0)
    name = postgresql.empty().partition("?")[0].rpartition("/")[2]
    url = f"postgresql://postgres@127.0.0.1:{relay.port}/{name}"
    with closing(open_database(url)) as database:
        with database.reading() as transaction:
            assert transaction.execute(text("SELECT 2")).scalar_one() == 2
        relay.cut = True
        refusals: list[Unavailable] = []

        def wait() -> None:
            try:
                database.check_writable()
            except Unavailable as error:
                refusals.append(error)

        waiting = Thread(target=wait, daemon=True)
        waiting.start()
        join(waiting)
        assert "the database does not answer" in str(refusals[0])
        with pytest.raises(Unavailable, match=r"^the database does not answer$"):
            database.check_writable()  # at once: it is known
        relay.cut = False

        def answer() -> int:
            try:
                with database.reading() as transaction:
                    return transaction.execute(text("SELECT 2")).scalar_one()
            except Unavailable:
                return 0

        wait_until(answer, "answer after the silence", lambda n: n == 2)
        database.check_writable()


def test_watch_leaves_a_long_query_to_a_server_that_answers(postgresql, monkeypatch) -> None:
    monkeypatch.setattr(databases.postgresql, "LOCK_SECONDS", LIMIT_SECONDS)
    url = postgresql.empty()
    times: set[object] = set()  # when the watch asked, by its own connection
    with closing(open_database(url)) as database, psycopg.connect(url, autocommit=True) as other:

        def wait_long() -> int:
            with database.reading() as transaction:
                transaction.execute(text("SELECT pg_advisory_xact_lock(7)"))
                return transaction.execute(text("SELECT 3")).scalar_one()

        def ask_when() -> int:
            times.update(row for (row,) in other.execute(_ASKED))
            return len(times)

        with ThreadPoolExecutor(1) as pool:
            other.execute("SELECT pg_advisory_lock(7)")
            waiting = pool.submit(wait_long)
            wait_until(ask_when, "questions of the watch", lambda count: count >= 3)
            assert not waiting.done()
            other.execute("SELECT pg_advisory_unlock(7)")
            assert waiting.result(LIMIT_SECONDS) == 3


def test_read_only_postgresql_is_unavailable_until_a_new_connection_may_write(postgresql) -> None:
    url = postgresql.empty()
    upgrade(url)
    name = url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(url, autocommit=True) as admin, closing(open_store(url)) as store:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        for write in (
            store.experiments.look,
            store.database.check_writable,
            lambda: store.accounts.keys.create("k", ["read"], at=1.0, by="test"),
        ):
            with pytest.raises(ReadOnlyDatabase, match="takes no writes now"):
                write()
        assert store.experiments.records() == []  # reading goes on
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        with pytest.raises(ReadOnlyDatabase):  # of an old connection, which is closed for that
            store.experiments.look()
        store.experiments.look()
        store.accounts.keys.create("k", ["read"], at=1.0, by="test")
