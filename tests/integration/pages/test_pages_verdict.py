"""One verdict on all pages: in every state, and in four stories in which pages once misled."""

import csv
import io
import re
from html import unescape

import pytest

from bandits.engine import Engine
from tests.campaigns import (
    DAY,
    PERSONAL,
    START,
    STATES,
    TASTES,
    CampaignMaker,
    by_variant,
    make_ship,
)
from webapp.pages.experiment.verdict_text import VerdictText, verdict_text
from webapp.services import Services

OLD_SENTENCES = (
    "You can stop and keep sending it",
    "Stopping now is sound",
    "Were you to send only",
    "give up at most",
)


def words(html: str) -> str:
    """The text of a page, as a reader sees it."""
    text = re.sub(r"<(script|style|head).*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).replace("\u202f", " ").split())


@pytest.fixture
def maker(site) -> CampaignMaker:
    """A maker of campaigns whose draws follow from a seed."""
    site.engine = Engine(site.store, site.clock, lambda n: b"s" * n)
    Services(
        site.engine,
        site.accounts,
        site.store.drafts,
        site.store.connections,
        site.store.tracked_links,
        site.store.spool,
    ).attach(site.app)
    site.clock.now = START
    return CampaignMaker(site.engine, site.clock)


@pytest.fixture
def tell(site, manager):
    """Read what every page, the API's answer and each file say of a campaign, which is one."""

    def tell(key: str) -> VerdictText:
        reader = type(manager)(site, manager.email)  # whose session began today
        record, results = site.store.experiments.record(key), site.engine.results(key)
        text = verdict_text(record, results, site.clock())
        plain = text.text.replace("\u202f", " ")
        pages = [words(reader.get(f"/experiments/{key}").text)]
        if record.state in {"running", "paused"}:
            pages.append(words(reader.get(f"/experiments/{key}/stop").text))
        for sentence in (*text.earlier, text.reset):
            assert sentence in pages[0]
        for page in pages:
            assert plain in page
            assert not [sentence for sentence in OLD_SENTENCES if sentence in page]
        row = words(reader.get("/").text)
        assert text.action in row
        assert text.leader is None or text.headline in row
        answer = reader.get(f"/experiments/{key}/results.json").json
        assert answer["verdict"]["text"] == text.text
        assert answer["verdict"]["action"] == results.verdict.action
        table = csv.DictReader(io.StringIO(reader.get(f"/experiments/{key}/results.csv").text))
        assert {line["verdict"] for line in table} == {text.text}
        primary = 'class="button primary" href="/experiments'
        if len(pages) > 1:
            stop = reader.get(f"/experiments/{key}/stop").text
            assert (primary in stop) == (results.verdict.action == "ship")
        return text

    return tell


REASONS = {
    "draft": "not_started",
    "nothing sent": "nothing_sent",
    "nothing final": "nothing_final",
    "too early": "not_enough",
    "few days": "few_days",
    "could lose": "could_lose",
    "ship": "leads",
    "keep personalising": "personal_better",
    "lifts move": "lifts_move",
    "split wrong": "split",
    "shipped": "leads",
}


@pytest.mark.parametrize("state", STATES)
def test_pages_say_one_verdict_in_every_state(maker, tell, state):
    key = STATES[state](maker)
    verdict = maker.engine.results(key).verdict
    assert verdict.reason == REASONS[state]
    text = tell(key)
    assert text.settled == (state == "ship")
    assert bool(text.earlier) == (state == "could lose"), "what held once and does not hold now"


def test_page_answers_what_a_campaign_brought(site, maker, manager):
    key = make_ship(maker)
    reader = type(manager)(site, manager.email)
    page = words(reader.get(f"/experiments/{key}").text)
    gain = maker.engine.results(key).gain.over_equal_split
    assert f"Yes: {gain.estimate:,.0f} clicks more" in page
    assert "“Still thinking about that balcony?” earned less than “48 hours only: 10 % off”" in page
    assert "simulated" in reader.get(f"/experiments/{key}/live").json["parts"]["answers"]


def test_story_of_a_personal_policy_that_earns_more_than_any_version(maker, tell):
    """Before: "Were you to send only “b”, you would give up at most 0.82 clicks per 1,000 … You
    can stop and keep sending it", where the policy earns .306 and b alone .225."""
    key = maker.make("personal", **PERSONAL)
    maker.days(key, 10, 800, TASTES, "xy")
    text = tell(key)
    assert text.headline == "Choosing by recipient earns more than any one version."
    assert text.action == "Keep personalising."
    cost = re.search(r"about ([\d.]+) clicks per 1,000 emails", text.cost)
    assert cost is not None
    assert 40 < float(cost[1]) < 120


def test_story_of_a_campaign_that_is_three_hours_old(maker, tell):
    """Before: the campaign page kept it running for a week, and the stop page said "Stopping now
    is sound", 3.1 hours after the start."""
    key = maker.make("three-hours")
    for _ in range(5):
        maker.send(key, 400, by_variant(a=0.1, b=0.3))
        maker.clock.now += 600
    maker.clock.now = START + 3.1 * 3600
    maker.engine.learn(key)
    text = tell(key)
    assert text.headline.endswith("is better than every other version.")
    assert text.action.startswith("Keep running")
    assert "Only 1 of 7 days of sending have final results." in text.why


def test_story_of_emails_that_all_were_sent_on_two_days(maker, tell):
    """Before: "You can stop and keep sending it", eight days after the start, where all emails that
    counted were sent on the first two; b was better on these, and worse on every day since."""
    rule = {"metrics": {"click": {}}, "window_seconds": 6.5 * DAY, "maturity_seconds": 60}
    key = maker.make("two-days", policy={"name": "uniform"}, reward=rule)
    maker.days(key, 2, 900, by_variant(a=0.1, b=0.3))
    maker.days(key, 6, 900, by_variant(a=0.2, b=0.1))
    text = tell(key)
    assert text.headline.startswith("“48 hours only: 10 % off” is better")
    assert text.action.startswith("Keep running")
    assert "Only 2 of 7 days of sending have final results." in text.why
    maker.clock.now += 7 * DAY
    maker.engine.learn(key)
    later = tell(key)
    assert "Stop and send “48 hours" not in later.text, "what is final now speaks against it"
    assert "were removed: differences between versions changed over time." in later.reset


def test_story_of_a_version_that_joins(site, maker, tell, manager):
    """Before: the control's lift went from shown to unknown without new data, and the version that
    was never sent had a "chance to be best" of 47.9 %."""
    key = maker.make("joins")
    maker.days(key, 8, 600, by_variant(a=0.1, b=0.2))
    before = maker.engine.results(key)
    assert tell(key).action == "Stop and send “48 hours only: 10 % off”."
    maker.add_variant(key, "c", "Your May favourites")
    after = maker.engine.results(key)
    text = tell(key)
    assert after.arms[0].value == before.arms[0].value, "what is known of the others stays"
    assert after.arms[1].value == before.arms[1].value
    assert after.arms[1].lift.low > 0
    assert "“Your May favourites” is too new to compare." in text.why
    assert "better than every version compared so far" in text.headline
    page = type(manager)(site, manager.email).get(f"/experiments/{key}").text
    (row,) = [
        r for r in re.findall(r"<tr.*?</tr>", page, re.DOTALL) if "Your May" in r and "Chance" in r
    ]
    cells = [words(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
    assert cells[0].endswith("too new to compare")
    assert cells[5:7] == ["–", "–"], "neither a chance nor a loss of what was never sent"
