"""Every table says what becomes of a subject's rows, and an erased subject is in none of them."""

import pytest
from sqlalchemy import LargeBinary, select

from bandits.schemas import Request, Reward
from storage.accounts.idempotency_keys import KeptAnswer
from storage.connections import DeliveryOutcome, NewRefusal, NewUnmatchedEvent
from storage.connections.marks import marks_of
from storage.schema import metadata
from storage.schema.metadata import SUBJECT_DATA, SubjectData

OF_SUBJECTS = {name: t for name, t in metadata.tables.items() if SUBJECT_DATA in t.info}
OF_NOBODY = {  # and why
    "actor_counts": "of keys and people who work here",
    "allocations": "probabilities by restriction",
    "api_keys": "of programs",
    "audit_log": "who changed what; an erasure names no subject",
    "batches": "counts by transaction",
    "configurations": "declared by people who work here",
    "connections": "of mailers and shops",
    "drafts": "typed by people who work here",
    "eligible_sets": "restrictions, without whom they were for",
    "erasures": "ranges of snapshots",
    "experiments": "declared by people who work here",
    "identities": "of people who work here",
    "inference_states": "sums",
    "network_counts": "emails by network and minute, hashed under a secret; whose is not told",
    "resummations": "sums",
    "retained_counts": "sums",
    "retained_sums": "sums",
    "rule_changes": "which rules hold up to which batch",
    "secrets": "of this database",
    "sessions": "of people who work here",
    "snapshots": "sums, from which erasure subtracts",
    "statements": "claims on sums",
    "users": "people who work here",
    "voids": "of keys and people who work here, by time",
}


@pytest.mark.parametrize("name", metadata.tables)
def test_table_declares_its_data_of_subjects_or_has_none(name):
    assert (name in OF_SUBJECTS) != (name in OF_NOBODY), name


def test_declarations_are_whole():
    assert set(OF_NOBODY) <= set(metadata.tables)
    for table in OF_SUBJECTS.values():
        declared = table.info[SUBJECT_DATA]
        assert isinstance(declared, SubjectData)
        assert all((declared.export, declared.erasure, declared.retention))


def cells(store) -> dict[str, set[bytes]]:
    """Read every cell of every table as bytes, by table."""
    with store.database.reading() as transaction:
        return {
            name: {
                bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                for row in transaction.execute(select(table))
                for value in row
            }
            for name, table in metadata.tables.items()
        }


def test_erased_subject_is_in_no_cell_of_any_table(engine, store, sender, now):
    sender.start("spring", assignment="per_subject")
    sender.start("waits", await_activation=True)
    subject, email = "ann@shop.example", "Ann@Shop.example"
    for name in (subject, "bob@shop.example"):
        tag = name[:3]
        (made,) = engine.choose("spring", [Request(name, decision_id=f"{tag}-1")])
        (cancelled,) = engine.choose("waits", [Request(name, decision_id=f"{tag}-2")])
        engine.choose("waits", [Request(name, decision_id=f"{tag}-3")])
        engine.activate([f"{tag}-3"])
        engine.cancel([f"{tag}-2"])
        engine.reward([Reward(f"{tag}-1", f"click of {tag}-1".replace(" ", "-"), "click")])
        assert made.decision_id
        assert cancelled.decision_id
    connection = store.connections.add(
        "sendgrid", "mailer", {}, fields={}, metrics={}, at=1.0, by="test"
    )
    outcome = DeliveryOutcome(
        unmatched=[
            NewUnmatchedEvent("ann-2", "waits-1", "click", 1.0, 1.0, "", b""),
            NewUnmatchedEvent("unknown", "waits-2", "click", 1.0, 1.0, email, b""),
            NewUnmatchedEvent("bob-2", "waits-3", "click", 1.0, 1.0, "", b""),
        ],
        refused=[
            NewRefusal("reason", body, body)
            for body in (
                b'{"who": "Ann@Shop.example"}',
                b'[{"bandits_decision": "ann-1"}]',
                b'{"who": "bob@shop.example"}',
            )
        ],
    )
    store.connections.record_delivery(connection.id, outcome, at=1.0)
    keys = store.accounts.idempotency_keys
    claim = keys.claim(1, "first", b"request", repeatable=True, at=1.0)
    keys.keep(claim, KeptAnswer(201, {}, b'{"decision_id": "ann-1"}'))
    now[0] = 2.0
    before = cells(store)
    hashes = set(store.log._context.hash_subjects([subject]))
    hashes |= set(marks_of(store.log._context.hash_subjects, [subject, *ids(subject)]))
    about = {name for name, values in before.items() if names_ann(values, hashes)}
    assert about == set(OF_SUBJECTS) - {"activations", "cancellations"}  # they have numbers alone

    exported = engine.subject(subject)
    assert len(exported.decisions) == 3
    assert sorted(signal.reason or "" for signal in exported.signals) == [
        "",
        "",
        "reason",
        "reason",
    ]
    receipt = engine.erase(subject, by="test")
    assert (receipt.decisions, receipt.signals) == (3, 4)

    after = cells(store)
    assert {name for name, values in after.items() if names_ann(values, hashes)} == set()
    left = engine.subject("bob@shop.example")
    assert (len(left.decisions), len(left.signals)) == (3, 2)
    assert engine.erase(subject, by="test").signals == 0


def ids(subject: str) -> list[str]:
    return [f"{subject[:3]}-{i}" for i in (1, 2, 3)]


def names_ann(values: set[bytes], hashes: set[bytes]) -> bool:
    """Tell whether any cell has the subject, one of its ids, or a hash of these."""
    names = [b"ann@shop.example", *(i.encode() for i in ids("ann@shop.example"))]
    return bool(values & hashes) or any(n in v.lower() for v in values for n in names)


def test_hashes_are_binary_columns_alone():
    for name, table in OF_SUBJECTS.items():
        for column in table.columns:
            if column.name in {"subject", "mark"}:
                assert isinstance(column.type, LargeBinary), f"{name}.{column.name}"
