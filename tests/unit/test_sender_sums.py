"""Sums by the key that asked, and the checks that rest on facts."""

import msgspec
import numpy as np
import pytest

from bandits.actors import Actor, key_number
from bandits.inference.sample_ratio import SampleRatio
from bandits.inference.sender_checks import (
    UNSENT_SECONDS,
    KeyCounts,
    excuses,
    sender_alarms,
)
from bandits.inference.sender_sums import SenderSums
from bandits.rewards import RewardRule

KEYS = np.array([7, 0, 3, 7])
ARMS = np.array([0, 1, 1, 1])
HALF = np.array([0.5, 0.5])


def sent() -> SenderSums:
    """Sum four decisions, one of them of no known key."""
    ratios = {k: SampleRatio.from_draws(ARMS[k == KEYS], HALF) for k in (0, 3, 7)}
    return SenderSums.from_sent(KEYS, np.array([True, True, False, False]), ratios, 2)


@pytest.mark.parametrize(
    ("actor", "number"),
    [("key:3", 3), ("key:x", 0), ("key:³", 0), ("person:3", 0), ("key:" + "9" * 30, 0), (None, 0)],
)
def test_key_of_an_actor_is_its_number(actor: Actor | None, number: int) -> None:
    assert key_number(actor) == number


def test_decisions_are_summed_by_known_key() -> None:
    sums = sent() + SenderSums.from_closed(KEYS, np.array([False, True, True, True]), 2)
    assert sums.keys.tolist() == [3, 7]
    assert sums.counts.tolist() == [[1, 0, 1, 1], [2, 1, 2, 1]]
    assert sums.sample_ratio.sent.tolist() == [[0, 1], [1, 1]]
    assert sums.sample_ratio.expected.tolist() == [[0.5, 0.5], [1, 1]]


def test_key_leaves_with_its_last_decision() -> None:
    assert (sent() - sent()).keys.tolist() == []
    assert (sent() + sent() - sent()).counts.tolist() == sent().counts.tolist()


def test_sums_are_read_back_with_room_for_new_arms() -> None:
    read = SenderSums.load(sent().dump(), 3)
    assert read.keys.tolist() == [3, 7]
    assert read.ratio[:, 0].tolist() == [[0, 1, 0], [1, 1, 0]]
    assert SenderSums.zeros(2).dump() == b""
    assert SenderSums.load(b"", 2).ratio.shape == (0, 3, 2)


def test_sums_of_the_format_before_have_no_closed_decisions() -> None:
    """They counted matured ones, whose events may still come."""
    sums = sent() + SenderSums.from_closed(KEYS, np.array([False, True, True, True]), 2)
    _, *stored = msgspec.msgpack.decode(sums.dump())
    earlier = msgspec.msgpack.encode(stored)
    assert SenderSums.is_older(earlier)
    assert not SenderSums.is_older(sums.dump())
    assert not SenderSums.is_older(b"")
    read = SenderSums.load(earlier, 2)
    assert read.counts.tolist() == [[1, 0, 0, 0], [2, 1, 0, 0]]
    assert read.ratio.tolist() == sums.ratio.tolist()


@pytest.mark.parametrize(
    ("metrics", "excused"),
    [
        ({"click": {}}, ("bounce", "complaint", "unsubscribe")),
        ({"click": {}, "unsubscribe": {"weight": -5.0}}, ("bounce", "complaint")),
    ],
)
def test_event_that_earns_something_excuses_no_cancellation(metrics, excused) -> None:
    assert excuses(msgspec.convert({"metrics": metrics}, RewardRule)) == excused


def silent(**changes: int) -> list[tuple[int, str]]:
    """Check a key that reported nothing as sent, beside one that reported all."""
    counts = {"chosen": 10, "activated": 0, "cancelled": 0, "answered": 0} | changes
    every = (KeyCounts(1, 0.0, 10, 10, 0, 0), KeyCounts(2, 0.0, **counts))
    now = UNSENT_SECONDS + 1.0
    alarms = sender_alarms(SenderSums.zeros(2), every, awaits=True, now=now)
    return [(alarm.key, alarm.check) for alarm in alarms]


def test_key_that_reports_nothing_as_sent_alarms_beside_one_that_does() -> None:
    assert silent() == [(2, "never_activated")]
    assert silent(activated=1) == []
    assert silent(cancelled=10) == []  # a sender that gave up all of them says so


def reported_by_a_manager(*, sent: dict[int, int], chosen: int = 10) -> list[int]:
    """Check keys 2 and 3, whose emails key 1 alone reports as sent."""
    sums = SenderSums.zeros(2)
    for key, n in sent.items():
        keys = np.full(n, key)
        sums += SenderSums.from_sent(keys, np.zeros(n, dtype=np.bool_), {}, 2)
    counts = [KeyCounts(1, 0.0, 0, sum(sent.values()), 0, 0)]
    counts += [KeyCounts(key, 0.0, chosen, 0, 0, 0) for key in (2, 3)]
    alarms = sender_alarms(sums, counts, awaits=True, now=UNSENT_SECONDS + 1.0)
    return [alarm.key for alarm in alarms if alarm.check == "never_activated"]


def test_key_whose_emails_another_reports_as_sent_does_not_alarm() -> None:
    assert reported_by_a_manager(sent={2: 10, 3: 9}) == []
    assert reported_by_a_manager(sent={2: 10}) == [3]
    assert reported_by_a_manager(sent={2: 4}) == []  # too few of the others' to compare with
    assert reported_by_a_manager(sent={2: 10}, chosen=0) == []


def test_checks_of_what_is_sent_are_not_made_where_nothing_waits_for_it() -> None:
    counts = (KeyCounts(1, 0.0, 10, 10, 0, 0), KeyCounts(2, 0.0, 10, 0, 0, 0))
    now = UNSENT_SECONDS + 1.0
    assert sender_alarms(SenderSums.zeros(2), counts, awaits=False, now=now) == []
