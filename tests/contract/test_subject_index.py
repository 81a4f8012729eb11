"""The index of decisions by subject finds what a search of the log finds, in every database."""

from collections import defaultdict

import numpy as np
import pytest
from sqlalchemy import func, select

from bandits.schemas import Request
from storage.log import decision_log, subject_index
from storage.schema import batches, decisions, subject_pages, subject_runs

NAMES = [f"subject-{i}" for i in range(40)]


@pytest.fixture
def small(monkeypatch):
    """Pages of few entries, and merges of few runs, so that a short log has many of both."""
    monkeypatch.setattr(subject_index, "_PAGE_ENTRIES", 4)
    monkeypatch.setattr(subject_index, "_MERGED_RUNS", 3)
    monkeypatch.setattr(subject_index, "_LARGEST_MERGED", 64)
    monkeypatch.setattr(subject_index, "_PAGES_AT_ONCE", 7)


class Log:
    """Decisions of a few subjects, as they were made."""

    def __init__(self, sender, key="spring", **declared):
        self.sender, self.store = sender, sender.store
        self.record = sender.start(key, **({"attribution": "last"} | declared))
        self.made = defaultdict(list)

    def choose(self, names, at):
        ids = self.sender.choose(self.record, len(names), at=at, subjects=names)
        for name, decision_id in zip(names, ids, strict=True):
            self.made[name].append(decision_id)

    def index(self):
        while self.store.log.index_subjects(self.record.key):
            pass

    def found(self, names=NAMES):
        """Return the ids of the decisions that are found of each subject."""
        found = self.store.log.candidates([self.record], names)
        return {n: [c.decision_id for c in of_one] for n, of_one in zip(names, found, strict=True)}

    @property
    def all(self):
        return {name: self.made[name] for name in NAMES}


def count(store, table, *conditions):
    with store.database.reading() as transaction:
        query = select(func.count()).select_from(table).where(*conditions)
        return transaction.execute(query).scalar_one()


def entries(store):
    """Count the entries of all pages."""
    with store.database.reading() as transaction:
        return (
            sum(len(row[0]) for row in transaction.execute(select(subject_pages.c.entries))) // 16
        )


@pytest.mark.usefixtures("small")
def test_subjects_are_found_at_every_stage_of_the_index(store, sender):
    log, other = Log(sender), Log(sender, "other")
    rng = np.random.default_rng(1)
    for step in range(30):
        names = [NAMES[i] for i in rng.permutation(40)[: rng.integers(1, 9)]]
        log.choose(names, at=float(step))
        other.choose(names[:2], at=float(step))
        if rng.random() < 0.6:
            log.index()
        if step % 7 == 0:
            assert log.found() == log.all
    log.index()
    assert log.found() == log.all
    assert other.found() == other.all  # which nobody indexed yet
    assert count(store, batches, batches.c.index_pending.is_(True)) == 30
    runs = count(store, subject_runs)
    assert 1 <= runs < 12
    assert count(store, subject_pages) > runs
    assert entries(store) == sum(map(len, log.made.values()))
    other.index()
    assert (log.found(), other.found()) == (log.all, other.all)


@pytest.mark.usefixtures("small")
def test_indexing_twice_changes_nothing(store, sender):
    log = Log(sender)
    log.choose(NAMES, at=1.0)
    log.index()
    before = count(store, subject_runs), entries(store)
    assert not store.log.index_subjects("spring")
    assert (count(store, subject_runs), entries(store)) == before


def test_experiment_without_attribution_has_no_index(store, sender):
    log = Log(sender, attribution=None)
    log.choose(["Ann", "ann"], at=1.0)
    assert count(store, batches, batches.c.index_pending.is_not(None)) == 0
    assert count(store, decisions, decisions.c.match_key.is_not(None)) == 0
    log.index()
    assert count(store, subject_runs) == 0


def test_many_new_decisions_are_indexed_by_who_looks_for_them(store, sender, monkeypatch):
    monkeypatch.setattr(decision_log, "_MOST_PENDING", 10)
    log = Log(sender)
    log.choose(NAMES[:9], at=1.0)
    assert log.found() == log.all
    assert count(store, subject_runs) == 0
    log.choose(NAMES[9:], at=2.0)
    assert log.found() == log.all
    assert count(store, batches, batches.c.index_pending.is_(True)) == 0


def test_subjects_are_found_without_regard_to_case_where_that_is_unique(store, sender):
    log = Log(sender)
    names = ["Ann@Shop.example", "bob", "BOB", "Zo\u00eb", "ann@shop.example.org"]
    log.choose(names, at=1.0)
    (ann,), (bob,), (shout,), (zoe,), _ = (log.made[name] for name in names)
    asked = [" ann@shop.example ", "bob", "BOB", "Bob", "zoe\u0308", "ZO\u00cb", "nobody"]
    expected = [[ann], [bob], [shout], [], [zoe], [zoe], []]
    for _ in range(2):
        assert list(log.found(asked).values()) == expected
        log.index()
    with store.database.reading() as transaction:
        hashes = store.log._context.hash_subjects(names)
        stored = transaction.execute(select(decisions.c.subject)).scalars().all()
    assert sorted(stored) == sorted(hashes)  # to the byte


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("indexed", [False, True])
def test_erased_and_removed_decisions_leave_the_index(sender, engine, now, indexed):
    store = sender.store
    rule = {"metrics": {"click": {}}, "window_seconds": 10.0, "maturity_seconds": 1.0}
    log = Log(sender, reward=rule, retention_days=1)
    for step in range(6):
        log.choose(NAMES[step : step + 20], at=float(step))
        log.index()
    if not indexed:
        log.choose(NAMES[:20], at=7.0)
    now[0] = 8.0
    engine.erase("subject-3", by="test")
    del log.made["subject-3"]
    assert log.found() == log.all
    log.index()
    assert log.found() == log.all
    assert entries(store) == sum(map(len, log.made.values()))
    now[0] = 20.0
    engine.learn("spring")
    engine.learn("spring")
    now[0] = 3 * 86_400.0
    assert engine.retain("spring") == sum(map(len, log.made.values()))
    assert (count(store, subject_pages), count(store, subject_runs)) == (0, 0)
    assert log.found() == {name: [] for name in NAMES}


def test_single_choices_are_found(engine, store, sender, now):
    sender.start(attribution="all")
    for name in ("ann", "Bob"):
        engine.choose("spring", [Request(name, decision_id=f"of-{name}")])
    record = store.experiments.record("spring")

    def found():
        answers = store.log.candidates([record], ["ann", "bob"])
        return [c.decision_id for of_one in answers for c in of_one]

    assert found() == ["of-ann", "of-Bob"]
    engine.index_subjects()
    assert found() == ["of-ann", "of-Bob"]
