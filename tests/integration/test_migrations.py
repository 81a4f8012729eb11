"""Migrations, in every database."""

import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from msgspec.structs import asdict
from sqlalchemy import inspect, text

from bandits.engine.active_policy import load_statistic
from bandits.engine.fold import fold, rebuild
from storage import alembic_runner, current, migrate, open_store, upgrade
from storage.commands import db
from storage.databases import open_database
from storage.schema import metadata
from storage.snapshots.verify import compare
from tests.patience import LIMIT_SECONDS

UPGRADE = "import sys, storage; print(storage.upgrade(sys.argv[1]))"


def tables(url):
    target = open_database(url)
    with target.reading() as transaction:
        names = set(inspect(transaction.connection).get_table_names())
    target.engine.dispose()
    return names


def test_an_upgrade_makes_the_tables_that_the_code_expects(empty_url):
    assert upgrade(empty_url) == current(empty_url) == migrate.newest()
    target = open_database(empty_url)
    with target.reading() as transaction:
        context = MigrationContext.configure(transaction.connection)
        differences = compare_metadata(context, metadata)
        indexes = {
            index["name"]: index["column_names"]
            for table in metadata.tables
            for index in inspect(transaction.connection).get_indexes(table)
        }
    target.engine.dispose()
    assert differences == []
    for table in metadata.tables.values():
        for index in table.indexes:
            assert indexes[index.name] == [column.name for column in index.columns]


def test_a_second_upgrade_changes_nothing(database_url):
    store = open_store(database_url)
    store.accounts.keys.create("kept", ["read"], at=1.0, by="test")
    upgrade(database_url)
    assert [key.name for key in store.accounts.keys.all()] == ["kept"]
    store.close()


def test_four_processes_upgrade_at_once(empty_url):
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", UPGRADE, empty_url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    ended = [process.communicate(timeout=LIMIT_SECONDS) for process in started]
    assert [err for _, err in ended] == [""] * 4
    assert [out.strip() for out, _ in ended] == [migrate.newest()] * 4
    assert tables(empty_url) == {*metadata.tables, "alembic_version"}


def test_a_migration_that_fails_leaves_nothing_behind(empty_url, monkeypatch):
    def fail(*_args):
        raise ZeroDivisionError

    monkeypatch.setattr(
        alembic_runner.command, "upgrade", after(alembic_runner.command.upgrade, fail)
    )
    with pytest.raises(ZeroDivisionError):
        upgrade(empty_url)
    assert tables(empty_url) == set()
    monkeypatch.undo()
    assert upgrade(empty_url) == migrate.newest()


def after(first, then):
    def both(*args):
        first(*args)
        then(*args)

    return both


def test_the_log_keeps_its_meaning_through_every_migration(store, sender, database_url):
    """Back to the first tables, and forth again: every row has got new numbers twice."""
    other = sender.start("other")
    record = sender.start(await_activation=True)
    ids = []
    for at in (1.0, 2.0, 3.0):
        sender.choose(other, 2, at=at)
        ids += sender.choose(record, 3, at=at, digests=[b"body"] * 3)
    store.log.activate(ids[1:8], at=5.0)
    sender.click(ids[2:8], at=6.0)
    while fold(store, "spring", now=100.0):
        pass
    sender.click(ids[2:5], at=101.0, event_id="f")
    store.log.cancel(ids[3:6], at=102.0)

    def read():
        decisions = store.log.decisions(ids).items()
        return {i: (asdict(d) | {"actor": None}, store.log.events(i)) for i, d in decisions}

    before = read()  # but for the actors, whom the first tables do not know
    with store.database.writing() as transaction:
        configuration = alembic_runner.config(transaction.connection)
        alembic_runner.command.downgrade(configuration, "0001")
    with store.database.writing() as transaction:
        alembic_runner.command.upgrade(alembic_runner.config(transaction.connection), "head")
    after = read()
    assert after == before
    fold(store, "spring", now=200.0)
    with store.snapshots.audit("spring") as audit:
        sums = rebuild(audit)
        statistic, tally = sums.statistic, sums.counts
        stored = load_statistic(audit.record.configuration, audit.snapshot)
    with store.snapshots.audit("spring") as audit:
        assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []
    assert (statistic.count == stored[0].count).all()
    assert tally.sent.sum() == stored[1].sent.sum() == 7 - 3
    sender.choose(record, 2, at=300.0)


def test_newest_is_what_alembic_takes_for_the_head():
    script = ScriptDirectory.from_config(alembic_runner.config())
    assert script.get_current_head() == migrate.newest()


def test_upgrade_of_a_newer_database_is_refused_in_one_line(empty_url):
    upgrade(empty_url)
    target = open_database(empty_url)
    with target.writing() as transaction:
        transaction.connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    target.close()
    ran = CliRunner().invoke(db, ["upgrade"], env={"BANDITS_DATABASE_URL": empty_url})
    assert str(ran.exception) == (
        f"the database is at migration 9999, newer than this program, which knows"
        f" {migrate.newest()}: install the version that wrote it, or a newer one"
    )
    assert current(empty_url) == "9999"


def test_migrations_can_be_taken_back(empty_url):
    upgrade(empty_url)
    target = open_database(empty_url)
    with target.writing() as transaction:
        alembic_runner.command.downgrade(alembic_runner.config(transaction.connection), "base")
    target.engine.dispose()
    assert tables(empty_url) == {"alembic_version"}
    assert current(empty_url) is None
    upgrade(empty_url)


def test_the_command_line_upgrades_and_tells_where_a_database_is(empty_url):
    run = CliRunner().invoke
    environment = {"BANDITS_DATABASE_URL": empty_url}
    newest = migrate.newest()
    assert run(db, ["upgrade"], env=environment).output == f"the database is at {newest}\n"
    assert run(db, ["current", "--database", empty_url]).output == f"{newest}\n"
    target = open_database(empty_url)
    with target.writing() as transaction:
        alembic_runner.command.downgrade(alembic_runner.config(transaction.connection), "base")
    target.engine.dispose()
    told = run(db, ["current"], env=environment).output
    assert told == f"nothing; `bandits db upgrade` brings it to {newest}\n"
