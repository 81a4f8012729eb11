"""Page "What was set aside": its states, its figures and its file."""

import csv
import html
import io
import re

import msgspec
import pytest

from bandits.schemas import Request, Reward, Tracking
from tests.integration.pages.conftest import FormReader

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36"
PATH = "/experiments/sale/set-aside"


def words(page):
    """The text of a page, as a reader sees it."""
    return " ".join(re.sub(r"<[^>]+>", " ", html.unescape(page)).replace("\u202f", " ").split())


def report(site, ids, links=1, ip="198.51.100.7"):
    rewards = [
        Reward(
            decision_id,
            f"e-{ip}-{link}",
            "click",
            tracking=Tracking(
                "click", ip, CHROME, f"https://shop.example/{link}", "ann@company.example"
            ),
        )
        for decision_id in ids
        for link in range(links)
    ]
    assert site.engine.reward(rewards).accepted == len(rewards)


@pytest.fixture
def scanned(site):
    """A campaign of forty emails; people click ten of them, a scanner five."""
    site.make(machine_rules=1)
    made = site.engine.choose("sale", [Request(f"s-{i}") for i in range(40)])
    ids = [str(d.decision_id) for d in made]
    site.clock.now += 400.0
    report(site, ids[:10])
    report(site, ids[10:15], links=6, ip="192.0.2.9")
    site.clock.now += 121.0
    site.engine.learn("sale")
    return ids


def test_page_says_that_everything_counts_without_rules(site, viewer, manager):
    site.make()
    page = viewer.get(PATH).text
    assert "Every open and click counts" in page
    assert "Edit the campaign" not in page
    assert "Edit the campaign" in manager.get(PATH).text


def test_page_waits_for_the_first_judged_event(site, viewer, admin):
    site.make(machine_rules=1)
    page = viewer.get(PATH).text
    assert "Nothing to judge yet" in page
    assert "Connect your mailer" not in page
    assert "Connect your mailer" in admin.get(PATH).text


def test_page_counts_what_was_set_aside(site, viewer, scanned):
    text = words(viewer.get(PATH).text)
    assert "30 of 40 opens and clicks were set aside: 75.0 %." in text
    assert "Many links within seconds" in text
    assert "Several different links of the email were followed within seconds. 30" in text
    assert "Clicks 10 30 75.0 % 0" in text
    assert "Companies and own domains 10 30 75.0 %" in text
    assert "Control group" in text


def test_page_has_a_chart_of_the_reasons(site, viewer, scanned):
    page = viewer.get(PATH).text
    figure = html.unescape(re.search(r'data-figure="([^"]*)"', page)[1])
    (bars,) = msgspec.json.decode(html.unescape(figure))["data"]
    assert (bars["y"], bars["x"], bars["name"]) == (["Many links within seconds"], [30], "Clicks")


def test_file_has_the_figures_of_the_page(site, viewer, scanned):
    answer = viewer.get(f"{PATH}.csv")
    assert "sale-set-aside.csv" in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    by = {kind: [r for r in rows if r["by"] == kind] for kind in ("reason", "event", "version")}
    assert [r["set_aside"] for r in by["reason"]] == ["30"]
    assert [(r["counted"], r["set_aside"]) for r in by["event"]] == [("10", "30")]
    assert sum(int(r["set_aside"]) for r in by["version"]) == 30


def test_campaign_page_names_what_was_set_aside(site, viewer, scanned):
    text = words(viewer.get("/experiments/sale").text)
    assert "Set aside as made by machines: 30 × click. See why" in text
    receipt = words(viewer.get(f"/decisions/{scanned[10]}").text)
    assert "no: set aside. Several different links" in receipt


def test_page_says_how_far_a_change_of_the_rules_has_come(site, manager, scanned):
    fields = manager.form("/experiments/sale/edit", "version")
    assert fields["machine_rules"] == "1"
    done = manager.post("/experiments/sale/edit", fields | {"machine_rules": ""})
    assert done.status_code in {200, 302}, words(done.text)
    assert "0 % of the emails are judged by the new rules so far" in words(manager.get(PATH).text)
    assert site.engine.rescore("sale")
    assert "Every open and click counts" in manager.get(PATH).text


def test_form_offers_the_newest_rules_to_a_new_campaign(site, manager):
    page = manager.get("/new-experiment/one-page").text
    fields = FormReader(page, "name").fields
    assert fields["machine_rules"] == "1"


def test_form_refuses_rules_that_are_not_in_its_list(site, manager, scanned):
    fields = manager.form("/experiments/sale/edit", "version")
    answer = manager.post("/experiments/sale/edit", fields | {"machine_rules": "7"})
    assert "choose one of the list" in answer.text
