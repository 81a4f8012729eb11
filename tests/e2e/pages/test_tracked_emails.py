"""Emails with links of ours: sent by SMTP, clicked by scripts and in Chromium; and a kill -9."""

import signal
import smtplib
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP, default
from functools import partial
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from bandits.client.tracking import LinkTracking, rewrite
from bandits.schemas import Decision
from storage import open_store
from tests.conftest import SOAK
from tests.patience import LIMIT_MS, LIMIT_SECONDS, join, wait_until

PEOPLE = 2000 if SOAK else 200
IN_BROWSER = 4
KEY = "k" * 40
CAMPAIGN = {
    "key": "spring",
    "slots": [{"key": "subject_line", "variants": [{"key": "a"}, {"key": "b"}]}],
    "policy": {"name": "thompson"},
    "reward": {"metrics": {"click": {}}, "window_seconds": 86400, "maturity_seconds": 0},
    "learn_every_seconds": 0.5,
}


class Shop(BaseHTTPRequestHandler):
    """A page of the shop that links lead to."""

    def do_GET(self) -> None:
        content = f"<title>Shop</title><h1>{self.path}</h1>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Mailbox:
    """Everything that arrives by SMTP."""

    def __init__(self) -> None:
        self.emails: dict[str, EmailMessage] = {}

    async def handle_DATA(self, _: object, __: object, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        (recipient,) = envelope.rcpt_tos
        email = message_from_bytes(envelope.content, policy=default)
        assert isinstance(email, EmailMessage)
        self.emails[recipient] = email
        return "250 taken"


class Links(HTMLParser):
    """Links and images of a rendered email: those that people see, and all of them."""

    def __init__(self, email: EmailMessage) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.hidden: list[str] = []
        self.images: list[str] = []
        part = email.get_body(("html",))
        assert part is not None
        self.html = part.get_content()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a":
            hidden = "display:none" in (values.get("style") or "")
            (self.hidden if hidden else self.seen).append(values["href"] or "")
        if tag == "img":
            self.images.append(values["src"] or "")


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@contextmanager
def smtp_server() -> Iterator[tuple[int, Mailbox]]:
    mailbox, port = Mailbox(), free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port, mailbox
    finally:
        controller.stop()


@contextmanager
def shop_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        thread = Thread(target=server.serve_forever, name="shop")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            join(thread)


def send(server, smtp_port: int, tracking: LinkTracking, shop: str) -> list[str]:
    """Send an email to each person; return the decisions."""
    with server.sender() as client, smtplib.SMTP("127.0.0.1", smtp_port) as line:
        people = [{"subject_id": f"u-{i}", "decision_id": f"d-{i}"} for i in range(PEOPLE)]
        decisions = list(client.choose_many("spring", people))
        for i, decision in enumerate(decisions):
            html = (
                "<html><body><p>Hello &amp; welcome</p>"
                f'<a id="sale" href="{shop}/sale?a=1&amp;b={i}">Sale</a>'
                f'<a href="{shop}/news">News</a>'
                '<a href="mailto:a@shop.example">Write</a></body></html>'
            )
            email = rewrite(html, decision, tracking)
            message = EmailMessage(policy=SMTP.clone(max_line_length=998))
            message["Subject"] = decision.slots["subject_line"]["variant"]
            message["From"], message["To"] = "shop@shop.example", f"u-{i}@person.example"
            for name, value in email.headers.items():
                message[name] = value
            message.set_content("In HTML alone.")
            message.add_alternative(email.html, subtype="html")
            line.send_message(message)
    return [str(decision.decision_id) for decision in decisions]


class Person:
    """Somebody, or a machine, who does something with an email; a broken line is tried again."""

    def __init__(self, restarted: Event, answered: list[int]) -> None:
        self._restarted = restarted
        self._answered = answered

    def ask(self, method: str, url: str, **options: Any) -> httpx.Response:
        while True:
            try:
                answer = httpx.request(method, url, timeout=LIMIT_SECONDS, **options)
            except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.TimeoutException):
                self._restarted.wait(LIMIT_SECONDS)
                continue
            self._answered.append(answer.status_code)
            return answer

    def click(self, links: Links) -> None:
        answer = self.ask("GET", links.seen[0])
        assert answer.status_code == 302
        assert "/sale?a=1&b=" in answer.headers["Location"]

    def double_click(self, links: Links) -> None:
        self.click(links)
        self.click(links)

    def open(self, links: Links) -> None:
        (pixel,) = links.images
        assert self.ask("GET", pixel).headers["Content-Type"] == "image/gif"

    def scan(self, links: Links) -> None:
        """Look at every link, as a scanner does that shows itself."""
        for url in links.seen[:2]:
            assert self.ask("HEAD", url).status_code == 302
        for url in links.hidden:
            assert self.ask("GET", url).status_code == 302

    def read(self, _links: Links) -> None:
        """Do nothing that is seen."""

    def unsubscribe(self, email: EmailMessage) -> None:
        """Unsubscribe as a mail program does: RFC 8058."""
        assert email["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        url = str(email["List-Unsubscribe"]).strip("<>")
        body = {"List-Unsubscribe": "One-Click"}
        assert self.ask("POST", url, data=body).status_code == 200


class Expected:
    """Decisions by what happens to their emails."""

    def __init__(self, ids: Sequence[str]) -> None:
        rest = range(IN_BROWSER, PEOPLE)
        first = set(ids[:IN_BROWSER])
        self.clicked = first | {ids[i] for i in rest if i % 5 < 2}
        self.opened = first | {ids[i] for i in rest if i % 5 == 2}
        self.scanned = {ids[i] for i in rest if i % 5 == 3}
        self.unsubscribed = {ids[5]} | {ids[i] for i in rest if i % 20 == 7}


def act(person: Person, i: int, email: EmailMessage) -> None:
    """Do what the person, or machine, with this number does."""
    deeds = (person.click, person.double_click, person.open, person.scan, person.read)
    deeds[i % 5](Links(email))
    if i % 20 == 7:
        person.unsubscribe(email)


def start_campaign(server) -> LinkTracking:
    """Start a campaign, and make a key for its emails."""
    with server.client() as api:
        assert api.post("/api/v1/experiments", json=CAMPAIGN).status_code == 201
        assert api.post("/api/v1/experiments/spring/start").status_code == 200
        hosts = api.put("/api/v1/tracking/hosts", json={"hosts": ["127.0.0.1"]})
        assert hosts.status_code == 200
        key = api.post("/api/v1/tracking/keys", json={"name": "e2e"}).json()["text"]
        told = api.get("/api/v1/tracking").json()
        return LinkTracking(key, told["public_url"], told["hosts"])


def test_click_counts_once_through_smtp_scripts_browser_and_kill(start_server, browser, tmp_path):
    port = free_port()
    start = partial(
        start_server,
        "--port",
        str(port),
        BANDITS_PUBLIC_URL=f"http://127.0.0.1:{port}",
        BANDITS_ENCRYPTION_KEY=KEY,
        BANDITS_SPOOL_FOLDER=str(tmp_path / "spool"),
    )
    server = start()
    tracking = start_campaign(server)
    with shop_server() as shop, smtp_server() as (smtp_port, mailbox):
        ids = send(server, smtp_port, tracking, shop)
        assert len(mailbox.emails) == PEOPLE
        emails = [mailbox.emails[f"u-{i}@person.example"] for i in range(PEOPLE)]
        restarted, answered = Event(), []
        person = Person(restarted, answered)
        with ThreadPoolExecutor(8) as pool:
            acting = [pool.submit(act, person, i, emails[i]) for i in range(IN_BROWSER, PEOPLE)]
            wait_until(lambda: len(answered), "answers", lambda n: n >= PEOPLE // 3)
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(LIMIT_SECONDS)
            server = start()
            restarted.set()
            for future in acting:
                future.result(LIMIT_SECONDS)
        click_in_browser(browser, emails[:IN_BROWSER], shop)
        unsubscribe_in_browser(browser, str(emails[5]["List-Unsubscribe"]).strip("<>"))
    check(server, ids, tmp_path / "spool")
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()
    verified = server.bandits("verify", check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def check(server, ids: Sequence[str], spool_folder: Path) -> None:
    """Compare what was recorded with what happened."""
    expected = Expected(ids)
    with closing(open_store(server.database_url, [KEY], spool_folder)) as store:
        wait_until(lambda: store.spool.find(ids), "empty spool", lambda records: not records)
        metrics = {i: {e.metric for e in store.log.events(i)} for i in ids}
        (key,) = store.tracked_links.all()
    assert {i for i in ids if "click" in metrics[i]} == expected.clicked
    assert {i for i in ids if "open" in metrics[i]} == expected.opened
    assert {i for i in ids if "unsubscribe" in metrics[i]} == expected.unsubscribed
    assert key.counts.machine >= 3 * len(expected.scanned)
    assert key.counts.without_decision == key.counts.refused == 0
    with server.client() as api:
        listed = api.get("/api/v1/tracking/unsubscribes").json()["unsubscribes"]
        assert sorted(row["decision_id"] for row in listed) == sorted(expected.unsubscribed)
        rewards = [api.get(f"/api/v1/decisions/{i}").json()["reward"] for i in ids]
    assert rewards == [float(i in expected.clicked) for i in ids]


def click_in_browser(browser, emails: Sequence[EmailMessage], shop: str) -> None:
    """Show emails as a mail program on the web does, and click in them."""
    for i, email in enumerate(emails):
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(LIMIT_MS)
        with page.expect_response(lambda response: "/o/" in response.url):
            page.set_content(Links(email).html)
        assert page.locator("a:visible").count() == 3
        page.click("#sale")
        page.wait_for_url(f"{shop}/sale?a=1&b={i}")
        assert page.title() == "Shop"
        context.close()


def unsubscribe_in_browser(browser, address: str) -> None:
    """Unsubscribe by the page, without script."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(LIMIT_MS)
    page.goto(address)
    page.get_by_role("button", name="Unsubscribe").click()
    assert page.get_by_role("heading").inner_text() == "You are unsubscribed"
    context.close()


def test_link_of_a_key_made_beside_the_server_works_soon(start_server):
    server = start_server()
    server.bandits("tracking", "hosts", "--allow", "shop.example")
    key = server.bandits("tracking", "create", "sender").stdout.strip()
    email = rewrite(
        '<a href="https://shop.example/">x</a>',
        Decision("d-1", {}, 1.0, 0),
        LinkTracking(key, server.url, ["shop.example"]),
    )
    link = email.html.split('"')[1]
    answer = wait_until(
        lambda: httpx.get(link, timeout=LIMIT_SECONDS),
        "redirect",
        lambda answer: answer.status_code == 302,
    )
    assert answer.headers["Location"] == "https://shop.example/"
