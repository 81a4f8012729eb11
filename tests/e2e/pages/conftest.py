"""Pages in Chromium, as people use them."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.patience import LIMIT_MS

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
EMAIL, PASSWORD = "anna@shop.example", "a long enough password"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=LIMIT_MS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=LIMIT_MS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def account(server) -> tuple[str, str]:
    """An admin's address and password."""
    server.bandits(
        "user", "add", EMAIL, "--role", "admin", "--password-stdin", typed=f"{PASSWORD}\n"
    )
    return EMAIL, PASSWORD


@pytest.fixture
def open_page(browser, server, account):
    """Open pages, signed in unless told otherwise; what a page complains about fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_page(*, signed_in: bool = True, **options) -> Page:
        context = browser.new_context(base_url=server.url, **options)
        contexts.append(context)
        context.set_default_timeout(LIMIT_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda m: complaints.extend(_complaint(m)))
        page.goto("/sign-in")
        if signed_in:
            page.fill("#email", EMAIL)
            page.fill("#password", PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("heading", name="Campaigns")).to_be_visible()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _complaint(message: ConsoleMessage) -> list[str]:
    expected = (
        "status of 4" in message.text  # a refused form
        or "ERR_FAILED" in message.text  # a line that a test cut
        or message.location["url"].endswith("/preview")  # what a block is kept from doing
        or "/preview'" in message.text  # the same, said of its frame
    )
    return [message.text] if message.type == "error" and not expected else []
