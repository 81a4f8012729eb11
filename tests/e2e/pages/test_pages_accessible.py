"""axe-core in Chromium on every page there is, with something on it.

In full with SOAK=1; else the campaign page in both looks, and each other page in one of them.
"""

import re
import time
from datetime import UTC, datetime
from itertools import chain

import pytest
from axe_playwright_python.sync_playwright import Axe
from msgspec import to_builtins
from playwright.sync_api import Page

from bandits.tracking_tokens import TokenKind, TrackingKey, TrackingToken
from storage import upgrade
from tests.conftest import SOAK
from tests.patience import wait_until
from tests.webhook_senders import Mailer
from webapp.sample import KEY, sample_experiment
from webapp.settings import Settings
from webapp.signals.kind_registry import connection_kinds
from webapp.worker import application

# What answers something else than a page of ours: data, scripts, a block of an email.
OTHER = re.compile(r"\.(csv|json|js)$|/live$|/preview/")
# There is no provider here, and no guardrail that has acted.
ABSENT = re.compile(r"/nothing-like|/sign-in/provider|.*/guardrails/")
GRAVE = {"serious", "critical"}
LOOKS = (("light", {"width": 1440, "height": 900}), ("dark", {"width": 390, "height": 800}))


@pytest.fixture(scope="module")
def decision(server) -> str:
    """A campaign that has sent and heard of clicks, people and a key; returns a decision's id."""
    words = ("user", "add", "eva@shop.example", "--role", "viewer", "--password-stdin")
    server.bandits(*words, typed="a long enough password\n")
    with server.client() as api:
        api.post("/api/v1/experiments", json=to_builtins(sample_experiment())).raise_for_status()
        api.post(f"/api/v1/experiments/{KEY}/start").raise_for_status()
        requests = [{"subject_id": f"axe-{i}"} for i in range(300)]
        decisions = api.post(f"/api/v1/experiments/{KEY}/choose/batch", json={"requests": requests})
        ids = [d["decision_id"] for d in decisions.raise_for_status().json()["decisions"]]
        clicks = [{"decision_id": d, "event_id": "c", "metric": "click"} for d in ids[::5]]
        api.post("/api/v1/rewards", json={"rewards": clicks}).raise_for_status()
    return ids[0]


@pytest.fixture(scope="module")
def refused(server) -> str:
    """A connection with an event that did not fit; returns the number of that event."""
    mailer = Mailer()
    body = {"kind": mailer.kind, "key": "mailer", "values": dict(mailer.values)}
    with server.client() as api:
        api.post("/api/v1/connections", json=body).raise_for_status()
        content, headers = mailer.request([{"event": "nonsense"}], at=time.time())
        address = "/webhooks/sendgrid/mailer"
        api.post(address, content=content, headers=headers).raise_for_status()
        answer = api.get("/api/v1/connections/mailer/refused").raise_for_status()
    return str(answer.json()["refused"][0]["id"])


@pytest.fixture(scope="module")
def voided(server, decision) -> str:
    """A void of one email; returns its number."""
    since = datetime.now(UTC)
    with server.client() as api:
        chosen = api.post(f"/api/v1/experiments/{KEY}/choose", json={"subject_id": "voided"})
        actor = api.get(f"/api/v1/decisions/{chosen.json()['decision_id']}").json()["actor"]
        body = {"actor": actor, "since": since.isoformat(), "experiment": KEY}
        receipt = api.post("/api/v1/voids", json=body).raise_for_status().json()
    return str(receipt["experiments"][0]["void"])


@pytest.fixture(scope="module")
def tracking(server) -> TrackingKey:
    """The first tracking key of the server."""
    return TrackingKey.parse(server.bandits("tracking", "create", "axe").stdout)


@pytest.fixture
def page(open_page, decision, tracking) -> Page:
    return open_page()


def found(page: Page) -> list[str]:
    """Run axe on the page; return what it finds to be grave, and where."""
    findings = Axe().run(page).response["violations"]
    return [
        f"{page.url}: {finding['help']}: {node['html'][:200]}"
        for finding in findings
        if finding["impact"] in GRAVE
        for node in finding["nodes"]
    ]


def upload(page: Page, kind: str, text: str) -> str:
    """Upload a file and return the page that asks for its columns."""
    page.goto(f"/experiments/{KEY}/files")
    file = {"name": f"{kind}.csv", "mimeType": "text/csv", "buffer": text.encode()}
    page.set_input_files(f"#{kind}-file", [file])  # type: ignore[list-item]
    page.get_by_role("button", name=f"Upload {kind}").click()
    return page.url


def addresses(
    page: Page, decision: str, refused: str, voided: str, folder: str
) -> dict[str, list[str]]:
    """Give each rule of the address map that answers pages its addresses."""
    page.goto("/new-experiment")
    page.locator('nav[aria-label="Steps"] button').first.click()
    page.wait_for_url("**/drafts/**")
    draft = page.url.rsplit("/", 2)[1]
    page.goto("/settings/people")
    person = re.search(r"/settings/people/(\d+)/remove", page.content())[1]
    page.goto("/settings/keys")
    key = re.search(r"/settings/keys/(\d+)/revoke", page.content())[1]
    uploads = [upload(page, "results", "decision_id,click\nx,1\n")]
    begun = upload(page, "recipients", "subject_id\na\n")
    page.get_by_role("button", name="Continue").click()
    page.get_by_text("Chosen for 1 recipient").wait_for()
    for _ in range(2):  # the first one stays to be planned
        uploads.append(upload(page, "recipients", "subject_id\nb\nc\n"))
        page.get_by_label("in waves").check()
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("heading", name="Plan the waves").wait_for()
    page.get_by_label("Number of waves").fill("2")
    page.get_by_label("Part of the list in the first wave").fill("50")
    page.get_by_role("button", name="Plan these waves").click()
    page.get_by_role("link", name="Download wave 1").wait_for()
    values = {
        "key": [KEY],
        "name": ["pause"],
        "connection_key": ["mailer"],
        "kind": list(connection_kinds()),
        "refusal_id": [refused],
        "decision_id": [decision],
        "user_id": [person],
        "key_id": [key],
        "key_number": ["1"],
        "number": [voided],
        "arm": ["1"],
        "upload_id": [url.rsplit("/", 1)[1] for url in (*uploads, begun)],
        "draft_id": [draft],
        "step": ["parts", "success", "audience", "learning", "start"],
    }
    url = f"sqlite:///{folder}/routes.db"
    upgrade(url)
    rules = application(Settings(database_url=url)).url_map.iter_rules()
    ours = [r for r in rules if r.endpoint.startswith("pages.") and "GET" in (r.methods or ())]
    every: dict[str, list[str]] = {}
    for rule in ours:
        if OTHER.search(rule.rule):
            continue
        paths = [rule.rule]
        for name in rule.arguments:
            pattern = re.compile(rf"<([^<>]*:)?{name}>")
            paths = [pattern.sub(value, path) for path in paths for value in values[name]]
        every[rule.rule] = paths
    return every


def test_axe_finds_nothing_grave_on_any_page(page, decision, refused, voided, tmp_path):
    every = addresses(page, decision, refused, voided, str(tmp_path))
    assert len(every) > 20
    grave = []
    for number, path in enumerate(["/nothing-like-it", *chain(*every.values())]):
        answer = page.goto(path)
        assert answer.status == (404 if ABSENT.match(path) else 200), path
        both = SOAK or path == f"/experiments/{KEY}"
        for scheme, size in LOOKS if both else [LOOKS[number % len(LOOKS)]]:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.set_viewport_size(size)
            grave += found(page)
    assert grave == []


def test_axe_finds_nothing_grave_before_signing_in(open_page):
    assert found(open_page(signed_in=False)) == []


def test_axe_finds_nothing_grave_where_readers_unsubscribe(open_page, tracking):
    page = open_page(signed_in=False)
    token = TrackingToken(TokenKind.UNSUBSCRIBE, ("axe",)).sign(tracking)
    wait_until(lambda: page.goto(f"/u/{token}").status, "page", lambda status: status == 200)
    for scheme, size in LOOKS:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size(size)
        assert found(page) == []
    page.get_by_role("button", name="Unsubscribe").click()
    page.get_by_role("heading", name="You are unsubscribed").wait_for()
    assert found(page) == []


def test_axe_finds_nothing_grave_where_an_email_is_explained(open_page, tracking, decision):
    page = open_page(signed_in=False)
    token = TrackingToken(TokenKind.EXPLANATION, (decision,)).sign(tracking)
    wait_until(lambda: page.goto(f"/w/{token}").status, "page", lambda status: status == 200)
    for button in ("Don't use my data", "Use my data again"):
        for scheme, size in LOOKS:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.set_viewport_size(size)
            assert found(page) == []
        page.get_by_role("button", name=button).click()
        page.get_by_role("status").wait_for()


def test_axe_would_find_something_grave(page):
    page.goto("/")
    page.evaluate("document.querySelector('main').innerHTML = '<input><img src=\"/x.png\">'")
    assert len(found(page)) >= 2, "a field without a label, a picture without a text"
