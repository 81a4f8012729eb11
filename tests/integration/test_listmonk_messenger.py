"""Messenger of listmonk: one mail for each message, with the variants that were chosen."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest

from bandits.errors import Unavailable
from tests.listmonk_server import AUTH, CAMPAIGN, PASSWORD, message, subscriber_uuid
from tests.mail_server import MailServer
from webapp.listmonk.messenger import Messenger
from webapp.smtp import MailSubmission, parse_smtp_url
from webapp.webhooks.connection_setup import add_connection

PATH = "/messengers/listmonk/lists"
SLOTS = [
    {
        "key": "subject_line",
        "variants": [
            {"key": "s1", "payload": {"text": "Spring is here"}},
            {"key": "s2", "payload": {"text": "Our Frühling"}},
        ],
    },
    {"key": "hero", "variants": [{"key": "h1"}, {"key": "h2"}]},
]
SUBJECTS = {"s1": "Spring is here", "s2": "Our Frühling"}
HEROES = {"h1": "First", "h2": "Second"}


class Desk:
    """A campaign whose messages listmonk posts, and the mail server that gets the mails."""

    def __init__(self, api, server: MailServer, submission: MailSubmission) -> None:
        self.api, self.server = api, server
        self.engine = api.engine
        self.connections = api.app.extensions["bandits"].connections
        add_connection(
            self.connections,
            "listmonk",
            "lists",
            {"password": PASSWORD},
            metrics={},
            at=api.clock(),
            by="test",
        )
        self.use(submission)
        api.start(slots=SLOTS, await_activation=True)

    def use(self, submission: MailSubmission | None) -> None:
        self.api.app.extensions["bandits.messenger"] = Messenger(submission)

    def post(self, number: int = 1, *, auth=AUTH, **changed):
        body = message(number, **changed)
        return self.api.client.post(PATH, json=body, auth=auth, headers={"User-Agent": "listmonk"})

    def mail(self, number: int = 1):
        """Return the one mail that a subscriber got."""
        (mail,) = self.server.mails[f"p{number}@example.com"]
        return mail

    def decision(self, number: int = 1):
        return self.engine.receipt(f"{CAMPAIGN}.{subscriber_uuid(number)}")


@pytest.fixture
def desk(api) -> Iterator[Desk]:
    server = MailServer().start()
    with closing(MailSubmission(parse_smtp_url(server.url))) as submission:
        yield Desk(api, server, submission)
    server.stop()


def chosen(receipt) -> dict[str, str]:
    return {slot: choice["variant"] for slot, choice in receipt.slots.items()}


def test_mail_has_the_chosen_variants_and_its_decision_starts(desk):
    seen = Counter()
    for number in range(30):
        answer = desk.post(number)
        assert (answer.status_code, answer.json) == (200, {"sent": True})
        mail, receipt = desk.mail(number), desk.decision(number)
        variants = chosen(receipt)
        assert mail["Subject"] == SUBJECTS[variants["subject_line"]]
        body = mail.get_content()
        assert HEROES[variants["hero"]] in body
        assert sum(text in body for text in HEROES.values()) == 1
        assert "bandits" not in body
        assert receipt.started_at is not None
        assert receipt.actor == "connection:lists"
        seen[tuple(variants.values())] += 1
    assert len(seen) == 4


def test_mail_has_the_headers_that_the_message_lacks(desk):
    desk.post()
    mail = desk.mail()
    subscriber = subscriber_uuid(1)
    address = f"https://lists.example.com/subscription/{CAMPAIGN}/{subscriber}"
    assert mail["List-Unsubscribe"] == f"<{address}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert (mail["X-Listmonk-Campaign"], mail["X-Listmonk-Subscriber"]) == (CAMPAIGN, subscriber)
    assert mail["X-Custom"] == "value"
    assert mail["From"] == "Shop <shop@example.com>"
    assert mail["To"] == "Person 1 <p1@example.com>"


def test_message_that_comes_again_is_sent_once(desk):
    for _ in range(3):
        assert desk.post().status_code == 200
    assert desk.server.count == 1


def test_message_with_other_attributes_is_the_same_message(desk):
    desk.server.answer = "451 later"
    assert desk.post().status_code == 503
    before = chosen(desk.decision())
    changed = message(1)["recipients"][0] | {"attribs": {"recency": 3, "channel": "Web"}}
    desk.server.answer = "250 OK"
    assert desk.post(recipients=[changed]).status_code == 200
    assert desk.mail()["Subject"] == SUBJECTS[before["subject_line"]]


def squat(desk, number: int, experiment: str = "spring", **body) -> None:
    """Use a message's id first, by another key: it stands in every link of the email."""
    request = {"decision_id": f"{CAMPAIGN}.{subscriber_uuid(number)}"} | body
    path = f"/experiments/{experiment}/choose"
    answer = desk.api.post(path, request, token=desk.api.key("choose"))
    assert answer.status_code == 201


@pytest.mark.parametrize("experiment", ["spring", "autumn"])
def test_message_whose_id_another_key_used_first_gets_the_control(desk, experiment, caplog):
    """Before: who used the id first decided what was sent, and the email counted for it."""
    desk.api.start("autumn")
    limit = {"subject_line": ["s2"]} if experiment == "spring" else {}
    squat(desk, 1, experiment, subject_id="evil", eligible=limit)
    assert desk.post().status_code == 200
    assert control_is_sent(desk)
    assert "control" in caplog.text
    assert desk.decision().started_at is None or experiment == "autumn"
    assert desk.post(2).status_code == 200
    assert desk.decision(2).actor == "connection:lists"


def test_message_whose_very_body_another_key_used_first_gets_the_control(desk):
    """Before: the email was sent and counted as that key's, which could cancel it."""
    for number in range(8):
        squat(desk, number, subject_id=subscriber_uuid(number))
        assert desk.post(number).status_code == 200
        assert control_is_sent(desk, number)
        assert desk.decision(number).started_at is None


def test_message_whose_id_was_void_is_chosen_for(desk):
    squat(desk, 1, subject_id="evil")
    actor = desk.decision().actor
    desk.api.clock.now += 1.0
    body = {"actor": actor, "since": "2020-01-01T00:00:00Z"}
    assert desk.api.post("/voids", body).status_code == 200
    assert desk.post().status_code == 200
    assert desk.decision().actor == "connection:lists"
    assert desk.mail()["Subject"] == SUBJECTS[chosen(desk.decision())["subject_line"]]


@pytest.mark.parametrize(("answer", "status"), [("451 later", 503), ("554 never", 422)])
def test_mail_that_the_server_refuses_is_no_success_and_may_come_again(desk, answer, status):
    desk.server.answer = answer
    refused = desk.post()
    assert refused.status_code == status
    assert answer[4:] in refused.text
    assert desk.decision().started_at is None
    desk.server.answer = "250 OK"
    assert desk.post().status_code == 200
    assert desk.server.count == 1
    assert desk.decision().started_at is not None


def test_variant_without_a_block_is_not_chosen(desk):
    body = "<p>Hi</p><!--bandits slot=hero variant=h2-->Second<!--/bandits-->"
    for number in range(12):
        desk.post(number, body=body)
        variant = chosen(desk.decision(number))["hero"]
        assert ("Second" in desk.mail(number).get_content()) == (variant == "h2")
    for number in range(20, 32):
        desk.post(number, body="<p>Hi</p>")
        assert chosen(desk.decision(number))["hero"] == "h1"
    assert desk.decision(20).propensities is not None
    assert len(desk.decision(20).propensities) == 2


def test_subscriber_is_known_by_what_the_connection_says(desk):
    desk.connections.configure(
        "lists", fields={"subject_id": "customer"}, metrics={}, at=1.0, by="test"
    )
    recipient = message(1)["recipients"][0] | {"attribs": {"customer": 4711, "channel": "Web"}}
    desk.post(recipients=[recipient])
    assert len(desk.engine.subject("4711").decisions) == 1
    assert desk.decision().context == {"recency": None, "channel": "Web"} or (
        desk.decision().context["channel"] == "Web"
    )


def control_is_sent(desk, number: int = 1) -> bool:
    mail = desk.mail(number)
    return mail["Subject"] == "Spring is here" and "First" in mail.get_content()


def test_control_is_sent_where_the_campaign_does_not_choose(desk):
    desk.engine.pause("spring", by="test")
    for number in range(8):
        assert desk.post(number).status_code == 200
        assert control_is_sent(desk, number)


def test_control_is_sent_while_the_database_is_away(desk, monkeypatch):
    assert desk.post(0).status_code == 200

    def away(*_, **__):
        raise Unavailable("away")

    with monkeypatch.context() as patch:
        for part in (desk.connections, desk.connections.sent_messages, desk.engine.store.log):
            for name in ("open", "begin", "state", "confirm", "append_decisions", "activate"):
                if hasattr(part, name):
                    patch.setattr(part, name, away)
        for number in range(1, 6):
            for _ in range(2):
                assert desk.post(number).status_code == 200
            assert control_is_sent(desk, number)
    for number in range(1, 6):
        assert desk.post(number).status_code == 200
    assert desk.server.count == 6


def test_control_is_sent_while_the_connection_is_paused(desk):
    desk.connections.set_paused("lists", paused=True, at=1.0, by="test")
    assert desk.post().status_code == 200
    assert control_is_sent(desk)


def test_message_of_no_campaign_of_ours_is_sent_as_it_is(desk):
    assert desk.post(1, experiment=None).status_code == 200
    assert desk.post(2, experiment="unknown").status_code == 200
    assert desk.post(3, campaign=None).status_code == 200
    assert [desk.mail(n)["Subject"] for n in (1, 2, 3)] == ["Our news"] * 3
    assert "First" in desk.mail(1).get_content()


def test_attachment_and_text_are_sent(desk):
    file = {
        "name": "price.csv",
        "header": {"Content-Type": ["text/csv"]},
        "content": "YSxiCg==",
    }
    desk.post(1, attachments=[file], content_type="plain", body="Hello")
    mail = desk.mail()
    (attached,) = mail.iter_attachments()
    assert (attached.get_filename(), attached.get_content()) == ("price.csv", "a,b\n")
    assert mail.get_body().get_content().strip() == "Hello"


@pytest.mark.parametrize(
    ("auth", "status"), [(None, 401), (("bandits", "wrong"), 401), (("other", PASSWORD), 401)]
)
def test_stranger_sends_nothing(desk, auth, status):
    answer = desk.post(auth=auth)
    assert answer.status_code == status
    assert "Basic" in answer.headers["WWW-Authenticate"]
    assert desk.server.count == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"subject": "two\r\nBcc: all@example.com"},
        {"recipients": []},
        {"from_email": "Shop\nX: y"},
        {"body": 7},
    ],
)
def test_message_that_cannot_be_read_is_refused(desk, changed):
    assert desk.post(**changed).status_code == 400
    assert desk.server.count == 0


@pytest.mark.parametrize("email", ["nobody", "two@a.example, three@b.example", "a@b@c"])
def test_recipient_that_is_no_address_is_refused(desk, email):
    recipient = message(1)["recipients"][0] | {"email": email}
    answer = desk.post(recipients=[recipient])
    assert answer.status_code == 422
    assert desk.server.count == 0


def test_message_is_refused_without_a_mail_server(desk):
    desk.use(None)
    answer = desk.post()
    assert answer.status_code == 503
    assert "BANDITS_SMTP_URL" in answer.text


def test_unknown_connection_and_other_methods_are_told(desk):
    client = desk.api.client
    assert client.post("/messengers/listmonk/none", json={}).status_code == 404
    assert client.post("/messengers/sendgrid/lists", json={}).status_code == 404
    assert client.get(PATH, auth=AUTH).status_code == 405


def test_erased_subscriber_leaves_nothing(desk):
    desk.post()
    subject = subscriber_uuid(1)
    assert any(s.connection == "lists" for s in desk.engine.subject(subject).signals)
    assert desk.engine.erase(subject, by="test").signals == 1
    assert desk.engine.subject(subject).signals == []
