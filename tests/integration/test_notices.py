"""Notices as they arrive: mails by real SMTP, webhooks and chats by real HTTP, each once."""

import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from threading import Event
from urllib.parse import urlsplit

import httpx
import pytest

from bandits.engine import Engine
from storage import open_store
from storage.connections import DeliveryOutcome
from storage.outgoing import MailSettings, NewNotice
from tests.alert_receiver import AlertReceiver
from tests.campaigns import DAY, STATES, CampaignMaker, Clock, by_variant
from tests.mail_server import MailServer
from tests.patience import LIMIT_SECONDS
from webapp.egress import EgressGuard
from webapp.notices.alert_kinds import ALERT_KINDS
from webapp.notices.alert_watch import ALERT, AlertWatch
from webapp.notices.outbox_worker import INVITATION, MOST_ATTEMPTS, RESET, OutboxWorker
from webapp.pages.experiment.verdict_text import verdict_text
from webapp.signals.connection_kind import ProofContext
from webapp.signals.delivery import Delivery, DeliveryRefused
from webapp.signals.standard_signature import verify_standard_signature

ANN, BOB = "ann@shop.example", "bob@shop.example"
ROOT = "https://bandits.shop.example"
LOCAL = EgressGuard("127.0.0.0/8")


class Workspace:
    """A database, a clock, and the workers of a server on it."""

    def __init__(self, store) -> None:
        self.store = store
        self.clock = Clock()
        self.engine = Engine(store, self.clock, lambda n: b"s" * n)
        self.maker = CampaignMaker(self.engine, self.clock)
        self.stop = Event()
        self.watch = AlertWatch(
            self.engine, store.accounts, store.connections, store.outgoing, self.stop
        )
        self.sender = self.new_sender()

    def new_sender(self, *, guard=LOCAL, public_url=ROOT):
        return OutboxWorker(
            self.engine,
            self.store.accounts,
            self.store.outgoing,
            guard=guard,
            public_url=public_url,
            stop=self.stop,
        )

    def add(self, email, role, *alerts):
        """Add a person who has chosen alerts long ago."""
        user = self.store.accounts.add_user(email, "hash", role, at=0.0, by="test")
        self.store.outgoing.alerts.choose(user.id, alerts, at=0.0)
        return user

    def set_mail(self, server, **changed):
        parts = urlsplit(server.url)
        values = {"security": "none", "user": "", "password": "", "sender": "bandits@shop.example"}
        settings = MailSettings(parts.hostname, parts.port, **(values | changed))
        self.store.outgoing.mail_settings.save(settings, at=0.0, by="test")

    def add_target(self, kind, url, *alerts):
        return self.store.outgoing.alerts.add_target("Team", kind, url, alerts, at=0.0, by="test")

    def put(self, target, event="test:1", kind=ALERT, **content):
        content = {"alert": "winner", "subject": "Hi", "text": "Text", "path": ""} | content
        notices = [NewNotice(event, target, kind, content)]
        assert self.store.outgoing.outbox.add(notices, at=self.clock()) == 1

    @property
    def notices(self):
        return self.store.outgoing.outbox.latest()


@pytest.fixture
def workspace(sqlite) -> Iterator[Workspace]:
    with closing(open_store(sqlite.upgraded())) as store:
        made = Workspace(store)
        yield made
        made.sender.close()


@pytest.fixture
def mails(workspace) -> Iterator[MailServer]:
    server = MailServer().start()
    workspace.set_mail(server)
    yield server
    server.stop()


@pytest.fixture
def receiver() -> Iterator[AlertReceiver]:
    started = AlertReceiver()
    yield started
    started.stop()


class TestWinner:
    def test_winner_is_mailed_once_in_the_words_of_the_page(self, workspace, mails):
        workspace.add(ANN, "viewer", "winner")
        workspace.add(BOB, "admin", "ended")
        key = STATES["ship"](workspace.maker)
        for _ in range(2):
            workspace.watch.look()
            workspace.sender.look()
        (mail,) = mails.mails.pop(ANN)
        assert mails.mails == {}
        record = workspace.engine.store.experiments.record(key)
        words = verdict_text(record, workspace.engine.results(key), workspace.clock())
        text = mail.get_content()
        assert mail["Subject"] == "Ship has a winner"
        assert " ".join(words.text.split()) in " ".join(text.split())
        assert f"{ROOT}/experiments/{key}" in text
        assert f"{ROOT}/settings" in text
        assert (mail["From"], mail["To"]) == ("Bandits <bandits@shop.example>", ANN)
        assert mail["Auto-Submitted"] == "auto-generated"

    @pytest.mark.parametrize("state", ["could lose", "few days", "split wrong", "nothing sent"])
    def test_no_winner_is_told_before_there_is_one(self, workspace, state):
        workspace.add(ANN, "admin", "winner")
        STATES[state](workspace.maker)
        assert workspace.watch.look() == 0

    def test_winner_is_told_to_nobody_who_has_not_chosen_it(self, workspace):
        workspace.add(ANN, "admin", *(set(ALERT_KINDS) - {"winner", "no_traffic"}))
        STATES["ship"](workspace.maker)
        assert workspace.watch.look() == 0


class TestOtherAlerts:
    def test_end_is_told_to_who_had_chosen_it_before(self, workspace):
        ann = workspace.add(ANN, "viewer", "ended")
        bob = workspace.add(BOB, "viewer")
        key = STATES["could lose"](workspace.maker)
        workspace.engine.stop(key, by="test")
        workspace.clock.now += 60
        workspace.store.outgoing.alerts.choose(bob.id, ["ended"], at=workspace.clock())
        assert workspace.watch.look() == 1
        assert workspace.watch.look() == 0
        (notice,) = workspace.notices
        assert notice.target == f"user:{ann.id}"
        assert notice.content["subject"] == "Could lose has ended"

    def test_end_of_long_ago_is_not_told(self, workspace):
        workspace.add(ANN, "viewer", "ended")
        key = STATES["could lose"](workspace.maker)
        workspace.engine.stop(key, by="test")
        workspace.clock.now += DAY + 1
        assert workspace.watch.look() == 0

    def test_silence_of_a_day_is_told_once_for_each_silence(self, workspace):
        workspace.add(ANN, "viewer", "no_traffic")
        key = workspace.maker.make("quiet", days_ago=0)
        workspace.clock.now += DAY - 1
        assert workspace.watch.look() == 0
        workspace.clock.now += 1
        assert workspace.watch.look() == 1
        workspace.clock.now += 2 * DAY
        assert workspace.watch.look() == 0, "it is the same silence"
        workspace.maker.send(key, 1, by_variant(a=0.1, b=0.1))
        workspace.clock.now += DAY - 1
        assert workspace.watch.look() == 0
        workspace.clock.now += 2
        assert workspace.watch.look() == 1
        assert workspace.notices[0].content["subject"] == "Quiet has sent nothing for a day"

    def test_silence_counts_anew_once_a_campaign_is_resumed(self, workspace):
        workspace.add(ANN, "viewer", "no_traffic")
        key = workspace.maker.make("quiet", days_ago=0)
        workspace.engine.pause(key, by="test")
        workspace.clock.now += 3 * DAY
        assert workspace.watch.look() == 0
        workspace.engine.start(key, by="test")
        workspace.clock.now += DAY - 1
        assert workspace.watch.look() == 0
        workspace.clock.now += 1
        assert workspace.watch.look() == 1

    def test_failing_connection_is_told_to_admins_once_a_day(self, workspace):
        workspace.add(ANN, "admin", "connection_failing")
        workspace.add(BOB, "manager", "connection_failing")
        connections, now = workspace.store.connections, workspace.clock()
        connection = connections.add(
            "sendgrid", "mailer", {}, fields={}, metrics={}, at=now, by="test"
        )
        connections.note_rejections(connection.id, 1, "wrong signature", at=now + 1)
        workspace.clock.now += 3599
        assert workspace.watch.look() == 0, "one refused delivery is no failure yet"
        workspace.clock.now += 1
        assert workspace.watch.look() == 1
        assert "wrong signature" in workspace.notices[0].content["text"]
        connections.note_rejections(connection.id, 1, "wrong signature", at=now + 4000)
        workspace.clock.now += 10
        assert workspace.watch.look() == 0
        connections.note_rejections(connection.id, 1, "wrong signature", at=now + DAY)
        workspace.clock.now = now + DAY + 1
        assert workspace.watch.look() == 1
        connections.record_delivery(connection.id, DeliveryOutcome(), at=now + DAY + 2)
        workspace.clock.now = now + 2 * DAY
        assert workspace.watch.look() == 0
        assert workspace.notices[0].target == "user:1"

    def test_week_is_summed_up_on_mondays_as_text_and_html(self, workspace, mails):
        workspace.add(ANN, "viewer", "weekly")
        key = STATES["ship"](workspace.maker)
        workspace.maker.make("a-b", name="A <b> & c")
        monday = datetime(2026, 6, 1, 7, tzinfo=UTC).timestamp()
        workspace.clock.now = monday - 1
        assert workspace.watch.look() == 0
        workspace.clock.now = monday
        assert workspace.watch.look() == 1
        workspace.clock.now = monday + 3600
        assert workspace.watch.look() == 0
        workspace.sender.look()
        (mail,) = mails.mails[ANN]
        assert mail["Subject"] == "Your week: 2 campaigns"
        text = mail.get_body(("plain",)).get_content()
        html = mail.get_body(("html",)).get_content()
        record = workspace.engine.store.experiments.record(key)
        words = verdict_text(record, workspace.engine.results(key), monday + 3600)
        assert " ".join(words.headline.split()) in " ".join(text.split())
        assert words.headline in html
        assert f"{ROOT}/experiments/{key}" in html
        assert "A &lt;b&gt; &amp; c" in html
        workspace.clock.now = monday + 7 * DAY
        assert workspace.watch.look() == 1


class TestMail:
    def test_invitation_is_mailed_with_a_link_that_works(self, workspace, mails):
        links, at = workspace.store.accounts.links, workspace.clock()
        links.invite(BOB, "manager", at=at, by=ANN)
        (link,) = links.invitations()
        number = str(link.id)
        workspace.put(f"address:{BOB}", kind=INVITATION, email=BOB, by=ANN, number=number)
        assert workspace.sender.look() == 1
        text = mails.mails[BOB][0].get_content()
        assert f"{ANN} invites you" in text
        code = text.partition(f"{ROOT}/invitation#")[2].split()[0]
        assert links.find("invitation", code, at=at).email == BOB
        assert code not in repr(workspace.notices)

    def test_invitation_that_was_withdrawn_is_not_mailed(self, workspace, mails):
        workspace.put(f"address:{BOB}", kind=INVITATION, email=BOB, by=ANN, number="7")
        assert workspace.sender.look() == 0
        assert workspace.notices[0].error == "it is for nobody any more"
        assert mails.mails == {}

    def test_reset_link_is_mailed_within_an_hour_or_never(self, workspace, mails):
        ann = workspace.add(ANN, "viewer")
        workspace.put(f"user:{ann.id}", "reset:1", RESET, email=ANN, by="anonymous")
        assert workspace.sender.look() == 1
        text = mails.mails[ANN][0].get_content()
        code = text.partition(f"{ROOT}/new-password#")[2].split()[0]
        assert workspace.store.accounts.reset_password(code, "new", at=workspace.clock()) == ANN
        workspace.put(f"user:{ann.id}", "reset:2", RESET, email=ANN, by="anonymous")
        workspace.clock.now += 3601
        assert workspace.sender.look() == 0
        assert mails.count == 1

    def test_links_need_the_public_address(self, workspace, mails):
        ann = workspace.add(ANN, "viewer")
        workspace.put(f"user:{ann.id}", "reset:1", RESET, email=ANN, by="anonymous")
        assert workspace.new_sender(public_url=None).look() == 0
        assert "BANDITS_PUBLIC_URL" in workspace.notices[0].error
        assert mails.count == 0

    def test_mail_is_tried_again_later_and_later_until_it_is_taken(self, workspace, mails):
        ann = workspace.add(ANN, "viewer")
        workspace.put(f"user:{ann.id}")
        mails.answer = "451 come again"
        workspace.sender.look()
        (notice,) = workspace.notices
        assert (notice.state, notice.attempts) == ("waiting", 1)
        assert "451" in notice.error
        workspace.sender.look()
        assert len(mails.connections) == 1, "nothing is due"
        workspace.clock.now += 60
        workspace.sender.look()
        assert workspace.notices[0].due_at == pytest.approx(workspace.clock() + 240)
        mails.answer = "250 OK"
        workspace.clock.now += 240
        assert workspace.sender.look() == 1
        assert (workspace.notices[0].state, workspace.notices[0].error) == ("sent", "")
        assert mails.count == 1

    def test_mail_is_given_up_after_its_last_attempt(self, workspace, mails):
        ann = workspace.add(ANN, "viewer")
        workspace.put(f"user:{ann.id}")
        mails.recipient_answer = "450 later"
        for _ in range(MOST_ATTEMPTS + 2):
            workspace.sender.look()
            workspace.clock.now += 10 * DAY
        (notice,) = workspace.notices
        assert (notice.state, notice.attempts) == ("failed", MOST_ATTEMPTS)

    def test_mail_that_is_refused_for_good_is_not_tried_again(self, workspace, mails):
        ann = workspace.add(ANN, "viewer")
        workspace.put(f"user:{ann.id}")
        mails.recipient_answer = "550 no such user"
        workspace.sender.look()
        (notice,) = workspace.notices
        assert notice.state == "failed"
        assert "550" in notice.error

    def test_mail_whose_end_is_not_known_is_not_sent_twice(self, workspace, mails, monkeypatch):
        ann = workspace.add(ANN, "viewer")
        workspace.put(f"user:{ann.id}")

        async def break_off(server, session, envelope):
            mails.mails.setdefault(ANN, []).append(envelope)
            server.transport.abort()
            return "250 OK"

        monkeypatch.setattr(mails, "handle_DATA", break_off)
        for _ in range(3):
            workspace.sender.look()
            workspace.clock.now += DAY
        assert mails.count == 1
        assert "may have arrived" in workspace.notices[0].error

    def test_mail_server_in_a_private_network_is_not_reached_unless_allowed(self, workspace, mails):
        ann = workspace.add(ANN, "viewer")
        workspace.put(f"user:{ann.id}")
        workspace.new_sender(guard=EgressGuard()).look()
        assert "private network" in workspace.notices[0].error
        assert mails.connections == {}

    def test_public_mail_server_is_not_reached_without_encryption(self, monkeypatch):
        place = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("8.8.8.8", 25))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [place])
        with pytest.raises(OSError, match="TLS"):
            EgressGuard().connect("mail.example", 25, seconds=1, encrypted=False)

    def test_mail_waits_for_a_mail_server(self, workspace):
        ann = workspace.add(ANN, "viewer")
        workspace.put(f"user:{ann.id}")
        workspace.sender.look()
        assert "Settings → Email" in workspace.notices[0].error
        assert workspace.notices[0].state == "waiting"

    def test_subject_adds_no_header(self, workspace, mails):
        ann = workspace.add(ANN, "viewer")
        workspace.put(f"user:{ann.id}", subject="Hi\r\nBcc: eve@evil.example\r\n\r\nText")
        assert workspace.sender.look() == 1
        (mail,) = mails.mails[ANN]
        assert mail["Bcc"] is None
        assert list(mails.mails) == [ANN]


class TestWebhook:
    def test_webhook_is_signed_as_standard_webhooks_are(self, workspace, receiver):
        target = workspace.add_target("webhook", receiver.url, "winner")
        key = STATES["ship"](workspace.maker)
        workspace.watch.look()
        assert workspace.sender.look() == 1
        assert workspace.watch.look() == 0
        (call,) = receiver.calls
        assert call.path == "/hooks/T0?key=1"
        context = ProofContext(datetime.fromtimestamp(workspace.clock(), UTC), None)
        delivery = Delivery("POST", call.headers, call.body)
        verify_standard_signature(delivery, {"signing_secret": [target.secret]}, context)
        with pytest.raises(DeliveryRefused):
            verify_standard_signature(
                Delivery("POST", call.headers, call.body + b" "),
                {"signing_secret": [target.secret]},
                context,
            )
        assert call.content["type"] == "campaign.winner"
        assert call.content["data"]["subject"] == "Ship has a winner"
        assert call.content["data"]["url"] == f"{ROOT}/experiments/{key}"

    @pytest.mark.parametrize(
        ("status", "state"),
        [(500, "waiting"), (429, "waiting"), (404, "failed"), (410, "failed"), (302, "failed")],
    )
    def test_webhook_is_tried_again_where_that_may_help(self, workspace, receiver, status, state):
        target = workspace.add_target("webhook", receiver.url, "winner")
        workspace.put(f"target:{target.id}")
        receiver.status = status
        workspace.sender.look()
        assert workspace.notices[0].state == state
        assert str(status) in workspace.notices[0].error
        receiver.status = 200
        workspace.clock.now += DAY
        workspace.sender.look()
        ids = {call.headers["webhook-id"] for call in receiver.calls}
        assert len(ids) == 1, "the receiver knows it again"
        assert len(receiver.calls) == (2 if state == "waiting" else 1)

    def test_webhook_in_a_private_network_is_not_called_unless_allowed(self, workspace, receiver):
        target = workspace.add_target("webhook", receiver.url, "winner")
        workspace.put(f"target:{target.id}")
        workspace.new_sender(guard=EgressGuard()).look()
        assert receiver.calls == []
        assert "private network" in workspace.notices[0].error

    def test_webhook_that_was_removed_is_not_called(self, workspace, receiver):
        target = workspace.add_target("webhook", receiver.url, "winner")
        workspace.put(f"target:{target.id}")
        workspace.store.outgoing.alerts.remove_target(target.id, at=1.0, by="test")
        workspace.sender.look()
        assert receiver.calls == []
        assert workspace.notices[0].state == "failed"


class TestChat:
    def test_chat_gets_a_text_without_mentions(self, workspace, receiver):
        target = workspace.add_target("chat", receiver.url, "winner")
        workspace.put(f"target:{target.id}", text="A & B <!channel>", path="/experiments/spring")
        assert workspace.sender.look() == 1
        (call,) = receiver.calls
        lines = ["Hi", "A &amp; B &lt;!channel&gt;", f"{ROOT}/experiments/spring"]
        assert call.content == {"text": "\n".join(lines)}
        assert "webhook-signature" not in call.headers

    def test_chat_of_teams_gets_a_card(self, workspace, monkeypatch):
        calls = []

        def answer(request):
            calls.append(request)
            return httpx.Response(202)

        client = httpx.Client(
            transport=httpx.MockTransport(answer),
            base_url="https://prod-1.logic.azure.com",
            timeout=LIMIT_SECONDS,
        )
        monkeypatch.setattr(LOCAL, "client", lambda *_, **__: client)
        target = workspace.add_target("chat", "https://prod-1.logic.azure.com/x?sig=1", "winner")
        workspace.put(f"target:{target.id}")
        assert workspace.sender.look() == 1
        assert b"AdaptiveCard" in calls[0].content
        assert calls[0].url.query == b"sig=1"

    def test_chat_whose_answer_is_lost_is_not_told_twice(self, workspace, monkeypatch):
        calls = []

        def stall(request):
            calls.append(request)
            raise httpx.ReadTimeout("no answer")

        transport = httpx.MockTransport(stall)
        monkeypatch.setattr(
            LOCAL,
            "client",
            lambda *_, **__: httpx.Client(
                transport=transport, base_url="https://chat.example", timeout=LIMIT_SECONDS
            ),
        )
        target = workspace.add_target("chat", "https://chat.example/x", "winner")
        workspace.put(f"target:{target.id}")
        for _ in range(2):
            workspace.sender.look()
            workspace.clock.now += DAY
        assert len(calls) == 1
        assert workspace.notices[0].state == "failed"
