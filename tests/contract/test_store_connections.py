"""What connections do, in every database."""

import pytest
from sqlalchemy import select

from bandits.errors import AlreadyExists, NotFound
from storage import open_store
from storage.connections import (
    Connection,
    DeliveryOutcome,
    NewRefusal,
    NewUnmatchedEvent,
    NoEncryptionKey,
)
from storage.connections import connections as connections_module
from storage.connections.connections import NO_ROOM
from storage.schema import connections, refusal_marks, refusals, unmatched_events

KEY, OTHER_KEY = "k" * 32, "o" * 32
SECRETS = {"verification_key": "a very secret secret"}


@pytest.fixture
def encrypted(database_url):
    opened = open_store(database_url, [KEY])
    yield opened
    opened.close()


def add(store, key: str = "mailer", **more) -> Connection:
    parts = {"fields": {"url": "https://x.example"}, "metrics": {"order": "buy"}, "at": 5.0}
    return store.connections.add("sendgrid", key, SECRETS, by="ann", **(parts | more))


def refusal(text: str, reason: str = "unknown metric") -> NewRefusal:
    return NewRefusal(reason, text.encode(), text.encode())


def waiting(decision_id: str, event_id: str = "e-1", recipient: str = "") -> NewUnmatchedEvent:
    return NewUnmatchedEvent(decision_id, event_id, "click", 1.0, 5.0, recipient, b"body")


def keep(store, connection, at=6.0, **outcome) -> None:
    store.connections.record_delivery(connection.id, DeliveryOutcome(**outcome), at=at)


class TestConnections:
    def test_connection_reads_back_without_its_secrets(self, store):
        added = add(store)
        assert (added.key, added.kind, added.paused) == ("mailer", "sendgrid", False)
        assert (added.fields, added.metrics) == ({"url": "https://x.example"}, {"order": "buy"})
        assert not added.encrypted
        assert store.connections.find("mailer") == added
        assert store.connections.all() == [added]
        assert "very secret" not in repr(added)

    def test_key_is_taken_once(self, store):
        add(store)
        with pytest.raises(AlreadyExists, match="mailer"):
            add(store)
        assert len(store.connections.all()) == 1

    def test_secrets_are_stored_encrypted_under_the_key(self, encrypted, database_url):
        assert add(encrypted).encrypted
        with encrypted.database.reading() as transaction:
            stored = transaction.execute(select(connections.c.secrets)).scalar_one()
        assert b"very secret" not in stored
        _, secrets = encrypted.connections.open("mailer", at=6.0)
        assert secrets.current == SECRETS
        assert "very secret" not in repr(secrets)

    def test_secrets_under_another_key_are_unavailable_not_lost(self, encrypted, database_url):
        add(encrypted)
        other = open_store(database_url, [OTHER_KEY])
        with pytest.raises(NoEncryptionKey):
            other.connections.open("mailer", at=6.0)
        assert other.connections.find("mailer").key == "mailer"
        other.close()
        assert encrypted.connections.open("mailer", at=6.0)[1].current == SECRETS

    def test_reseal_brings_everything_under_the_first_key(self, store, database_url):
        connection = add(store)  # plain
        keep(store, connection, refused=[refusal("who: ann")])
        store.connections.rotate("mailer", {"a": "new"}, grace_seconds=100, at=6.0, by="ann")
        keyed = open_store(database_url, [KEY])
        assert keyed.connections.reseal() == 1
        keyed.close()
        only = open_store(database_url, [KEY])
        assert only.connections.open("mailer", at=7.0)[1].current == {"a": "new"}
        assert only.connections.open("mailer", at=7.0)[1].previous == SECRETS
        (kept,) = only.connections.refusals("mailer", limit=10)
        assert only.connections.refusal_body("mailer", kept.id) == b"who: ann"
        with only.database.reading() as transaction:
            columns = (connections.c.secrets, connections.c.previous_secrets, refusals.c.body)
            query = select(*columns).where(refusals.c.connection_id == connections.c.id)
            sealed = transaction.execute(query).one()
        assert not any(b"ann" in value or b"new" in value for value in sealed)
        only.close()

    def test_rotation_keeps_the_old_secrets_for_its_grace(self, store):
        add(store)
        rotated = store.connections.rotate(
            "mailer", {"a": "2"}, grace_seconds=10.0, at=6.0, by="ann"
        )
        assert rotated.previous_until == 16.0
        _, secrets = store.connections.open("mailer", at=7.0)
        assert (secrets.current, secrets.previous) == ({"a": "2"}, SECRETS)
        store.connections._recent.clear()
        assert store.connections.open("mailer", at=16.0)[1].previous is None
        store.connections.rotate("mailer", {"a": "3"}, grace_seconds=0.0, at=17.0, by="ann")
        assert store.connections.open("mailer", at=17.0)[1].previous is None

    def test_pause_configure_and_delete_are_audited_without_secrets(self, store):
        add(store)
        for paused in (True, True, False):
            store.connections.set_paused("mailer", paused=paused, at=6.0, by="ann")
            assert store.connections.find("mailer").paused is paused
        for _ in range(2):
            store.connections.configure("mailer", fields={}, metrics={}, at=7.0, by="ann")
        store.connections.rotate("mailer", {"a": "2"}, grace_seconds=0, at=8.0, by="ann")
        store.connections.delete("mailer", at=9.0, by="ann")
        changes = store.accounts.changes(subject="connection:mailer")
        actions = [c.action for c in reversed(changes)]
        assert actions == ["add", "pause", "resume", "configure", "rotate", "delete"]
        assert "very secret" not in repr(changes)
        with pytest.raises(NotFound):
            store.connections.find("mailer")

    @pytest.mark.parametrize(
        "ask",
        [
            lambda c: c.find("nobody"),
            lambda c: c.open("nobody", at=1.0),
            lambda c: c.rotate("nobody", {}, grace_seconds=0, at=1.0, by="ann"),
            lambda c: c.configure("nobody", fields={}, metrics={}, at=1.0, by="ann"),
            lambda c: c.set_paused("nobody", paused=True, at=1.0, by="ann"),
            lambda c: c.delete("nobody", at=1.0, by="ann"),
            lambda c: c.refusals("nobody", limit=1),
            lambda c: c.record_delivery(7, DeliveryOutcome(recorded=1), at=1.0),
            lambda c: c.note_rejections(7, 1, "wrong", at=1.0),
        ],
    )
    def test_unknown_one_is_not_found(self, store, ask):
        with pytest.raises(NotFound):
            ask(store.connections)

    def test_delete_leaves_no_row_of_its_events(self, store):
        for key in ("mailer", "other"):
            keep(store, add(store, key), unmatched=[waiting(key)], refused=[refusal(key)])
        store.connections.delete("mailer", at=7.0, by="ann")
        with store.database.reading() as transaction:
            for table in (unmatched_events, refusals):
                assert len(transaction.execute(select(table)).all()) == 1
            numbers = transaction.execute(select(refusals.c.id)).scalars().all()
            marked = transaction.execute(select(refusal_marks.c.refusal_id)).scalars().all()
        assert set(marked) == set(numbers)


class TestDeliveries:
    def test_counts_add_up(self, store):
        connection = add(store)
        keep(store, connection, at=6.0, recorded=3, repeated=1)
        keep(store, connection, at=7.0, late=2, without_decision=4)
        keep(store, connection, at=8.0, without_decision=1)
        store.connections.note_rejections(connection.id, 5, "signature wrong", at=9.0)
        found = store.connections.find("mailer")
        counts = found.counts
        assert (counts.deliveries, counts.recorded, counts.repeated) == (3, 3, 1)
        assert (counts.late, counts.without_decision, counts.rejected) == (2, 5, 5)
        assert (found.delivered_at, found.event_at, found.rejected_at) == (8.0, 7.0, 9.0)
        assert found.rejection == "signature wrong"

    def test_waiting_event_is_kept_once(self, store):
        connection = add(store)
        for _ in range(2):
            keep(store, connection, unmatched=[waiting("d-1"), waiting("d-2"), waiting("d-1")])
        assert store.connections.find("mailer").unmatched == 2

    def test_waiting_events_beyond_the_room_are_listed_as_refused(self, store, monkeypatch):
        monkeypatch.setattr(connections_module, "MOST_UNMATCHED", 2)
        connection = add(store)
        keep(store, connection, unmatched=[waiting("d-1")])
        events = [waiting("d-2"), waiting("d-3"), waiting("d-4")]
        keep(store, connection, unmatched=events)
        assert store.connections.find("mailer").unmatched == 2
        (kept,) = store.connections.refusals("mailer", limit=10)
        assert kept.reason == NO_ROOM

    def test_refused_event_is_kept_once_with_its_first_reason(self, store):
        connection = add(store)
        keep(store, connection, refused=[refusal("a", "first")])
        keep(store, connection, refused=[refusal("a", "second"), refusal("b")], at=7.0)
        kept = store.connections.refusals("mailer", limit=10)
        assert [r.reason for r in kept] == ["unknown metric", "first"]
        assert store.connections.find("mailer").counts.refused == 2
        assert store.connections.refusals("mailer", before=kept[0].id, limit=10) == [kept[1]]
        other = add(store, "other")
        with pytest.raises(NotFound):
            store.connections.refusal_body(other.key, kept[0].id)

    def test_refused_events_beyond_the_room_push_the_oldest_out(self, store, monkeypatch):
        monkeypatch.setattr(connections_module, "MOST_BYTES", 100)
        connection = add(store)
        for i in range(5):
            keep(store, connection, refused=[refusal(f"{i}" * 39)])  # 40 bytes sealed
        found = store.connections.find("mailer")
        bodies = [
            store.connections.refusal_body("mailer", r.id)[:1]
            for r in store.connections.refusals("mailer", limit=10)
        ]
        assert bodies == [b"4", b"3"]
        assert found.refusal_bytes == 80

    def test_replayed_event_leaves_the_list_or_comes_back_with_the_new_reason(self, store):
        connection = add(store)
        keep(store, connection, refused=[refusal("a"), refusal("b")])
        first, second = store.connections.refusals("mailer", limit=10)
        replace = store.connections.replace_refusal
        assert replace("mailer", first.id, DeliveryOutcome(recorded=1), at=7.0, by="ann")
        assert not replace("mailer", first.id, DeliveryOutcome(recorded=1), at=7.0, by="ann")
        body = store.connections.refusal_body("mailer", second.id)
        again = NewRefusal("still", body, body)
        assert replace("mailer", second.id, DeliveryOutcome(refused=[again]), at=7.0, by="ann")
        (kept,) = store.connections.refusals("mailer", limit=10)
        found = store.connections.find("mailer")
        assert (kept.reason, found.counts.refused, found.counts.recorded) == ("still", 1, 1)
        assert found.refusal_bytes == kept.size

    def test_old_events_are_removed_and_counted(self, store):
        connection = add(store)
        keep(store, connection, at=100.0, unmatched=[waiting("d-1")], refused=[refusal("a")])
        keep(store, connection, at=200.0, unmatched=[waiting("d-2")], refused=[refusal("b")])
        day = 86_400.0
        assert store.connections.remove_expired(at=100.0 + day) == 0
        assert store.connections.remove_expired(at=150.0 + day) == 1
        store.connections.remove_expired(at=150.0 + 30 * day)
        found = store.connections.find("mailer")
        (kept,) = store.connections.refusals("mailer", limit=10)
        assert (found.unmatched, found.counts.expired) == (0, 2)
        assert (kept.received_at, found.refusal_bytes) == (200.0, kept.size)


def test_ready_events_are_those_whose_decision_runs(store, sender):
    connection = add(store)
    running = sender.start()
    later = sender.start("later", await_activation=True)
    (made,) = sender.choose(running, 1, at=5.0)
    told, silent = sender.choose(later, 2, at=5.0)
    keep(store, connection, unmatched=[waiting(i) for i in ("d-none", made, told, silent)])
    store.log.activate([told], at=6.0)
    ready = store.connections.ready_events("mailer")
    assert [event.decision_id for event in ready] == [made, told]
    outcome = DeliveryOutcome(recorded=1, late=1)
    with store.database.writing() as transaction:
        store.connections.settlement_writer(connection.id, ready, at=7.0)(transaction, outcome)
    found = store.connections.find("mailer")
    assert (found.unmatched, found.counts.recorded, found.counts.late) == (2, 1, 1)
    assert store.connections.ready_events("mailer") == []
