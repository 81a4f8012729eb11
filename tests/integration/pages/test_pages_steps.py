"""The way to an experiment in five steps, without script."""

import re
from html import unescape

import msgspec
import pytest

from webapp.pages.form.form_model import TypedDraft, new_form, read_fields
from webapp.pages.form.steps import STEPS, merge_step, step_digest

NEW = "/new-experiment"
PARTS = {
    "name": "Spring sale",
    "slots/0/variants/0/text": "Spring sale starts",
    "slots/0/variants/1/text": "What would you like?",
}
MARKER = "base"


@pytest.fixture
def begun(manager):
    """Fill in the first step and go on; return the address of the draft."""
    page = manager.post(NEW, manager.form(NEW, MARKER) | PARTS | {"do": "next"})
    assert page.status_code == 302, page.text
    return page.location.rpartition("/")[0]


@pytest.fixture
def press(read_form):
    """Press a button on a step's page, after typing; return the answer."""

    def press(visitor, address, action, typed=None):
        fields = visitor.form(address, MARKER)
        return visitor.post(address, fields | (typed or {}) | {"do": action})

    return press


def draft(site):
    (only,) = site.store.drafts.all()
    return msgspec.json.decode(only.body, type=TypedDraft)


def test_five_steps_lead_to_a_running_experiment(site, manager, press, begun):
    assert begun.startswith("/drafts/")
    answer = press(manager, f"{begun}/success", "next", {"window/amount": "3"})
    assert answer.location == f"{begun}/audience"
    answer = press(manager, f"{begun}/audience", "next", {"holdout": "10"})
    assert answer.location == f"{begun}/learning"
    answer = press(manager, f"{begun}/learning", "next")
    assert answer.location == f"{begun}/start"
    page = manager.get(f"{begun}/start").text
    assert "2 versions of the email" in unescape(page)
    (label,) = re.findall(r'value="start">(.*?)</button>', page)
    assert label == 'Start the campaign<span class="visually-hidden"> Spring sale</span>'
    answer = press(manager, f"{begun}/start", "start")
    assert answer.location == "/experiments/spring-sale"
    record = site.store.experiments.record("spring-sale")
    experiment = record.configuration.experiment
    assert record.state == "running"
    assert (experiment.holdout, experiment.reward.window_seconds) == (0.1, 3 * 86_400)
    assert [v.payload["text"] for v in experiment.slots[0].variants] == list(PARTS.values())[1:]
    assert site.store.drafts.all() == []


def test_first_step_opened_keeps_nothing(site, manager):
    manager.get(NEW)
    assert site.store.drafts.all() == []


def test_an_incomplete_draft_is_left_and_resumed_by_somebody_else(site, manager, press):
    typed = {"name": "Half", "slots/0/variants/0/text": "", "key": "not a key", "slots/0/key": "ä"}
    left = manager.post(NEW, manager.form(NEW, MARKER) | typed | {"do": "close"})
    assert left.location == "/"
    other = site.visitor("manager", "bob@shop.example")
    assert "Go on with a draft" in other.get("/").text
    page = other.get(NEW)
    assert "Half" in page.text
    address = re.search('href="(/drafts/[^"]+)"', page.text)[1]
    fields = other.form(address, MARKER)
    assert {k: fields[k] for k in typed} == typed
    assert site.store.experiments.records() == []


@pytest.mark.parametrize(
    ("step", "typed", "field", "detail"),
    [
        ("parts", {"name": ""}, "name", "type a name, or a key"),
        ("parts", {"slots/0/variants/1/text": ""}, "slots/0/variants", "add a second variant"),
        ("parts", {"slots/0/variants/0/text": ""}, "slots/0/variants/0/text", "the control"),
        (
            "parts",
            {"slots/0/variants/1/text": "", "slots/0/control": "1"},
            "slots/0/variants/1/text",
            "fill in the control, or choose another",
        ),
        (
            "parts",
            {"slots/1/kind": "discount", "slots/1/variants/0/percent": "10"},
            "slots/1/variants",
            "add a second variant",
        ),
        (
            "parts",
            {
                "slots/1/kind": "discount",
                "slots/1/variants/0/percent": "",
                "slots/1/variants/1/percent": "10",
                "slots/1/variants/2/percent": "20",
            },
            "slots/1/variants/0/percent",
            "fill in the control, or choose another",
        ),
        ("parts", {"slots/0/variants/0/more": "{"}, "slots/0/variants/0/more", "JSON object"),
        ("success", {"metrics/0/weight": "lots"}, "metrics/0/weight", "must be a number"),
        ("success", {"window/amount": ""}, "window/amount", "say how long"),
        ("audience", {"holdout": "99"}, "holdout", "a number from 0 to 50"),
        ("audience", {"ends_at/local": "later"}, "ends_at/local", "a date and a time"),
        ("learning", {"learn_every/amount": "x"}, "learn_every/amount", "must be a number"),
        (
            "learning",
            {"parameters/thompson/prior_successes": "0"},
            "parameters/thompson/prior_successes",
            "from 0.1",
        ),
    ],
)
def test_an_error_stands_beside_its_field_and_what_was_typed_is_kept(  # noqa: PLR0913, PLR0917 - fixtures
    site, manager, press, begun, step, typed, field, detail
):
    answer = press(manager, f"{begun}/{step}", "next", typed)
    assert answer.status_code == 422
    beside = answer.text.split(f'id="{field}-error"')
    assert len(beside) == 2, f"one message beside {field}"
    assert detail in beside[1].split("</span>")[0]
    assert f'href="#{field}"' in answer.text
    fields = manager.form(f"{begun}/{step}", MARKER)
    assert {k: fields[k] for k in typed if k in fields} == {
        k: v for k, v in typed.items() if k in fields
    }
    start = manager.get(f"{begun}/start").text
    assert f"{begun}/{step}#{field}" in start, "the last step leads there"
    assert 'value="start"' not in start
    refused = press(manager, f"{begun}/start", "start")
    assert refused.status_code == 422
    assert site.store.experiments.records() == []


def test_every_button_saves_first(site, manager, press, begun):
    for n, action in enumerate(["next", "go parts", "close", "add slots discount", "autosave"]):
        step = "parts" if action.startswith("add") else "audience"
        typed = {"name": f"n{n}"} if step == "parts" else {"holdout": f"{n}"}
        press(manager, f"{begun}/{step}", action, typed)
        stored = draft(site)
        assert (stored.name if step == "parts" else stored.holdout) == next(iter(typed.values()))


def test_row_buttons_work_on_the_stored_draft(site, manager, press, begun):
    page = press(manager, f"{begun}/parts", "add slots discount", {})
    assert page.status_code == 200
    assert 'name="slots/1/variants/1/percent"' in page.text
    assert draft(site).assignment == "per_subject", "a discount suggests it"
    page = press(manager, f"{begun}/parts", "paste slots/0", {"slots/0/paste": "A\n\nB <i>\n"})
    assert [v.text for v in draft(site).slots[0].variants][2:] == ["A", "B <i>"]
    page = press(manager, f"{begun}/parts", "nonsense")
    assert page.status_code == 422
    page = press(manager, f"{begun}/success", "add metrics open", {})
    assert "Apple Mail" in page.text


def test_autosave_is_told_the_address_of_its_draft(site, manager):
    fields = manager.form(NEW, MARKER)
    first = manager.post(NEW, fields | {"name": "S", "do": "autosave"})
    assert first.status_code == 200
    address, base = first.json["address"], first.json["base"]
    again = manager.post(address, fields | {"name": "Spring", "base": base, "do": "autosave"})
    assert again.status_code == 200
    assert draft(site).name == "Spring"
    assert draft(site).seen == (), "no step is done yet, so nothing is to do"
    assert "to do" not in manager.get(address).text


class TestTwoPeople:
    @pytest.fixture
    def bob(self, site):
        return site.visitor("manager", "bob@shop.example")

    def test_later_editor_of_a_step_sees_both_and_can_keep_theirs(
        self, site, manager, bob, begun, read_form
    ):
        address = f"{begun}/parts"
        own, theirs = manager.form(address, MARKER), bob.form(address, MARKER)
        bob.post(address, theirs | {"name": "Bob's <b>sale</b>", "do": "next"})
        typed = {"name": "Anna's sale", "slots/0/variants/0/text": "Mine"}
        conflict = manager.post(address, own | typed | {"do": "next"})
        assert conflict.status_code == 409
        assert "bob@shop.example changed this step" in conflict.text
        assert "Bob&#39;s &lt;b&gt;sale&lt;/b&gt;" in conflict.text
        assert "Anna&#39;s sale" in conflict.text
        fields = read_form(conflict.text, MARKER).fields
        assert {k: fields[k] for k in typed} == typed, "nothing typed is lost"
        assert draft(site).name == "Bob's <b>sale</b>", "and nothing is overwritten unasked"
        answer = manager.post(address, fields | {"do": "next"})
        assert answer.status_code == 302
        assert draft(site).name == "Anna's sale"

    def test_third_change_of_a_step_is_told_again(self, site, manager, bob, begun, read_form):
        address = f"{begun}/parts"
        own = manager.form(address, MARKER)
        bob.post(address, bob.form(address, MARKER) | {"name": "One", "do": "next"})
        conflict = manager.post(address, own | {"name": "Anna", "do": "next"})
        bob.post(address, bob.form(address, MARKER) | {"name": "Two", "do": "next"})
        again = manager.post(address, read_form(conflict.text, MARKER).fields | {"do": "next"})
        assert again.status_code == 409
        assert "Two" in again.text

    def test_editor_of_another_step_is_in_no_conflict(self, site, manager, bob, begun):
        own = manager.form(f"{begun}/audience", MARKER)
        bob.post(f"{begun}/parts", bob.form(f"{begun}/parts", MARKER) | {"name": "New", "do": "x"})
        answer = manager.post(f"{begun}/audience", own | {"holdout": "7", "do": "next"})
        assert answer.status_code == 302
        assert (draft(site).name, draft(site).holdout) == ("New", "7")

    def test_equal_changes_of_a_step_are_no_conflict(self, manager, bob, begun):
        address = f"{begun}/parts"
        own = manager.form(address, MARKER)
        bob.post(address, bob.form(address, MARKER) | {"name": "Same", "do": "next"})
        assert manager.post(address, own | {"name": "Same", "do": "next"}).status_code == 302

    def test_autosave_is_refused_quietly(self, site, manager, bob, begun):
        address = f"{begun}/parts"
        own = manager.form(address, MARKER)
        bob.post(address, bob.form(address, MARKER) | {"name": "Bob", "do": "autosave"})
        conflict = manager.post(address, own | {"name": "Anna", "do": "autosave"})
        assert (conflict.status_code, conflict.json) == (409, {"by": "bob@shop.example"})
        assert draft(site).name == "Bob"

    def test_start_twice_makes_one_experiment(self, site, manager, bob, begun):
        first, second = (p.form(f"{begun}/start", MARKER) for p in (manager, bob))
        manager.post(f"{begun}/start", first | {"do": "start"})
        answer = bob.post(f"{begun}/start", second | {"do": "start"})
        assert answer.location == "/"
        assert [r.key for r in site.store.experiments.records()] == ["spring-sale"]
        assert site.store.drafts.all() == []

    def test_text_typed_in_an_ended_draft_is_kept_in_a_new_one(self, site, manager, bob, begun):
        own = manager.form(f"{begun}/parts", MARKER)
        bob.post(f"{begun}/discard")
        assert site.store.drafts.all() == []
        answer = manager.post(f"{begun}/parts", own | {"name": "Late", "do": "next"})
        assert answer.status_code == 302
        assert not answer.location.startswith(begun)
        assert draft(site).name == "Late"


def test_a_draft_with_a_start_date_waits_for_it(site, manager, press, begun):
    dates = {"starts_at/local": "2030-03-01T10:00", "starts_at/offset": "60"}
    press(manager, f"{begun}/audience", "next", dates)
    assert "Let it start by itself" in manager.get(f"{begun}/start").text
    press(manager, f"{begun}/start", "ready")
    record = site.store.experiments.record("spring-sale")
    assert record.state == "draft"
    assert record.configuration.experiment.starts_at.isoformat() == "2030-03-01T09:00:00+00:00"


def test_end_date_that_has_passed_keeps_a_draft_from_starting(site, manager, press, begun):
    press(manager, f"{begun}/audience", "next", {"ends_at/local": "2020-01-01T00:00"})
    answer = press(manager, f"{begun}/start", "start")
    assert answer.status_code == 422
    assert "has passed already" in answer.text
    assert site.store.experiments.records() == []


def test_a_taken_key_is_told_and_an_untyped_one_is_made_anew(site, manager, press, begun):
    site.make(key="spring-sale", start=False)
    press(manager, f"{begun}/parts", "next", {"key": "spring-sale"})
    answer = press(manager, f"{begun}/start", "start")
    assert answer.status_code == 422
    assert "there is an experiment" in answer.text
    press(manager, f"{begun}/parts", "next", {"key": ""})
    answer = press(manager, f"{begun}/start", "ready")
    assert answer.location == "/experiments/spring-sale-2"


class TestEditing:
    def test_a_draft_experiment_goes_through_the_steps_again(self, site, manager, press):
        key = site.make(start=False)
        opened = manager.post(f"/experiments/{key}/steps")
        again = manager.post(f"/experiments/{key}/steps")
        assert opened.location == again.location, "one draft for one experiment"
        begun = opened.location.rpartition("/")[0]
        press(manager, f"{begun}/audience", "next", {"holdout": "20"})
        press(manager, f"{begun}/parts", "next", {"key": "other"})
        assert press(manager, f"{begun}/start", "ready").location == f"/experiments/{key}"
        record = site.store.experiments.record(key)
        assert record.configuration.experiment.holdout == 0.2
        assert (record.configuration.version, record.state) == (2, "draft")
        assert len(site.store.experiments.records()) == 1

    def test_an_experiment_that_changed_meanwhile_is_replaced_only_when_asked_again(
        self, site, manager, press
    ):
        key = site.make(start=False)
        begun = manager.post(f"/experiments/{key}/steps").location.rpartition("/")[0]
        record = site.store.experiments.record(key)
        other = msgspec.structs.replace(record.configuration.experiment, name="Theirs")
        site.engine.edit(key, other, version=1, by="bob")
        answer = press(manager, f"{begun}/start", "ready")
        assert answer.status_code == 422
        assert "the campaign itself was changed" in answer.text
        assert site.store.experiments.record(key).configuration.experiment.name == "Theirs"
        assert press(manager, f"{begun}/start", "ready").status_code == 302
        assert site.store.experiments.record(key).configuration.experiment.name == "Spring sale"


QUESTIONS = "answers/differ", "answers/late", "answers/price"


@pytest.mark.parametrize(
    ("answers", "changes", "method", "reason"),
    [
        (("no", "before", "no"), {}, "thompson", "either happens or not"),
        (("no", "after", "no"), {}, "uniform", "nothing can be learned on the way"),
        (("yes", "before", "no"), {}, "thompson", "nothing is declared that tells them apart"),
        (("no", "before", "no"), {"metrics/0/weight": "5"}, "thompson_gaussian", "worth more or"),
    ],
)
def test_three_questions_lead_to_a_method_with_its_reason(  # noqa: PLR0913, PLR0917 - fixtures
    site, manager, press, begun, answers, changes, method, reason
):
    press(manager, f"{begun}/success", "next", changes)
    typed = dict(zip(QUESTIONS, answers, strict=True))
    page = press(manager, f"{begun}/learning", "advise", typed)
    assert page.status_code == 200
    assert reason in unescape(page.text)
    assert draft(site).policy == method


def test_features_and_many_slots_change_the_advice(site, manager, press, begun):
    press(manager, f"{begun}/audience", "add context number")
    press(
        manager,
        f"{begun}/audience",
        "next",
        {"context/0/name": "recency", "context/0/low": "0", "context/0/high": "9"},
    )
    typed = dict(zip(QUESTIONS, ("yes", "before", "yes"), strict=True))
    page = press(manager, f"{begun}/learning", "advise", typed)
    assert (draft(site).policy, draft(site).assignment) == ("lints", "per_subject")
    assert "the same recipient always sees the same one" in unescape(page.text)
    for n in (1, 2):
        press(manager, f"{begun}/parts", "add slots other")
        names = "\n".join(f"Name {i}" for i in range(4))
        press(manager, f"{begun}/parts", f"paste slots/{n}", {f"slots/{n}/paste": names})
    press(manager, f"{begun}/learning", "advise", {"answers/differ": "no"})
    assert draft(site).policy == "parts_thompson"


def test_metric_weights_are_shown_on_imaginable_emails(manager, press, begun):
    for name in ("order", "unsubscribe"):
        page = press(manager, f"{begun}/success", f"add metrics {name}")
    text = unescape(page.text)
    assert "An email that brings a click and an order of 40 earns 1 + 40 = 41." in text
    assert "An email that brings a click and an unsubscribe earns 1 − 5 = −4." in text
    assert "An unsubscribe costs as much as 5 clicks." in text


def test_the_steps_ask_every_field_of_the_form_once():
    names = [name for step in STEPS.values() for name in step.fields]
    assert len(names) == len(set(names))
    not_typed = {"version", "seen", "edits", "proposed_by", "reason"}
    assert {*names} == {*TypedDraft.__struct_fields__} - not_typed


def test_untouched_step_saved_changes_nothing(manager, begun):
    for step in STEPS:
        before = manager.form(f"{begun}/{step}", MARKER)
        typed = read_fields(before.items(), TypedDraft)
        stored = merge_step(new_form(TypedDraft), typed, step)
        assert step_digest(merge_step(stored, typed, step), step) == step_digest(stored, step)
        manager.post(f"{begun}/{step}", before | {"do": "close"})
        after = manager.form(f"{begun}/{step}", MARKER)
        for fields in (before, after):
            fields.pop("csrf_token")
            fields.pop("base")
        assert after == before


HOSTILE = "</textarea><script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.mark.parametrize("step", STEPS)
def test_script_in_any_field_is_shown_as_text(manager, press, begun, step):
    fields = manager.form(f"{begun}/{step}", MARKER)
    own = {k for k in fields if k.split("/")[0] in STEPS[step].fields}
    hostile = {k: HOSTILE for k in own if not k.endswith(("/kind", "/control"))}
    assert hostile
    for action in ("next", "close"):
        press(manager, f"{begun}/{step}", action, hostile)
    for name in STEPS:
        text = manager.get(f"{begun}/{name}").text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
    assert "<script>alert" not in manager.get(NEW).text


def test_unknown_draft_is_not_found(manager):
    assert manager.get("/drafts/none/parts").status_code == 404
    assert manager.get("/drafts/none/nothing").status_code == 404
    assert manager.get("/drafts/none/discard").status_code == 404
