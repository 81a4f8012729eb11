"""Making and editing experiments in the form, without script."""

import re
from html import unescape
from typing import Annotated, ClassVar, Literal

import pytest
from msgspec import Meta

from bandits import registry
from bandits.errors import NotFound
from bandits.policy import Parameters
from bandits.registry import register
from bandits.rewards import Metric
from bandits.statistics import Moments
from webapp.pages.form.form_model import TypedExperiment, read_fields
from webapp.pages.form.from_experiment import fill_form
from webapp.pages.form.parse import parse_experiment
from webapp.pages.form.rows import without_empty_rows

NEW = "/new-experiment/one-page"
TYPED = {
    "name": "Spring sale",
    "slots/0/variants/0/text": "Spring sale starts",
    "slots/0/variants/1/text": "What would you like?",
}


@pytest.fixture
def fill(manager, read_form):
    """Open the form (or take it as answered) and type into it."""

    def fill(typed, page=None):
        fields = (
            manager.form(NEW, "policy") if page is None else read_form(page.text, "policy").fields
        )
        unknown = [k for k in typed if k not in fields and not k.endswith(("paused", "strict"))]
        assert not unknown, "the form has no such fields"
        return fields | typed

    return fill


@pytest.fixture
def press(manager, fill):
    """Press a row button of the form and return what is shown then."""

    def press(action, typed, page=None):
        answer = manager.post(NEW, fill(typed, page) | {"do": action})
        assert answer.status_code == 200, answer.text
        return answer

    return press


def test_form_filled_in_least_makes_a_draft_with_sensible_defaults(site, manager, fill):
    answer = manager.post(NEW, fill(TYPED))
    assert answer.location == "/experiments/spring-sale", answer.text
    record = site.store.experiments.record("spring-sale")
    experiment = record.configuration.experiment
    assert record.state == "draft"
    assert experiment.name == "Spring sale"
    (slot,) = experiment.slots
    assert (slot.key, slot.kind) == ("subject_line", "subject_line")
    assert [v.key for v in slot.variants] == ["a", "b"]
    assert slot.variants[1].payload == {"text": "What would you like?"}
    assert experiment.control == {"subject_line": "a"}
    assert experiment.policy.name == "thompson"
    assert list(experiment.reward.metrics) == ["click"]
    assert (experiment.reward.window_seconds, experiment.reward.maturity) == (604_800, 86_400)
    assert (experiment.holdout, experiment.floor, experiment.assignment) == (
        0.05,
        None,
        "per_decision",
    )
    assert site.accounts.changes()[0].by == manager.email


def test_an_email_of_three_parts_is_made_row_by_row(site, manager, press, fill):
    page = press("add slots content", TYPED)
    page = press("add slots discount", {"slots/1/variants/0/html": "<p>A</p>"}, page)
    page = press("add slots/2/variants", {"slots/1/variants/1/html": "<p>B</p>"}, page)
    percents = {f"slots/2/variants/{i}/percent": str(p) for i, p in enumerate((0, 10, 12.5))}
    page = press("add exclude", percents | {"slots/2/control": "1"}, page)
    page = press(
        "add metrics unsubscribe", {"exclude/0/levels/0": "1", "exclude/0/levels/2": "2"}, page
    )
    page = press("add context number", {"policy": "linucb", "maturity/amount": ""}, page)
    page = press("add context category", {"context/0/name": "recency"}, page)
    typed = {
        "context/0/low": "0",
        "context/0/high": "24",
        "context/1/name": "channel",
        "context/1/values": "Web, Phone,",
        "holdout": "2.5",
        "floor": "1",
        "parameters/linucb/alpha": "0.5",
        "forgetting": "half_life",
        "forgetting_time/amount": "2",
        "forgetting_time/unit": "weeks",
        "strict": "yes",
    }
    answer = manager.post(NEW, fill(typed, page))
    assert answer.status_code == 302, answer.text
    experiment = site.store.experiments.record("spring-sale").configuration.experiment
    assert [s.key for s in experiment.slots] == ["subject_line", "content_block", "discount"]
    assert [v.payload for v in experiment.slots[2].variants] == [
        {"percent": 0},
        {"percent": 10},
        {"percent": 12.5},
    ]
    assert [v.key for v in experiment.slots[2].variants] == ["d0", "d10", "d12-5"]
    assert experiment.control == {"subject_line": "a", "content_block": "a", "discount": "d10"}
    assert experiment.exclude == ({"subject_line": "b", "discount": "d12-5"},)
    assert {n: m.weight for n, m in experiment.reward.metrics.items()} == {
        "click": 1,
        "unsubscribe": -5,
    }
    assert experiment.reward.maturity == experiment.reward.window_seconds
    assert [f.name for f in experiment.context] == ["recency", "channel"]
    assert experiment.context[1].values == ("Web", "Phone")
    assert experiment.policy.params == {"alpha": 0.5}
    assert (experiment.holdout, experiment.floor, experiment.strict) == (0.025, 0.01, True)
    assert experiment.forgetting.half_life_seconds == 2 * 604_800
    assert experiment.assignment == "per_subject", "a discount part suggests it"


@pytest.mark.parametrize(
    ("typed", "field", "detail"),
    [
        ({"name": ""}, "name", "type a name, or a key"),
        ({"name": "x" * 201}, "name", "at most 200 characters"),
        ({"key": "not a key"}, "key", "a letter or digit, then letters"),
        ({"slots/0/key": "ä"}, "slots/0/key", "a letter or digit"),
        (
            {"slots/0/variants/0/text": "", "slots/0/variants/0/name": "Plain"},
            "slots/0/variants/0/text",
            "write the subject line",
        ),
        ({"slots/0/variants/1/key": "a b"}, "slots/0/variants/1/key", "a letter or digit"),
        (
            {"slots/0/variants/0/key": "x", "slots/0/variants/1/key": "x"},
            "slots/0/variants/1/key",
            "used twice",
        ),
        ({"slots/0/variants/0/more": "{]"}, "slots/0/variants/0/more", "must be a JSON object"),
        ({"slots/0/variants/0/more": "[1]"}, "slots/0/variants/0/more", "must be a JSON object"),
        (
            {"slots/0/variants/0/more": '{"a": NaN}'},
            "slots/0/variants/0/more",
            "must be a JSON object",
        ),
        (
            {"slots/0/variants/0/text": "x" * 100_001},
            "slots/0/variants/0/text",
            "at most 100,000 bytes",
        ),
        (
            {"metrics/0/name": "", "metrics/0/weight": "2"},
            "metrics/0/name",
            "type a name, or a key",
        ),
        ({"metrics/0/weight": "much"}, "metrics/0/weight", "must be a number"),
        ({"metrics/0/weight": "nan"}, "metrics/0/weight", "must be a number"),
        ({"metrics/0/weight": "0"}, "metrics/0/weight", "other than 0"),
        ({"metrics/0/high": "-1"}, "metrics/0/high", "above low"),
        ({"window/amount": ""}, "window/amount", "say how long"),
        ({"window/amount": "inf"}, "window/amount", "must be a number"),
        ({"window/amount": "-1"}, "window/amount", "must be a number from 0"),
        ({"maturity/amount": "8"}, "maturity/amount", "not be longer than window"),
        ({"holdout": "60"}, "holdout", "a number from 0 to 50"),
        ({"holdout": "5 %"}, "holdout", "a number from 0 to 50"),
        ({"floor": "51"}, "floor", "a number from 0 to 50"),
        ({"floor": "40"}, "floor", "at most 0.25"),
        ({"policy": "nonsense"}, "policy", "choose how it should learn"),
        ({"policy": ""}, "policy", "choose how it should learn"),
        (
            {"parameters/thompson/prior_successes": "0"},
            "parameters/thompson/prior_successes",
            "must be a number from 0.1 to 1,000,000",
        ),
        (
            {"parameters/thompson/prior_failures": "lots"},
            "parameters/thompson/prior_failures",
            "number from 0.1 to 1,000,000",
        ),
        (
            {"policy": "uniform", "parameters/uniform/weights": "1, x"},
            "parameters/uniform/weights",
            "separated by commas",
        ),
        ({"metrics/0/weight": "-5"}, "policy", "Thompson sampling learns from results between 0"),
        ({"learn_every/amount": "0"}, "learn_every/amount", "must be a number from 0.1"),
        ({"forgetting": "window"}, "forgetting_time/amount", "say after how long"),
        ({"retention_days": "0"}, "retention_days", "must be a whole number from 1 to 36,500"),
        ({"retention_days": "-3"}, "retention_days", "must be a whole number from 1 to 36,500"),
        ({"retention_days": "1.5"}, "retention_days", "must be a whole number from 1 to 36,500"),
        ({"retention_days": "a year"}, "retention_days", "must be a whole number from 1"),
        ({"retention_days": "6"}, "retention_days", "at least the reward window, 7 days"),
        ({"starts_at/local": "soon"}, "starts_at/local", "must be a date and a time"),
        (
            {"starts_at/local": "2026-12-01T09:00", "starts_at/offset": "x"},
            "starts_at/local",
            "must be a date and a time",
        ),
        (
            {"starts_at/local": "2026-12-01T09:00", "ends_at/local": "2026-12-01T08:00"},
            "ends_at/local",
            "must be after the start",
        ),
        (
            {"forgetting": "window", "forgetting_time/amount": "0"},
            "forgetting_time/amount",
            "above 0",
        ),
    ],
)
def test_an_error_stands_beside_its_field_and_nothing_typed_is_lost(  # noqa: PLR0913, PLR0917 - fixtures
    site, manager, fill, read_form, typed, field, detail
):
    before = fill(TYPED | typed)
    answer = manager.post(NEW, before)
    assert answer.status_code == 422
    beside = answer.text.split(f'id="{field}-error"')
    assert len(beside) == 2, f"one message beside {field}"
    assert detail in beside[1].split("</span>")[0]
    assert f'<a href="#{field}">' in answer.text, "the summary links to it"
    assert f'id="{field}"' in answer.text, "and the link leads somewhere"
    after = read_form(answer.text, "holdout").fields
    before.pop("csrf_token")
    after.pop("csrf_token")
    if typed.get("policy") in {"nonsense", ""}:  # a choice that does not exist cannot be shown
        before.pop("policy")
    assert after == before
    assert site.store.experiments.records() == []


def test_every_wrong_field_is_named_at_once(manager, fill):
    wrong = {
        "name": "",
        "slots/0/key": "?",
        "slots/0/variants/0/text": "",
        "slots/0/variants/0/key": "?",
        "metrics/0/weight": "x",
        "window/amount": "",
        "holdout": "99",
        "parameters/thompson/prior_successes": "-1",
        "learn_every/amount": "x",
    }
    answer = manager.post(NEW, fill(TYPED | wrong))
    assert "Not saved yet: 9 things to put right" in answer.text
    for field in wrong:
        assert f'id="{field}-error"' in answer.text
    places = [answer.text.index(f'<a href="#{field}">') for field in wrong]
    assert places == sorted(places), "in the order of the form"


def test_form_with_one_variant_is_refused(manager, fill):
    answer = manager.post(NEW, fill(TYPED | {"slots/0/variants/1/text": ""}))
    assert answer.status_code == 422
    assert "add a second variant" in answer.text


def test_an_email_without_parts_or_success_is_refused_in_words(manager, press):
    page = press("remove slots/0", TYPED)
    page = press("remove metrics/0", {}, page)
    answer = manager.post(NEW, {"name": "Empty", "policy": "thompson", "window/amount": "1"})
    assert answer.status_code == 422
    assert "say what counts as success" in answer.text
    assert 'id="slots-error"' in answer.text


def test_form_left_empty_is_an_error_and_not_a_crash(manager):
    assert manager.post(NEW).status_code == 422
    assert manager.post(NEW, {"slots": "x"}).status_code == 422
    assert (
        manager.post(NEW, {"slots/0/variants": "x", "slots/0/variants/0/key": "y"}).status_code
        == 422
    )
    assert manager.post(NEW, {"slots/0/kind": "<b>", "name": "x"}).status_code == 422


@pytest.mark.parametrize("action", ["add nonsense", "remove slots/9", "paste slots/x", "launch"])
def test_a_button_that_does_not_exist_changes_nothing(manager, fill, read_form, action):
    fields = fill(TYPED)
    answer = manager.post(NEW, fields | {"do": action})
    assert answer.status_code == 422
    after = read_form(answer.text, "policy").fields
    assert after["slots/0/variants/1/text"] == TYPED["slots/0/variants/1/text"]


def test_rows_keep_everything_typed_and_drop_only_their_own(press, read_form):
    page = press("add slots/0/variants", TYPED | {"holdout": "7", "parameters/ucb1/w": "3"})
    page = press("remove slots/0/variants/0", {"slots/0/variants/2/text": "Third"}, page)
    fields = read_form(page.text, "policy").fields
    assert [fields[f"slots/0/variants/{i}/text"] for i in (0, 1)] == [
        "What would you like?",
        "Third",
    ]
    assert "slots/0/variants/2/text" not in fields
    assert (fields["holdout"], fields["parameters/ucb1/w"]) == ("7", "3")


def test_control_and_left_out_combinations_follow_their_variants(press, read_form):
    page = press("add slots/0/variants", TYPED)
    page = press(
        "add slots discount", {"slots/0/variants/2/text": "Third", "slots/0/control": "2"}, page
    )
    page = press("add exclude", {}, page)
    page = press("add exclude", {"exclude/0/levels/0": "2", "exclude/0/levels/1": "1"}, page)
    page = press("remove slots/0/variants/1", {"exclude/1/levels/0": "1"}, page)
    fields = read_form(page.text, "policy").fields
    assert fields["slots/0/control"] == "1"
    assert (fields["exclude/0/levels/0"], fields["exclude/0/levels/1"]) == ("1", "1")
    assert fields["exclude/1/levels/0"] == "", "its variant is gone"
    page = press("remove slots/0", {}, page)
    assert read_form(page.text, "policy").fields["slots/0/kind"] == "discount"
    assert "exclude/0/levels/0" not in page.text, "one part alone has nothing to leave out"


def test_pasted_variants_are_taken_at_once(manager, press, fill, site):
    lines = "  Third \r\n\r\nFourth <b>\r\nFifth"
    page = press("paste slots/0", TYPED | {"slots/0/paste": lines})
    answer = manager.post(NEW, fill({}, page))
    assert answer.status_code == 302, answer.text
    (slot,) = site.store.experiments.record("spring-sale").configuration.experiment.slots
    assert [v.payload["text"] for v in slot.variants] == [
        "Spring sale starts",
        "What would you like?",
        "Third",
        "Fourth <b>",
        "Fifth",
    ]


def test_pasted_variants_beyond_the_limit_stay_where_they_are(manager, fill, read_form):
    lines = "\n".join(f"Line {i}" for i in range(120))
    answer = manager.post(NEW, fill(TYPED | {"slots/0/paste": lines}) | {"do": "paste slots/0"})
    assert answer.status_code == 422
    assert "at most 100 variants" in answer.text
    assert read_form(answer.text, "policy").fields["slots/0/paste"] == lines


def test_two_experiments_of_one_name_get_keys_of_their_own(site, manager, fill):
    assert manager.post(NEW, fill(TYPED)).location == "/experiments/spring-sale"
    assert manager.post(NEW, fill(TYPED)).location == "/experiments/spring-sale-2"
    taken = manager.post(NEW, fill(TYPED | {"key": "spring-sale"}))
    assert taken.status_code == 422
    assert "there is an experiment &#39;spring-sale&#39; already" in taken.text


def test_a_new_policy_appears_with_its_fields_and_is_checked(
    site, manager, fill, read_form, monkeypatch
):
    monkeypatch.setattr(registry, "_registered", dict(registry.policies()))

    @register("coin", label="Coin toss", support=(0.0, 1.0))
    class Coin(Parameters, frozen=True):
        """Toss a coin for every email.

        Nobody should. Source: folklore.
        """

        statistic: ClassVar[type[Moments]] = Moments
        edge: Annotated[
            float, Meta(gt=0, le=0.5, title="Edge", description="How thick the coin is.")
        ] = 0.25
        sides: Annotated[int, Meta(ge=2, le=6, title="Sides", description="How many.")] = 2
        metal: Annotated[
            Literal["gold", "tin"], Meta(title="Metal", description="Made of what.")
        ] = "tin"
        fair: Annotated[bool, Meta(title="Fair", description="Whether it is.")] = True

    page = manager.get(NEW).text
    for text in (
        "Coin toss",
        "Toss a coin for every email.",
        "Nobody should.",
        "folklore.",
        "How thick the coin is. Enter a number above 0 and at most 0.5.",
        "Enter a whole number from 2 to 6.",
        "<option selected>tin</option>",
    ):
        assert text in page
    typed = {"policy": "coin", "parameters/coin/edge": "0.6", "parameters/coin/sides": "2.5"}
    answer = manager.post(NEW, fill(TYPED | typed))
    assert answer.status_code == 422
    assert answer.text.count("-error") >= 2
    assert "must be a number above 0 and at most 0.5" in answer.text
    assert "enter a whole number from 2 to 6" in answer.text
    fields = fill(
        TYPED
        | {
            "policy": "coin",
            "parameters/coin/edge": "0.1",
            "parameters/coin/sides": "3",
            "parameters/coin/metal": "gold",
        }
    )
    del fields["parameters/coin/fair"]  # unticked
    answer = manager.post(NEW, fields)
    assert answer.status_code == 302, answer.text
    chosen = site.store.experiments.record("spring-sale").configuration.experiment.policy
    assert chosen.name == "coin"
    assert chosen.params == {"edge": 0.1, "sides": 3, "metal": "gold", "fair": False}
    edited = manager.get("/experiments/spring-sale/edit").text
    assert "<option selected>gold</option>" in edited
    assert "parameters/coin/fair" not in read_form(edited, "policy").fields, "it stays unticked"


def test_every_policy_is_offered_with_every_declared_parameter(manager):
    fields = manager.form(NEW, "policy")
    page = manager.get(NEW).text
    for name, policy in registry.policies().items():
        assert f'value="{name}"' in page
        assert policy.label in page
        for parameter in policy.__struct_fields__:
            assert f'name="parameters/{name}/{parameter}"' in page
            assert f"parameters/{name}/{parameter}" in fields


VARIED = [
    {},
    {"name": "", "floor": 0.0125, "assignment": "per_subject", "strict": True},
    {"forgetting": {"half_life_seconds": 90.0}, "await_activation": True},
    {"starts_at": "2026-12-01T09:00:00Z", "ends_at": "2027-03-31T21:59:59+02:00"},
    {"forgetting": {"window_seconds": 86_400.0}, "learn_every_seconds": 0.5},
    {"retention_days": 30, "send_within_seconds": 7200.0, "attribution": "all"},
    {
        "policy": {"name": "linucb", "params": {"alpha": 1.5}},
        "context": [
            {
                "name": "recency",
                "kind": "number",
                "low": -1.5,
                "high": 24.123456789,
                "default": 0.1,
            },
            {"name": "channel", "kind": "category", "values": ["Web", "Shop"], "default": "Shop"},
        ],
    },
    {
        "policy": {"name": "thompson_gaussian"},
        "reward": {
            "metrics": {
                "order": {"weight": 0.123456789, "count": "sum", "low": -10.0, "high": 5000.0},
                "unsubscribe": {"weight": -5.0},
                "margin": {"latest": True, "low": -20.0, "high": 90.0},
            },
            "window_seconds": 5400.0,
        },
    },
    *(
        {
            "policy": {"name": "thompson_gaussian"},
            "reward": {
                "metrics": {
                    "order": {"count": "sum", "high": 500.0, "currency": "EUR", "weight": weight}
                    | {"by": {slot: by}}
                }
            },
        }
        for weight, slot, by in (
            (0.45, "discount", {"d10": 0.388888888889}),  # a margin of 45 %, as paid
            (0.45, "discount", {"d10": 0.35}),  # at list price
            (0.45, "discount", {"d10": 0.123456789}),  # of neither
            (0.1 + 0.2, "subject_line", {"b": -1.5, "a": 0.0}),
        )
    ),
    {"policy": {"name": "uniform", "params": {"weights": [1, 2.5, 0]}}, "holdout": 0.0},
    {
        "guardrails": [
            {"event": "bounce", "limit": 0.0123456789, "action": "pause", "scope": "variant"},
            {"event": "refund", "worse_than_control": 1.5},
        ],
        "paused": [{"subject_line": "b", "discount": "d0"}],
    },
    {
        "slots": [{"key": "subject", "variants": [{"key": k} for k in "abc"]}],
        "exclude": [],
        "control": {"subject": "a"},
        "paused": [{"subject": "c"}],
    },
]


@pytest.mark.parametrize("declared", VARIED)
def test_the_form_of_an_experiment_declares_that_experiment(site, manager, read_form, declared):
    site.make(start=False, **declared)
    record = site.store.experiments.record("sale")
    assert parse_experiment(fill_form(record.configuration)) == record.configuration.experiment
    fields = manager.form("/experiments/sale/edit", "policy")
    typed = without_empty_rows(read_fields(fields.items(), TypedExperiment))
    assert parse_experiment(typed) == record.configuration.experiment
    answer = manager.post("/experiments/sale/edit", fields)
    assert answer.location == "/experiments/sale", answer.text
    after = site.store.experiments.record("sale").configuration
    assert after.experiment == record.configuration.experiment


def test_later_editor_is_told_and_loses_nothing(site, manager, read_form):
    site.make(start=False)
    otto = site.visitor("manager", "otto@shop.example")
    fields = manager.form("/experiments/sale/edit", "policy")
    theirs = otto.form("/experiments/sale/edit", "policy")
    assert otto.post("/experiments/sale/edit", theirs | {"name": "Otto's sale"}).status_code == 302
    late = manager.post("/experiments/sale/edit", fields | {"name": "Anna's sale", "holdout": "3"})
    assert late.status_code == 409
    assert "Somebody changed this since you opened it" in late.text
    assert "otto@shop.example" in late.text
    late_fields = read_form(late.text, "policy").fields
    assert (late_fields["name"], late_fields["holdout"]) == ("Anna's sale", "3")
    assert site.store.experiments.record("sale").configuration.experiment.name == "Otto's sale"
    again = manager.post("/experiments/sale/edit", late_fields)
    assert again.status_code == 302
    assert site.store.experiments.record("sale").configuration.experiment.name == "Anna's sale"


def test_started_experiment_says_beside_each_field_what_is_fixed(site, manager):
    site.make()
    fields = manager.form("/experiments/sale/edit", "policy")
    fixed = {
        "holdout": "1",
        "assignment": "per_subject",
        "window/amount": "2000",
        "policy": "linucb",
        "slots/0/variants/0/key": "z",
    }
    answer = manager.post("/experiments/sale/edit", fields | fixed)
    assert answer.status_code == 422
    for field in ("holdout", "assignment", "policy", "slots/0/variants", "metrics"):
        assert f'id="{field}-error"' in answer.text, field


def test_started_experiment_takes_a_typo_a_new_variant_and_a_pause(site, manager, read_form):
    site.make()
    fields = manager.form("/experiments/sale/edit", "policy")
    page = manager.post("/experiments/sale/edit", fields | {"do": "add slots/0/variants"})
    fields = read_form(page.text, "policy").fields
    typed = {
        "slots/0/variants/0/text": "Spring sale!",
        "slots/0/variants/1/paused": "yes",
        "slots/0/variants/2/text": "New here",
        "floor": "2",
        "changed/0/0": "typo",
    }
    answer = manager.post("/experiments/sale/edit", fields | typed)
    assert answer.status_code == 302, answer.text
    configuration = site.store.experiments.record("sale").configuration
    (a, b, c) = configuration.experiment.slots[0].variants
    assert (a.payload["text"], b.paused, c.key) == ("Spring sale!", True, "c")
    assert b.payload == {"text": "What would you like?", "preheader": "Open"}
    assert configuration.newcomers.sum() == 4


def test_a_stopped_experiment_cannot_be_edited(site, manager):
    site.make()
    fields = manager.form("/experiments/sale/edit", "policy")
    site.engine.stop("sale", by="test")
    assert manager.post("/experiments/sale/edit", fields).status_code == 409
    assert "Edit</a>" not in manager.get("/experiments/sale").text


def test_edit_form_shows_the_stored_blocks_and_no_other(site, manager, read_form):
    site.make(start=False)
    page = manager.get("/experiments/sale/edit").text
    for variant in (0, 1):
        assert f'src="/experiments/sale/preview/1/{variant}"' in page
    fields = read_form(page, "policy").fields
    typed = {"slots/1/variants/0/html": "<h1>Other</h1>", "do": "add slots content"}
    page = manager.post("/experiments/sale/edit", fields | typed).text
    assert 'src="/experiments/sale/preview/1/0"' not in page, "it would show what is not typed"
    assert 'src="/experiments/sale/preview/1/1"' in page
    assert "/preview/3/" not in page, "a new part has nothing stored"


def test_cancel_button_stores_nothing(site, manager, press):
    press("add slots discount", TYPED)
    with pytest.raises(NotFound):
        site.store.experiments.record("spring-sale")


def test_a_block_is_previewed_as_typed_in_a_frame_that_can_do_nothing(manager, fill, press):
    page = press("add slots content", TYPED)
    block = "<script>alert(1)</script><h1>Hello</h1>"
    typed = fill({"slots/1/variants/0/html": block}, page)
    shown = manager.post("/preview", typed | {"preview": "slots/1/variants/0/html"})
    assert shown.text == block, "as it is: the frame keeps it from doing anything"
    policy = shown.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox;"), "scripts are off and the origin is nobody's"
    assert "default-src 'none'" in policy
    assert "X-Frame-Options" not in shown.headers
    frame = page.text.split('name="slots/1/variants/0/preview"')[0].rsplit("<iframe", 1)[1]
    assert "sandbox" in page.text.split(frame)[1].split(">")[0]
    assert manager.post("/preview").text == ""


MARGIN = {
    "metrics/0/name": "order",
    "metrics/0/count": "sum",
    "metrics/0/high": "500",
    "metrics/0/currency": "eur",
    "metrics/0/margin": "45 %",
    "policy": "thompson_gaussian",
}


@pytest.mark.parametrize(
    "worked",
    [
        ("paid", 0.388888888889, "An order of 60 paid at 10 % off earns 23.33."),
        ("list", 0.35, "An order of 60 at list price, sold at 10 % off, earns 21."),
    ],
)
def test_margin_of_an_order_is_shown_at_each_discount_and_makes_its_weights(
    site, manager, read_form, worked
):
    basis, weight, order = worked
    site.make(start=False)
    fields = manager.form("/experiments/sale/edit", "policy")
    assert "metrics/0/margin" not in fields, "a click has no margin"
    typed = fields | MARGIN | {"metrics/0/basis": basis}
    page = manager.post("/experiments/sale/edit", typed | {"do": "show metrics"})
    assert "An order of 60 at full price earns 27." in page.text
    assert order in page.text
    fields = read_form(page.text, "policy").fields
    assert manager.post("/experiments/sale/edit", fields).status_code == 302
    metric = site.store.experiments.record("sale").configuration.experiment.reward.metrics["order"]
    assert metric == Metric(
        0.45, "sum", 0.0, 500.0, by={"discount": {"d10": weight}}, currency="EUR"
    )
    assert "in EUR, with d10 worth" in manager.get("/experiments/sale/setup").text


def test_margin_below_a_discount_says_that_orders_lose(site, manager):
    site.make(start=False)
    fields = manager.form("/experiments/sale/edit", "policy") | MARGIN
    typed = fields | {"metrics/0/margin": "5", "metrics/0/basis": "list", "do": "show metrics"}
    page = manager.post("/experiments/sale/edit", typed).text
    assert "An order of 60 at list price, sold at 10 % off, loses 3." in page


@pytest.mark.parametrize(
    ("typed", "field", "detail"),
    [
        ({"metrics/0/margin": "0"}, "metrics/0/margin", "enter a number up to 100 %"),
        ({"metrics/0/margin": "nan"}, "metrics/0/margin", "enter a number up to 100 %"),
        ({"metrics/0/margin": "101"}, "metrics/0/margin", "enter a number up to 100 %"),
        (
            {"slots/2/variants/1/percent": "100"},
            "metrics/0/basis",
            "an order at 100 % off is paid with nothing: tell values at list price",
        ),
        ({"metrics/0/currency": "Euro"}, "metrics/0/currency", "three letters"),
        (
            {"metrics/0/margin": "", "metrics/0/by": "discount/d99 = 1"},
            "metrics/0/by",
            "unknown variant",
        ),
        (
            {"metrics/0/margin": "", "metrics/0/by": "discount/d10: 1"},
            "metrics/0/by",
            "write a line such as discount/d10 = 0.36",
        ),
    ],
)
def test_margin_that_does_not_fit_is_refused_at_its_field(site, manager, typed, field, detail):
    site.make(start=False)
    fields = manager.form("/experiments/sale/edit", "policy") | MARGIN
    answer = manager.post("/experiments/sale/edit", fields | typed)
    assert answer.status_code == 422
    (error,) = re.findall(rf'id="{field}-error">([^<]*)<', answer.text)
    assert detail in unescape(error)


def test_started_campaign_takes_a_discount_with_the_weight_of_its_margin(site, manager, read_form):
    by = {"discount": {"d10": 0.35}}
    order = {"count": "sum", "high": 500.0, "weight": 0.45, "by": by}
    site.make(policy={"name": "thompson_gaussian"}, reward={"metrics": {"order": order}})
    fields = manager.form("/experiments/sale/edit", "policy")
    assert (fields["metrics/0/margin"], fields["metrics/0/basis"]) == ("45", "list")
    page = manager.post("/experiments/sale/edit", fields | {"do": "add slots/2/variants"})
    fields = read_form(page.text, "policy").fields
    answer = manager.post("/experiments/sale/edit", fields | {"slots/2/variants/2/percent": "20"})
    assert answer.status_code == 302, answer.text
    rule = site.store.experiments.record("sale").configuration.experiment.reward
    assert rule.metrics["order"].by == {"discount": {"d10": 0.35, "d20": 0.25}}
