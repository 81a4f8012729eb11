"""Guardrails on pages: in the form, beside results, what they did, and how it is undone."""

import html
import re

import pytest

from bandits.schemas import Request, Reward
from tests.integration.pages.conftest import FormReader

SUBJECTS = [
    {
        "key": "subject",
        "kind": "subject_line",
        "variants": [{"key": v, "payload": {"text": f"Hello {v.upper()}"}} for v in "abc"],
    }
]
ONE_PART = {"slots": SUBJECTS, "exclude": [], "control": {}}
COMPLAINTS = {"event": "complaint", "limit": 0.003, "action": "pause"}
BOUNCES = {"event": "bounce", "worse_than_control": 2.0, "action": "alert"}
PATH = "/experiments/sale"


def words(page):
    """The text of a page, as a reader sees it."""
    return " ".join(re.sub(r"<[^>]+>", " ", html.unescape(page)).replace("\u202f", " ").split())


def report(site, n, n_events, metric="complaint", shown=None):
    """Send n emails, and report an event of some that have a variant; return how many have it."""
    decisions = site.engine.choose("sale", [Request(f"{site.clock.now}-{i}") for i in range(n)])
    shown = shown or {"subject": "b"}
    of_variant = [
        str(d.decision_id)
        for d in decisions
        if not d.holdout and all(d.slots[s]["variant"] == v for s, v in shown.items())
    ]
    site.engine.reward([Reward(i, f"e-{metric}", metric) for i in of_variant[:n_events]])
    site.clock.now += 60.0
    site.engine.learn("sale")
    return len(of_variant)


@pytest.fixture
def paused(site):
    """A campaign with a version that its guardrail paused."""
    site.make(**ONE_PART, guardrails=[COMPLAINTS, BOUNCES])
    return report(site, 1500, 40)


def test_page_shows_counts_and_limits_while_nothing_happened(site, viewer):
    site.make(**ONE_PART, guardrails=[COMPLAINTS, BOUNCES])
    n = report(site, 600, 1)
    text = words(viewer.get(PATH).text)
    assert "Complaints at most 0.3 %, else paused" in text
    assert f"“Hello B” {100 / n:.2f} % 1 of {n}" in text
    assert "Bounces at most 2 times the rate of the control, else alert" in text
    assert "was paused" not in text


def test_page_says_what_is_above_a_limit_and_not_certain(site, viewer):
    site.make(**ONE_PART, guardrails=[COMPLAINTS])
    n = report(site, 600, 3)
    text = words(viewer.get(PATH).text)
    assert f"3 of {n}; above its limit, not certain yet" in text
    assert "was paused" not in text


def test_page_without_guardrails_has_no_panel(site, viewer):
    site.make(**ONE_PART)
    report(site, 20, 0)
    assert 'id="guardrails-title"' not in viewer.get(PATH).text


def test_page_says_what_a_guardrail_paused(site, viewer, manager, paused):
    sentence = (
        f"“Hello B” was paused on 15 January 2027 08:01 UTC: 40 of {paused} emails led to a"
        " complaint; the limit is 0.3 %."
    )
    page = viewer.get(PATH)
    assert words(page.text).count(sentence) == 2  # at the top, and under Health
    assert "Send it again" not in page.text
    assert f"{PATH}/guardrails/0/undo" in manager.get(PATH).text
    live = viewer.get(f"{PATH}/live").json["parts"]
    assert sentence in words(live["summary"])
    assert sentence in words(live["health"])
    assert "paused" in live["guardrails"]


def test_page_says_what_a_guardrail_alerted_of(site, viewer):
    site.make(**ONE_PART, guardrails=[BOUNCES | {"worse_than_control": 1.0}])
    report(site, 1500, 60, "bounce")
    text = words(viewer.get(PATH).text)
    assert "“Hello B” passed its guardrail on 15 January 2027 08:01 UTC: 60 of" in text
    assert "emails bounced; the limit is the rate of the control, which had 0 of" in text


def test_undo_sends_it_again(site, viewer, manager, paused):
    undo = f"{PATH}/guardrails/0/undo"
    page = words(manager.get(undo).text)
    assert "Send it again?" in page
    assert "only emails chosen from now on" in page
    assert manager.post(undo).location == PATH
    text = words(manager.get(PATH).text)
    assert "It is sent again, and counted anew for that guardrail." in text
    assert "Undone since." in text
    assert site.store.experiments.record("sale").configuration.eligible().tolist() == [0, 1, 2]
    assert manager.get(undo).status_code == 404
    assert manager.post(undo).status_code == 404
    assert manager.post(f"{PATH}/guardrails/7/undo").status_code == 404
    history = words(viewer.get(f"{PATH}/history").text)
    assert "Paused by a guardrail" in history
    assert "What a guardrail did undone" in history


def test_form_offers_three_guardrails_that_are_off(site, manager):
    page = manager.get("/new-experiment/one-page").text
    fields = FormReader(page, "name").fields
    offered = [fields[f"guardrails/{i}/event"] for i in range(3)]
    assert offered == ["complaint", "bounce", "unsubscribe"]
    assert [fields[f"guardrails/{i}/amount"] for i in range(3)] == ["0.3", "1", "1"]
    assert not any(f"guardrails/{i}/on" in fields for i in range(3))


def test_form_turns_a_guardrail_on(site, manager):
    site.make(**ONE_PART)
    fields = manager.form(f"{PATH}/edit", "version")
    changed = {
        "guardrails/1/on": "yes",
        "guardrails/1/amount": "2.5 %",
        "guardrails/1/action": "alert",
    }
    assert manager.post(f"{PATH}/edit", fields | changed).location == PATH
    (guardrail,) = site.store.experiments.record("sale").configuration.experiment.guardrails
    assert (guardrail.event, guardrail.action, guardrail.scope) == ("bounce", "alert", "arm")
    assert guardrail.limit == pytest.approx(0.025)
    assert "at most 2.5 % for each version, else you are told" in words(
        manager.get(f"{PATH}/setup").text
    )


@pytest.mark.parametrize(("typed", "detail"), [("0", "above 0 and below 100"), ("often", "number")])
def test_form_names_a_limit_that_does_not_fit(site, manager, typed, detail):
    site.make(**ONE_PART)
    fields = manager.form(f"{PATH}/edit", "version")
    changed = {"guardrails/2/on": "yes", "guardrails/2/amount": typed}
    answer = manager.post(f"{PATH}/edit", fields | changed)
    assert "Guardrail on unsubscribes: limit" in words(answer.text)
    assert detail in answer.text
    assert FormReader(answer.text, "version").fields["guardrails/2/amount"] == typed


def test_form_refuses_a_guardrail_on_what_counts_as_good(site, manager):
    rule = {"metrics": {"unsubscribe": {"weight": -5.0}}}
    site.make(**ONE_PART, start=False, reward=rule, policy={"name": "thompson_gaussian"})
    fields = manager.form(f"{PATH}/edit", "version")
    changed = {"guardrails/2/on": "yes", "metrics/0/weight": "1"}
    answer = manager.post(f"{PATH}/edit", fields | changed)
    assert "must be an event that should stay rare" in answer.text


def test_form_shows_paused_combinations_and_sends_them_again(site, manager):
    site.make(guardrails=[COMPLAINTS])
    report(site, 4000, 60, shown={"subject_line": "b", "content": "hero", "discount": "d0"})
    (paused,) = site.store.experiments.record("sale").configuration.experiment.paused
    page = manager.get(f"{PATH}/edit").text
    assert "Paused combinations" in page
    fields = FormReader(page, "version").fields
    assert manager.post(f"{PATH}/edit", fields).location == PATH
    after = site.store.experiments.record("sale").configuration.experiment
    assert after.paused == (paused,)
    fields = manager.form(f"{PATH}/edit", "version")
    again = manager.post(f"{PATH}/edit", fields | {"do": "remove paused/0"})
    fields = FormReader(again.text, "version").fields
    assert manager.post(f"{PATH}/edit", fields).location == PATH
    configuration = site.store.experiments.record("sale").configuration
    assert configuration.experiment.paused == ()
    assert configuration.acts[0].undone == configuration.version
