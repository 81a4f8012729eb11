"""What every store says when the database cannot do what it should."""

import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import DBAPIError

from bandits.errors import InvalidInput, NoDatabase, NotUpgraded, Unavailable
from storage import current, open_store, upgrade
from storage.databases import ReadOnlyDatabase
from storage.schema import decisions
from tests.patience import LIMIT_SECONDS


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Set the product's own time-outs low: that they end is what is tested here."""
    monkeypatch.setattr("storage.databases.sqlite.BUSY_SECONDS", 0.2)
    monkeypatch.setattr("storage.databases.postgresql.LOCK_SECONDS", 0.2)


def writes(store, record, sender):
    """List what a store writes, each for a decision that is there."""
    (decision,) = sender.choose(record)
    return [
        lambda: store.log.append_decisions(record, sender.chosen(), at=1.0),
        lambda: sender.click([decision], at=1.0),
        lambda: store.log.cancel([decision], at=1.0),
        lambda: store.experiments.move("spring", "paused", allowed=["running"], at=1.0, by="test"),
        lambda: store.snapshots.fold("spring", now=1.0).__enter__(),
        lambda: store.accounts.keys.create("k", ["read"], at=1.0, by="test"),
    ]


def test_a_locked_database_is_unavailable_and_nothing_is_stored(store, sender):
    record = sender.start()
    (decision,) = sender.choose(record)
    attempts = writes(store, record, sender)
    other = open_store(store.database.engine.url.render_as_string(hide_password=False))
    before = other.accounts.changes()
    with other.database.writing() as transaction:
        if transaction.connection.dialect.name == "postgresql":
            tables = "batches, experiments, api_keys"
            transaction.execute(text(f"LOCK TABLE {tables} IN EXCLUSIVE MODE"))
        for attempt in attempts:
            with pytest.raises(Unavailable):
                attempt()
        assert store.log.decisions([decision])[decision].cancelled_at is None  # reading goes on
    assert other.accounts.changes() == before
    assert store.log.events(decision) == []
    other.close()
    for attempt in attempts[:-2]:
        attempt()  # and recovers by itself


def test_write_waits_for_the_turn_of_its_thread(store, sender, monkeypatch):
    monkeypatch.setattr("storage.databases.sqlite.BUSY_SECONDS", LIMIT_SECONDS)
    record = sender.start()
    begun = threading.Event()

    def choose():
        begun.set()
        return sender.choose(record)

    with ThreadPoolExecutor(1) as pool:
        with store.database.writing() as transaction:
            transaction.execute(text("SELECT 1"))
            choosing = pool.submit(choose)
            assert begun.wait(LIMIT_SECONDS)
            assert transaction.connection.dialect.name != "sqlite" or not choosing.done()
        (decision,) = choosing.result(LIMIT_SECONDS)
    assert decision in store.log.decisions([decision])


def test_a_database_without_tables_asks_for_its_upgrade(empty_url):
    if empty_url.startswith("sqlite"):
        Path(empty_url.removeprefix("sqlite:///")).touch()
    store = open_store(empty_url)
    for ask in (
        store.experiments.records,
        lambda: store.accounts.keys.create("k", ["read"], at=1.0, by="t"),
    ):
        with pytest.raises(NotUpgraded):
            ask()
    store.close()
    upgrade(empty_url)
    assert store.experiments.records() == []
    store.close()


@pytest.mark.parametrize("missing", ["batches.size", "decisions.shipped", "subjects"])
def test_failure_of_a_missing_migration_is_told_apart(empty_url, sender, missing):
    upgrade(empty_url)  # a database of its own: others are used again
    with closing(open_store(empty_url)) as store:
        own = type(sender)(store)
        record = own.start(assignment="per_subject")
        table, _, column = missing.partition(".")
        change = f"ALTER TABLE {table} DROP COLUMN {column}" if column else f"DROP TABLE {table}"
        with store.database.writing() as transaction:
            transaction.execute(text(change))
        with pytest.raises(NotUpgraded):
            own.choose(record)


def test_mistyped_path_makes_no_new_database(tmp_path):
    path = tmp_path / "bandit.db"
    store = open_store(f"sqlite:///{path}")
    with pytest.raises(NoDatabase, match=str(path)):
        store.experiments.records()
    with pytest.raises(NoDatabase, match="there is no database"):
        current(f"sqlite:///{path}")
    assert not path.exists()


@pytest.mark.parametrize("makers", ["sqlite"], indirect=True)
def test_database_on_a_file_system_that_is_read_only_is_not_ready(store, monkeypatch):
    store.experiments.look()
    status = os.statvfs("/")
    fields = [*status[:8], status.f_flag | os.ST_RDONLY, status.f_namemax]
    with monkeypatch.context() as patch:  # to mount one takes rights
        patch.setattr(os, "statvfs", lambda _path: os.statvfs_result(fields))
        with pytest.raises(ReadOnlyDatabase, match="cannot be written: it is read-only"):
            store.experiments.look()
        assert store.experiments.records() == []
    store.experiments.look()


@pytest.mark.parametrize("brief", [True, False])
@pytest.mark.parametrize("makers", ["sqlite"], indirect=True)
def test_database_file_taken_away_while_open_is_written_to_no_more(empty_url, sender, brief):
    upgrade(empty_url)
    path = Path(empty_url.removeprefix("sqlite:///"))
    aside = path.with_suffix(".aside")
    with closing(open_store(empty_url)) as store:
        own = type(sender)(store)
        record = own.start(assignment="per_decision" if brief else "per_subject")
        own.choose(record)
        path.rename(aside)
        for ask in (
            store.experiments.records,
            lambda: own.choose(record),
            lambda: own.choose(record, 300),
        ):
            with pytest.raises(NoDatabase, match="there is no database"):
                ask()
        assert not path.exists()
        path.write_bytes(aside.read_bytes())
        for ask in (
            store.experiments.records,
            lambda: own.choose(record),
            lambda: own.choose(record, 300),
        ):
            with pytest.raises(NoDatabase, match="another file stands in its place"):
                ask()
        aside.rename(path)  # brought back, it goes on
        own.choose(record)
        with store.database.reading() as transaction:
            assert transaction.execute(select(func.count()).select_from(decisions)).scalar() == 2


def test_a_file_that_is_no_database_is_unavailable(tmp_path):
    path = tmp_path / "bandits.db"
    path.write_bytes(b"this is a letter to my aunt" * 100)
    store = open_store(f"sqlite:///{path}")
    with pytest.raises(Unavailable) as caught:
        store.experiments.records()
    assert type(caught.value) is Unavailable
    assert sqlite_code(caught.value) == sqlite3.SQLITE_NOTADB
    store.close()


def sqlite_code(error: Unavailable) -> int:
    """Return SQLite's code of what an error of ours comes from."""
    cause = error.__cause__
    assert isinstance(cause, DBAPIError)
    assert isinstance(cause.orig, sqlite3.Error)
    return cause.orig.sqlite_errorcode


@pytest.mark.parametrize("makers", ["sqlite"], indirect=True)
def test_a_full_disk_is_unavailable_and_nothing_acknowledged_is_lost(store, sender):
    record = sender.start()
    acknowledged = []
    store.close()  # connections opened from here on have a small disk
    event.listen(store.database.writer, "connect", _small_disk)
    fill = iter(lambda: sender.choose(record, 100), None)
    with pytest.raises(Unavailable) as caught:
        acknowledged.extend(ids for some in fill for ids in some)
    assert sqlite_code(caught.value) == sqlite3.SQLITE_FULL
    assert acknowledged
    refused = sender.chosen(1000)
    with pytest.raises(Unavailable) as caught:
        store.log.append_decisions(record, refused, at=1.0)
    assert sqlite_code(caught.value) == sqlite3.SQLITE_FULL
    assert set(store.log.decisions(acknowledged)) == set(acknowledged)
    assert store.log.decisions(refused.ids) == {}
    event.remove(store.database.writer, "connect", _small_disk)
    store.close()
    assert store.log.append_decisions(record, refused, at=1.0) == {}


def _small_disk(connection, _entry):
    connection.execute("PRAGMA max_page_count = 200")


@pytest.mark.parametrize("makers", ["postgresql"], indirect=True)
def test_dropped_connections_are_replaced(store, sender, postgresql_server):
    record = sender.start()
    name = store.database.engine.url.database
    every = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    drop = f"{every} WHERE datname = '{name}'"
    (decision,) = sender.choose(record)
    postgresql_server(drop)
    sender.click([decision], at=1.0)

    def fold_meanwhile():
        with store.snapshots.fold("spring", now=50.0) as folding:
            postgresql_server(drop)
            list(folding.learned())

    with pytest.raises(Unavailable):
        fold_meanwhile()
    assert store.experiments.record("spring").learned_version == 0
    with store.snapshots.fold("spring", now=50.0) as folding:
        assert len(folding.due.entered_due) == 1


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("mysql://u:secret@host/x", "no database 'mysql'"),
        ("postgresql//u:secret@host", "cannot be read"),
        ("postgresql://u:secret@host:port/x", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_unknown_database_url_is_refused_without_its_password(url, told):
    with pytest.raises(InvalidInput, match=told) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_unavailable(folder):
    store = open_store(f"postgresql://postgres@/postgres?host={folder}/nowhere")
    with pytest.raises(Unavailable, match="does not answer"):
        store.experiments.records()
    store.close()
