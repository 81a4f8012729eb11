"""The first minute in Chromium: from the link that the server prints to an invited colleague."""

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import Server
from tests.patience import LIMIT_MS, wait_until

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


def printed_link(server: Server, count: int = 1) -> str:
    """Return the set-up link that a server printed at its latest start, of `count` starts."""

    def links() -> list[str]:
        return re.findall(r"^    (http://\S+/set-up#\S+)$", server.log.read_text(), re.MULTILINE)

    return wait_until(links, "set-up link", lambda printed: len(printed) == count)[-1]


def choose_password(page: Page) -> None:
    page.fill("#password", PHRASE)
    page.fill("#again", PHRASE)


def test_set_up_link_leads_to_an_account_and_is_in_no_log_of_requests(start_server, new_page):
    server = start_server("--access-log", "--log-level", "debug")
    first = printed_link(server)
    server.stop()
    server = start_server("--access-log", "--log-level", "debug")
    link = printed_link(server, 2)
    assert urlsplit(link)[:3] == urlsplit(f"{server.url}/set-up")[:3]
    page = new_page()
    page.goto(server.url)
    expect(page.get_by_role("heading", name="Create the first account")).to_be_visible()
    expect(page.get_by_text("Open the link that the server printed")).to_be_visible()

    ended = f"{server.url}/set-up#{urlsplit(first).fragment}"
    page.goto(ended)
    expect(page.get_by_label("Code of the link")).to_be_hidden()
    page.fill("#email", ANN)
    choose_password(page)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_text("This link does not work")).to_be_visible()

    page.goto("about:blank")
    page.goto(link)
    expect(page.get_by_label("Code of the link")).to_be_hidden()
    assert page.url == f"{server.url}/set-up", "the code does not stay in the address"
    page.fill("#email", ANN)
    choose_password(page)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", name="Campaigns")).to_be_visible()
    requests = [line for line in server.log.read_text().splitlines() if "/set-up" in line]
    logged = [line for line in requests if "/set-up#" not in line]
    assert len(logged) >= 3
    codes = [urlsplit(address).fragment for address in (first, link)]
    assert sum(any(code in line for code in codes) for line in requests) == 2  # as printed

    page.goto(f"{server.url}/settings/people")
    page.fill("#invite-email", BOB)
    page.check("#invite-role-viewer")
    page.get_by_role("button", name="Invite this person").click()
    invitation = page.locator(".code-link").evaluate("link => link.href")
    colleague = new_page()
    colleague.goto(invitation)
    choose_password(colleague)
    colleague.get_by_role("button", name="Open my account").click()
    expect(colleague.get_by_role("heading", name="Campaigns")).to_be_visible()


def test_set_up_works_without_script(start_server, new_page):
    server = start_server()
    page = new_page(java_script_enabled=False)
    page.goto(f"{server.url}/set-up")
    page.get_by_label("Code of the link").fill(printed_link(server))
    page.fill("#email", ANN)
    choose_password(page)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", name="Campaigns")).to_be_visible()
