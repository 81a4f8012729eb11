"""The whole life of an experiment in one sitting, in Chromium: from signing in to the audit log.

Each part below is a chapter of it, and each form is first filled in wrongly.
"""

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from bandits.client import ApiError, Client
from bandits.schemas import Request, Reward

LIST = "".join(f"file-{i}@shop.example,{('Web', 'Phone')[i % 2]}\n" for i in range(60))


def test_the_whole_life_of_an_experiment(open_page, server, account):
    page = open_page(signed_in=False)
    sign_in(page, *account)
    create_with_three_parts(page)
    simulate_and_start(page)
    with server.sender() as client:
        send_through_the_api_and_watch(page, client)
        sent_at = datetime.now(UTC).isoformat()  # so that no report is late
        report_an_export(page, send_to_a_list(page), sent_at)
        pause_and_resume(page, client)
        correct_a_typo(page)
        look_at_segments(page)
        try_an_email_out(page)
        find_a_receipt(page)
        stop_and_keep_sending(page, client)
        save_the_result(page)
        read_the_audit_log(page, account[0])
        archive(page, client)


def sign_in(page: Page, email: str, password: str) -> None:
    page.goto("/experiments/summer")
    page.fill("#email", email)
    page.fill("#password", "not this one")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("Wrong email or password.")
    expect(page.locator("#email")).to_have_value(email)
    page.fill("#password", password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    page.get_by_role("link", name="Campaigns").first.click()


def create_with_three_parts(page: Page) -> None:
    page.goto("/new-experiment")
    press(page, "next")
    wrong(page, "name")
    field(page, "name").fill("Summer")
    field(page, "slots/0/variants/0/text").fill("Summer is here")
    field(page, "slots/0/variants/1/text").fill("Ready for sumer?")
    press(page, "add slots content")
    field(page, "slots/1/variants/0/html").fill("<h1>Beach</h1>")
    field(page, "slots/1/variants/1/html").fill("<h1>Mountains</h1>")
    page.locator('button[name="preview"]').first.click()
    expect(page.frame_locator("iframe").first.locator("h1")).to_have_text("Beach")
    press(page, "add slots discount")
    field(page, "slots/2/variants/0/percent").fill("0")
    field(page, "slots/2/variants/1/percent").fill("15")
    press(page, "next")
    at_step(page, "What counts as success?")
    field(page, "metrics/0/weight").fill("a lot")
    field(page, "maturity/amount").fill("0")
    field(page, "window/amount").fill("20")
    field(page, "window/unit").select_option("seconds")
    press(page, "next")
    wrong(page, "metrics/0/weight")
    field(page, "metrics/0/weight").fill("1")
    press(page, "next")
    at_step(page, "Audience and safety")
    field(page, "holdout").fill("80")
    press(page, "add context category")
    field(page, "context/0/name").fill("channel")
    field(page, "context/0/values").fill("Web, Phone")
    press(page, "next")
    wrong(page, "holdout")
    field(page, "holdout").fill("0")
    press(page, "next")
    at_step(page, "How should it learn?")
    page.get_by_text("Choose it myself").click()
    field(page, "learn_every/amount").fill("soon")
    press(page, "next")
    wrong(page, "learn_every/amount")
    field(page, "learn_every/amount").fill("0.5")
    press(page, "next")
    at_step(page, "Before you start")


def simulate_and_start(page: Page) -> None:
    for name, typed in {"emails": "many", "over/amount": "10", "waves": "10", "base": "5"}.items():
        field(page, f"plan/{name}").fill(typed)
    press(page, "simulate")
    wrong(page, "plan/emails")
    field(page, "plan/emails").fill("30,000")
    press(page, "simulate")
    expect(page.locator("[data-verdict]")).to_be_visible()
    expect(page.locator("#plan-figure .main-svg").first).to_be_visible()
    assert picture(page, page.locator("[data-figure-png]"))
    rows = table(page, page.get_by_role("link", name="CSV"))
    assert {r["way to send"] for r in rows} > {"this plan"}
    assert rows[-1]["emails sent"] == "30000"
    page.get_by_role("button", name="Start the campaign Summer").click()
    expect(page.get_by_text("No recipients yet.")).to_be_visible()


def send_through_the_api_and_watch(page: Page, client: Client) -> None:
    wave(client, "first", 200)
    summary = page.locator('[data-live="summary"]')
    expect(summary).to_contain_text("200")
    expect(page.locator('[data-chart="shares"] .main-svg').first).to_be_visible()
    page.get_by_text("Show as table").first.click()
    page.mouse.wheel(0, 400)
    page.wait_for_function("scrollY > 0")
    place = page.evaluate("scrollY")
    wave(client, "second", 300)
    expect(summary).to_contain_text("500")
    expect(page.locator("details.as-table").first).to_have_attribute("open", "")
    assert page.evaluate("scrollY") == place, "the reader's place is kept"
    page.get_by_role("heading", name="Rates over time").click()
    expect(page.locator('[data-chart="rewards"] .main-svg').first).to_be_visible()


def send_to_a_list(page: Page) -> list[str]:
    """Upload a list of recipients, and download it with the version chosen for each."""
    page.get_by_role("link", name="Files").click()
    upload(page, "recipients", "nothing.pdf", "who,how\n")
    expect(page.locator("#recipients-error")).to_contain_text(".csv")
    upload(page, "recipients", "list.csv", f"who,how\n{LIST}")
    choose = page.get_by_role("button", name="Continue")
    choose.click()
    expect(page.get_by_role("alert")).to_contain_text(
        "Choose the column that says who each row is."
    )
    page.get_by_label("Column", exact=True).select_option("who")
    page.get_by_label("Channel").select_option("how")
    choose.click()
    expect(page.get_by_text("Chosen for 60 recipients")).to_be_visible()
    rows = table(page, page.get_by_role("link", name="Download the choices"))
    assert [r["subject_id"] for r in rows] == [line.split(",")[0] for line in LIST.split()]
    assert {r["discount.percent"] for r in rows} == {"0", "15"}
    return [row["decision_id"] for row in rows]


def report_an_export(page: Page, ids: list[str], at: str) -> None:
    """Upload what the mailer says they did, and when."""
    page.goto("/experiments/summer/files")
    did = "".join(f"{i},{('no', 'yes')[n < 20]},{at}\n" for n, i in enumerate(ids))
    head = "decision_id,click,occurred_at\n"
    upload(page, "results", "export.csv", f"{head}{did}somebody-else,yes,{at}\n")
    page.get_by_role("button", name="Report these results").click()
    expect(page.get_by_text("20 events")).to_be_visible()
    (missed,) = table(page, page.get_by_role("link", name="download each with its line"))
    assert missed["line"] == "62"
    page.get_by_role("link", name="See the results").click()
    expect(page.locator('[data-live="summary"]')).to_contain_text("560")


def pause_and_resume(page: Page, client: Client) -> None:
    step(page, "Pause", "Pause the campaign Summer")
    expect(page.get_by_text("Paused:")).to_be_visible()
    with pytest.raises(ApiError, match="409"):
        wave(client, "paused", 1)
    step(page, "Resume", "Resume the campaign Summer")
    wave(client, "resumed", 100)
    expect(page.locator('[data-live="summary"]')).to_contain_text("660")


def correct_a_typo(page: Page) -> None:
    page.get_by_role("link", name="Edit").click()
    field(page, "floor").fill("70")
    press(page, "save")
    wrong(page, "floor")
    field(page, "floor").fill("2")
    field(page, "slots/0/variants/1/text").fill("Ready for summer?")
    press(page, "save")
    expect(page.get_by_text("Is this the same offer with a typo corrected")).to_be_visible()
    page.get_by_label("The same offer, corrected").check()
    page.get_by_role("button", name="Save").last.click()
    expect(page.locator("table.results").get_by_text("Ready for summer?").first).to_be_visible()


def look_at_segments(page: Page) -> None:
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Segments").click()
    page.get_by_role("link", name="Summer").click()
    expect(page.get_by_role("heading", name="By channel")).to_be_visible()
    rows = table(page, page.get_by_role("link", name="CSV"))
    assert {r["segment"] for r in rows} >= {"Web", "Phone"}


def try_an_email_out(page: Page) -> None:
    page.get_by_role("link", name="Try it").click()
    page.get_by_label("channel").select_option("Phone")
    page.get_by_label("Discount").select_option("15 % off")
    page.get_by_role("button", name="Show the email").click()
    expect(page.get_by_text("15 % off").last).to_be_visible()


def find_a_receipt(page: Page) -> None:
    page.get_by_role("navigation", name="Experiment").get_by_role("link", name="Decisions").click()
    expect(page.get_by_role("row")).to_have_count(51)
    page.get_by_role("link", name="Find one by its id or recipient").click()
    page.get_by_label("Decision id").fill("not an id")
    page.get_by_role("button", name="Show the receipt").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be a decision's id")
    page.get_by_label("Decision id").fill("nothing-like-it")
    page.get_by_role("button", name="Show the receipt").click()
    expect(page.get_by_role("alert")).to_contain_text("no decision “nothing-like-it”")
    page.get_by_role("textbox", name="Recipient").fill("file-1@shop.example")
    page.get_by_role("button", name="Show their emails").click()
    page.get_by_role("rowheader").get_by_role("link").click()
    expect(page.get_by_role("heading", name="Why this email?")).to_be_visible()
    expect(page.get_by_text("It was drawn with a chance of")).to_be_visible()
    expect(page.get_by_text("Verified: recomputing gives the same choice")).to_be_visible()
    features = page.locator("section", has=page.locator("#context"))
    expect(features).to_contain_text("Phone")


def stop_and_keep_sending(page: Page, client: Client) -> None:
    page.goto("/experiments/summer")
    page.get_by_role("link", name="Stop…").click()
    version = "Ready for summer? · b · 15 % off"
    leading = page.get_by_role("link", name=f"Stop and keep sending “{version}”…")
    if leading.count():  # on a slow machine its results are final by now, and it has a button
        leading.click()
    else:
        page.locator("#ship").select_option(version)
        page.get_by_role("button", name="Stop and keep sending this one…").click()
    page.get_by_role("button", name="Stop Summer and keep sending “Ready for summer?").click()
    expect(page.get_by_text("Stopped after 660 emails. Everyone now gets")).to_be_visible()
    decisions = list(client.choose_many("summer", [Request("after-1"), Request("after-2")]))
    assert {d.slots["discount"]["variant"] for d in decisions} == {"d15"}
    assert all(d.shipped for d in decisions)


def save_the_result(page: Page) -> None:
    """Save every table and chart of the result."""
    page.goto("/experiments/summer")
    expect(page.get_by_role("button", name="Print")).to_be_visible()
    for name in ("shares", "versions", "parts", "health", "rewards"):
        button = page.locator(f'[data-png="{name}"]')
        if page.locator(f".folded #{name}-title").count():
            page.locator(f"#{name}-title").click()
        expect(button).to_be_visible()
        assert picture(page, button), name
        panel = page.locator("section", has=page.locator(f"#{name}-title"))
        assert len(table(page, panel.get_by_role("link", name="CSV"))) > 1, name
    with page.expect_download() as download:
        page.get_by_role("link", name="JSON").click()
    assert download.value.suggested_filename == "summer-results.json"


def read_the_audit_log(page: Page, email: str) -> None:
    """Read, search and save who changed what, with before and after."""
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Settings").click()
    page.get_by_role("link", name="Audit log").click()
    page.get_by_label("Experiment, person or action").fill("summer")
    page.get_by_label("What", exact=True).select_option("Experiments")
    page.get_by_label("Who", exact=True).select_option(email)
    page.get_by_role("button", name="Show").click()
    entries = page.locator("ol.changes > li")
    expect(entries).to_have_count(6)
    expect(entries.first).to_contain_text("Running → Stopped, everyone gets")
    edit = entries.filter(has_text="Set-up changed")
    edit.locator("summary").click()
    expect(edit.locator("del", has_text="Ready for sumer?")).to_be_visible()
    expect(edit.locator("ins", has_text="Ready for summer?")).to_be_visible()
    expect(page.get_by_text(f"by {email}").first).to_be_visible()
    rows = table(page, page.get_by_role("link", name="CSV"))
    done = ["move", "configure", "move", "move", "move", "create"]
    assert [row["action"] for row in rows] == done
    assert "Ready for sumer?" in rows[1]["before"]
    assert "Ready for summer?" in rows[1]["after"]
    page.get_by_label("What", exact=True).select_option("Drafts")
    page.get_by_label("Experiment, person or action").fill("")
    page.get_by_role("button", name="Show").click()
    expect(entries.filter(has_text="Draft “Summer”: Draft ended")).to_have_count(1)


def archive(page: Page, client: Client) -> None:
    page.goto("/experiments/summer")
    step(page, "Archive…", "Archive Summer")
    with pytest.raises(ApiError, match="409"):
        wave(client, "archived", 1)


def field(page: Page, name: str) -> Locator:
    return page.locator(f'[name="{name}"]')


def press(page: Page, action: str) -> None:
    page.locator(f'button[value="{action}"]').last.click()


def at_step(page: Page, question: str) -> None:
    expect(page.locator(".steps [aria-current]")).to_contain_text(question)


def step(page: Page, link: str, button: str) -> None:
    page.get_by_role("link", name=link, exact=True).click()
    page.get_by_role("button", name=button).click()


def wrong(page: Page, name: str) -> None:
    """Find the summary of what is wrong in focus, and follow it to the field, which says so."""
    summary = page.locator("[data-focus]")
    expect(summary).to_be_focused()
    summary.locator(f'a[href$="#{name}"]').first.click()
    at = page.locator(f'[id="{name}"]')
    expect(at).to_have_attribute("aria-invalid", "true")
    expect(at).to_be_in_viewport()
    expect(page.locator(f'[id="{name}-error"]')).to_be_visible()


def upload(page: Page, kind: str, name: str, text: str) -> None:
    file = {"name": name, "mimeType": "text/csv", "buffer": text.encode()}
    page.set_input_files(f"#{kind}-file", [file])  # type: ignore[list-item]
    page.get_by_role("button", name=f"Upload {kind}").click()


def saved(page: Page, button: Locator) -> Path:
    with page.expect_download() as download:
        button.click()
    return Path(download.value.path())


def table(page: Page, link: Locator) -> list[dict[str, str]]:
    with saved(page, link).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def picture(page: Page, button: Locator) -> bool:
    return saved(page, button).read_bytes().startswith(b"\x89PNG")


def wave(client: Client, name: str, n: int) -> None:
    """Send n emails; who is asked a question clicks."""
    requests = [Request(f"{name}-{i}", {"channel": ("Web", "Phone")[i % 2]}) for i in range(n)]
    sent_at = datetime.now(UTC)  # so that no report is late, however long it takes
    decisions = list(client.choose_many("summer", requests))
    client.reward_many(
        Reward(str(d.decision_id), "c", "click", occurred_at=sent_at)
        for d in decisions
        if d.slots["subject_line"]["variant"] == "b"
    )
