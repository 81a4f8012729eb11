"""One verdict on all pages: in every state, and in four stories in which pages once misled.

Each story quotes what the pages said of the same emails before there was one verdict.
"""

import csv
import io
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

import webapp
from bandits.actors import key_number
from bandits.engine import Engine
from storage import secrets_table
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


class Paper(HTMLParser):
    """Collects the text of a page that is printed: without what `print.css` hides."""

    VOID = frozenset(
        {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
    )

    def __init__(self, html: str) -> None:
        super().__init__()
        sheet = (Path(webapp.__file__).parent / "static/styles/print.css").read_text()
        (selectors,) = re.findall(r"([^{}]+)\{\s*display: none !important;\s*\}", sheet)
        self.hidden = [selector.split() for selector in selectors.split(",")]
        self.open: list[set[str]] = []  # ".class", "#id" and "[attribute]" of the elements around
        self.texts: list[str] = []
        self.feed(html)

    @property
    def text(self) -> str:
        return words(" ".join(self.texts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            classes = {f".{name}" for key, value in attrs if key == "class" and value
                       for name in value.split()}  # fmt: skip
            ids = {f"#{value}" for key, value in attrs if key == "id"}
            self.open.append({tag, *classes, *ids, *(f"[{key}]" for key, _ in attrs)})

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not any(self.matches(selector) for selector in self.hidden):
            self.texts.append(data)

    def matches(self, selector: list[str]) -> bool:
        """Return true where the compounds of a selector match elements around, in their order."""
        elements = iter(self.open)
        return all(any(compound in element for element in elements) for compound in selector)


@pytest.fixture
def maker(site, monkeypatch) -> CampaignMaker:
    """A maker of campaigns whose draws, and hashes of recipients, are the same in every run."""
    with monkeypatch.context() as patch:
        patch.setattr(secrets_table.secrets, "token_bytes", lambda n: b"s" * n)
        site.store.secret("subjects")
    site.engine = Engine(site.store, site.clock, lambda n: b"s" * n)
    Services(
        site.engine,
        site.accounts,
        site.store.drafts,
        site.store.connections,
        site.store.tracked_links,
        site.store.spool,
        site.store.outgoing,
    ).attach(site.app)
    site.clock.now = START
    return CampaignMaker(site.engine, site.clock)


@pytest.fixture
def tell(site, manager):
    """Read what every page, print, the API and each file say of a campaign, which is one."""
    token = site.accounts.keys.create("reports", ["read"], at=site.clock(), by="test").token
    api = site.visitor().client

    def tell(key: str) -> VerdictText:
        reader = type(manager)(site, manager.email)  # whose session began today
        record, results = site.store.experiments.record(key), site.engine.results(key)
        with site.app.app_context():
            text = verdict_text(record, results, site.clock())
        plain = text.text.replace("\u202f", " ")
        page = reader.get(f"/experiments/{key}").text
        live = reader.get(f"/experiments/{key}/live").json["parts"]["summary"]
        pages = [words(page), Paper(page).text, words(live)]
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
        address = f"/api/v1/experiments/{key}/results"
        answered = api.get(address, headers={"Authorization": f"Bearer {token}"}).json["verdict"]
        assert answered == reader.get(f"/experiments/{key}/results.json").json["verdict"]
        assert (answered["text"], answered["action"]) == (text.text, results.verdict.action)
        table = csv.DictReader(io.StringIO(reader.get(f"/experiments/{key}/results.csv").text))
        assert {line["verdict"] for line in table} == {text.text}
        primary = 'class="button primary" href="/experiments'
        if record.state in {"running", "paused"}:
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
    "many events": "few_days",
    "guarded": "few_days",
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


def test_pages_compare_nothing_while_emails_are_not_sent_as_intended(site, maker, manager):
    key = STATES["split wrong"](maker)
    reader = type(manager)(site, manager.email)
    page = reader.get(f"/experiments/{key}").text
    lift = maker.engine.results(key).arms[1].lift
    assert lift.measurable
    assert f"+{100 * lift.estimate:.2f}" not in page
    text = words(page)
    assert "vs. control" not in text
    assert ", better" not in text
    assert "> 99.9 %" not in text, "no chance to be best"
    assert "“–” cannot be told yet. Emails are not sent as intended." in text
    assert "Versions are not compared: emails are not sent as intended." in text


def test_stop_page_gives_the_cost_only_where_it_holds_from_now_on(site, maker, manager):
    reader = type(manager)(site, manager.email)

    def stop(state):
        return words(reader.get(f"/experiments/{STATES[state](maker)}/stop").text)

    assert "What that costs from now on cannot be told yet." in stop("lifts move")
    personal = stop("keep personalising")
    assert "You can still end the campaign now. The cost is above." in personal


@pytest.mark.parametrize("check", ["split", "cancelled"])
def test_pages_name_the_key_that_no_comparison_can_be_trusted_for(site, maker, tell, check):
    """Before: Health said so, and the page advised to stop and send the winner."""
    shop, old = (
        site.accounts.keys.create(name, ["choose"], at=START, by="test").key.actor
        for name in ("Shop", "Old sender")
    )
    key = maker.make("distrusted", days_ago=8, policy={"name": "uniform"})
    for _ in range(8):
        maker.send(key, 300, by_variant(a=0.1, b=0.3), actor=shop)
        rates = by_variant(a=1.0, b=1.0) if check == "cancelled" else by_variant(a=0.1, b=0.3)
        decisions = maker.send(key, 120, rates, actor=old)
        dropped = [d for d in decisions if d.slots["subject_line"]["variant"] == "b"]
        if check == "cancelled":
            dropped = decisions[:10]
        maker.clock.now += 60.0
        maker.engine.cancel([str(d.decision_id) for d in dropped], actor=old)
        maker.clock.now += DAY - 60.0
        maker.engine.learn(key)
    verdict = maker.engine.results(key).verdict
    assert (verdict.action, verdict.reason) == ("check_health", "sender")
    assert (verdict.sender.key, verdict.sender.check) == (key_number(old), check)
    text = tell(key)
    does = "drops some versions" if check == "split" else "cancels emails after"
    assert text.headline.startswith(f"The API key “Old sender” {does}")
    assert text.action == "Look at Health before you act."
    assert text.leader is None
    assert text.earlier == (), "no claim is recorded while none can be trusted"


def test_page_answers_what_a_campaign_brought(site, maker, manager):
    key = make_ship(maker)
    reader = type(manager)(site, manager.email)
    page = words(reader.get(f"/experiments/{key}").text)
    gain = maker.engine.results(key).gain.over_equal_split
    assert f"Yes: {gain.estimate:,.0f} clicks more" in page
    assert "“Still thinking about that balcony?” earned less than “48 hours only: 10 % off”" in page
    assert "simulated" in reader.get(f"/experiments/{key}/live").json["parts"]["answers"]


def test_story_of_a_personal_policy_that_earns_more_than_any_version(maker, tell):
    """Two versions that suit one half of recipients each.

    Before, both pages: "It chooses by recipient. Were everybody to get the same version, “48 hours
    only: 10 % off” would do best so far, though others could be better. Were you to send only “48
    hours only: 10 % off” from now on, you would give up at most 52 clicks per 1,000 emails." In
    truth 81: that was the cost beside the other version, not beside choosing by recipient.
    """
    key = maker.make("personal", **PERSONAL)
    maker.days(key, 10, 800, TASTES, "xy")
    text = tell(key)
    assert text.headline == "Choosing by recipient earns more than any one version."
    assert (text.action, text.settled) == ("Keep personalising.", False)
    said = re.fullmatch(
        r"One version for all would cost about ([\d.]+) clicks per 1,000 emails"
        r" \(between ([\d.]+) and ([\d.]+), 95 % sure\)\.",
        text.cost.replace("\u202f", " "),
    )
    assert said is not None
    about, low, high = map(float, said.groups())
    assert low < 81 < high, "the policy earns .306 and one version .225"
    assert 60 < about < 100


def test_story_of_a_campaign_that_is_three_hours_old(maker, tell):
    """A clear leader, 3.1 hours after the start.

    Before, the campaign page: "“48 hours only: 10 % off” leads: every other version is shown to do
    worse. … Keep it running over a whole week: it guards against weekday effects." The stop page:
    the same, and then "Stopping now is sound." The list named no next step.
    """
    key = maker.make("three-hours")
    for _ in range(5):
        maker.send(key, 400, by_variant(a=0.1, b=0.3))
        maker.clock.now += 600
    maker.clock.now = START + 3.1 * 3600
    maker.engine.learn(key)
    text = tell(key)
    assert text.headline.endswith("is better than every other version.")
    assert (text.action, text.settled) == ("Keep running until Monday.", False)
    assert text.why == (
        "Only 1 of 7 days of sending has final results."
        " A whole week guards against weekday effects."
    )


def test_story_of_emails_that_all_were_sent_on_two_days(maker, tell):
    """A version that was better on the first day and worse on every day since.

    Before, the campaign page, eight days after the start, of 1,800 emails that were all sent on the
    first two: "“48 hours only: 10 % off” leads: every other version is shown to do worse. Were you
    to send only “48 hours only: 10 % off” from now on, you would give up nothing. … You can stop
    and keep sending it." The stop page: "Stopping now is sound."
    """
    rule = {"metrics": {"click": {}}, "window_seconds": 6.5 * DAY, "maturity_seconds": 60}
    key = maker.make("two-days", policy={"name": "uniform"}, reward=rule)
    maker.days(key, 1, 900, by_variant(a=0.1, b=0.4))
    maker.days(key, 7, 900, by_variant(a=0.2, b=0.15))
    text = tell(key)
    assert text.headline == "“48 hours only: 10 % off” is better than every other version."
    assert (text.action, text.settled) == ("Keep running until Sunday.", False)
    assert text.why.startswith("Only 2 of 7 days of sending have final results.")
    assert text.basis[0].endswith("sent on 2 different days, mostly from 12 May to 13 May.")
    for _ in range(7):  # until all that was sent is final
        maker.clock.now += DAY
        maker.engine.learn(key)
        assert maker.engine.results(key).verdict.action != "ship"
    assert tell(key).leader != 1, "what is final now speaks against it"


def test_story_of_a_version_that_joins(site, maker, tell, manager):
    """A version joins beside a leader; then the leader is sent to everyone.

    Before, without any new email: "leads: every other version is shown to do worse" turned into
    "Too early to tell: “48 hours only: 10 % off” does best so far, which may be luck"; its chance
    to be best fell from "> 99.9 %" to "19.1 %", and the version that was never sent had "80.9 %",
    with an expected loss of "18". After the stop the final page went on with "Too early to tell …
    This result is final", and the control group got the leader too, unasked.
    """
    key = maker.make("joins", holdout=0.05)
    maker.days(key, 8, 600, by_variant(a=0.1, b=0.2))
    before = maker.engine.results(key)
    assert tell(key).action == "Stop and send “48 hours only: 10 % off”."
    maker.add_variant(key, "c", "Your May favourites")
    after = maker.engine.results(key)
    text = tell(key)
    known = [(a.value, a.lift) for a in before.arms]
    assert [(a.value, a.lift) for a in after.arms[:2]] == known, "what is known of the others stays"
    assert after.arms[1].lift.low > 0
    assert (text.action, text.settled) == ("Keep running.", False)
    assert "“Your May favourites” is too new to compare." in text.why
    assert "better than every version compared so far" in text.headline
    reader = type(manager)(site, manager.email)
    assert newcomer(reader, key)[5:7] == ["–", "–"], "neither a chance nor a loss"

    asked = words(reader.get(f"/experiments/{key}/stop/1").text)
    assert "What does the control group get? The same version as everyone" in asked
    assert "Still the control: 5 % of recipients" in asked
    reader.post(f"/experiments/{key}/stop/1", {"control_group": "control"})
    stopped = tell(key)
    maker.clock.now += 7 * DAY
    maker.engine.learn(key)
    final = tell(key)
    for ended in (stopped, final):
        assert (
            "Everyone but the control group now gets “48 hours only: 10 % off”." in ended.headline
        )
        assert "was better than every version compared so far" in ended.headline
        assert "would have cost nothing" in ended.cost
    assert final.action == "This result is final."
    shipped = maker.engine.results(key).arms
    assert [(a.value, a.lift) for a in shipped[:2]] == known, "the result that was stays"
    assert newcomer(reader, key)[5:7] == ["–", "–"]


def newcomer(reader, key) -> list[str]:
    """Cells of the row of the version that joined, in the table of versions."""
    page = reader.get(f"/experiments/{key}").text
    table = page.split('data-live="versions"')[1].split("</table>")[0]
    (row,) = [r for r in re.findall(r"<tr.*?</tr>", table, re.DOTALL) if "Your May" in r]
    cells = [words(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
    assert cells[0].endswith("too new to compare")
    return cells
