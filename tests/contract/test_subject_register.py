"""Every table says what becomes of a subject's rows, and an erased subject is in none of them."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import LargeBinary, select

from bandits.actors import actor_of
from bandits.schemas import Request, Reward, Withdrawal
from bandits.store.values import Deeds
from storage.accounts.idempotency_keys import KeptAnswer
from storage.connections import DeliveryOutcome, NewRefusal, NewUnmatchedEvent
from storage.connections.marks import marks_of
from storage.schema import metadata
from storage.schema.metadata import SUBJECT_DATA, SubjectData
from storage.spool import SUBJECT_DATA_OF_SPOOL, SpoolRecord

OF_SUBJECTS = {name: t for name, t in metadata.tables.items() if SUBJECT_DATA in t.info}
OF_NOBODY = {  # and why
    "actor_counts": "of keys and people who work here",
    "alert_choices": "of people who work here",
    "alert_targets": "of programs and chats of people who work here",
    "allocations": "probabilities by restriction",
    "answer_sizes": "bytes by API key",
    "api_keys": "of programs",
    "audit_log": "who changed what; an erasure names no subject",
    "batches": "counts by transaction",
    "configurations": "declared by people who work here",
    "connections": "of mailers and shops",
    "drafts": "typed by people who work here",
    "eligible_set_uses": "of keys and people who work here",
    "eligible_sets": "restrictions, without whom they were for",
    "erased_decisions": "hashes under a secret, of ids of decisions that are no more",
    "erasures": "ranges of snapshots",
    "experiments": "declared by people who work here",
    "identities": "of people who work here",
    "inference_states": "sums",
    "link_hosts": "websites that links may lead to",
    "mail_settings": "of this workspace",
    "network_counts": "emails by network and minute, hashed under a secret; whose is not told",
    "one_time_links": "of people who work here",
    "outbox": "for people who work here; it names campaigns, files and connections alone",
    "resummations": "sums",
    "retained_counts": "sums",
    "retained_sums": "sums",
    "rule_changes": "which rules hold up to which batch",
    "secrets": "of this database",
    "sessions": "of people who work here",
    "snapshots": "sums, from which erasure subtracts",
    "statements": "claims on sums",
    "tracking_keys": "of senders",
    "subject_runs": "sizes",
    "users": "people who work here",
    "voids": "of keys and people who work here, by time",
    "workspace": "its name",
}


@pytest.mark.parametrize("name", metadata.tables)
def test_table_declares_its_data_of_subjects_or_has_none(name):
    assert (name in OF_SUBJECTS) != (name in OF_NOBODY), name


def test_declarations_are_whole():
    assert set(OF_NOBODY) <= set(metadata.tables)
    declarations = [table.info[SUBJECT_DATA] for table in OF_SUBJECTS.values()]
    for declared in (*declarations, SUBJECT_DATA_OF_SPOOL):
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


def test_erased_subject_is_in_no_cell_of_any_table(  # noqa: PLR0915 - a row of every table
    engine, store, sender, now
):
    sender.start("spring", assignment="per_subject")
    sender.start("waits", await_activation=True)
    sender.start("found", attribution="all")
    subject, email = "ann@shop.example", "Ann@Shop.example"
    names, thief = (subject, "bob@shop.example"), actor_of("key", 1)
    for name in names:
        engine.choose("waits", [Request(name, decision_id=f"{name[:3]}-1")], actor=thief)
    now[0] = 1.5
    engine.void(Deeds(thief, 0.0, 1.5), by="test")
    for name in names:
        tag = name[:3]
        (made,) = engine.choose("spring", [Request(name, decision_id=f"{tag}-1")])
        (cancelled,) = engine.choose("waits", [Request(name, decision_id=f"{tag}-2")])
        engine.choose("waits", [Request(name, decision_id=f"{tag}-3")])
        engine.activate([f"{tag}-3"])
        engine.cancel([f"{tag}-2"])
        engine.reward([Reward(f"{tag}-1", f"click of {tag}-1".replace(" ", "-"), "click")])
        engine.choose("found", [Request(name.title(), decision_id=f"{tag}-4")])
        engine.activate([f"{tag}-1"], messages=[(f"{tag}-1", f"mail-of-{tag}-1")])
        ordered_at = datetime.fromtimestamp(now[0], UTC)
        order = Reward("", f"order-of-{tag}-1", "click", 1.0, ordered_at, subject_id=name)
        assert engine.reward([order]).accepted == 1
        engine.choose("waits", [Request(name, decision_id=f"{tag}-5")])
        assert engine.reward([Reward(f"{tag}-5", "early", "click")], wait=True).waiting == 1
        engine.withdraw([Withdrawal(f"{tag}-1", f"order-of-{tag}-1")])
        engine.set_opt_out(f"{tag}-1", opted_out=True)
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
    store.connections.sent_messages.begin(connection.id, "ann-1", subject, at=1.0)
    store.connections.sent_messages.begin(connection.id, "list.ann", email, at=1.0)
    store.tracked_links.note({}, {"ann-1": 1.0, "bob-1": 1.0}, at=1.0)
    for text in (b'{"decision_ids": ["ann-3"]}', b'["Ann@Shop.example"]', b'["bob-1"]'):
        store.spool.append(SpoolRecord("test", 1.0, b"", text))
    keys = store.accounts.idempotency_keys
    claim = keys.claim(1, "first", b"request", repeatable=True, at=1.0)
    keys.keep(claim, KeptAnswer(201, {}, b'{"decision_id": "ann-1"}'))
    engine.index_subjects()
    now[0] = 2.0
    before = cells(store)
    hashes = set(store.log._context.hash_subjects([subject]))
    hashes |= {digest[:8] for digest in store.log._context.hash_subjects([subject])}
    hashes |= set(marks_of(store.log._context.hash_subjects, [subject, *ids(subject)]))
    about = {name for name, values in before.items() if names_ann(values, hashes)}
    numbers = {"activations", "cancellations", "receipt_allocations", "repeats"}
    assert about == set(OF_SUBJECTS) - numbers

    exported = engine.subject(subject)
    assert len(exported.decisions) == 5
    assert [d.message_ids for d in exported.decisions] == [[], ["mail-of-ann-1"], [], [], []]
    reasons = sorted(signal.reason or "" for signal in exported.signals)
    assert reasons == [""] * 7 + ["reason"] * 2
    receipt = engine.erase(subject, by="test")
    assert (receipt.decisions, receipt.signals) == (5, 9)
    assert store.spool.find([subject, *ids(subject)]) == []
    assert engine.erase(subject.title(), by="test").decisions == 1

    after = cells(store)
    assert {name for name, values in after.items() if names_ann(values, hashes)} == set()
    left = engine.subject("bob@shop.example")
    assert left.opted_out_at is not None
    assert (len(left.decisions), len(left.signals)) == (5, 4)
    assert engine.erase(subject, by="test").signals == 0


def ids(subject: str) -> list[str]:
    return [f"{subject[:3]}-{i}" for i in (1, 2, 3, 4, 5)]


def names_ann(values: set[bytes], hashes: set[bytes]) -> bool:
    """Tell whether any cell has the subject, one of its ids, or a hash of these."""
    names = [b"ann@shop.example", *(i.encode() for i in ids("ann@shop.example"))]
    beginnings = {v[i : i + 8] for v in values for i in range(0, len(v), 16)}  # in pages
    known = bool((values | beginnings) & hashes)
    return known or any(name in value.lower() for value in values for name in names)


def test_hashes_are_binary_columns_alone():
    for name, table in OF_SUBJECTS.items():
        for column in table.columns:
            if column.name in {"subject", "mark"}:
                assert isinstance(column.type, LargeBinary), f"{name}.{column.name}"
