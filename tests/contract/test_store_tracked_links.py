"""What tracked links' keys, hosts and unsubscribes do, in every database."""

import pytest
from sqlalchemy import select

from bandits.errors import Conflict, InvalidInput, NotFound
from bandits.tracking_tokens import TrackingKey
from storage import open_store
from storage.connections import NoEncryptionKey
from storage.schema import tracking_keys
from storage.tracked_links import KnownKey, TrackingCounts

KEY, OTHER_KEY = "k" * 32, "o" * 32
DAY = 86_400.0


@pytest.fixture
def links(store):
    return store.tracked_links


@pytest.fixture
def encrypted(database_url):
    opened = open_store(database_url, [KEY])
    yield opened
    opened.close()


def create(links, name: str = "sender"):
    return links.create(name, at=5.0, by="ann")


class TestKeys:
    def test_key_is_shown_once_and_signs(self, links):
        new = create(links)
        key = TrackingKey.parse(new.text)
        assert (new.key.key_id, new.key.name, new.key.created_by) == (key.id, "sender", "ann")
        assert new.key.signs
        assert links.all() == [new.key]
        assert links.signing_key() == links.signing_key(key.id) == key
        assert links.rules().keys == {key.id: KnownKey(key.secret, counts=True)}
        assert key.secret not in repr(links.rules())

    def test_secret_is_stored_encrypted_under_the_key(self, encrypted, database_url):
        key = TrackingKey.parse(create(encrypted.tracked_links).text)
        with encrypted.database.reading() as transaction:
            stored = transaction.execute(select(tracking_keys.c.secret)).scalar_one()
        assert key.secret.encode() not in stored
        other = open_store(database_url, [OTHER_KEY])
        rules = other.tracked_links.rules()
        assert (rules.keys, rules.unreadable) == ({}, {key.id})
        with pytest.raises(NoEncryptionKey):
            other.tracked_links.signing_key()
        other.close()

    def test_reseal_brings_secrets_under_the_first_key(self, links, database_url):
        key = TrackingKey.parse(create(links).text)
        both = open_store(database_url, [KEY])
        assert not both.tracked_links.all()[0].encrypted
        assert both.tracked_links.reseal() == 1
        assert both.tracked_links.all()[0].encrypted
        assert both.tracked_links.signing_key() == key
        both.close()

    def test_replaced_key_counts_on_and_signs_no_more(self, links):
        first = create(links)
        second = links.rotate(first.key.id, at=6.0, by="ann")
        assert second.key.name == "sender"
        assert second.key.key_id != first.key.key_id
        newest, oldest = links.all()
        assert (newest.signs, oldest.signs, oldest.replaced_at) == (True, False, 6.0)
        assert links.rules().keys[first.key.key_id].counts
        assert links.signing_key() == TrackingKey.parse(second.text)
        with pytest.raises(Conflict):
            links.signing_key(first.key.key_id)
        with pytest.raises(Conflict):
            links.rotate(first.key.id, at=7.0, by="ann")

    def test_revoked_key_is_known_and_does_not_count(self, links):
        new = create(links)
        for at in (6.0, 7.0):
            assert links.revoke(new.key.id, at=at, by="ann").revoked_at == 6.0
        assert not links.rules().keys[new.key.key_id].counts
        with pytest.raises(Conflict, match="make one"):
            links.signing_key()

    def test_changes_are_audited_without_secrets(self, store, links):
        new = create(links)
        second = links.rotate(new.key.id, at=6.0, by="ann")
        links.revoke(new.key.id, at=7.0, by="ann")
        changes = store.accounts.changes(subject=f"tracking_key:{new.key.key_id}")
        assert [c.action for c in changes] == ["revoke", "create"]
        (rotated,) = store.accounts.changes(subject=f"tracking_key:{second.key.key_id}")
        assert rotated.after == {"name": "sender", "replaces": new.key.key_id}
        secret = TrackingKey.parse(new.text).secret
        assert secret not in repr([*changes, rotated])

    def test_unknown_key_is_not_found(self, links):
        for ask in (
            lambda: links.rotate(7, at=1.0, by="ann"),
            lambda: links.revoke(7, at=1.0, by="ann"),
            lambda: links.signing_key("00000000"),
        ):
            with pytest.raises(NotFound):
                ask()


class TestHosts:
    def test_hosts_are_replaced_and_audited(self, store, links):
        assert links.hosts() == []
        typed = ["Shop.example", "*.shop.example", "shop.example"]
        assert links.set_hosts(typed, at=5.0, by="ann") == ["*.shop.example", "shop.example"]
        assert links.set_hosts(["blog.example", "shop.example"], at=6.0, by="ann") == [
            "blog.example",
            "shop.example",
        ]
        links.set_hosts(["shop.example", "blog.example"], at=7.0, by="ann")
        assert links.rules().hosts == {"blog.example", "shop.example"}
        changes = store.accounts.changes(subject="link_hosts:all")
        assert [c.after for c in changes] == [
            ["blog.example", "shop.example"],
            ["*.shop.example", "shop.example"],
        ]

    def test_host_that_is_none_is_told_by_its_place(self, links):
        with pytest.raises(InvalidInput, match="/hosts/1"):
            links.set_hosts(["shop.example", "https://shop.example"], at=1.0, by="ann")
        with pytest.raises(InvalidInput, match="at most 100"):
            links.set_hosts([f"a{i}.example" for i in range(101)], at=1.0, by="ann")
        assert links.hosts() == []


class TestEvents:
    def test_counts_add_up_by_key(self, links):
        one, other = create(links).key, create(links, "other").key
        links.note({one.key_id: TrackingCounts(recorded=2, machine=1)}, {}, at=6.0)
        counts = {
            one.key_id: TrackingCounts(recorded=1, late=1, expired=3),
            "unknown1": TrackingCounts(5),
        }
        links.note(counts, {}, at=7.0)
        by_id = {key.key_id: key for key in links.all()}
        expected = TrackingCounts(recorded=3, late=1, expired=3, machine=1)
        assert by_id[one.key_id].counts == expected
        assert by_id[one.key_id].event_at == 7.0
        assert by_id[other.key_id].event_at is None

    def test_unsubscribes_are_listed_once_in_order_and_go_on(self, links):
        links.note({}, {"d-1": 5.0, "d-2": 6.0}, at=6.0)
        links.note({}, {"d-2": 7.0, "d-3": 8.0}, at=8.0)
        rows = links.unsubscribes(limit=10)
        assert [(row.decision_id, row.at) for row in rows] == [
            ("d-1", 5.0),
            ("d-2", 6.0),
            ("d-3", 8.0),
        ]
        assert links.unsubscribes(after=rows[0].id, limit=1) == [rows[1]]
        assert links.unsubscribes(after=rows[2].id, limit=1) == []
        links.erase_of_decisions(["d-2", "unknown"])
        assert links.unsubscribes(limit=10) == [rows[0], rows[2]]
        links.remove_expired(at=7.0 + 400 * DAY)
        assert links.unsubscribes(limit=10) == [rows[2]]
