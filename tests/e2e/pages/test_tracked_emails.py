"""Emails that are sent by SMTP, and what people and machines do with them, for a campaign to learn.

Some emails are clicked through links of ours, by scripts and in Chromium; of the others a mailer
tells by signed webhooks that come twice, late, out of order and in batches. Scanners follow all
links of most emails of the worse version. The server is killed meanwhile, and its clock set forward
by hours.
"""

import random
import signal
import smtplib
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from email.message import EmailMessage
from email.policy import SMTP
from functools import partial
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from msgspec import Struct

from bandits.client.tracking import LinkTracking, rewrite
from bandits.schemas import Decision
from storage import open_store
from tests.conftest import SOAK
from tests.mail_server import MailServer
from tests.patience import LIMIT_MS, LIMIT_SECONDS, join, wait_until
from tests.shifted_clock import ShiftedClock
from tests.webhook_senders import Mailer, Request, sendgrid_event

PEOPLE = 2000 if SOAK else 200
IN_BROWSER = 10 if SOAK else 2
KEY = "k" * 40
HOUR = 3600.0
BROWSER = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36"
PAGES = ("sale", "news", "boots", "coats")  # of the shop, that each email links to
CLICKED = {"a": 0.25, "b": 0.5}  # the part of each version's emails that people click in,
SCANNED = {"a": 0.9, "b": 0.3}  # and that scanners follow all links of
CAMPAIGN = {
    "key": "spring",
    "slots": [{"key": "subject_line", "variants": [{"key": "a"}, {"key": "b"}]}],
    "policy": {"name": "thompson"},
    "reward": {"metrics": {"click": {}}, "window_seconds": 86400, "maturity_seconds": 0},
    "learn_every_seconds": 0.5,
    "machine_rules": 1,
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
def closing_down(mail_server: MailServer) -> Iterator[None]:
    try:
        yield
    finally:
        mail_server.stop()


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


class Fate(Struct, frozen=True):
    """What happens to one email.

    Attributes:
        number: of the recipient.
        decision_id: by which it was made.
        variant: its subject line.
        clicked: a person clicks in it, an hour later.
        scanned: a machine follows all its links within seconds.
        by_mailer: the mailer tracks its links, not the server.
    """

    number: int
    decision_id: str
    variant: str
    clicked: bool
    scanned: bool
    by_mailer: bool

    @property
    def opened(self) -> bool:
        """A person looks at it: whoever clicks, and one in five others."""
        return self.clicked or self.number % 5 == 0

    @property
    def unsubscribes(self) -> bool:
        """A mail program unsubscribes for its person."""
        return self.number % 20 == 7 and not self.by_mailer


def fates(decisions: Sequence[Decision]) -> list[Fate]:
    """Draw what happens to emails: the same parts of each version, whatever is chosen."""
    rng = np.random.default_rng(11)
    variants = np.array([d.slots["subject_line"]["variant"] for d in decisions])
    columns = {}
    for name, parts in (("clicked", CLICKED), ("scanned", SCANNED)):
        columns[name] = np.zeros(len(decisions), dtype=np.bool_)
        for variant, part in parts.items():
            rows = np.flatnonzero(variants == variant)
            columns[name][rng.permutation(rows)[: round(part * len(rows))]] = True
    by_mailer = rng.random(len(decisions)) < 0.5
    return [
        Fate(
            i,
            str(decision.decision_id),
            str(variants[i]),
            *(bool(column[i]) for column in (*columns.values(), by_mailer)),
        )
        for i, decision in enumerate(decisions)
    ]


def send(server, mail_server: MailServer, tracking: LinkTracking, shop: str) -> list[Fate]:
    """Choose for each person and send the emails; return what happens to each."""
    with server.sender() as client:
        people = [{"subject_id": f"u-{i}", "decision_id": f"d-{i}"} for i in range(PEOPLE)]
        decisions = list(client.choose_many("spring", people))
    made = fates(decisions)
    address = urlsplit(mail_server.url)
    with smtplib.SMTP(address.hostname or "", address.port or 0) as line:
        for fate, decision in zip(made, decisions, strict=True):
            links = "".join(
                f'<a id="{page}" href="{shop}/{page}?a=1&amp;b={fate.number}">{page}</a>'
                for page in PAGES
            )
            html = (
                f"<html><body><p>Hello &amp; welcome</p>{links}"
                '<a href="mailto:a@shop.example">Write</a></body></html>'
            )
            message = EmailMessage(policy=SMTP.clone(max_line_length=998))
            message["Subject"] = fate.variant
            message["From"], message["To"] = "shop@shop.example", f"u-{fate.number}@person.example"
            if not fate.by_mailer:
                email = rewrite(html, decision, tracking)
                html = email.html
                for name, value in email.headers.items():
                    message[name] = value
            message.set_content("In HTML alone.")
            message.add_alternative(html, subtype="html")
            line.send_message(message)
    return made


class Visitor:
    """Somebody, or a machine, who asks for what an email links to; a broken line is tried again."""

    def __init__(self, restarted: Event, answered: list[int]) -> None:
        self._restarted = restarted
        self._answered = answered

    def ask(self, method: str, url: str, address: str = "", **options: Any) -> httpx.Response:
        """Ask from an address, through the proxy that the server trusts."""
        headers = {"User-Agent": BROWSER, "X-Forwarded-For": address} if address else {}
        while True:
            try:
                answer = httpx.request(
                    method, url, headers=headers, timeout=LIMIT_SECONDS, **options
                )
            except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.TimeoutException):
                self._restarted.wait(LIMIT_SECONDS)
                continue
            self._answered.append(answer.status_code)
            return answer

    def scan(self, fate: Fate, email: EmailMessage) -> None:
        """Follow all links within seconds, also those that nobody sees, as some scanners do."""
        links = Links(email)
        address = scanner_of(fate)
        assert self.ask("HEAD", links.seen[0], address).status_code == 302
        for url in links.seen[: len(PAGES)] + links.hidden:
            assert self.ask("GET", url, address).status_code == 302

    def read(self, fate: Fate, email: EmailMessage) -> None:
        """Do what the person does: look, click, some twice, unsubscribe."""
        links = Links(email)
        address = home_of(fate)
        if fate.opened:
            (pixel,) = links.images
            assert self.ask("GET", pixel, address).headers["Content-Type"] == "image/gif"
        for _ in range(fate.clicked + (fate.clicked and fate.number % 2)):
            answer = self.ask("GET", links.seen[0], address)
            assert answer.status_code == 302
            assert f"/sale?a=1&b={fate.number}" in answer.headers["Location"]
        if fate.unsubscribes:
            self.unsubscribe(email)

    def unsubscribe(self, email: EmailMessage) -> None:
        """Unsubscribe as a mail program does: RFC 8058."""
        assert email["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        url = str(email["List-Unsubscribe"]).strip("<>")
        body = {"List-Unsubscribe": "One-Click"}
        assert self.ask("POST", url, data=body).status_code == 200


def scanner_of(fate: Fate) -> str:
    """Return the address of the scanner that follows an email's links: one of eight."""
    return f"203.0.{fate.number % 8}.9"


def home_of(fate: Fate) -> str:
    """Return the address that a person reads at."""
    return f"198.18.{fate.number % 200}.{1 + fate.number // 200}"


def mailer_events(made: Sequence[Fate], shop: str, sent_at: float) -> list[dict[str, Any]]:
    """Make what the mailer tells: all deliveries, and opens and clicks of the emails it tracks."""
    events = [sendgrid_event(fate.decision_id, "delivered", sent_at) for fate in made]
    for fate in (fate for fate in made if fate.by_mailer):
        scanner = {"useragent": BROWSER, "ip": scanner_of(fate)}
        person = {"useragent": BROWSER, "ip": home_of(fate)}
        pages = [f"{shop}/{page}?a=1&b={fate.number}" for page in PAGES]
        if fate.scanned:
            events += [
                sendgrid_event(fate.decision_id, "click", sent_at + 3 + i, url=url, **scanner)
                for i, url in enumerate(pages)
            ]
            at = sent_at + 2
            events.append(
                sendgrid_event(fate.decision_id, "open", at, sg_machine_open=True, **scanner)
            )
        if fate.opened:
            events.append(sendgrid_event(fate.decision_id, "open", sent_at + HOUR, **person))
        if fate.clicked:
            at = sent_at + HOUR + 20
            events.append(sendgrid_event(fate.decision_id, "click", at, url=pages[0], **person))
    return events


class Deliveries:
    """Signed deliveries of the mailer, each sent until it is taken."""

    def __init__(self, mailer: Mailer, restarted: Event) -> None:
        self._mailer = mailer
        self._restarted = restarted

    def made(self, events: Sequence[dict[str, Any]], at: float) -> list[Request]:
        """Sign events in batches of forty, out of order, and each batch twice."""
        shuffled = random.Random(3).sample(list(events), len(events))
        batches = [shuffled[start : start + 40] for start in range(0, len(shuffled), 40)] * 2
        random.Random(4).shuffle(batches)
        return [self._mailer.request(batch, at=at) for batch in batches]

    def deliver(self, url: str, request: Request) -> None:
        """Send as a mailer does: again until it is taken."""
        body, headers = request
        while True:
            try:
                answer = httpx.post(url, content=body, headers=headers, timeout=LIMIT_SECONDS)
            except httpx.HTTPError:
                self._restarted.wait(LIMIT_SECONDS)
                continue
            if answer.status_code == 200:
                return
            assert answer.status_code == 503, answer.text


def start_campaign(server, mailer: Mailer) -> LinkTracking:
    """Start a campaign, connect its mailer, and make a key for the links of its emails."""
    (value,) = mailer.values.values()
    server.bandits("connection", "add", "sendgrid", "mailer", "--secret-stdin", typed=value)
    with server.client() as api:
        assert api.post("/api/v1/experiments", json=CAMPAIGN).status_code == 201
        assert api.post("/api/v1/experiments/spring/start").status_code == 200
        hosts = api.put("/api/v1/tracking/hosts", json={"hosts": ["127.0.0.1"]})
        assert hosts.status_code == 200
        key = api.post("/api/v1/tracking/keys", json={"name": "e2e"}).json()["text"]
        told = api.get("/api/v1/tracking").json()
        return LinkTracking(key, told["public_url"], told["hosts"])


def test_people_count_once_and_machines_are_set_aside(start_server, browser, tmp_path):
    port, clock, mailer = free_port(), ShiftedClock(tmp_path), Mailer()
    start = partial(
        start_server,
        "--port",
        str(port),
        BANDITS_PUBLIC_URL=f"http://127.0.0.1:{port}",
        BANDITS_ENCRYPTION_KEY=KEY,
        BANDITS_SPOOL_FOLDER=str(tmp_path / "spool"),
        BANDITS_TRUSTED_PROXIES="127.0.0.1",
        **clock.settings,
    )
    server = start()
    tracking = start_campaign(server, mailer)
    mail_server = MailServer().start()
    with closing_down(mail_server), shop_server() as shop:
        made = send(server, mail_server, tracking, shop)
        emails = [mail_server.mails[f"u-{i}@person.example"][0] for i in range(PEOPLE)]
        assert mail_server.count == PEOPLE
        ours = [fate for fate in made if not fate.by_mailer]
        in_browser = [f for f in ours if f.clicked and not f.unsubscribes][:IN_BROWSER]
        restarted, answered = Event(), []
        visitor, deliveries = Visitor(restarted, answered), Deliveries(mailer, restarted)
        with ThreadPoolExecutor(8) as pool:
            events = mailer_events(made, shop, clock())
            for fate in (fate for fate in ours if fate.scanned):
                pool.submit(visitor.scan, fate, emails[fate.number]).result(LIMIT_SECONDS)
            clock.advance(HOUR)
            acting = [
                pool.submit(visitor.read, fate, emails[fate.number])
                for fate in ours
                if fate not in in_browser
            ]
            webhook = f"{server.url}/webhooks/sendgrid/mailer"
            acting += [
                pool.submit(deliveries.deliver, webhook, request)
                for request in deliveries.made(events, clock())
            ]
            before = len(answered)
            wait_until(lambda: len(answered), "answers", lambda n: n >= before + PEOPLE // 8)
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(LIMIT_SECONDS)
            server = start()
            restarted.set()
            for future in acting:
                future.result(LIMIT_SECONDS)
        click_in_browser(browser, [(f, emails[f.number]) for f in in_browser], shop)
        (asked,) = [f for f in ours if f.unsubscribes][:1]
        unsubscribe_in_browser(browser, str(emails[asked.number]["List-Unsubscribe"]).strip("<>"))
    clock.advance(HOUR)  # until networks are counted
    check(server, made)
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()
    verified = server.bandits("verify", check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def check(server, made: Sequence[Fate]) -> None:
    """Compare what was recorded, and what counts, with what happened."""
    ids = [fate.decision_id for fate in made]
    with closing(open_store(server.database_url, [KEY], server.folder / "spool")) as store:
        wait_until(lambda: store.spool.find(ids), "empty spool", lambda records: not records)
        events = {i: store.log.events(i) for i in ids}
        (key,) = store.tracked_links.all()
    assert key.counts.without_decision == key.counts.refused == 0
    with server.client() as api:
        listed = api.get("/api/v1/tracking/unsubscribes").json()["unsubscribes"]
        expected = sorted(fate.decision_id for fate in made if fate.unsubscribes)
        assert sorted(row["decision_id"] for row in listed) == expected
        arms = wait_until(
            lambda: api.get("/api/v1/experiments/spring/results").json()["arms"],
            "all rewards",
            lambda arms: sum(arm["reward"] for arm in arms) >= sum(f.clicked for f in made),
        )
        rewards = [api.get(f"/api/v1/decisions/{i}").json()["reward"] for i in ids]
    scanned = [fate.scanned and not fate.clicked for fate in made]
    caught = [reward == 0 for reward, alone in zip(rewards, scanned, strict=True) if alone]
    clicked = [reward == 1 for reward, fate in zip(rewards, made, strict=True) if fate.clicked]
    assert sum(caught) >= 0.95 * len(caught) > 0
    assert sum(clicked) >= 0.99 * len(clicked) > 0
    untouched = [not fate.clicked and not fate.scanned for fate in made]
    assert not any(r for r, alone in zip(rewards, untouched, strict=True) if alone)
    assert all(
        {e.metric for e in events[f.decision_id]} >= {"open", "click"} for f in made if f.clicked
    )
    people, everything, counted = (
        rates_by_variant(made, values)
        for values in (
            [fate.clicked for fate in made],
            [any(e.metric == "click" for e in events[i]) for i in ids],
            rewards,
        )
    )
    assert max(people, key=people.__getitem__) == max(counted, key=counted.__getitem__) == "b"
    assert max(everything, key=everything.__getitem__) == "a"  # what machines would have chosen
    assert max(arms, key=lambda arm: arm["mean"])["variants"]["subject_line"] == "b", arms


def rates_by_variant(made: Sequence[Fate], values: Sequence[float]) -> dict[str, float]:
    """Average values of emails by version."""
    return {
        v: float(np.mean([value for f, value in zip(made, values, strict=True) if f.variant == v]))
        for v in CLICKED
    }


def click_in_browser(browser, emails: Sequence[tuple[Fate, EmailMessage]], shop: str) -> None:
    """Show emails as a mail program on the web does, and click in them."""
    for fate, email in emails:
        context = browser.new_context(user_agent=BROWSER)  # its own tells that it is headless
        page = context.new_page()
        page.set_default_timeout(LIMIT_MS)
        with page.expect_response(lambda response: "/o/" in response.url):
            page.set_content(Links(email).html)
        assert page.locator("a:visible").count() == len(PAGES) + 1
        page.click("#sale")
        page.wait_for_url(f"{shop}/sale?a=1&b={fate.number}")
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
