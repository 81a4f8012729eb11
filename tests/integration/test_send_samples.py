"""Samples of the senders' guides, executed: the id that they pass along comes back, and counts."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from threading import Event
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from click.testing import CliRunner

from bandits.client import Client
from tests.integration.conftest import Api
from tests.listmonk_server import AUTH, CAMPAIGN, PASSWORD, message, subscriber_uuid
from tests.mail_server import MailServer
from tests.patience import LIMIT_SECONDS
from tests.senders import SENDERS, SENT_AT, Web, without
from tests.webhook_senders import Mailer
from webapp.links.link_views import PUBLIC_URL
from webapp.listmonk.messenger import Messenger
from webapp.signals.kind_docs import kind_page
from webapp.signals.kind_registry import connection_kinds
from webapp.smtp import MailSubmission, parse_smtp_url
from webapp.spool_worker import SpoolWorker
from webapp.webhooks.commands import connection as connection_commands
from webapp.webhooks.connection_setup import add_connection
from webapp.webhooks.receiver import receiver

KINDS = connection_kinds()
VARIANTS = [{"key": "plain"}, {"key": "question"}]
SUBJECTS = {"Our spring sale starts today", "Ready for spring?"}
OWN_SMTP = (Path(__file__).parents[2] / "docs/own-smtp.md").read_text()
Fields = Mapping[str, Any]


def click_item(kind: str) -> Any:
    """Return the click of a kind's stand-in."""
    return SENDERS[kind].samples["click"].item


def from_sendgrid(sent: Fields) -> Any:
    (personalization,) = sent["personalizations"]
    return without(click_item("sendgrid"), "bandits_decision") | personalization["custom_args"]


def from_amazon(sent: Fields) -> Any:
    item = click_item("amazon_ses")
    tags = {tag["Name"]: [tag["Value"]] for tag in sent["EmailTags"]}
    return item | {"mail": item["mail"] | {"tags": tags}}


def from_mailgun(sent: Fields) -> Any:
    variables = {n.removeprefix("v:"): v[0] for n, v in sent.items() if n.startswith("v:")}
    return click_item("mailgun") | {"user-variables": variables}


def from_postmark(sent: Fields) -> Any:
    return click_item("postmark") | {"Metadata": sent["Metadata"]}


def from_sparkpost(sent: Fields) -> Any:
    (recipient,) = sent["recipients"]
    ((name, inner),) = click_item("sparkpost")["msys"].items()
    return {"msys": {name: inner | {"rcpt_meta": recipient["metadata"]}}}


def from_brevo(sent: Fields) -> Any:
    headers = {name: value for name, value in sent["headers"].items() if name == "X-Mailin-custom"}
    return without(click_item("brevo"), "X-Mailin-custom") | headers


def from_mandrill(sent: Fields) -> Any:
    item = click_item("mandrill")
    return item | {"msg": item["msg"] | {"metadata": sent["message"]["metadata"]}}


def from_resend(sent: Fields) -> Any:
    item = click_item("resend")
    tags = {tag["name"]: tag["value"] for tag in sent["tags"]}
    return item | {"data": item["data"] | {"tags": tags}}


def from_mautic(sent: Fields) -> Any:
    name, item = click_item("mautic")
    lead = item["hit"]["lead"]
    core = without(lead["fields"]["core"], "bandits_decision")
    core |= {alias: {"id": "40", "value": value} for alias, value in sent.items()}
    fields = {"fields": lead["fields"] | {"core": core}}
    return name, item | {"hit": item["hit"] | {"lead": lead | fields}}


# By kind: what its mailer reports as a click on the email that was sent so.
CLICKS: Mapping[str, Callable[[Fields], Any]] = {
    "sendgrid": from_sendgrid,
    "amazon_ses": from_amazon,
    "mailgun": from_mailgun,
    "postmark": from_postmark,
    "sparkpost": from_sparkpost,
    "brevo": from_brevo,
    "mandrill": from_mandrill,
    "resend": from_resend,
    "mautic": from_mautic,
}


class Wire:
    """What leaves a sample: calls of mailers are kept and answered, ours go to the application."""

    def __init__(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[Fields] = []
        self._app = httpx.Client(timeout=LIMIT_SECONDS, transport=httpx.WSGITransport(api.app))
        http = httpx.Client(timeout=LIMIT_SECONDS, transport=httpx.MockTransport(self._answer))
        for method in ("post", "patch"):
            monkeypatch.setattr(httpx, method, getattr(http, method))
        transport = httpx.WSGITransport(api.app)
        monkeypatch.setattr("bandits.client.Client", partial(Client, transport=transport))
        monkeypatch.setitem(sys.modules, "boto3", self._boto3())

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "bandits.example":
            answer = self._app.send(request)
            return httpx.Response(answer.status_code, text=answer.text)
        text = request.read().decode()
        form = request.headers["Content-Type"] == "application/x-www-form-urlencoded"
        self.sent.append(parse_qs(text) if form else json.loads(text))
        return httpx.Response(200, json={})

    def _boto3(self) -> ModuleType:
        module = ModuleType("boto3")

        class Ses:
            send_email = staticmethod(lambda **sent: self.sent.append(sent))

        module.client = {"sesv2": Ses()}.__getitem__  # type: ignore[attr-defined]
        return module


@pytest.fixture
def wire(api, monkeypatch) -> Wire:
    api.clock.now = SENT_AT.timestamp() - 5
    api.start(slots=[{"key": "subject_line", "variants": VARIANTS}])
    monkeypatch.setenv("TOKEN", api.token)
    for name in ("SENDGRID_API", "MAILGUN_API", "SPARKPOST_API", "BREVO_API", "MANDRILL_API"):
        monkeypatch.setenv(f"{name}_KEY", "made up")
    for name in ("RESEND_API_KEY", "POSTMARK_TOKEN", "MAUTIC_PASSWORD"):
        monkeypatch.setenv(name, "made up")
    with api.app.app_context():
        receiver().certificates = Web().certificates()
    return Wire(api, monkeypatch)


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    server = MailServer().start()
    yield server
    server.stop()


def run_sample(kind: str) -> str | None:
    """Execute a kind's sample, and return the id of the decision that it made."""
    names: dict[str, Any] = {}
    exec(KINDS[kind].sample.text, names)  # noqa: S102 - our own documentation
    return names["email"].decision_id


def connect(api: Api, kind: str, values: Mapping[str, str]) -> None:
    store = api.app.extensions["bandits"].connections
    add_connection(store, kind, "newsletter", values, metrics={}, at=api.clock(), by="test")


@pytest.mark.parametrize("kind", sorted(CLICKS))
def test_sample_passes_an_id_along_that_comes_back_with_a_click(api, wire, kind):
    decision_id = run_sample(kind)
    (sent,) = wire.sent
    assert any(subject in json.dumps(sent) for subject in SUBJECTS)
    mailer = Mailer(kind)
    connect(api, kind, mailer.values)
    body, headers = mailer.request([CLICKS[kind](sent)], at=api.clock())
    answer = api.client.post(f"/webhooks/{kind}/newsletter", data=body, headers=headers)
    assert answer.status_code == 200
    assert [e.metric for e in api.engine.store.log.events(decision_id)] == ["click"]


def test_sample_without_a_decision_sends_the_fallback(api, wire):
    api.post("/experiments/spring/pause")
    for kind in sorted(CLICKS):
        assert run_sample(kind) is None
    assert len(wire.sent) == len(CLICKS)
    assert all("Our spring sale starts today" in json.dumps(sent) for sent in wire.sent)
    assert "bandits_decision" not in json.dumps(wire.sent)


def test_sample_of_a_shop_reports_an_order(api, wire, monkeypatch):
    shop = Mailer("standard_webhooks")
    connect(api, "standard_webhooks", shop.values)
    monkeypatch.setenv("SHOP_SIGNING_SECRET", shop.values["signing_secret"])
    api.clock.now = time.time()  # by which the sample signs
    decision_id = run_sample("standard_webhooks")
    (order,) = api.engine.store.log.events(decision_id)
    assert (order.metric, order.value) == ("order", pytest.approx(49.9))


def test_sample_of_listmonk_shows_each_variant_to_some(api, mail_server):
    hero = [{"key": "h1"}, {"key": "h2"}]
    api.start(slots=[{"key": "hero", "variants": hero}])
    connect(api, "listmonk", {"password": PASSWORD})
    submission = MailSubmission(parse_smtp_url(mail_server.url))
    api.app.extensions["bandits.messenger"] = Messenger(submission)
    seen: set[str] = set()
    texts = {"h1": "The new boots", "h2": "Everything for the garden"}
    for number in range(20):
        leave = f"https://lists.example.com/subscription/{CAMPAIGN}/{subscriber_uuid(number)}"
        body = KINDS["listmonk"].sample.text.replace("{{ UnsubscribeURL }}", leave)
        posted = message(number, body=body)
        answer = api.client.post("/messengers/listmonk/newsletter", json=posted, auth=AUTH)
        assert answer.status_code == 200
        (mail,) = mail_server.mails[f"p{number}@example.com"]
        receipt = api.engine.receipt(f"{CAMPAIGN}.{subscriber_uuid(number)}")
        shown = [key for key, text in texts.items() if text in mail.get_content()]
        assert shown == [receipt.slots["hero"]["variant"]]
        assert leave in mail["List-Unsubscribe"]
        seen.update(shown)
    assert seen == set(texts)
    submission.close()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_command_of_a_guide_adds_the_connection(kind, sqlite):
    line = kind_page(KINDS[kind]).partition("```sh\nbandits connection ")[2].partition("\n")[0]
    values = SENDERS[kind].key(0).fields if kind in SENDERS else {}
    secrets = [values[f.name] for f in KINDS[kind].fields if f.secret and f.name in values]
    for name, value in values.items():
        line = line.replace(f"={name.upper()}", f"={value}")
    url = sqlite.upgraded()
    arguments = [*line.split(), "--database", url]
    answer = CliRunner().invoke(connection_commands, arguments, input=f"{''.join(secrets)}\n")
    assert answer.exit_code == 0, answer.output
    assert f"/webhooks/{kind}/newsletter" in answer.output


def test_every_kind_has_its_sample_executed():
    assert {*CLICKS, "standard_webhooks", "listmonk"} == set(KINDS)


def test_own_smtp_sample_sends_links_whose_click_counts(api, wire, mail_server, monkeypatch):
    services = api.app.extensions["bandits"]
    services.tracked_links.set_hosts(["shop.example"], at=api.clock(), by="test")
    key = services.tracked_links.create("newsletter", at=api.clock(), by="test").text
    api.app.config[PUBLIC_URL] = "https://links.shop.example"
    host, port = mail_server.url.removeprefix("smtp+plain://").split(":")
    for name, value in {"TRACKING_KEY": key, "SMTP_HOST": host, "SMTP_PORT": port}.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    sample = OWN_SMTP.partition("```python\n")[2].partition("```")[0]
    exec(sample, names)  # noqa: S102 - our own documentation
    (mail,) = mail_server.mails["ida@shop.example"]
    assert mail["Subject"] in SUBJECTS
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = re.search(r'href="https://links\.shop\.example(/t/[^"]+)"', html_of(mail))
    assert link is not None
    answer = api.client.get(link[1], headers={"User-Agent": "Mozilla/5.0 (X)"})
    assert answer.headers["Location"] == "https://shop.example/"
    SpoolWorker(api.engine, api.engine.store, Event()).look()
    events = api.engine.store.log.events(names["email"].decision_id)
    assert [e.metric for e in events] == ["click"]


def html_of(mail: EmailMessage) -> str:
    body = mail.get_body(("html",))
    assert body is not None
    return body.get_content()
