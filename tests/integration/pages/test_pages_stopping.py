"""Stopping, with and without going on to send one version; and the result that stays."""

import csv
import io
import re

import msgspec
import pytest

from bandits.results import Results
from bandits.schemas import Request

CHANNEL = [{"name": "channel", "kind": "category", "values": ["Web", "Shop"]}]


def words(html):
    """The text of a page, as a reader sees it."""
    text = re.sub(r"<(script|style|head).*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).replace("\u202f", " ").split())


def test_stop_asks_what_is_sent_then_and_names_it(site, manager):
    site.make()
    site.send("sale", 50)
    asked = manager.get("/experiments/sale/stop")
    assert "Stop sending" in words(asked.text)
    picked = manager.get("/experiments/sale/stop?ship=2")
    assert picked.location == "/experiments/sale/stop/2"
    confirmed = manager.get(picked.location)
    assert "Stop and keep sending “Plain · story · 0 % off”?" in words(confirmed.text)
    assert "control group" in words(confirmed.text)
    assert "This cannot be undone" in words(confirmed.text)
    assert site.store.experiments.record("sale").state == "running", "asking does nothing"


def test_stop_page_offers_the_leader_by_its_name(site, manager):
    site.make()
    site.send("sale", 600, lambda d: d.slots["subject_line"]["variant"] == "b")
    site.clock.now += 1001
    site.engine.learn("sale")
    text = words(manager.get("/experiments/sale/stop").text)
    assert "Stop and keep sending “What would you like?" in text


def test_shipped_arm_is_sent_to_everybody_shown_and_logged(site, manager):
    site.make()
    site.send("sale", 50)
    answer = manager.post("/experiments/sale/stop/2")
    assert answer.location == "/experiments/sale"
    decided = site.engine.choose("sale", [Request(f"late-{i}") for i in range(20)])
    assert {d.slots["content"]["variant"] for d in decided} == {"story"}
    text = words(manager.get("/experiments/sale").text)
    assert "Everyone now gets “Plain · story · 0 % off”." in text
    assert "everyone gets one version" in text
    history = words(manager.get("/experiments/sale/history").text)
    assert "Running → Stopped, everyone gets a · story · d0" in history
    archive = words(manager.get("/experiments/sale/archive").text)
    assert "Everyone gets one version now. That ends" in archive


def test_stop_asks_what_the_control_group_gets_then(site, manager):
    site.make(holdout=0.5)
    site.send("sale", 50)
    confirmed = manager.get("/experiments/sale/stop/0")
    assert "What does the control group get?" in words(confirmed.text)
    fields = manager.form("/experiments/sale/stop/0", "control_group")
    assert manager.post("/experiments/sale/stop/0", fields | {"control_group": "control"})
    after = site.engine.choose("sale", [Request(f"late-{i}") for i in range(40)])
    shown = {(d.holdout, d.slots["content"]["variant"]) for d in after}
    assert shown == {(False, "hero"), (True, "story")}
    text = words(manager.get("/experiments/sale").text)
    assert "Everyone but the control group now gets “Plain · hero · 0 % off”." in text
    history = words(manager.get("/experiments/sale/history").text)
    assert "Stopped, everyone but the control group gets a · hero · d0" in history


def test_stop_asks_of_no_control_group_where_there_is_none(site, manager):
    site.make(holdout=0.0)
    site.send("sale", 50)
    assert "control group" not in words(manager.get("/experiments/sale/stop/0").text)


def test_stop_without_a_shipped_arm_sends_nothing_more(site, manager):
    site.make()
    assert "cannot be started again" in words(manager.get("/experiments/sale/stop/nothing").text)
    manager.post("/experiments/sale/stop")
    assert site.store.experiments.record("sale").shipped is None
    assert "requests are refused" in words(manager.get("/experiments/sale").text)


@pytest.mark.parametrize("arm", [6, 10**6])
def test_a_version_that_does_not_exist_is_not_found(site, manager, arm):
    site.make()
    assert manager.get(f"/experiments/sale/stop/{arm}").status_code == 404
    assert manager.post(f"/experiments/sale/stop/{arm}").status_code == 404
    assert site.store.experiments.record("sale").state == "running"


def test_a_paused_version_is_neither_offered_nor_sent(site, manager, declared):
    slots = msgspec.json.decode(msgspec.json.encode(declared["slots"]))
    slots[0]["variants"][1]["paused"] = True
    site.make(slots=slots)
    page = manager.get("/experiments/sale/stop").text
    offered = {int(n) for n in re.findall(r'<option value="(\d+)"', page)}
    arms = site.engine.results("sale").arms
    assert offered == {a.index for a in arms if not a.paused}
    paused = next(a.index for a in arms if a.paused)
    assert manager.post(f"/experiments/sale/stop/{paused}").status_code == 422
    assert site.store.experiments.record("sale").state == "running"


@pytest.mark.parametrize("path", ["stop", "stop/nothing", "stop/0"])
def test_stop_needs_a_running_experiment(site, manager, path):
    site.make(start=False)
    assert manager.get(f"/experiments/sale/{path}").status_code == 409


def test_a_stopped_result_stays_as_it_was_in_pages_and_files(site, manager):
    site.make()
    site.send("sale", 200, lambda d: d.slots["discount"]["variant"] == "d10")
    site.engine.stop("sale", by="test")
    assert "then the result is final" in words(manager.get("/experiments/sale").text)
    site.clock.now += 1100
    site.engine.learn("sale")

    def files():
        downloads = [
            manager.get(f"/experiments/sale/{n}").text
            for n in ("results.csv", "parts.csv", "health.csv", "history.csv", "results.json")
        ]
        return [*downloads, words(manager.get("/experiments/sale").text)]  # fmt: skip

    site.clock.now += 3600
    site.engine.learn("sale")
    before = files()
    assert "This result is final" in before[-1]
    site.clock.now += 86_400 * 5
    site.engine.learn("sale")
    assert files() == before


def test_every_table_is_a_file_and_json_is_what_the_api_answers(site, viewer):
    site.make()
    site.send("sale", 200, lambda d: d.slots["discount"]["variant"] == "d10")
    parts = list(csv.DictReader(io.StringIO(viewer.get("/experiments/sale/parts.csv").text)))
    assert [row["variant"] for row in parts] == ["a", "b", "hero", "story", "d0", "d10"]
    assert sum(int(r["sent"]) for r in parts[:2]) == sum(int(r["sent"]) for r in parts[2:4])
    results = msgspec.json.decode(viewer.get("/experiments/sale/results.json").data, type=Results)
    assert results == site.engine.results("sale")
    health = list(csv.DictReader(io.StringIO(viewer.get("/experiments/sale/health.csv").text)))
    assert {row["state"] for row in health} <= {"in order", "for your information", "look at this"}


def test_segments_are_told_to_be_nothing_without_features(site, viewer):
    site.make()
    text = words(viewer.get("/experiments/sale/segments").text)
    assert "No recipient attributes" in text


def test_segments_list_every_comparison_and_how_many_there_are(site, viewer):
    site.make(context=CHANNEL)
    site.send("sale", 60)
    page = viewer.get("/experiments/sale/segments").text
    text = words(page)
    assert "By channel" in text
    for label in ("Web", "Shop", "none of the listed", "What would you like?", "10 % off"):
        assert label in text
    assert "All 9 comparisons in segments hold together" in text, "3 segments of 3 comparisons"
    table = list(csv.DictReader(io.StringIO(viewer.get("/experiments/sale/segments.csv").text)))
    assert len(table) == 9
    assert {row["segment"] for row in table} == {"Web", "Shop", "none of the listed"}


def test_segments_are_not_compared_while_emails_are_not_sent_as_intended(site, viewer):
    site.make(context=CHANNEL, policy={"name": "uniform"}, floor=0.05)
    decisions = site.send("sale", 900)
    lost = [d for d in decisions if not d.holdout and d.slots["subject_line"]["variant"] == "b"]
    site.engine.cancel([str(d.decision_id) for d in lost])
    site.clock.now += 2000
    site.engine.learn("sale")
    assert site.engine.results("sale").verdict.action == "check_health"
    page = viewer.get("/experiments/sale/segments").text
    assert "no comparison can be trusted" in page
    assert "<table" not in page
    assert "no comparison can be trusted" in viewer.get("/segments").text


def test_segments_page_says_of_all_campaigns_which_variant_is_for_whom(site, viewer):
    empty = words(viewer.get("/segments").text)
    assert "Which version for whom?" in empty
    site.make(context=CHANNEL)
    site.make(key="plain", name="Knows nobody")
    site.make(key="draft", name="Not yet", context=CHANNEL, start=False)
    page = viewer.get("/segments").text
    assert 'href="/experiments/sale/segments"' in page
    assert "Knows nobody" not in page
    assert "Not yet" not in page
    assert "1 campaign has no recipient attributes" in words(page)
