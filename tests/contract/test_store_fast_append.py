"""Few decisions are appended briefly, and whatever is not as usual the long way."""

import numpy as np
import pytest
from sqlalchemy import func, select

from bandits.engine.fold import fold
from bandits.store import StaleRead
from storage import open_store
from storage.schema import batches, decisions

AGE = {"kind": "number", "name": "age", "low": 0, "high": 100}


@pytest.fixture
def tried(store, monkeypatch):
    """What each brief attempt has come to, in their order."""
    append, found = store.database.append, []

    def noted(*given):
        found.append(append(*given))
        return found[-1]

    monkeypatch.setattr(store.database, "append", noted)
    return found


def count(store, table):
    with store.database.reading() as transaction:
        return transaction.execute(select(func.count()).select_from(table)).scalar_one()


def written(store):
    """Every row of the log, but for what numbers rows and names decisions."""
    with store.database.reading() as transaction:
        opened = transaction.execute(select(batches).order_by(batches.c.id)).mappings().all()
        made = transaction.execute(select(decisions).order_by(decisions.c.serial)).mappings().all()
    numbers = {row["id"]: place for place, row in enumerate(opened)}
    return (
        [{k: v for k, v in row.items() if k != "id"} for row in opened],
        [
            {k: v for k, v in row.items() if k not in ("id", "serial")}
            | {"of": (numbers[row["serial"] >> 20], row["serial"] & 0xFFFFF)}
            for row in made
        ],
    )


@pytest.mark.parametrize("waits", [False, True])
def test_fast_append_writes_the_log_as_the_general_append_does(
    store, sender, tried, monkeypatch, waits
):
    record = sender.start(context=[AGE], await_activation=waits)
    sets = [
        sender.chosen(
            3,
            ids=[f"{way}c", f"{way}a", f"{way}b"],
            subjects=["ann", "bob", "cat"],
            digests=[b"", b"digest", b""],
            arms=np.array([2, 1, 0]),
            propensities=np.array([0.1, 1.0, 0.25]),
            contexts=np.array([[1.0, 0.1], [1.0, 0.7], [1.0, 0.0]]),
            holdout=np.array([False, True, False]),
            fallback=np.array([True, False, False]),
            eligible_sets=[b"r", b"", b""],
            policy_version=17,
            mended=(1, 2, 3),
        )
        for way in ("brief", "long")
    ]
    assert store.log.append_decisions(record, sets[0], at=5.25) == {}
    assert tried[0] is not None
    with monkeypatch.context() as patch:
        patch.setattr(store.database, "append", lambda *_: None)
        assert store.log.append_decisions(record, sets[1], at=5.25) == {}
    (brief, long), rows = written(store)
    assert brief == long
    for row in rows:
        del row["of"]
    assert rows[:3] == rows[3:]


def test_fast_append_numbers_rows_in_the_order_of_their_ids(store, sender, tried):
    record = sender.start()
    for ids in (["c", "a", "b"], ["e", "d"]):
        store.log.append_decisions(record, sender.chosen(len(ids), ids=ids), at=1.0)
    assert None not in tried
    with store.database.reading() as transaction:
        query = select(decisions.c.serial, decisions.c.id).order_by(decisions.c.serial)
        found = [(row.serial & 0xFFFFF, row.id) for row in transaction.execute(query)]
    assert found == [(0, "a"), (1, "b"), (2, "c"), (0, "d"), (1, "e")]


def test_fast_append_of_a_known_id_leaves_nothing_behind(store, sender, tried):
    record = sender.start()
    store.log.append_decisions(record, sender.chosen(2, ids=["a", "b"]), at=1.0)
    again = sender.chosen(3, ids=["new", "b", "other"])
    assert [stored.id for stored in store.log.append_decisions(record, again, at=2.0).values()] == [
        "b"
    ]
    assert [found is None for found in tried] == [False, True]
    assert set(store.log.decisions(["a", "b", "new", "other"])) == {"a", "b", "new", "other"}
    assert (count(store, batches), count(store, decisions)) == (2, 4)


def test_fast_append_under_a_changed_experiment_writes_nothing(store, sender, tried, database_url):
    record = sender.start()
    other = open_store(database_url)
    for change in ("paused", "running"):
        other.experiments.move("spring", change, allowed=["running", "paused"], at=1.0, by="test")
        if change == "paused":
            with pytest.raises(StaleRead):
                store.log.append_decisions(record, sender.chosen(), at=2.0)
    other.close()
    assert tried == [None]
    assert (count(store, batches), count(store, decisions)) == (0, 0)
    assert store.log.append_decisions(record, sender.chosen(), at=3.0) == {}
    assert tried[1] is not None


def test_fast_append_under_another_shipped_arm_is_a_stale_read(store, sender, tried):
    sender.start()
    for arm in (0, 1):
        store.experiments.move(
            "spring", "stopped", allowed=["running", "stopped"], at=1.0, by="test", shipped=arm
        )
        if arm == 0:
            first = store.experiments.record("spring")
    with pytest.raises(StaleRead):
        store.log.append_decisions(first, sender.chosen(shipped=True), at=2.0)
    assert tried == [None]
    assert count(store, decisions) == 0


@pytest.mark.parametrize("makers", ["postgresql"], indirect=True)
def test_fast_append_of_a_known_id_logs_no_error_in_the_database(store, sender, monkeypatch):
    record = sender.start()
    store.log.append_decisions(record, sender.chosen(ids=["a"]), at=1.0)
    driver, refused = store.database._appender(), []

    class Noting:
        closed = False

        def execute(self, statement, values):
            try:
                return driver.execute(statement, values)
            except Exception as error:
                refused.append(error)
                raise

    monkeypatch.setattr(store.database, "_appender", Noting)
    assert store.log.append_decisions(record, sender.chosen(ids=["a"]), at=2.0)[0].id == "a"
    assert refused == []


def test_fast_append_brings_the_newest_snapshot_to_the_next_choice(
    store, sender, tried, database_url
):
    record = sender.start()
    store.log.append_decisions(record, sender.chosen(), at=1.0)
    assert store.experiments.recent("spring").learned_version == 0
    other = open_store(database_url)
    assert fold(other, "spring", now=1e6)
    other.close()
    assert store.experiments.recent("spring").learned_version == 0
    store.log.append_decisions(record, sender.chosen(), at=2.0)
    assert store.experiments.recent("spring").learned_version == 1
    assert None not in tried


@pytest.mark.parametrize("makers", ["postgresql"], indirect=True)
def test_fast_append_over_a_lost_connection_loses_no_choice(
    store, sender, tried, postgresql_server
):
    record = sender.start()
    name = store.database.engine.url.database
    every = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    chosen = [sender.chosen() for _ in range(3)]
    for some in chosen:
        assert store.log.append_decisions(record, some, at=1.0) == {}
        postgresql_server(f"{every} WHERE datname = '{name}'")
    assert [found is None for found in tried] == [False, True, False]
    assert len(store.log.decisions([some.ids[0] for some in chosen])) == 3
