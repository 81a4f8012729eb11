"""The first minute in Chromium: from the link that the server prints to mails that arrive."""

import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import Server
from tests.mail_server import MailServer
from tests.patience import LIMIT_MS, wait_until
from webapp.api.experiments import EXAMPLE

ANN, BOB = "ann@shop.example", "bob@shop.example"
PHRASE = "seven grey herons wade"


@pytest.fixture
def new_page(browser: Browser):
    """Open windows of browsers that know nothing of each other."""
    contexts = []

    def open_window(**options) -> Page:
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(LIMIT_MS)
        return contexts[-1].new_page()

    yield open_window
    for context in contexts:
        context.close()


@pytest.fixture
def mails() -> Iterator[MailServer]:
    server = MailServer().start()
    yield server
    server.stop()


def free_port() -> int:
    """Return a port that is free now: the public address has to be known before the start."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def printed_link(server: Server, count: int = 1) -> str:
    """Return the set-up link that a server printed at its latest start, of `count` starts."""

    def links() -> list[str]:
        return re.findall(r"^    (http://\S+/set-up#\S+)$", server.log.read_text(), re.MULTILINE)

    return wait_until(links, "set-up link", lambda printed: len(printed) == count)[-1]


def link_in_mail(mails: MailServer, address: str, path: str, count: int = 1) -> str:
    """Wait for the mail of an address, of `count`, and return the link in the latest."""
    received = wait_until(
        lambda: mails.mails.get(address, []), "mail", lambda arrived: len(arrived) == count
    )
    return re.search(rf"^http://\S+{path}#\S+", received[-1].get_content(), re.MULTILINE)[0]


def choose_password(page: Page, password: str = PHRASE) -> None:
    page.fill("#password", password)
    page.fill("#again", password)


def create_account(page: Page) -> None:
    page.fill("#email", ANN)
    choose_password(page)
    page.get_by_role("button", name="Create account").click()


def test_first_minute_from_the_printed_link_to_mails(  # noqa: PLR0915 - a minute, step by step
    start_server, new_page, mails
):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ("--port", str(port), "--access-log", "--log-level", "debug")
    settings = {"BANDITS_PUBLIC_URL": url, "BANDITS_EGRESS_NETWORKS": "127.0.0.0/8"}
    server = start_server(*options, **settings)
    former = printed_link(server)
    server.stop()
    server = start_server(*options, **settings)
    link = printed_link(server, 2)

    page = new_page(base_url=url)
    page.goto("/")
    expect(page.get_by_text("Open the link that the server printed")).to_be_visible()
    page.goto(former)
    expect(page.get_by_label("Code of the link")).to_be_hidden()
    create_account(page)
    expect(page.get_by_text("This link does not work")).to_be_visible()
    page.goto("about:blank")
    page.goto(link)
    expect(page.get_by_label("Code of the link")).to_be_hidden()
    assert page.url == f"{url}/set-up", "the code does not stay in the address"
    create_account(page)
    expect(page.get_by_role("heading", name="Campaigns")).to_be_visible()
    lines = [line for line in server.log.read_text().splitlines() if "/set-up" in line]
    codes = [urlsplit(address).fragment for address in (former, link)]
    assert sum(any(code in line for code in codes) for line in lines) == 2, "as printed"
    assert sum("/set-up#" not in line for line in lines) >= 3, "requests are logged"

    page.goto("/settings/email")
    smtp = urlsplit(mails.url)
    page.fill("#host", str(smtp.hostname))
    page.fill("#port", str(smtp.port))
    page.select_option("#security", "none")
    page.fill("#sender", "bandits@shop.example")
    page.fill("#password", PHRASE)
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name=f"Send a test to {ANN}").click()
    expect(page.get_by_text("A test is on its way")).to_be_visible()
    assert [mail["Subject"] for mail in mails.mails.pop(ANN)] == ["Test"]

    page.goto("/settings")
    page.get_by_label("A campaign has ended").check()
    page.locator("#alerts").get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    with server.client() as api:
        assert api.post("/api/v1/experiments", json=EXAMPLE | {"key": "told"}).is_success
        for step in ("start", "stop"):
            assert api.post(f"/api/v1/experiments/told/{step}").is_success

    page.goto("/settings/people")
    page.fill("#invite-email", BOB)
    page.check("#invite-role-manager")
    page.get_by_role("button", name="Invite this person").click()
    expect(page.get_by_text(f"on its way to {BOB}")).to_be_visible()
    colleague = new_page(base_url=url, java_script_enabled=False)
    colleague.goto("/invitation")
    colleague.get_by_label("Code of the link").fill(link_in_mail(mails, BOB, "/invitation"))
    choose_password(colleague)
    colleague.get_by_role("button", name="Open my account").click()
    expect(colleague.get_by_role("heading", name="Campaigns")).to_be_visible()

    forgetful = new_page(base_url=url)
    forgetful.goto("/sign-in")
    forgetful.get_by_role("link", name="Forgot your password?").click()
    forgetful.fill("#email", BOB)
    forgetful.get_by_role("button", name="Send me a link").click()
    expect(forgetful.get_by_text("If there is an account")).to_be_visible()
    forgetful.goto(link_in_mail(mails, BOB, "/new-password", 2))
    choose_password(forgetful, f"{PHRASE} again")
    forgetful.get_by_role("button", name="Change password").click()
    forgetful.fill("#email", BOB)
    forgetful.fill("#password", f"{PHRASE} again")
    forgetful.get_by_role("button", name="Sign in").click()
    expect(forgetful.get_by_role("heading", name="Campaigns")).to_be_visible()
    colleague.reload()
    expect(colleague.get_by_role("heading", name="Sign in")).to_be_visible()

    (alert,) = wait_until(lambda: mails.mails.get(ANN, []), "alert")
    assert alert["Subject"].endswith("has ended")
    assert f"{url}/experiments/told" in alert.get_content()
    assert server.stop() == 0
