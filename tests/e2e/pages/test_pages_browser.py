"""Single things that people do on the pages, in Chromium; `test_pages_life` does all of them."""

from base64 import b64encode
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, Route, expect

from bandits.client import Client
from bandits.schemas import Request, Reward
from tests.patience import wait_until


def field(page: Page, name: str):
    return page.locator(f'[name="{name}"]')


def press(page: Page, action: str) -> None:
    page.locator(f'button[value="{action}"]').click()


QUIET_MS = 2_000  # by the page's own clock: longer than it waits before it saves

BY_CHANNEL = {
    "key": "by-channel",
    "name": "By channel",
    "slots": [
        {
            "key": "subject_line",
            "variants": [{"key": "a", "name": "Plain"}, {"key": "b", "name": "Question"}],
        }
    ],
    "policy": {"name": "uniform"},
    "reward": {"metrics": {"click": {}}, "window_seconds": 8, "maturity_seconds": 0},
    "context": [{"name": "channel", "kind": "category", "values": ["Web", "Phone"]}],
    "learn_every_seconds": 1,
}


def test_findings_come_with_their_promise_and_what_is_open_stays_open(open_page, server):
    page = open_page()
    with server.client() as api, server.sender() as client:
        assert api.post("/api/v1/experiments", json=BY_CHANNEL).status_code == 201
        assert api.post("/api/v1/experiments/by-channel/start").status_code == 200
        send_by_channel(client, "first")
        page.goto("/experiments/by-channel")
        summary = page.locator('[data-live="summary"]')
        expect(summary).to_contain_text("“Question” is better than every other version.")
        expect(summary).to_contain_text("Keep running")
        summary.get_by_text("How we know").focus()
        page.keyboard.press("Enter")
        promise = summary.get_by_text("It holds where:").first
        expect(promise).to_be_visible()
        send_by_channel(client, "second")
        expect(summary).to_contain_text("2,400")
        expect(promise).to_be_visible()
        expect(page.locator("#why > summary")).to_be_focused()
        with page.expect_download() as download:
            page.locator('[data-png="versions"]').click()
        assert download.value.path().read_bytes().startswith(b"\x89PNG")
        page.get_by_role("navigation", name="Experiment").get_by_text("Segments").click()
        expect(page.get_by_text("Phone: Question does better than the control")).to_be_visible()
        expect(page.get_by_text("Web: Question does better")).not_to_be_visible()
        expect(page.get_by_text("comparisons in segments hold together")).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("button", name="PNG").click()
        assert download.value.path().read_bytes().startswith(b"\x89PNG")
        assert download.value.suggested_filename == "by-channel-segments-1.png"
        page.get_by_role("navigation", name="Main").get_by_role("link", name="Segments").click()
        expect(page.get_by_text("Phone: Question does better than the control")).to_be_visible()


def send_by_channel(client: Client, name: str) -> None:
    """Send 1,200 emails: on the phone a question gets four times the clicks, on the web as many."""
    requests = [
        Request(f"{name}-{i}", {"channel": "Phone" if i % 2 else "Web"}) for i in range(1200)
    ]
    sent_at = datetime.now(UTC)  # so that no report is late, however long it takes
    decisions = list(client.choose_many("by-channel", requests))
    client.reward_many(
        Reward(str(d.decision_id), "c", "click", occurred_at=sent_at)
        for i, d in enumerate(decisions)
        if i // 2 % 5 < (4 if i % 2 and d.slots["subject_line"]["variant"] == "b" else 1)
    )


def step(page: Page, link: str, button: str) -> None:
    page.get_by_role("link", name=link, exact=True).click()
    page.get_by_role("button", name=button).click()


def test_a_share_fills_its_bar_from_top_to_bottom(open_page, server):
    page = open_page(viewport={"width": 1440, "height": 900})
    with server.client() as api:
        api.post("/api/v1/experiments", json=BY_CHANNEL | {"key": "bars"}).raise_for_status()
        api.post("/api/v1/experiments/bars/start").raise_for_status()
        decision = api.post("/api/v1/experiments/bars/choose", json={"subject_id": "u"}).json()
    page.goto(f"/decisions/{decision['decision_id']}")
    shot = page.locator("meter").first.screenshot()  # half of it is filled
    page.goto("about:blank")
    assert page.evaluate(COLOURS, b64encode(shot).decode()) == 1


# Decode a picture, and count the colours one below the other at a fifth of its width, its edges
# left out: they may lie between two points of the screen.
COLOURS = """async (picture) => {
    const image = new Image();
    image.src = `data:image/png;base64,${picture}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.width, image.height];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const x = Math.round(image.width / 5);
    const points = [...Array(image.height - 2).keys()].map((y) =>
        context.getImageData(x, y + 1, 1, 1).data.join());
    return new Set(points).size;
}"""


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


def test_form_rows_come_and_go_without_losing_the_place(open_page):
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


def test_form_on_one_page_works_without_script(open_page):
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
    step(page, "Start", "Start the campaign Plain")
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
    assert page.title().startswith("New campaign")


@pytest.mark.parametrize("width", [390, 1440])
def test_no_page_is_wider_than_its_screen(open_page, width):
    page = open_page(viewport={"width": width, "height": 844})
    for address in (
        "/",
        "/new-experiment/one-page",
        "/decisions",
        "/settings/keys",
        "/settings/people",
        "/settings/connections",
        "/settings/connections/new/mandrill",
        "/settings/tracked-links",
    ):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address


EVENTS = ("delivered", "open", "reply", "unsubscribe", "complaint", "bounce", "order", "refund")


def test_events_are_read_without_scrolling_sideways(open_page, server):
    with server.client() as api, server.sender() as client:
        campaign = BY_CHANNEL | {"key": "all-events", "context": []}
        api.post("/api/v1/experiments", json=campaign).raise_for_status()
        api.post("/api/v1/experiments/all-events/start").raise_for_status()
        decisions = list(client.choose_many("all-events", [Request(f"u-{i}") for i in range(60)]))
        client.reward_many(
            Reward(str(d.decision_id), name, name) for d in decisions[:9] for name in EVENTS
        )
    page = open_page(viewport={"width": 1440, "height": 900})
    page.goto("/experiments/all-events")
    events = page.locator('[data-live="events"]')
    expect(events).to_contain_text("Bounces")
    for width in (1440, 1000, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert events.evaluate("e => e.scrollWidth <= e.clientWidth"), width


def hold(page: Page, address: str) -> list[Route]:
    """Hold back what the page asks for at an address; return the list that it comes into."""
    held: list[Route] = []
    page.route(address, lambda route: held.append(route))  # noqa: PLW0108 - it asks for a function
    return held


def wait_until_held(page: Page, held: list[Route]) -> None:
    def requests() -> list[str]:
        page.evaluate("0")  # a call lets Playwright hand over what has come
        return [route.request.url for route in held]

    wait_until(requests, "request that is held back")


def saved(page: Page) -> None:
    expect(page.locator("[data-saved]")).to_have_text("Saved")


def test_steps_are_autosaved_resumed_simulated_and_started(open_page):
    page = open_page(timezone_id="Europe/Berlin")
    page.goto("/new-experiment")
    field(page, "name").fill("Steps")
    field(page, "slots/0/variants/0/text").fill("One")
    field(page, "slots/0/variants/1/text").fill("Two, as a phone shows it")
    expect(page.locator(".inbox b").nth(1)).to_have_text("Two, as a phone shows it")
    saved(page)
    assert "/drafts/" in page.url, "from then on the draft has an address"
    page.goto("/new-experiment")
    page.get_by_role("link", name="Steps", exact=True).first.click()
    expect(field(page, "slots/0/variants/1/text")).to_have_value("Two, as a phone shows it")
    press(page, "add slots/0/variants")
    expect(field(page, "slots/0/variants/2/text")).to_be_focused()
    field(page, "name").press("Enter")
    expect(page.locator(".steps [aria-current]")).to_contain_text("What counts as success?")
    press(page, "go audience")
    field(page, "ends_at/local").fill("2037-05-01T09:00")
    saved(page)
    page.reload()
    expect(field(page, "ends_at/local")).to_have_value("2037-05-01T09:00")
    assert field(page, "ends_at/offset").input_value() == "120", "summer time in Berlin"
    press(page, "go start")
    for name, typed in {"emails": "30000", "over/amount": "10", "waves": "10", "base": "5"}.items():
        field(page, f"plan/{name}").fill(typed)
    press(page, "simulate")
    field(page, "plan/better").fill("12")  # while it is simulated, or after it
    expect(page.locator("[data-verdict]")).to_be_visible()
    expect(field(page, "plan/better")).to_have_value("12")
    expect(page.locator("#plan-figure .main-svg").first).to_be_visible()
    page.get_by_role("button", name="Start the campaign Steps").click()
    page.get_by_role("link", name="Try it").click()
    expect(page.get_by_text("An email they could get")).to_be_visible()


def test_charts_that_come_late_keep_nothing_else_from_moving(open_page, server):
    page = open_page()
    addresses = hold(page, "**/assets/plotly-*")
    with server.client() as api, server.sender() as client:
        late = BY_CHANNEL | {"key": "late-charts", "name": "Late charts"}
        assert api.post("/api/v1/experiments", json=late).status_code == 201
        assert api.post("/api/v1/experiments/late-charts/start").status_code == 200
        page.goto("/experiments/late-charts")
        for sent in (100, 200):
            list(client.choose_many("late-charts", [Request(f"{sent}-{i}") for i in range(100)]))
            expect(page.locator('[data-live="summary"] dd').first).to_contain_text(f"{sent} ")
            expect(page.locator('[data-chart="shares"] .main-svg')).to_have_count(0)
            wait_until_held(page, addresses)
            if sent == 100:
                addresses.pop().abort()
        addresses.pop().continue_()
        expect(page.locator('[data-chart="shares"] .main-svg').first).to_be_visible()


def test_text_typed_before_the_script_has_come_is_saved_too(open_page):
    page = open_page()
    held = hold(page, "**/steps.js*")
    page.goto("/new-experiment", wait_until="commit")
    field(page, "name").fill("Typed early")
    wait_until_held(page, held)
    assert "/drafts/" not in page.url
    held[0].continue_()
    saved(page)
    page.unroute_all()
    page.clock.install()
    saves = []
    page.on("request", lambda request: saves.append(request.method))
    page.reload()
    expect(field(page, "name")).to_have_value("Typed early")
    page.clock.run_for(QUIET_MS)
    expect(page.locator("[data-saved]")).to_contain_text("Draft, saved by")  # as it came: not again
    assert "POST" not in saves
    field(page, "name").press_sequentially(" on")
    page.clock.run_for(QUIET_MS)
    saved(page)
    assert saves.count("POST") == 1


def test_time_typed_before_the_script_has_come_stays_what_it_is(open_page):
    page = open_page(timezone_id="Europe/Berlin")
    page.goto("/new-experiment")
    field(page, "name").fill("Typed early")
    saved(page)
    held = hold(page, "**/pages.js*")
    page.goto(page.url.rpartition("/")[0] + "/audience", wait_until="commit")
    field(page, "ends_at/local").fill("2037-05-01T09:00")
    wait_until_held(page, held)
    held[0].continue_()
    saved(page)
    page.unroute_all()
    page.reload()
    expect(field(page, "ends_at/local")).to_have_value("2037-05-01T09:00")
    expect(page.locator("[data-zone]").first).to_have_text("Europe/Berlin")


def test_later_editor_is_told_while_typing_and_keeps_theirs(open_page):
    anna, bob = open_page(), open_page()
    anna.goto("/new-experiment")
    field(anna, "name").fill("Shared")
    saved(anna)
    bob.goto(anna.url)
    field(bob, "name").fill("Bob's")
    saved(bob)
    field(anna, "name").fill("Anna's")
    expect(anna.locator("[data-saved]")).to_contain_text("changed this step")
    anna.locator(".actions button.primary").click()
    both = anna.locator("[data-focus]")
    expect(both).to_be_focused()
    expect(both).to_contain_text("Bob's")
    expect(field(anna, "name")).to_have_value("Anna's")
    both.get_by_role("button", name="Keep mine").click()
    bob.reload()
    expect(field(bob, "name")).to_have_value("Anna's")


# A save is stored at once, and its answer is on its way until it is let through.
SLOW_ANSWERS = """() => {
  const real = window.fetch;
  const through = new Promise((resolve) => { window.letThrough = resolve; });
  window.fetch = async (address, given) => {
    const answer = await real(address, given);
    if (String(given.body).includes("do=autosave")) await through;
    return answer;
  };
}"""


def test_a_button_pressed_while_it_saves_is_no_second_person(open_page):
    page = open_page()
    page.goto("/new-experiment")
    field(page, "name").fill("Quick")
    saved(page)

    page.evaluate(SLOW_ANSWERS)
    field(page, "name").fill("Quicker")
    expect(page.locator("[data-saved]")).to_have_text("Saving…")
    field(page, "name").fill("Quickest")
    press(page, "add slots discount")
    expect(page.get_by_role("heading", name="Discount")).to_have_count(0)
    page.evaluate("letThrough()")
    expect(page.get_by_role("heading", name="Discount")).to_be_visible()
    expect(field(page, "name")).to_have_value("Quickest")
    page.reload()
    expect(field(page, "name")).to_have_value("Quickest")


def test_the_steps_and_their_simulation_work_without_script(open_page):
    page = open_page(java_script_enabled=False)
    page.goto("/new-experiment")
    field(page, "name").fill("Unscripted")
    field(page, "slots/0/variants/0/text").fill("One")
    field(page, "slots/0/variants/1/text").fill("Two")
    page.locator(".actions button.primary").click()
    press(page, "go start")
    for name, typed in {"emails": "30000", "over/amount": "6", "waves": "6", "base": "5"}.items():
        field(page, f"plan/{name}").fill(typed)
    field(page, "plan/over/unit").select_option("hours")
    press(page, "simulate")
    verdict = page.locator("[data-verdict]")
    expect(verdict).to_contain_text("cannot learn as planned")
    for step in ("parts", "success", "audience", "learning"):
        press(page, f"go {step}")
        expect(page.locator(".steps [aria-current]")).to_be_visible()
    press(page, "close")
    expect(page.get_by_text("is kept as a draft")).to_be_visible()
