"""Trying an email out, and editing one that runs."""

import re
from html import unescape

import pytest
from sqlalchemy import func, select

from bandits.schemas import Request
from storage.schema import metadata

CONTEXT = [
    {"name": "recency", "kind": "number", "low": 0, "high": 24},
    {"name": "channel", "kind": "category", "values": ["Web", "<b>Shop</b>"]},
]
PERSONAL = {"context": CONTEXT, "policy": {"name": "lints"}, "strict": True}
TRY = "/experiments/sale/try"


def rows(site):
    """Count the rows of every table."""
    with site.store.database.reading() as transaction:
        return {
            name: transaction.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
        }


def chances(page):
    return [float(n) for n in re.findall(r'<td class="n">([\d.]+)\u202f%</td>', page.text)]


def test_preview_leaves_no_trace_in_any_table(site, viewer):
    key = site.make(**(PERSONAL | {"strict": False}))
    site.engine.choose(key, [Request("real", {"recency": 1})])
    tokens = viewer.token
    before = rows(site)
    assert before["decisions"] == 1
    page = viewer.get(TRY)
    assert page.status_code == 200
    for channel in ("Web", "<b>Shop</b>", ""):
        typed = {"context/recency": "3", "context/channel": channel, "force/discount": "d10"}
        assert viewer.post(TRY, typed).status_code == 200
    assert tokens
    assert rows(site) == before
    assert "nothing is recorded" in page.text


def test_preview_shows_the_probabilities_of_a_decision(site, viewer):
    site.make(holdout=0.0, floor=0.02)
    site.send("sale", 400, lambda d: d.slots["discount"]["variant"] == "d10")
    page = viewer.get(TRY)
    shown = chances(page)
    assert sum(shown) == pytest.approx(100, abs=0.5)
    assert shown == sorted(shown, reverse=True)
    drawn = site.engine.choose("sale", [Request(f"u-{i}") for i in range(50)], dry_run=True)
    for decision in drawn:
        assert any(100 * decision.propensity == pytest.approx(s, abs=0.06) for s in shown)


def test_a_forced_variant_is_shown_whatever_is_drawn(site, viewer):
    site.make()
    for variant, text in (("a", "Spring sale"), ("b", "What would you like?")):
        page = viewer.post(TRY, {"force/subject_line": variant, "force/content": "nonsense"})
        assert page.status_code == 200
        assert f"<b>{text}</b>" in page.text
        assert ", forced" in page.text


@pytest.mark.parametrize(
    ("typed", "detail"),
    [({"context/recency": "soon"}, "must be a number"), ({"context/recency": "99"}, "")],
)
def test_preview_input_that_does_not_fit_is_told_beside_its_field_and_kept(
    site, viewer, typed, detail
):
    site.make(**PERSONAL)
    page = viewer.post(TRY, typed)
    assert page.status_code == 422
    assert 'id="context/recency-error"' in page.text
    assert detail in page.text
    assert f'value="{typed["context/recency"]}"' in page.text


def test_preview_of_a_strict_experiment_asks_first(site, viewer):
    site.make(**PERSONAL)
    assert viewer.get(TRY).status_code == 200
    page = viewer.post(TRY, {"context/recency": "3", "context/channel": "Web"})
    assert page.status_code == 200
    assert "An email they could get" in page.text


def test_preview_of_a_draft_shows_script_as_text(site, viewer):
    site.make(start=False, **(PERSONAL | {"strict": False}))
    hostile = '"><script>alert(1)</script>'
    page = viewer.post(TRY, {"context/channel": hostile, "force/content": hostile})
    assert page.status_code == 200
    assert "was mended" in page.text
    assert "<script>alert" not in page.text
    assert "&lt;b&gt;Shop" in page.text


class TestRunningChanges:
    @pytest.fixture
    def edited(self, site, manager, read_form):
        """Edit texts of a running experiment; return what is answered, and how to answer it."""
        site.make()
        site.send("sale", 60, lambda d: d.slots["subject_line"]["variant"] == "a")
        address = "/experiments/sale/edit"

        def edit(typed, page=None):
            if page is None:
                fields = manager.form(address, "policy")
            else:
                fields = read_form(page.text, "policy").fields
            return manager.post(address, fields | typed)

        return edit

    def variants(self, site, slot=0):
        return site.store.experiments.record("sale").configuration.experiment.slots[slot].variants

    def test_an_edited_text_is_asked_about_and_nothing_is_saved_before(self, site, edited):
        page = edited({"slots/0/variants/1/text": "What would you <i>love</i>?"})
        assert page.status_code == 422
        assert "typo corrected, or a new variant?" in page.text
        assert "What would you &lt;i&gt;love" in page.text
        assert self.variants(site)[1].payload["text"] == "What would you like?"
        again = edited({}, page)
        assert again.status_code == 422, "it is asked until it is answered"

    def test_a_typo_keeps_the_variant_and_its_statistics(self, site, edited):
        before = site.engine.results("sale")
        page = edited({"slots/0/variants/1/text": "What would you like"})
        assert edited({"changed/0/1": "typo"}, page).status_code == 302
        assert [v.key for v in self.variants(site)] == ["a", "b"]
        assert self.variants(site)[1].payload["text"] == "What would you like"
        after = site.engine.results("sale")
        assert [(a.sent, a.reward) for a in after.arms] == [(a.sent, a.reward) for a in before.arms]

    @pytest.mark.parametrize(("answer", "paused"), [("new", False), ("instead", True)])
    def test_a_new_variant_joins_as_a_newcomer(self, site, edited, answer, paused):
        page = edited({"slots/0/variants/1/text": "Something else"})
        assert edited({"changed/0/1": answer}, page).status_code == 302
        first, old, new = self.variants(site)
        assert (first.key, old.key) == ("a", "b")
        assert (old.payload["text"], old.paused) == ("What would you like?", paused)
        assert (new.payload["text"], new.paused) == ("Something else", False)
        assert new.payload["preheader"] == "Open", "further fields come along"
        assert new.key not in {"a", "b"}
        arms = site.store.experiments.record("sale").configuration.arms
        assert {a.newcomer for a in arms if a.variants[0] == new.key} == {True}
        assert len(site.engine.choose("sale", [Request("next")])) == 1

    def test_control_is_never_paused_by_a_new_variant(self, site, edited):
        page = edited({"slots/0/variants/0/text": "Other"})
        assert 'value="instead"' not in page.text
        assert edited({"changed/0/0": "instead"}, page).status_code == 302
        assert not self.variants(site)[0].paused
        assert len(self.variants(site)) == 3

    def test_edits_are_asked_about_one_by_one(self, site, edited):
        typed = {"slots/0/variants/1/text": "Typo", "slots/2/variants/1/percent": "15"}
        page = edited(typed | {"changed/0/1": "typo"})
        assert page.status_code == 422
        assert 'name="changed/2/1"' in page.text
        assert 'name="changed/0/1"' in page.text or "Typo" in page.text
        done = edited({"changed/0/1": "typo", "changed/2/1": "new"}, page)
        assert done.status_code == 302, unescape(done.text)
        assert [v.payload["percent"] for v in self.variants(site, 2)] == [0, 10, 15]

    def test_edit_of_a_name_alone_asks_nothing(self, site, edited):
        assert edited({"slots/0/variants/1/name": "Question"}).status_code == 302

    @pytest.mark.parametrize(
        ("typed", "why"),
        [
            ({"holdout": "10"}, "in or out of the control group"),
            ({"window/amount": "2", "window/unit": "hours"}, "counted by the old rule"),
            ({"slots/0/control": "1"}, "everything is compared with it"),
            ({"assignment": "per_subject"}, "decided for by the old rule"),
        ],
    )
    def test_edit_that_is_not_allowed_says_why(self, edited, typed, why):
        page = edited(typed)
        assert page.status_code == 422
        assert why in unescape(page.text)

    def test_a_draft_is_edited_without_questions(self, site, manager):
        site.make(key="other", start=False)
        fields = manager.form("/experiments/other/edit", "policy")
        typed = fields | {"slots/0/variants/1/text": "Changed"}
        assert manager.post("/experiments/other/edit", typed).status_code == 302


def test_context_of_a_recipient_is_written_as_people_say_it(site, viewer):
    months = {"name": "months_since", "kind": "number", "low": 0, "high": 24}
    key = site.make(context=[months], policy={"name": "lints"})
    (decision,) = site.engine.choose(key, [Request("u", {"months_since": 3})])
    site.engine.learn(key)
    paths = (
        "experiments/sale/try",
        "experiments/sale/segments",
        f"decisions/{decision.decision_id}",
    )
    pages = [viewer.get(f"/{path}") for path in paths]
    for path, page in zip(paths, pages, strict=True):
        shown = re.sub(r"<[^>]+>", "\n", page.text)
        assert re.search(r"\b[Mm]onths since\b", shown), path
        assert "months_since" not in shown, path
    assert 'name="context/months_since"' in pages[0].text
    assert "<strong>Months since</strong>" in viewer.get(f"/experiments/{key}/setup").text
