"""What leaves by itself, in every database: mail settings, chosen alerts, the outbox."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from bandits.errors import NotFound
from storage.connections.encryption import Cipher, NoEncryptionKey
from storage.outgoing import MailSettings, NewNotice, OutgoingStores
from storage.outgoing.outbox import CLAIM_SECONDS
from storage.schema import alert_targets, audit_log, mail_settings
from tests.patience import LIMIT_SECONDS

MAIL = MailSettings("mail.example", 587, "starttls", "ann", "secret words", "news@shop.example")
KEY = "a key of at least thirty-two characters"


@pytest.fixture
def outgoing(store):
    return store.outgoing


@pytest.fixture
def outbox(outgoing):
    return outgoing.outbox


@pytest.fixture
def ann(store):
    return store.accounts.add_user("ann@shop.example", "hash", "admin", at=0.0, by="test")


def cells(store, *tables):
    with store.database.reading() as transaction:
        rows = [row for table in tables for row in transaction.execute(select(table))]
    assert rows
    return repr(rows)


class TestMailSettings:
    def test_mail_settings_read_back_and_are_replaced(self, outgoing):
        assert outgoing.mail_settings.read() is None
        outgoing.mail_settings.save(MAIL, at=1.0, by="ann")
        assert outgoing.mail_settings.read() == MAIL
        other = MailSettings("other.example", 465, "tls", "", "", "news@shop.example")
        outgoing.mail_settings.save(other, at=2.0, by="ann")
        assert outgoing.mail_settings.read() == other
        outgoing.mail_settings.remove(at=3.0, by="ann")
        outgoing.mail_settings.remove(at=3.0, by="ann")
        assert outgoing.mail_settings.read() is None

    def test_mail_settings_are_in_the_audit_log_without_the_password(self, store, outgoing):
        outgoing.mail_settings.save(MAIL, at=1.0, by="ann")
        outgoing.mail_settings.remove(at=3.0, by="ann")
        assert [c.action for c in store.accounts.changes()] == ["remove", "configure"]
        assert "secret words" not in cells(store, audit_log)
        assert "secret words" not in repr(MAIL)

    def test_mail_password_is_encrypted_under_the_servers_key(self, store):
        sealed = OutgoingStores(store.database, Cipher([KEY]))
        sealed.mail_settings.save(MAIL, at=1.0, by="ann")
        assert sealed.mail_settings.read() == MAIL
        assert "secret words" not in cells(store, mail_settings)
        with pytest.raises(NoEncryptionKey):
            store.outgoing.mail_settings.read()


class TestAlerts:
    def test_alerts_are_chosen_by_each_person(self, store, outgoing, ann):
        bob = store.accounts.add_user("bob@shop.example", "hash", "viewer", at=0.0, by="test")
        outgoing.alerts.choose(ann.id, {"winner", "ended"}, at=1.0)
        outgoing.alerts.choose(bob.id, {"winner"}, at=2.0)
        assert outgoing.alerts.choices(ann.id) == {"winner", "ended"}
        assert outgoing.alerts.readers("winner") == {ann.id: 1.0, bob.id: 2.0}
        outgoing.alerts.choose(ann.id, [], at=3.0)
        assert outgoing.alerts.choices(ann.id) == frozenset()
        store.accounts.remove_user("bob@shop.example", at=4.0, by="test")
        assert outgoing.alerts.readers("winner") == {}

    def test_alert_target_keeps_its_address_and_secret_sealed(self, store):
        alerts = OutgoingStores(store.database, Cipher([KEY])).alerts
        url = "https://hooks.example/T0/secret-part"
        target = alerts.add_target("Team", "webhook", url, {"winner"}, at=1.0, by="ann")
        assert alerts.targets() == [target] == [alerts.target(target.id)]
        assert (target.url, target.alerts) == (url, {"winner"})
        assert len(target.secret) > 40
        texts = cells(store, alert_targets, audit_log)
        assert "secret-part" not in texts
        assert target.secret not in texts
        assert "secret-part" not in repr(target)
        assert alerts.add_target("Chat", "chat", url, [], at=1.0, by="ann").secret == ""
        assert alerts.remove_target(target.id, at=2.0, by="ann") == "Team"
        with pytest.raises(NotFound):
            alerts.target(target.id)
        with pytest.raises(NotFound):
            alerts.remove_target(target.id, at=2.0, by="ann")


class TestOutbox:
    def test_event_is_added_once_for_each_target(self, outbox):
        notices = [NewNotice("won:1", t, "alert", {"text": "hi"}) for t in ("user:1", "user:2")]
        assert outbox.add(notices, at=1.0) == 2
        assert outbox.add([*notices, NewNotice("won:1", "user:3", "alert")], at=2.0) == 1
        assert outbox.add([], at=2.0) == 0
        assert [n.target for n in outbox.latest()] == ["user:3", "user:2", "user:1"]
        assert outbox.latest()[-1].content == {"text": "hi"}

    def test_notice_is_sent_once_it_is_claimed_and_begun(self, outbox):
        outbox.add([NewNotice("won:1", "user:1", "alert")], at=1.0)
        assert outbox.claim(at=0.5) is None
        notice = outbox.claim(at=1.0)
        assert (notice.event, notice.attempts) == ("won:1", 1)
        assert outbox.claim(at=1.0) is None, "it is claimed"
        assert outbox.begin(notice)
        assert not outbox.begin(notice)
        outbox.confirm(notice, at=2.0)
        (sent,) = outbox.latest()
        assert (sent.state, sent.sent_at, sent.error) == ("sent", 2.0, "")
        assert outbox.claim(at=1e9) is None
        assert outbox.add([NewNotice("won:1", "user:1", "alert")], at=3.0) == 0

    def test_notice_is_retried_when_it_is_due(self, outbox):
        outbox.add([NewNotice("won:1", "user:1", "alert")], at=1.0)
        notice = outbox.claim(at=1.0)
        outbox.begin(notice)
        outbox.retry(notice, "x" * 1000, due_at=60.0)
        assert outbox.latest()[0].error == "x" * 300
        assert outbox.claim(at=59.0) is None
        second = outbox.claim(at=60.0)
        assert second.attempts == 2
        assert outbox.begin(second)
        outbox.fail(second, "no")
        assert outbox.claim(at=1e9) is None
        assert (outbox.latest()[0].state, outbox.latest()[0].error) == ("failed", "no")

    def test_claim_ends_and_its_former_sender_can_no_longer_begin(self, outbox):
        outbox.add([NewNotice("won:1", "user:1", "alert")], at=0.0)
        former = outbox.claim(at=0.0)
        assert outbox.claim(at=CLAIM_SECONDS - 1) is None
        later = outbox.claim(at=CLAIM_SECONDS)
        assert not outbox.begin(former)
        outbox.confirm(former, at=CLAIM_SECONDS)
        assert outbox.latest()[0].state == "waiting"
        assert outbox.begin(later)

    def test_notice_that_was_handed_over_when_its_sender_ended_is_not_sent_again(self, outbox):
        outbox.add([NewNotice("won:1", "user:1", "alert")], at=0.0)
        assert outbox.begin(outbox.claim(at=0.0))
        assert outbox.give_up(at=CLAIM_SECONDS - 1) == 0
        assert outbox.give_up(at=CLAIM_SECONDS) == 1
        assert outbox.latest()[0].error.startswith("The server ended while it was sent.")
        assert outbox.claim(at=1e9) is None

    def test_notice_is_claimed_by_one_of_several_senders(self, outbox):
        outbox.add([NewNotice("won:1", "user:1", "alert")], at=0.0)
        with ThreadPoolExecutor(6) as pool:
            claims = list(pool.map(lambda _: outbox.claim(at=0.0), range(6), timeout=LIMIT_SECONDS))
        assert sum(claim is not None for claim in claims) == 1

    def test_old_notices_are_removed_once_they_are_done(self, outbox):
        outbox.add([NewNotice(f"e:{i}", "user:1", "alert") for i in range(3)], at=0.0)
        for finish in (lambda n: outbox.confirm(n, at=1.0), lambda n: outbox.fail(n, "no")):
            finish(outbox.claim(at=1.0))
        outbox.remove_before(0.0)
        assert len(outbox.latest()) == 3
        outbox.remove_before(1.0)
        assert [n.state for n in outbox.latest()] == ["waiting"]
