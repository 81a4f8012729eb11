"""What if: the page asks a campaign's own log what another choice would have brought."""

import re
from random import Random
from threading import Event

import numpy as np
import pytest

from bandits.schemas import Request, Reward
from simulations import FixedShares, LoggedPolicy, WithoutArm, evaluate, read_log
from simulations.evaluation.targets import MinimumShare
from storage.log.export import export_log
from tests.patience import LIMIT_SECONDS, wait_until
from webapp.pages.experiment import what_if

RATES = {"a": 0.1, "b": 0.4, "c": 0.1}
SLOTS = [
    {
        "key": "subject_line",
        "kind": "subject_line",
        "variants": [{"key": k, "payload": {"text": f"<i>{k}</i>"}} for k in RATES],
    }
]


@pytest.fixture
def campaign(site):
    """A campaign of three versions, one of which is better, after 3,000 emails."""
    site.make(slots=SLOTS, exclude=[], control={}, context=[], policy={"name": "uniform"})
    send(site, 3000)
    return site


def send(site, n):
    rng = Random(5)
    made = site.engine.choose("sale", [Request(f"u-{i}", decision_id=f"d-{i}") for i in range(n)])
    clicks = [
        Reward(str(d.decision_id), "c", "click")
        for d in made
        if rng.random() < RATES[d.slots["subject_line"]["variant"]]
    ]
    site.engine.reward(clicks)
    site.clock.now += 2000
    site.engine.learn("sale")


def ask(visitor, **asked):
    """Ask, wait for the answer, and return its text."""
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    address = f"/experiments/sale/what-if?{query}"
    read = lambda: visitor.get(address).text  # noqa: E731
    page = wait_until(read, "answer", lambda page: "data-poll" not in page)
    return " ".join(re.sub(r"<[^>]+>", " ", page.split("answer-title")[-1]).split())


def test_better_version_for_all_would_have_brought_more(campaign, viewer):
    text = ask(viewer, what="only", arm=1)
    assert "More: its interval lies above" in text
    value = float(re.search(r"It would have brought ([\d.]+)", text)[1])
    assert value == pytest.approx(40, abs=5)


def test_worse_version_less_and_a_small_change_is_too_close(campaign, viewer):
    assert "Less: its interval lies below" in ask(viewer, what="only", arm=0)
    assert "Too close to call" in ask(viewer, what="equal")
    assert "Too close to call" in ask(viewer, what="minimum", share=5)
    assert "More: its interval" in ask(viewer, what="method", method="thompson")


def test_answer_is_what_the_evaluation_of_the_exported_log_says(campaign, viewer, tmp_path):
    export_log(campaign.store, "sale", tmp_path / "log.parquet")
    rounds = read_log(tmp_path / "log.parquet", whole_rows=True)
    best = evaluate(rounds, WithoutArm("a"), estimators=["dr", "snipw"]).best
    own = evaluate(rounds, LoggedPolicy(), estimators=["snipw"]).best
    text = ask(viewer, what="without", arm=0).replace("\u202f", " ")
    for estimate in (best, own):
        assert f"{100 * estimate.value:.1f} %" in text
        assert f"between {100 * estimate.low:.1f} % and {100 * estimate.high:.1f} %" in text


def test_few_emails_answer_nothing_and_say_why(site, viewer):
    site.make(slots=SLOTS, exclude=[], control={}, context=[], policy={"name": "uniform"})
    page = viewer.get("/experiments/sale/what-if").text
    assert "Questions can be asked once emails were sent" in page
    send(site, 60)
    text = ask(viewer, what="only", arm=1)
    assert "This log cannot tell." in text
    assert "effective" in text or "rows" in text
    assert "It would have brought" not in text


def test_large_log_is_for_the_command_line(campaign, viewer, monkeypatch):
    monkeypatch.setattr(what_if, "MOST_ROWS", 2000)
    page = viewer.get("/experiments/sale/what-if?what=equal").text
    assert "bandits evaluate log.parquet" in page
    assert "Reading the log" not in page


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("what=nothing", "Choose a question."),
        ("what=only&arm=3", "Choose a version."),
        ("what=only&arm=-1", "Choose a version."),
        ("what=without&arm=99999999999", "Choose a version."),
        ("what=minimum&share=34", "Enter a share above 0 and at most 33.3 %."),
        ("what=minimum&share=nan", "Enter a share above 0"),
        ("what=minimum&share=", "Enter a share above 0"),
        ("what=method&method=uniform", "Choose a method."),
        ("what=method&method=linucb", "Choose a method."),
    ],
)
def test_question_that_does_not_fit_is_told(campaign, viewer, asked, message):
    answer = viewer.get(f"/experiments/sale/what-if?{asked}")
    assert answer.status_code == 422
    assert message in answer.text


def test_names_of_versions_are_no_markup(campaign, viewer):
    text = viewer.get("/experiments/sale/what-if").text
    assert "<i>a</i>" not in text
    assert "&lt;i&gt;a&lt;/i&gt;" in text


def test_question_is_asked_anew_once_more_is_known(campaign, viewer):
    before = ask(viewer, what="only", arm=1)
    send_more = [Request(f"v-{i}", decision_id=f"e-{i}") for i in range(3000)]
    campaign.engine.choose("sale", send_more)
    campaign.clock.now += 2000
    campaign.engine.learn("sale")
    assert ask(viewer, what="only", arm=1) != before


def test_log_that_is_being_read_shows_its_progress(campaign, viewer, monkeypatch):
    held = Event()
    real = what_if.Evaluations._reader

    def slow(self, question, store):
        read = real(self, question, store)

        def wait(note):
            note(0.5)
            held.wait(LIMIT_SECONDS)
            return read(note)

        return wait

    monkeypatch.setattr(what_if.Evaluations, "_reader", slow)
    monkeypatch.setattr("webapp.jobs.evaluations._PATIENCE_SECONDS", 0.0)
    page = viewer.get("/experiments/sale/what-if?what=only&arm=2").text
    held.set()
    assert "Reading the log" in page
    assert "<progress" in page
    assert "Less: its interval" in ask(viewer, what="only", arm=2)


def test_minimum_share_mixes_with_an_equal_share_of_who_is_eligible(campaign, tmp_path):
    export_log(campaign.store, "sale", tmp_path / "log.parquet")
    rounds = read_log(tmp_path / "log.parquet")
    view = MinimumShare(0.1).view(rounds)
    assert np.allclose(view.probabilities, 0.1 + 0.7 * rounds.probabilities)
    equal = FixedShares({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}).view(rounds)
    assert np.allclose(MinimumShare(1 / 3).view(rounds).probabilities, equal.probabilities)
