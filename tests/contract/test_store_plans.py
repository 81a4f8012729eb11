"""No statement of the store goes through the whole log, however long it has grown."""

import re
from pathlib import Path

import pytest
from sqlalchemy import event

from bandits.engine import Engine
from bandits.engine.learner import fold, rebuild

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()
INDEX = re.search(r"^CREATE INDEX .*;$", PAGE, re.MULTILINE)[0]
LOG = ("decisions", "events", "batches", "subjects", "activations", "cancellations", "snapshots")


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
        if scanned.intersection([*LOG, "of_event", "of_cancellation", "activated", "cancelled"]):
            found.append((statement, plan))

    event.listen(store.database.engine, "before_cursor_execute", explain)
    return found


@pytest.mark.parametrize("makers", ["sqlite"], indirect=True)
@pytest.mark.parametrize("assignment", ["per_decision", "per_subject"])
def test_no_statement_scans_the_log(store, sender, scans, assignment):
    declared = {"await_activation": True, "forgetting": {"window_seconds": 50.0}}
    record = sender.start(assignment=assignment, **declared)
    chosen = sender.chosen(20, digests=[b"body"] * 20)
    for at in (1.0, 2.0):  # the second time all of it is repeated
        store.append_decisions(record, chosen, at=at)
        store.activate(chosen.ids, at=at)
        sender.click(chosen.ids, at=at)
        fold(store, "spring", now=at)
    fold(store, "spring", now=20.0)
    sender.click(chosen.ids, at=21.0, event_id="f")
    for _ in range(2):
        store.cancel(chosen.ids[:3], at=22.0)
        fold(store, "spring", now=100.0)
    with store.audit("spring") as audit:
        rebuild(audit)
    assert store.decisions(chosen.ids)
    assert store.events(chosen.ids[0])
    assert store.history("spring", 10)
    assert store.snapshot("spring", 1)
    assert scans == []


@pytest.mark.parametrize("makers", ["sqlite"], indirect=True)
@pytest.mark.parametrize("indexed", [False, True], ids=["as it is", "with an index"])
def test_erasing_goes_through_the_log_once_to_find_a_subject(store, sender, scans, indexed):
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
def test_a_statement_that_scans_is_noticed(store, sender, scans):
    sender.choose(sender.start())
    with store.database.reading() as transaction:
        transaction.connection.exec_driver_sql("SELECT count(*) FROM decisions WHERE arm = 1")
    assert len(scans) == 1
