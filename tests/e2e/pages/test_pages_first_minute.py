"""The first minute in Chromium: from the link that the server prints to an invited colleague."""

import re
import socket
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import Server
from tests.mail_server import MailServer
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


def free_port() -> int:
    """Return a port that is free now: the public address has to be known before the start."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def link_in_mail(mails: MailServer, address: str, path: str, count: int = 1) -> str:
    """Wait for the mail of an address, of `count`, and return the link in the latest."""
    received = wait_until(
        lambda: mails.mails.get(address, []), "mail", lambda found: len(found) == count
    )
    return re.search(rf"^http://\S+{path}#\S+$", received[-1].get_content(), re.MULTILINE)[0]


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


def test_invitation_and_new_password_go_by_mail(start_server, new_page):
    mails, port = MailServer().start(), free_port()
    smtp = urlsplit(mails.url)
    server = start_server(
        "--port",
        str(port),
        BANDITS_PUBLIC_URL=f"http://127.0.0.1:{port}",
        BANDITS_EGRESS_NETWORKS="127.0.0.0/8",
    )
    page = new_page(base_url=server.url)
    page.goto(printed_link(server))
    page.fill("#email", ANN)
    choose_password(page)
    page.get_by_role("button", name="Create account").click()

    page.goto("/settings/email")
    for name, value in (("host", str(smtp.hostname)), ("port", str(smtp.port))):
        page.fill(f"#{name}", value)
    page.select_option("#security", "none")
    page.fill("#sender", "bandits@shop.example")
    page.fill("#password", PHRASE)
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name=f"Send a test to {ANN}").click()
    expect(page.get_by_text("A test is on its way")).to_be_visible()
    assert [mail["Subject"] for mail in mails.mails.pop(ANN)] == ["Test"]

    page.goto("/settings/people")
    page.fill("#invite-email", BOB)
    page.check("#invite-role-manager")
    page.get_by_role("button", name="Invite this person").click()
    expect(page.get_by_text(f"on its way to {BOB}")).to_be_visible()
    colleague = new_page(base_url=server.url)
    colleague.goto(link_in_mail(mails, BOB, "/invitation"))
    choose_password(colleague)
    colleague.get_by_role("button", name="Open my account").click()
    expect(colleague.get_by_role("heading", name="Campaigns")).to_be_visible()

    forgetful = new_page(base_url=server.url)
    forgetful.goto("/sign-in")
    forgetful.get_by_role("link", name="Forgot your password?").click()
    forgetful.fill("#email", BOB)
    forgetful.get_by_role("button", name="Send me a link").click()
    expect(forgetful.get_by_text("If there is an account")).to_be_visible()
    forgetful.goto(link_in_mail(mails, BOB, "/new-password", 2))
    forgetful.fill("#password", f"{PHRASE} again")
    forgetful.fill("#again", f"{PHRASE} again")
    forgetful.get_by_role("button", name="Change password").click()
    forgetful.fill("#email", BOB)
    forgetful.fill("#password", f"{PHRASE} again")
    forgetful.get_by_role("button", name="Sign in").click()
    expect(forgetful.get_by_role("heading", name="Campaigns")).to_be_visible()
    colleague.reload()
    expect(colleague.get_by_role("heading", name="Sign in")).to_be_visible()
    assert server.stop() == 0
    mails.stop()
