"""What is kept of the request behind an event: hashes, classes and signs, never the texts."""

import numpy as np
import pytest

from bandits.inference.event_verdict_counts import EventVerdictCounts
from bandits.machines import (
    AgentClass,
    EventKind,
    EventSign,
    MailboxClass,
    VerdictReason,
    event_trace,
    mailbox_class,
    network_hash,
)
from bandits.schemas import Tracking

KEY, OTHER = b"k" * 16, b"o" * 16


@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        ("Ann@Gmail.com", MailboxClass.GOOGLE),
        ("gmail.com", MailboxClass.GOOGLE),
        ("ann@hotmail.co.uk", MailboxClass.MICROSOFT),
        ("ann@yahoo.com.br", MailboxClass.YAHOO),
        ("Ann <ann@icloud.com>", MailboxClass.APPLE),
        ("ann@web.de", MailboxClass.PROVIDER),
        ("ann@web.example", MailboxClass.OWN_DOMAIN),
        ("ann@mail.shop.example", MailboxClass.OWN_DOMAIN),
        ("ann@gmail.shop.example", MailboxClass.OWN_DOMAIN),
        ("ann", MailboxClass.UNKNOWN),
        ("", MailboxClass.UNKNOWN),
        (None, MailboxClass.UNKNOWN),
        ("a" * 400 + "@gmail.com", MailboxClass.UNKNOWN),
    ],
)
def test_mailbox_class_is_of_the_domain(recipient, expected):
    assert mailbox_class(recipient) is expected


def test_event_trace_keeps_hashes_and_classes():
    tracking = Tracking(
        ip="198.51.100.7", user_agent="Mozilla/5.0", url="https://shop.example/1", machine=True
    )
    trace = event_trace(tracking, "click", KEY)
    assert trace.kind == EventKind.CLICK
    assert trace.network == network_hash("198.51.100.7", KEY)
    assert trace.agent == AgentClass.PRIVACY_PROXY
    assert trace.signs == EventSign.FLAGGED
    assert trace.mailbox == MailboxClass.UNKNOWN
    other = event_trace(tracking, "click", OTHER)
    assert (other.link, other.network) != (trace.link, trace.network)
    for number in (trace.link, trace.network):
        assert number
        assert -(2**63) <= number < 2**63


@pytest.mark.parametrize(
    ("tracking", "metric", "kind"),
    [
        (Tracking(), "open", EventKind.OPEN),
        (Tracking(), "machine_open", EventKind.OPEN),
        (Tracking(), "visits", EventKind.CLICK),
        (Tracking(kind="open"), "visits", EventKind.OPEN),
        (Tracking(kind="click"), "open", EventKind.CLICK),
    ],
)
def test_event_trace_is_an_open_or_a_click(tracking, metric, kind):
    trace = event_trace(tracking, metric, KEY)
    assert (trace.kind, trace.link, trace.network) == (kind, 0, 0)


@pytest.mark.parametrize(
    ("tracking", "signs"),
    [
        (Tracking(url="https://shop.example/Unsubscribe?u=1"), EventSign.UNSUBSCRIBE),
        (Tracking(url="https://shop.example/opt-out"), EventSign.UNSUBSCRIBE),
        (Tracking(url="https://shop.example/option"), EventSign(0)),
        (Tracking(unsubscribe=True, head=True), EventSign.UNSUBSCRIBE | EventSign.HEAD),
        (Tracking(honeypot=True), EventSign.HONEYPOT),
    ],
)
def test_event_trace_sums_signs(tracking, signs):
    assert event_trace(tracking, "click", KEY).signs == signs


def test_event_trace_of_what_is_no_address_has_no_network():
    assert event_trace(Tracking(ip="unknown"), "click", KEY).network == 0


def counts(reasons: list[int], arms: list[int]) -> EventVerdictCounts:
    names = ("click", "open")
    events = np.array([(0, reason, 1) for reason in reasons])
    return EventVerdictCounts.from_events(names, events, np.array(arms), 3)


def test_event_verdict_counts_are_additive_and_drop_what_is_empty():
    one, other = counts([0, 8, 8], [0, 1, 3]), counts([8, 11], [1, 2])
    both = one + other
    assert both.keys == (("click", 0, 1), ("click", 8, 1), ("click", 11, 1))
    assert both.counts.tolist() == [[1, 0, 0, 0], [0, 2, 0, 1], [0, 0, 1, 0]]
    assert (both - other).keys == one.keys
    assert (both - other).counts.tolist() == one.counts.tolist()
    assert (one - one).keys == ()


def test_event_verdict_counts_are_read_back_with_room_for_new_arms():
    one = counts([0, 8], [2, 3])
    assert EventVerdictCounts.zeros(3).dump() == b""
    again = EventVerdictCounts.load(one.dump(), 4)
    assert again.keys == one.keys
    assert again.counts.tolist() == [[0, 0, 1, 0, 0], [0, 0, 0, 0, 1]]


def test_each_reason_has_words_and_a_label_that_fits_a_chart():
    labels = [reason.label for reason in VerdictReason]
    assert len(set(labels)) == len(labels)
    assert max(map(len, labels)) <= 30
    assert all(reason.words.endswith(".") for reason in VerdictReason)
