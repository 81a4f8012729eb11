"""Stored values carry the number of their format, and a newer one is refused, in every database."""

import msgspec
import pytest
from sqlalchemy import text, update

from bandits.actors import actor_of
from bandits.engine.fold import fold
from bandits.engine.sums import load_sums
from storage import alembic_runner
from storage.schema import inference_states, metadata
from storage.snapshots.verify import compare
from storage.stored_format import NewerFormat

BLOBS = {
    "allocations": ("probabilities",),
    "snapshots": ("statistic", "arm_counts"),
    "inference_states": ("content",),
    "retained_sums": ("statistic", "arm_counts", "inference_state"),
}
DOCUMENTS = {"configurations": ("body",), "drafts": ("body",), "audit_log": ("after",)}
COLUMNS = [(table, column) for table, columns in (BLOBS | DOCUMENTS).items() for column in columns]


@pytest.fixture
def filled(store, sender, engine, now):
    """A store with a value in each of these columns."""
    record = sender.start(retention_days=1)
    sender.click(sender.choose(record, 3, at=1.0), at=2.0)
    fold(store, "spring", now=5000.0)
    sender.choose(record, 3, at=90_000.0)
    now[0] = 200_000.0
    while fold(store, "spring", now=now[0]):
        pass
    engine.retain("spring")
    store.drafts.add("{}", at=1.0, by="test")
    return store


def run(store, statement):
    with store.database.writing() as transaction:
        result = transaction.execute(text(statement))
        return result.scalars().all() if result.returns_rows else []


def read_all(store):
    """Read every column."""
    snapshot = store.snapshots.snapshot(
        "spring", store.experiments.record("spring").learned_version
    )
    with store.snapshots.audit("spring") as audit:
        retained = audit.retained
    store.snapshots.allocation("spring", 1, 0, b"")  # none once a migration is taken back
    return (
        [snapshot.statistic, snapshot.arm_counts, snapshot.inference_state],
        [retained.statistic, retained.arm_counts, retained.inference_state],
        [draft.body for draft in store.drafts.all()],
        [entry.after for entry in store.accounts.changes()],
        store.experiments.record("spring"),
    )


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_format_number_is_before_every_value(filled, table, column):
    stored = run(filled, f"SELECT {column} FROM {table} WHERE length({column}) > 0")  # noqa: S608
    assert stored
    number = metadata.tables[table].c[column].type.number
    if table in BLOBS:
        assert {bytes(s)[:2] for s in stored} == {b"\xc1" + bytes([number])}
    else:
        assert {s.partition(",")[0] for s in stored} == {f'{{"format":{number}'}


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_format_of_a_newer_version_is_refused(filled, database_url, table, column):
    if table in BLOBS:
        newer = "'\\xc109ff'::bytea" if database_url.startswith("postgresql") else "x'c109ff'"
    else:
        newer = """'{"format"\\:9,"content"\\:{}}'"""
    run(filled, f"UPDATE {table} SET {column} = {newer}")  # noqa: S608
    filled.experiments._decoded.clear()
    filled.experiments.forget("spring")
    with pytest.raises(NewerFormat, match=rf"{table}\.{column} was stored in format 9"):
        read_all(filled)


def test_format_numbers_go_where_the_migration_is_taken_back(filled, makers):
    before = read_all(filled)
    for revision in ("0014", "head"):
        with filled.database.writing() as transaction:
            configuration = alembic_runner.config(transaction.connection)
            if revision == "head":
                alembic_runner.command.upgrade(configuration, revision)
            else:
                alembic_runner.command.downgrade(configuration, revision)
        table, column = ("snapshots", "tally") if revision == "0014" else ("drafts", "body")
        for stored in run(filled, f"SELECT {column} FROM {table}"):  # noqa: S608
            assert not stored.startswith(b"\xc1" if revision == "0014" else '{"format"')
    filled.experiments._decoded.clear()
    assert read_all(filled) == before


def test_sender_sums_of_the_format_before_are_counted_anew_by_the_next_fold(store, sender):
    """They counted matured decisions where closed ones are counted now."""
    rule = {"metrics": {"click": {}}, "window_seconds": 20.0, "maturity_seconds": 10.0}
    record = sender.start(reward=rule)

    def choose(n, at):
        chosen = sender.chosen(n)
        store.log.append_decisions(record, chosen, actor=actor_of("key", 7), at=at)
        return chosen.ids

    def counts(now):
        while fold(store, "spring", now=now):
            pass
        with store.snapshots.audit("spring") as audit:
            assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []
            return load_sums(audit.record.configuration, audit.snapshot).senders.counts.tolist()

    sender.click(choose(6, at=1.0)[:2], at=2.0)
    assert counts(15.0) == [[6, 0, 0, 0]]
    assert counts(30.0) == [[6, 0, 6, 2]]
    version = store.experiments.record("spring").learned_version
    stored = store.snapshots.snapshot("spring", version).senders
    earlier = msgspec.msgpack.encode(msgspec.msgpack.decode(stored)[1:])
    with store.database.writing() as transaction:
        transaction.execute(update(inference_states).values(senders=earlier))
    assert counts(30.0) == [[6, 0, 0, 0]]
    choose(1, at=31.0)
    assert counts(32.0) == [[7, 0, 6, 2]]
