"""The simulated recipients of the demo."""

from collections import Counter

import numpy as np
import pytest

from bandits.schemas import Decision
from webapp.sample import KEY, MATURITY_SECONDS, WINDOW_SECONDS, SampleRecipients, sample_experiment

SEED = 20


def email(i, subject="plain", content="products", discount="d0"):
    chosen = {"subject_line": subject, "content_block": content, "discount": discount}
    slots = {slot: {"variant": variant, "payload": {}} for slot, variant in chosen.items()}
    return Decision(f"d-{i}", slots, 0.1, 1)


def reactions(n, **chosen):
    recipients = SampleRecipients(np.random.default_rng(SEED))
    recipients.receive([email(i, **chosen) for i in range(n)], now=0.0)
    return recipients.reports(now=1e9)


def test_sample_experiment_is_valid_and_has_three_slots():
    experiment = sample_experiment()
    experiment.check()
    assert experiment.key == KEY
    assert [len(s.variants) for s in experiment.slots] == [3, 2, 2]


def test_sample_events_are_late_doubled_and_out_of_order():
    recipients = SampleRecipients(np.random.default_rng(SEED))
    recipients.receive([email(i) for i in range(20_000)], now=0.0)
    early = recipients.reports(now=MATURITY_SECONDS)
    corrections = recipients.reports(now=WINDOW_SECONDS)
    too_late = recipients.reports(now=1e9)
    assert len(early) > len(corrections) > len(too_late) > 0
    every = [*early, *corrections, *too_late]
    counted = Counter(e.event_id for e in every)
    assert set(counted.values()) == {1, 2}
    doubled = sum(n == 2 for n in counted.values()) / len(counted)
    assert doubled == pytest.approx(0.05, abs=0.02)
    numbers = [int(e.decision_id.removeprefix("d-")) for e in early]
    assert numbers != sorted(numbers)
    assert recipients.reports(now=1e9) == [], "each event is handed over once"


def test_sample_rewards_mature_within_seconds_and_few_change_later():
    """Of 10,000 events 1.8 % are expected late: a share above 3 % is 9 standard errors away."""
    recipients = SampleRecipients(np.random.default_rng(SEED))
    recipients.receive([email(i) for i in range(30_000)], now=0.0)
    soon, in_time, late = (
        {e.event_id for e in recipients.reports(now=at)}
        for at in (MATURITY_SECONDS / 2, MATURITY_SECONDS, 1e9)
    )
    every = soon | in_time | late
    assert len(every) > 9_000
    assert 0 < len(late - soon - in_time) / len(every) < 0.03
    assert len(soon) / len(every) > 0.8


def test_sample_recipients_answer_by_the_email_they_got():
    """Each pair differs by 5 standard errors or more at 20,000 emails: false alarms below 1e-6."""
    n = 20_000
    plain, question = (
        len({e.event_id for e in reactions(n, subject=s) if e.metric == "open"})
        for s in ("plain", "question")
    )
    assert question > plain
    products, story = (
        len({e.event_id for e in reactions(n, content=c) if e.metric == "click"})
        for c in ("products", "story")
    )
    assert story > products
    calm, hurry = (
        len({e.event_id for e in reactions(n, subject=s) if e.metric == "unsubscribe"})
        for s in ("plain", "hurry")
    )
    assert hurry > calm


def test_sample_recipients_report_declared_events_only():
    declared = set(sample_experiment().reward.metrics)
    assert {e.metric for e in reactions(20_000)} == declared
