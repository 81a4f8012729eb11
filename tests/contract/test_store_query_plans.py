"""No statement of the store goes through the whole log, however long it has grown."""

import re
from pathlib import Path

import pytest
from sqlalchemy import event, insert

from bandits.engine import Engine
from bandits.engine.fold import fold, rebuild
from bandits.schemas import Reward
from storage.connections import DeliveryOutcome, NewUnmatchedEvent
from storage.schema import batches

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()
INDEX = re.search(r"^CREATE INDEX .*;$", PAGE, re.MULTILINE)[0]
LOG = ("decisions", "events", "batches", "subjects", "activations", "cancellations", "snapshots")
JOINED = ("of_event", "of_cancellation", "of_withdrawal", "activated", "cancelled")
MATCHING = ("subject_pages", "attributions", "message_ids", "unmatched_events", "waiting_events")


@pytest.fixture
def scans(store):
    """Statements that go through a whole table, found as SQLite plans them."""
    found = []

    def explain(connection, _cursor, statement, parameters, _context, many):
        if many or not statement.startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            return
        driver = connection.connection.driver_connection
        plan = [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        scanned = {step.split()[1] for step in plan if step.startswith("SCAN")}
        if scanned.intersection([*LOG, *MATCHING, *JOINED]):
            found.append((statement, plan))

    for engine in {store.database.engine, store.database.writer}:
        event.listen(engine, "before_cursor_execute", explain)
    return found


@pytest.mark.parametrize("makers", ["sqlite"], indirect=True)
def test_waiting_events_find_their_decisions_by_index(store, sender, scans):
    connection = store.connections.add(
        "sendgrid", "mailer", {}, fields={}, metrics={}, at=1.0, by="test"
    )
    record = sender.start(await_activation=True)
    ids = sender.choose(record, 20, at=1.0)
    events = [NewUnmatchedEvent(i, "e", "click", 1.0, 1.0, "", b"") for i in ids]
    events += [NewUnmatchedEvent("", f"e-{m}", "click", 1.0, 1.0, "", b"", m) for m in "abc"]
    outcome = DeliveryOutcome(unmatched=events)
    store.connections.record_delivery(connection.id, outcome, at=1.0)
    store.log.activate(ids[:5], messages=[(ids[0], "a"), (ids[1], "b")], at=2.0)
    assert len(store.connections.ready_events("mailer")) == 7
    assert set(store.log.message_decisions(["a", "b", "c"])) == {"a", "b"}
    assert scans == []


@pytest.mark.parametrize("makers", ["sqlite"], indirect=True)
def test_subjects_find_their_decisions_by_index(store, sender, scans):
    record = sender.start(attribution="last")
    subjects = [f"u-{i}" for i in range(20)]
    for at in (1.0, 2.0, 3.0):
        sender.choose(record, 20, at=at, subjects=subjects)
        if at < 3.0:
            store.log.index_subjects("spring")
    found = store.log.candidates([record], subjects)
    assert [len(of_one) for of_one in found] == [3] * 20
    credited = {f"e-{of_one[0].number}": [of_one[0].number] for of_one in found}
    assert store.log.attribute("key:1", credited) == {}
    assert store.log.attribute("key:1", credited) == store.log.attributions("key:1", list(credited))
    assert scans == []


def live(store, sender, assignment):
    """Do everything that is done often, once new and once repeated."""
    declared = {"await_activation": True, "forgetting": {"window_seconds": 50.0}}
    record = sender.start(assignment=assignment, **declared)
    chosen = sender.chosen(20, digests=[b"body"] * 20)
    for at in (1.0, 2.0):  # the second time all of it is repeated
        store.log.append_decisions(record, chosen, at=at)
        store.log.activate(chosen.ids, at=at)
        sender.click(chosen.ids, at=at)
        fold(store, "spring", now=at)
    fold(store, "spring", now=20.0)
    sender.click(chosen.ids, at=21.0, event_id="f")
    for _ in range(2):
        store.log.cancel(chosen.ids[:3], at=22.0)
        fold(store, "spring", now=100.0)
    with store.snapshots.audit("spring") as audit:
        rebuild(audit)
    assert store.log.decisions(chosen.ids)
    assert store.log.events(chosen.ids[0])
    assert store.snapshots.history("spring", 10)
    assert store.snapshots.snapshot("spring", 1)


@pytest.mark.parametrize("makers", ["sqlite"], indirect=True)
@pytest.mark.parametrize("assignment", ["per_decision", "per_subject"])
def test_statements_on_sqlite_never_scan_the_log(store, sender, scans, assignment):
    live(store, sender, assignment)
    assert scans == []


@pytest.mark.parametrize("makers", ["sqlite"], indirect=True)
@pytest.mark.parametrize("indexed", [False, True], ids=["as it is", "with an index"])
def test_erase_scans_the_log_once_to_find_a_subject(store, sender, scans, indexed):
    """Once, beside the writers; an index of the operator's is used: docs/operations.md."""
    ids = sender.choose(sender.start(), 20, at=1.0)
    sender.click(ids, at=2.0)
    fold(store, "spring", now=20.0)
    if indexed:
        with store.database.writing() as transaction:
            transaction.connection.exec_driver_sql(INDEX)
    engine = Engine(store, lambda: 21.0)
    assert len(engine.subject(f"subject of {ids[0]}").decisions) == 1
    assert engine.erase(f"subject of {ids[0]}", by="test").decisions == 1
    found = [statement for statement, _ in scans]
    assert len(found) == (0 if indexed else 1)
    assert all("decisions.subject = ?" in statement for statement in found)


@pytest.mark.parametrize("makers", ["sqlite"], indirect=True)
def test_scan_on_sqlite_is_noticed(store, sender, scans):
    sender.choose(sender.start())
    with store.database.reading() as transaction:
        transaction.connection.exec_driver_sql("SELECT count(*) FROM decisions WHERE arm = 1")
    assert len(scans) == 1


class Reads:
    """Statements as PostgreSQL plans and runs them: what reads a table of the log, and how much."""

    def __init__(self, engine):
        self.whole = []  # statements that go through a whole table or index
        self.rows = 0  # that were looked at
        self.indexes = set()  # that were used
        event.listen(engine, "before_cursor_execute", self._explain)

    def _explain(self, connection, _cursor, statement, parameters, _context, many):
        reads = statement.startswith(("SELECT", "WITH"))
        if many or not (reads or statement.startswith(("UPDATE", "DELETE"))):
            return
        options = "ANALYZE, TIMING OFF, FORMAT JSON" if reads else "FORMAT JSON"
        with connection.connection.driver_connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN ({options}) {statement}", parameters)
            ((plan,),) = cursor.fetchone()
        for node in _nodes(plan["Plan"]):
            self.indexes.add(node.get("Index Name"))
            self.rows += node.get("Rows Removed by Join Filter", 0) * node.get("Actual Loops", 1)
            if node["Node Type"].endswith("Scan") and node.get("Relation Name") in LOG:
                looked_at = ("Actual Rows", "Rows Removed by Filter")
                rows = sum(node.get(name, 0) for name in looked_at)
                self.rows += rows * node.get("Actual Loops", 1)
                if not {"Index Cond", "Recheck Cond", "TID Cond"} & node.keys():
                    self.whole.append((statement, node))


def _nodes(plan):
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


@pytest.mark.parametrize("makers", ["postgresql"], indirect=True)
@pytest.mark.parametrize("assignment", ["per_decision", "per_subject"])
def test_statements_on_postgresql_never_scan_the_log(store, sender, assignment):
    reads = Reads(store.database.engine)
    live(store, sender, assignment)
    assert reads.rows > 100
    assert reads.whole == []


@pytest.mark.parametrize("makers", ["postgresql"], indirect=True)
def test_scan_on_postgresql_is_noticed(store, sender):
    sender.choose(sender.start(), 20, at=1.0)
    reads = Reads(store.database.engine)
    assert store.subjects.subject_decisions("nobody") == {}  # which no index helps, on purpose
    assert len(reads.whole) == 1
    assert reads.rows == 20


@pytest.mark.parametrize("makers", ["postgresql"], indirect=True)
@pytest.mark.parametrize("assignment", ["per_decision", "per_subject"])
def test_hot_lookups_read_as_many_rows_of_a_log_ten_times_as_long(store, sender, assignment):
    record = sender.start(assignment=assignment)
    engine = Engine(store, lambda: 5000.0)
    reads = Reads(store.database.engine)

    def lengthen(n):
        for _ in range(n):
            sender.click(sender.choose(record, 20, at=1.0), at=2.0)
        fold(store, "spring", now=5000.0)

    def hot():
        before = reads.rows
        chosen = sender.chosen(10, digests=[b"body"] * 10)
        for _ in range(2):
            store.log.append_decisions(record, chosen, at=5000.0)
            engine.reward([Reward(i, "e", "click") for i in chosen.ids])
        engine.cancel(chosen.ids[:2])
        engine.receipt(chosen.ids[0])
        engine.results("spring")
        store.snapshots.backlog(5000.0)
        fold(store, "spring", now=5000.0)
        return reads.rows - before

    lengthen(10)
    short = hot()
    lengthen(90)
    assert short > 20
    assert hot() <= 1.2 * short


@pytest.mark.parametrize("makers", ["postgresql"], indirect=True)
def test_a_fold_of_many_small_batches_reads_each_row_a_few_times(store, sender):
    record, n = sender.start(), 1500
    for _ in range(n):
        store.log.append_decisions(record, sender.chosen(4), at=1.0)
    reads = Reads(store.database.engine)
    fold(store, "spring", now=5000.0)
    assert 4 * n < reads.rows < 20 * 4 * n


@pytest.mark.parametrize("makers", ["postgresql"], indirect=True)
def test_fold_looks_up_events_before_a_version_by_their_decisions(store, sender):
    """By their batches, each would be compared with every decision of the fold: for seconds."""
    record = sender.start(forgetting={"window_seconds": 40.0})
    for at in range(5):
        ids = sender.choose(record, 10_000, at=float(at))
        sender.click(ids[:1000], at=float(at))
    fold(store, "spring", now=20.0)
    reads = Reads(store.database.engine)
    fold(store, "spring", now=60.0)  # all of them leave the window
    assert "pk_events" in reads.indexes
    assert "ix_events_batch_id" not in reads.indexes


def rewarded(store, record, n):
    """Let n batches of rewards come after the last decision."""
    row = {"experiment_id": record.id, "kind": "reward", "size": 1}
    with store.database.writing() as transaction:
        rows = [row | {"created_at": 10.0 + i, "due_at": 10.0 + i} for i in range(n)]
        transaction.execute(insert(batches), rows)


@pytest.mark.parametrize("makers", ["postgresql"], indirect=True)
def test_newest_decisions_are_read_behind_any_number_of_rewards(store, sender):
    record = sender.start()
    made = sender.choose(record, 3, at=1.0)
    rewarded(store, record, 3000)
    reads = Reads(store.database.engine)
    found = store.log.latest_decisions("spring", limit=2)
    assert [stored.id for stored in found] == made[:0:-1]
    assert 0 < reads.rows < 30


@pytest.mark.parametrize("makers", ["sqlite"], indirect=True)
def test_newest_decisions_are_found_by_an_index_of_their_own(store, sender):
    record = sender.start()
    made = sender.choose(record, 3, at=1.0)
    rewarded(store, record, 3000)
    plans = []

    def explain(connection, _cursor, statement, parameters, _context, _many):
        driver = connection.connection.driver_connection
        steps = driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plans.extend(row[3] for row in steps)

    event.listen(store.database.engine, "before_cursor_execute", explain)
    assert [s.id for s in store.log.latest_decisions("spring", limit=2)] == made[:0:-1]
    assert any("ix_batches_chosen" in step for step in plans)
    assert not any("ix_batches_by_time" in step or "TEMP B-TREE" in step for step in plans[:3])


@pytest.mark.parametrize("makers", ["postgresql"], indirect=True)
def test_fast_append_looks_ids_up_in_their_index(store, sender, monkeypatch):
    record = sender.start()
    assert store.log.append_decisions(record, sender.chosen(), at=1.0) == {}
    driver, plan = store.database._appender(), []

    class Explaining:
        closed = False

        def execute(self, statement, values):
            plan.extend(row[0] for row in driver.execute(f"EXPLAIN {statement}", values))
            return driver.execute(statement, values)

    monkeypatch.setattr(store.database, "_appender", Explaining)
    assert store.log.append_decisions(record, sender.chosen(), at=2.0) == {}
    assert any("uq_decisions_id" in step for step in plan)
    assert not any("Seq Scan" in step for step in plan)
