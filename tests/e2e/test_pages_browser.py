"""The whole life of an experiment in Chromium, with traffic through the API."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from bandits.client import ApiError, Client
from bandits.messages import Request, Reward

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
PATIENCE_MS = 20_000
# Plotly brings a style element for maps, which our policy keeps out; see webapp/pages/security.py.
KNOWN = re.compile(r"sha256-ji27qzEtxXZW")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def account(server) -> None:
    server.bandits(
        "user", "add", EMAIL, "--role", "admin", "--password-stdin", input=f"{PASSWORD}\n"
    )


@pytest.fixture
def open_page(browser, server, account):
    """Open pages, signed in; what a page complains about fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_page(**options) -> Page:
        context = browser.new_context(base_url=server.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda m: complaints.extend(_complaint(m)))
        page.goto("/sign-in")
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
        KNOWN.search(message.text)
        or "status of 4" in message.text  # a refused form
        or message.location["url"].endswith("/preview")  # what a block is kept from doing
        or "/preview'" in message.text  # the same, said of its frame
    )
    return [message.text] if message.type == "error" and not expected else []


def field(page: Page, name: str):
    return page.locator(f'[name="{name}"]')


def press(page: Page, action: str) -> None:
    page.locator(f'button[value="{action}"]').click()


def test_the_whole_life_of_an_experiment(open_page, server):
    page = open_page()
    page.goto("/new-experiment/one-page")
    create(page)
    expect(page.get_by_text("Not started")).to_be_visible()
    page.get_by_role("link", name="Start").click()
    page.get_by_role("button", name="Start Summer").click()
    expect(page.get_by_text("waiting for your sender")).to_be_visible()

    with Client(server.url, server.token) as client:
        wave(client, "first", 200)
        summary = page.locator('[data-live="summary"]')
        expect(summary).to_contain_text("200", timeout=PATIENCE_MS)
        expect(page.locator('[data-chart="shares"] .main-svg').first).to_be_visible()
        page.get_by_text("Show as table").first.click()
        page.mouse.wheel(0, 400)
        page.wait_for_function("scrollY > 0")
        place = page.evaluate("scrollY")
        wave(client, "second", 300)
        expect(summary).to_contain_text("500", timeout=PATIENCE_MS)
        expect(page.locator("details.as-table").first).to_have_attribute("open", "")
        assert page.evaluate("scrollY") == place, "the reader's place is kept"
        expect(page.locator('[data-chart="rewards"] .main-svg').first).to_be_visible()

        with page.expect_download() as download:
            page.locator('[data-png="shares"]').click()
        assert download.value.path().read_bytes().startswith(b"\x89PNG")

        step(page, "Pause", "Pause Summer")
        expect(page.get_by_text("Paused:")).to_be_visible()
        with pytest.raises(ApiError, match="409"):
            wave(client, "paused", 1)
        step(page, "Resume", "Resume Summer")
        wave(client, "resumed", 100)
        expect(summary).to_contain_text("600", timeout=PATIENCE_MS)
        page.get_by_role("link", name="Segments").click()
        expect(page.get_by_text("Nothing is known of recipients")).to_be_visible()
        stop_and_keep_sending(page, client)
        step(page, "Archive…", "Archive Summer")
        with pytest.raises(ApiError, match="409"):
            wave(client, "archived", 1)


def stop_and_keep_sending(page: Page, client: Client) -> None:
    """Stop, keep sending one version, and find that in receipts, the audit log and files."""
    page.get_by_role("link", name="Stop…").click()
    page.locator("#ship").select_option("Ready for summer? · b · 15 % off")
    page.get_by_role("button", name="Stop and keep sending this one…").click()
    page.get_by_role("button", name="Stop Summer and keep sending “Ready for summer?").click()
    expect(page.get_by_text("Stopped after 600 emails. Everybody now gets")).to_be_visible()
    made = list(client.choose_many("summer", [Request("after-1"), Request("after-2")]))
    assert {d.slots["discount"]["variant"] for d in made} == {"d15"}
    assert all(d.shipped for d in made)
    page.goto(f"/decisions/{made[0].decision_id}")
    expect(page.get_by_role("heading", name="Why this email?")).to_be_visible()
    page.goto("/experiments/summer/history")
    expect(page.get_by_text("Running → Stopped, everybody gets")).to_be_visible()
    page.goto("/experiments/summer")
    with page.expect_download() as download:
        page.get_by_role("link", name="JSON").click()
    assert download.value.suggested_filename == "summer-results.json"


def create(page: Page) -> None:
    """Fill in the form for an email of three parts."""
    field(page, "name").fill("Summer")
    field(page, "slots/0/variants/0/text").fill("Summer is here")
    field(page, "slots/0/variants/1/text").fill("Ready for summer?")
    press(page, "add slots content")
    field(page, "slots/1/variants/0/html").fill("<h1>Beach</h1>")
    field(page, "slots/1/variants/1/html").fill("<h1>Mountains</h1>")
    page.locator('button[name="preview"]').first.click()
    expect(page.frame_locator("iframe").first.locator("h1")).to_have_text("Beach")
    expect(field(page, "slots/0/variants/0/text")).to_have_value("Summer is here")
    press(page, "add slots discount")
    field(page, "slots/2/variants/0/percent").fill("0")
    field(page, "slots/2/variants/1/percent").fill("15")
    field(page, "holdout").fill("0")
    field(page, "maturity/amount").fill("0")
    field(page, "learn_every/amount").fill("0.5")
    page.get_by_role("button", name="Save as a draft").click()


def step(page: Page, link: str, button: str) -> None:
    page.get_by_role("link", name=link, exact=True).click()
    page.get_by_role("button", name=button).click()


def wave(client: Client, name: str, n: int) -> None:
    """Send n emails; who is asked a question clicks."""
    requests = [Request(f"{name}-{i}") for i in range(n)]
    made = list(client.choose_many("summer", requests))
    client.reward_many(
        Reward(str(d.decision_id), "c", "click")
        for d in made
        if d.slots["subject_line"]["variant"] == "b"
    )


def test_errors_of_the_form_are_named_and_reached(open_page):
    page = open_page()
    page.goto("/new-experiment/one-page")
    field(page, "name").fill("Autumn")
    field(page, "slots/0/variants/0/text").fill("One")
    field(page, "slots/0/variants/1/text").fill("Two")
    field(page, "holdout").fill("80")
    page.get_by_role("button", name="Save as a draft").click()
    summary = page.locator("[data-focus]")
    expect(summary).to_be_focused()
    summary.get_by_role("link", name="Control group").click()
    expect(field(page, "holdout")).to_have_attribute("aria-invalid", "true")
    expect(field(page, "holdout")).to_be_in_viewport()
    expect(field(page, "name")).to_have_value("Autumn")
    field(page, "holdout").fill("8")
    page.get_by_role("button", name="Save as a draft").click()
    expect(page.get_by_text("Not started")).to_be_visible()


def test_rows_come_and_go_without_losing_the_place(open_page):
    page = open_page()
    page.goto("/new-experiment/one-page")
    field(page, "name").fill("Winter")
    press(page, "add slots/0/variants")
    expect(field(page, "slots/0/variants/2/text")).to_be_focused()
    field(page, "slots/0/variants/2/text").fill("Third")
    press(page, "remove slots/0/variants/0")
    expect(field(page, "slots/0/variants/1/text")).to_have_value("Third")
    expect(field(page, "name")).to_have_value("Winter")
    page.once("dialog", lambda dialog: dialog.accept())
    page.goto("/")


def test_everything_works_without_script(open_page):
    page = open_page(java_script_enabled=False)
    page.goto("/new-experiment/one-page")
    field(page, "name").fill("Plain")
    field(page, "slots/0/variants/0/text").fill("One")
    press(page, "add slots/0/variants")
    expect(field(page, "slots/0/variants/0/text")).to_have_value("One")
    field(page, "slots/0/variants/2/text").fill("Three")
    press(page, "add slots content")
    field(page, "slots/1/variants/0/html").fill("<p>Hello</p>")
    page.locator('button[name="preview"]').first.click()
    expect(page.frame_locator("iframe").first.locator("p")).to_have_text("Hello")
    page.get_by_role("button", name="Save as a draft").click()
    expect(page.get_by_text("Not started")).to_be_visible()
    step(page, "Start", "Start Plain")
    expect(page.get_by_text("Shares appear with the first emails.")).to_be_visible()


def test_script_in_a_block_never_runs(open_page):
    page = open_page()
    page.goto("/new-experiment/one-page")
    press(page, "add slots content")
    block = (
        "<h1>Block</h1><script>parent.document.title='broken'</script><img src=x onerror=alert(1)>"
    )
    field(page, "slots/1/variants/0/html").fill(block)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.locator('button[name="preview"]').first.click()
    expect(page.frame_locator("iframe").first.locator("h1")).to_have_text("Block")
    assert page.title().startswith("New experiment")


@pytest.mark.parametrize("width", [390, 1440])
def test_no_page_is_wider_than_its_screen(open_page, width):
    page = open_page(viewport={"width": width, "height": 844})
    for address in (
        "/",
        "/new-experiment/one-page",
        "/decisions",
        "/settings/keys",
        "/settings/people",
    ):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
