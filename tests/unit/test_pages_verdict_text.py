"""Verdict text: one set of sentences for pages, the API and downloads, from the verdict alone."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from msgspec import convert
from msgspec.structs import replace

from bandits.engine.active_policy import ActivePolicy
from bandits.engine.analysis.summary import summarise
from bandits.engine.sums import load_inference_state
from bandits.experiment import Experiment
from bandits.inference.intervals import Family, Interval, NotYet
from bandits.inference.sender_checks import SenderAlarm
from bandits.results import Results
from bandits.store.values import ExperimentRecord
from bandits.verdict import Action, Reason, Statement, Statements, StatementsReset, Verdict
from bandits.versions import Configuration
from webapp.pages.experiment import verdict_text as pages_verdict_text
from webapp.pages.experiment.verdict_text import VerdictText, verdict_text

DAY = 86_400.0
NOW = datetime(2026, 5, 12, 9, 30, tzinfo=UTC)  # a Tuesday
NAMES = ["Plain", "Question", "Emoji", "Shout", "Name"]
FAMILY = Family("comparisons of the leader with another", 1, 0.05)
LONGEST = 20  # words of a sentence, what stands in brackets left out
ACTIONS: dict[Reason, Action] = {
    "not_started": "wait",
    "nothing_sent": "wait",
    "nothing_final": "wait",
    "sender": "check_health",
    "split": "check_health",
    "leads": "ship",
    "little_lost": "ship",
    "personal_better": "keep_personalising",
    "personal_unknown": "keep_personalising",
    "personal_equal": "ship",
}
JARGON = re.compile(
    r"\b(arms?|variants?|slots?|policy|propensity|holdout|matured?|complete|confidence|significan\w+"
    r"|reward|settled|sound|window|interval|were you)\b",
    re.IGNORECASE,
)


def record(n_arms: int = 2, **changes: Any) -> ExperimentRecord:
    """Make an experiment that started ten days ago."""
    variants = [{"key": f"v{i}", "name": NAMES[i]} for i in range(n_arms)]
    declared = {
        "key": "sale",
        "slots": [{"key": "subject", "variants": variants}],
        "policy": {"name": "uniform"},
        "reward": changes.pop("reward", {"metrics": {"click": {}}, "window_seconds": 2 * DAY}),
    }
    configuration = Configuration.first(convert(declared, Experiment))
    started_at = NOW.timestamp() - 10 * DAY
    running = ExperimentRecord(
        1, "sale", "running", b"salt" * 4, configuration, 0, 0.0, started_at=started_at
    )
    return replace(running, **changes)


def results(of: ExperimentRecord, verdict: Verdict, *statements: Statement) -> Results:
    """Make results of 10,000 emails a version with this verdict."""
    none = load_inference_state(of.configuration, None)
    active = ActivePolicy(of.key, of.salt, of.configuration, None)
    empty = summarise(of, active, none, [], Statements())
    arms = [replace(a, sent=10_000, complete=10_000, closed=10_000) for a in empty.arms]
    closed = 10_000 * len(arms)
    return replace(empty, arms=arms, closed=closed, verdict=verdict, statements=list(statements))


def running(reason: Reason, **fields: Any) -> Verdict:
    """Make the verdict of a campaign of nine days of sending in which the second version leads."""
    standard = {
        "arm": 1,
        "rivals": (0,),
        "at_most": 0.0123,
        "closed_days": 9,
        "recent": "agrees",
        "since": NOW - timedelta(days=8),
        "until": NOW - timedelta(days=2),
        "family": FAMILY,
    }
    return Verdict(ACTIONS.get(reason, "keep_running"), reason, **standard | fields)


def write(verdict: Verdict, n_arms: int = 2, /, **changes: Any) -> VerdictText:
    """Write a verdict as of noon of 12 May."""
    of = record(n_arms, **changes)
    return verdict_text(of, results(of, verdict), NOW.timestamp())


def words_of(text: VerdictText) -> list[str]:
    """List every sentence, without narrow spaces."""
    parts = [text.text, *text.basis, text.caution, text.reset]
    whole = " ".join([*parts, *text.earlier]).replace("\u202f", " ")
    return [s for s in re.split(r"(?<=[.?!])\s+", whole) if s]


@pytest.mark.parametrize("reason", get_args(Reason))
@pytest.mark.parametrize("state", ["running", "paused", "stopped", "archived"])
@pytest.mark.parametrize("goal", ["maximise", "minimise"])
def test_verdict_text_is_short_and_plain_for_every_reason(reason, state, goal) -> None:
    rule = {"metrics": {"click": {}}, "window_seconds": 2 * DAY, "goal": goal}
    ended = {"stopped_at": NOW.timestamp() - DAY} if state in {"stopped", "archived"} else {}
    cost = Interval(0.07, 0.09, 0.081, 0.05, "weighted", FAMILY)
    personal = {"against": "policy", "cost": cost} if reason.startswith("personal") else {}
    verdict = running(reason, next_at=NOW + timedelta(days=2), **personal)
    text = write(verdict, 3, reward=rule, state=state, **ended)
    assert text.action
    assert "  " not in text.text
    for sentence in words_of(text):
        assert len(re.sub(r" \(.*?\)", "", sentence).split()) <= LONGEST, sentence
        assert sentence[0].isupper() or sentence[0] in "“1234567890", sentence
        assert not JARGON.search(sentence), sentence


@pytest.mark.parametrize(
    "reason", sorted(set(get_args(Reason)) - set(ACTIONS) | {"split", "sender"})
)
def test_verdict_text_advises_a_stop_only_where_the_verdict_does(reason) -> None:
    text = write(running(reason))
    assert not text.settled
    assert "Stop and send" not in text.text
    assert "can stop" not in text.text


def test_verdict_text_of_a_leader_to_ship() -> None:
    text = write(running("leads", leads=True, rivals=(), at_most=0.0))
    assert text.headline == "“Question” is better than every other version."
    assert text.cost.replace("\u202f", " ") == (
        "Switching everyone to “Question” now would cost you nothing (95 % sure)."
    )
    assert text.action == "Stop and send “Question”."
    assert text.settled
    assert text.leader == 1


def test_verdict_text_names_rivals_and_what_they_would_cost() -> None:
    text = write(running("could_lose", next_at=NOW + timedelta(days=2)))
    assert text.headline == "“Question” is ahead, but “Plain” could still be better."
    assert text.cost.replace("\u202f", " ") == (
        "If you switched everyone to “Question” now, the most it could cost you is about 13 clicks"
        " per 1,000 emails (95 % sure)."
    ), "rounded up, never down"
    assert text.advice == (
        "Keep running. More results will narrow this down. Look again on Thursday."
    ), "a day to look again is no day by which it is known"
    alike = write(running("could_lose", rivals=(0, 2, 3, 4)), 5)
    assert alike.headline == "No clear winner yet. “Question” is ahead."
    little = write(running("little_lost", at_most=0.001))
    assert little.headline.endswith("by little. “Plain” could be slightly better.")


@pytest.mark.parametrize(
    "facts",
    [{"recent": "contradicts"}, {"recent": "unknown"}, {"closed_days": 2}, {"lifts_move": True}],
)
def test_verdict_text_speaks_of_the_past_where_it_may_not_last(facts) -> None:
    cost = write(running("could_lose", **facts)).cost
    assert cost.startswith("Over these emails, sending only “Question” would have cost at most")
    assert "now" not in cost


@pytest.mark.parametrize(
    ("days", "until"),
    [
        (0.25, "until 15:30 UTC"),
        (1, "until tomorrow"),
        (2, "until Thursday"),
        (6, "until Monday"),
        (7, "until 19 May"),
        (300, "until 8 Mar 2027"),
    ],
)
def test_verdict_text_says_until_when_to_keep_running(days, until) -> None:
    text = write(running("few_days", closed_days=3, next_at=NOW + timedelta(days=days)))
    assert text.action == f"Keep running {until}."
    assert text.why.startswith("Only 3 of 7 days of sending have final results.")


def test_verdict_text_never_names_a_day_that_has_passed() -> None:
    text = write(running("could_lose", next_at=NOW - timedelta(hours=1)))
    assert text.action == "Keep running."


def test_verdict_text_of_a_short_plan_says_so() -> None:
    wait = write(running("few_days", closed_days=1, days_needed=3, short_plan=True))
    assert "Only 1 of 3 days of sending" in wait.why
    ship = write(running("leads", leads=True, closed_days=3, days_needed=3, short_plan=True))
    assert "The plan is shorter than a week: 3 days of sending are enough." in ship.basis


def test_verdict_text_counts_days_and_names_the_dates() -> None:
    basis = write(running("could_lose")).basis
    assert basis[0] == (
        "Over 20,000 emails with final results, sent on 9 different days,"
        " mostly from 4 May to 10 May."
    )
    assert basis[1] == "Nothing in the last seven days with final results speaks against it."
    one = write(running("few_days", closed_days=1)).basis
    assert "sent on one day" in one[0]
    assert len(one) == 1, "there is no week to judge"
    moving = write(running("lifts_move", lifts_move=True, recent="unknown")).basis
    assert "cannot be judged yet" in moving[1]
    assert moving[2] == "Differences between versions changed over time."


def test_verdict_text_of_a_personal_policy_says_what_one_version_would_cost() -> None:
    cost = Interval(0.0702, 0.092, 0.081, 0.05, "weighted", FAMILY)
    personal = running("personal_better", against="policy", cost=cost, at_most=0.092)
    text = write(personal)
    assert text.headline == "Choosing by recipient earns more than any one version."
    assert text.cost.replace("\u202f", " ") == (
        "One version for all would cost about 81 clicks per 1,000 emails"
        " (between 70 and 92, 95 % sure)."
    )
    assert text.advice == "Keep personalising."
    assert not text.settled
    unknown = write(replace(personal, reason="personal_unknown", cost=NotYet("a", "b")))
    assert unknown.headline.startswith("Versions are chosen by recipient.")
    assert "cannot be told yet" in unknown.why


def test_verdict_text_names_versions_that_are_too_new() -> None:
    text = write(running("could_lose", rivals=(0,), uncompared=(2,)), 3)
    assert "“Emoji” is too new to compare." in text.why
    leads = write(running("leads", leads=True, rivals=(), uncompared=(2,)), 3)
    assert leads.headline == "“Question” is better than every version compared so far."
    joined = write(running("not_enough", leads=True, rivals=(), uncompared=(2,)), 3)
    assert joined.headline == "“Question” is better than every version compared so far."
    assert joined.advice == "Keep running. “Emoji” is too new to compare."
    early = write(running("not_enough", rivals=(0, 2), uncompared=(0, 2), at_most=None), 3)
    assert "too new" not in early.text, "where nothing is compared, nothing is left out"
    assert early.headline.startswith("Too early to tell.")
    assert "cannot be told yet" in early.cost


def test_verdict_text_of_a_split_alarm_names_no_leader() -> None:
    text = write(running("split"))
    assert text.leader is None
    assert "Question" not in text.text
    assert text.action == "Look at Health before you act."


def test_verdict_text_of_a_key_that_cannot_be_trusted_names_it_and_no_leader(monkeypatch) -> None:
    monkeypatch.setattr(pages_verdict_text, "actor_name", lambda actor: f"the API key “{actor}”")
    for check, does in (("split", "drops some versions"), ("cancelled", "cancels emails after")):
        text = write(running("sender", sender=SenderAlarm(3, check, None, 1.0, 0.5, 900)))
        assert text.headline.startswith(f"The API key “key:3” {does}")
        assert text.leader is None
        assert "Question" not in text.text
        assert text.action == "Look at Health before you act."
        assert "void what it did" in text.why
        assert all(len(sentence.split()) <= LONGEST for sentence in words_of(text))


def test_verdict_text_of_less_is_better_adds_instead_of_costs() -> None:
    rule = {"metrics": {"complaint": {}}, "goal": "minimise", "window_seconds": 2 * DAY}
    text = write(running("could_lose"), reward=rule)
    assert "the most it could add is about 13 complaints per 1,000 emails" in text.cost


def test_verdict_text_after_a_stop_keeps_the_result_that_was() -> None:
    stopped = {"state": "stopped", "stopped_at": NOW.timestamp() - DAY, "shipped": 1}
    text = write(running("leads", leads=True, rivals=(), at_most=0.0), **stopped)
    assert text.headline == (
        "Stopped after 20,000 emails. Everyone now gets “Question”."
        " “Question” was better than every other version."
    )
    assert text.advice == (
        "Results still arriving are counted."
        " They count until 2 days after the stop; then the result is final."
    )
    assert not text.settled
    kept = write(running("leads"), **stopped, keeps_control=True)
    assert "Everyone but the control group now gets “Question”." in kept.headline
    later = stopped | {"stopped_at": NOW.timestamp() - 9 * DAY}
    assert write(running("leads"), **later).action == "This result is final."


def test_verdict_text_warns_of_a_high_chance_that_is_no_proof() -> None:
    of = record()
    summary = results(of, running("could_lose"))
    sure = replace(summary.arms[1], chance_best=0.97)
    summary = replace(summary, arms=[summary.arms[0], sure])
    caution = verdict_text(of, summary, NOW.timestamp()).caution
    assert "“Question” has a chance of 97.0" in caution
    assert "Don't stop on it alone." in caution
    led = replace(summary, verdict=running("leads", leads=True))
    assert not verdict_text(of, led, NOW.timestamp()).caution


def test_verdict_text_keeps_past_claims_with_their_dates() -> None:
    lift = Interval(0.003, 0.0123, 0.007, 0.05, "weighted", FAMILY)
    of = record()
    first, last = NOW - timedelta(days=10), NOW - timedelta(days=3)
    claim = Statement(NOW - timedelta(days=2), 1, first, last, "leads", lift)
    older = replace(claim, at=NOW - timedelta(days=400), kind="better_than_control")
    summary = results(of, running("could_lose"), older, claim)
    earlier = verdict_text(of, summary, NOW.timestamp()).earlier
    assert earlier[0] == (
        "On 10 May: over emails sent from 2 May to 9 May, “Question” earned more than every other"
        " version, by 3 to 12 clicks per 1,000 emails."
    )
    assert earlier[1].startswith("On 7 Apr 2025: over emails")
    assert "than the control" in earlier[1]


@pytest.mark.parametrize(("reason", "why"), [("erasure", "erased"), ("lifts_move", "changed")])
def test_verdict_text_says_why_past_claims_are_gone(reason, why) -> None:
    of = record()
    reset = StatementsReset(NOW - timedelta(days=2), reason)
    summary = replace(results(of, running("could_lose")), statements_reset=reset)
    sentence = verdict_text(of, summary, NOW.timestamp()).reset
    assert sentence.startswith("Findings before 10 May were removed:")
    assert why in sentence


def test_verdict_text_of_one_version_that_beats_a_personal_policy() -> None:
    cost = Interval(-0.03, -0.01, -0.02, 0.05, "weighted", FAMILY)
    text = write(running("leads", against="policy", cost=cost, at_most=0.0))
    assert text.headline == "“Question” for everyone earns more than choosing by recipient."
    assert text.cost.startswith("One version for all would cost nothing")
    assert text.settled
