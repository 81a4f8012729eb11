"""Events on the campaign page: by version, from the first on, beside the score."""

import csv
import io
import re

import msgspec
import pytest

from bandits.rewards import RewardRule
from bandits.schemas import Request, Reward
from webapp.pages.experiment.events import recipe_text

REWARD = {
    "metrics": {
        "click": {},
        "order": {"weight": 0.5, "count": "sum", "high": 500.0},
        "unsubscribe": {"weight": -3.0},
    },
    "window_seconds": 1000.0,
    "maturity_seconds": 10.0,
}
POLICY = {"name": "uniform"}


def words(html):
    """The text of a part, as a reader sees it."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("\u202f", " ").split())


def panel(visitor, path="/experiments/sale"):
    """The panel of events, as HTML."""
    page = visitor.get(path).text
    return page.split('aria-labelledby="events-title"')[1].split("</section>")[0]


def report(site, events):
    """Send 400 emails and report events, each of the first so many; learn."""
    requests = [Request(f"s{site.clock.now}-{i}") for i in range(400)]
    ids = [str(d.decision_id) for d in site.engine.choose("sale", requests)]
    for name, (first, value) in events.items():
        site.engine.reward([Reward(i, name, name, value) for i in ids[:first]])
    site.clock.now += 11
    site.engine.learn("sale")


def test_events_panel_waits_for_the_first_event(site, viewer):
    site.make(reward=REWARD, policy=POLICY)
    report(site, {})
    assert "appear here as soon as your mailer or shop reports the first" in panel(viewer)
    assert "<table" not in panel(viewer)


def test_events_panel_shows_rates_so_far_with_the_open_share(site, viewer):
    site.make(reward=REWARD, policy=POLICY)
    report(site, {"open": (400, 1.0), "click": (40, 1.0), "order": (8, 25.0)})
    html = panel(viewer)
    text = words(html)
    assert "So far: 100 % of emails can still get events." in text
    assert "Score = 1 × click + 0.5 × order − 3 × unsubscribe." in text
    head = re.findall(r'columnheader" scope="col"[^>]*>(.*?)</th>', html, re.DOTALL)
    assert [words(cell) for cell in head][:7] == [
        "Version",
        "Score",
        "Clicks",
        "Orders",
        "Order value per email",
        "Unsubscribes ↓ less is better",
        "Opens",
    ]
    assert text.count("100.0 % so far") == 7  # six versions and the control group
    assert "vs. control" not in text.split("How we know")[0].replace("“vs. control” appears", "")


def test_events_panel_shows_intervals_and_differences_once_results_are_final(site, viewer):
    site.make(reward=REWARD, policy=POLICY, slots=[SUBJECT], exclude=[], control={})
    report(site, {"open": (400, 1.0), "complaint": (1, 1.0)})
    site.clock.now += 1000
    site.engine.learn("sale")
    html = panel(viewer)
    text = words(html)
    assert "So far:" not in text  # nothing can change any more
    assert "100.0 % 95 % interval from" in text
    assert "to +" in text
    assert "vs. control" in text
    assert "“vs. control” appears once the version and the control together have 50" in text
    assert "differences of events from the control hold together" in text


SUBJECT = {
    "key": "subject_line",
    "kind": "subject_line",
    "variants": [{"key": "a"}, {"key": "b"}],
}


def test_events_panel_stacks_more_events_than_fit_side_by_side(site, viewer):
    site.make(reward=REWARD, policy=POLICY)
    report(site, {"click": (40, 1.0)})
    assert 'class="results events"' in panel(viewer)
    report(site, {"open": (90, 1.0), "complaint": (1, 1.0), "delivered": (9, 1.0)})
    html = panel(viewer)
    assert html.count('class="results events blocks"') == 2, "versions shown at once, and others"
    cells = re.findall(r'<td role="cell" class="drawn[^"]*" data-label="([^"]*)"', html)
    assert set(cells) == {
        "Score",
        "Clicks",
        "Orders",
        "Order value per email",
        "Unsubscribes (less is better)",
        "Delivered",
        "Opens",
        "Complaints (less is better)",
    }


def test_events_are_exported(site, viewer):
    site.make(reward=REWARD, policy=POLICY)
    report(site, {"open": (100, 1.0), "order": (8, 25.0)})
    answer = viewer.get("/experiments/sale/events.csv")
    assert answer.mimetype == "text/csv"
    assert 'filename="sale-events.csv"' in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 4 * 7  # click, order, unsubscribe, open
    opened = [row for row in rows if row["event"] == "open"]
    assert sum(int(row["emails"]) for row in opened) == 100
    assert opened[-1]["version"] == "control group"
    assert {row["weight"] for row in opened} == {""}
    orders = [row for row in rows if row["event"] == "order"]
    assert sum(float(row["value_so_far"]) for row in orders) == 200.0


def test_events_panel_is_kept_up_to_date(site, viewer):
    site.make(reward=REWARD, policy=POLICY)
    report(site, {"open": (400, 1.0)})
    assert "Opens" in viewer.get("/experiments/sale/live").json["parts"]["events"]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"metrics": {"click": {}}}, ""),
        ({"metrics": {"click": {"weight": 2}}}, "2 × click"),
        ({"metrics": {"bounce": {"weight": -1}, "click": {}}}, "−1 × bounce + 1 × click"),
        (
            {"metrics": {"click": {}}, "costs": {"gift": {"yes": 0.1}}},
            "1 × click − cost of the version",
        ),
    ],
)
def test_recipe_says_how_the_score_adds_up(rule, text):
    assert recipe_text(declared(rule)) == text


def declared(fields):
    """Declare a rule."""
    return msgspec.convert(fields, RewardRule)
