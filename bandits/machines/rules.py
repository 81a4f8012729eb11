"""Rules that tell machines from people, by version, and the verdicts that follow from them.

An event is judged by itself, by the other events of its email, and by counts of its network, so a
verdict can be derived again at any time. Only persons' events are meant to count.
"""

from collections.abc import Iterator
from enum import IntEnum

import numpy as np
from msgspec import Struct

from bandits.array_types import BoolArray, IntArray
from bandits.machines.agents import AgentClass
from bandits.machines.networks import UNKNOWN_NETWORK, FrozenRows, NetworkCounts
from bandits.machines.tracked_events import EventKind, TrackedEvents

NEWEST_RULES = 1


class MachineRules(Struct, frozen=True):
    """Limits of one version of the rules.

    Attributes:
        instant_seconds: nobody has received, read and followed an email so soon after delivery.
        early_seconds: hardly anybody has: one or two in a thousand, where a quarter of all who read
            do so within an hour, and seven where half of them take half an hour.
        soon_seconds: nearly all scans at delivery have begun (of 836 sweeps that a sender
            analysed, 97 % within five minutes).
        sweep_seconds: the time in which the links of a sweep are followed: some scanners take a
            second for each link.
        sweep_links: different links within that time that are a sweep,
        few_links: and so many, where they come soon after delivery, from a scanner's network, or
            within `fast_seconds`: some people open three links one after the other.
        fast_seconds: see there.
        close_seconds: two different links in less than this are not followed by hand: to point at
            one takes 1.1 seconds (Card, Moran and Newell, 1980).
        most_clicks: clicks within `sweep_seconds` that are a sweep, whatever their links are.
        visit_seconds: events of an email from the network of a sweep, so close to it, are part of
            it; a scanner shows the images half a minute before it follows links.
        pair_seconds: the time between a click and the check of that link for which a mail service
            answers, from another network.
        busy_emails: emails of one network within a minute that make it busy.
        scanning_emails: swept emails of a week that make a network a scanner's,
        scanning_share: and their share of all its emails at least: of people's clicks fewer than
            one in a hundred look like a sweep.
        freeze_seconds: how long after the first event of a network and minute its counts grow.
    """

    instant_seconds: float = 10.0
    early_seconds: float = 30.0
    soon_seconds: float = 300.0
    sweep_seconds: float = 10.0
    sweep_links: int = 5
    few_links: int = 3
    fast_seconds: float = 2.0
    close_seconds: float = 1.0
    most_clicks: int = 32
    visit_seconds: float = 120.0
    pair_seconds: float = 15.0
    busy_emails: int = 5
    scanning_emails: int = 2
    scanning_share: float = 0.2
    freeze_seconds: float = 120.0


RULES = {1: MachineRules()}


class EventVerdict(IntEnum):
    """Verdict on an event; only those of persons are meant to count."""

    PERSON = 0
    UNSURE = 1
    MACHINE = 2


class VerdictReason(IntEnum):
    """Reason of a verdict, the first that holds in this order; its `words` are for pages."""

    NONE = 0
    FLAGGED = 1
    HEAD = 2
    HONEYPOT = 3
    CRAWLER = 4
    PRIVACY_PROXY = 5
    PROGRAM = 6
    INSTANT = 7
    SWEEP = 8
    UNSUBSCRIBE = 9
    VISIT = 10
    SCANNER = 11
    EARLY = 12
    CHECKED_BY_SCANNER = 13
    CLOSE = 14
    CHECKED = 15

    @property
    def label(self) -> str:
        """The reason in few words."""
        return _LABELS[self]

    @property
    def words(self) -> str:
        """The reason as a sentence."""
        return _WORDS[self]

    @property
    def verdict(self) -> EventVerdict:
        """The verdict that it leads to."""
        if self is VerdictReason.NONE:
            return EventVerdict.PERSON
        unsure = self in (VerdictReason.CLOSE, VerdictReason.CHECKED)
        return EventVerdict.UNSURE if unsure else EventVerdict.MACHINE


_LABELS = {
    VerdictReason.NONE: "A person",
    VerdictReason.FLAGGED: "Flagged by your sender",
    VerdictReason.HEAD: "Head of the page alone",
    VerdictReason.HONEYPOT: "Hidden link",
    VerdictReason.CRAWLER: "Scanner or crawler",
    VerdictReason.PRIVACY_PROXY: "Privacy proxy",
    VerdictReason.PROGRAM: "No browser",
    VerdictReason.INSTANT: "Too soon to be read",
    VerdictReason.SWEEP: "Many links within seconds",
    VerdictReason.UNSUBSCRIBE: "Unsubscribe link and another",
    VerdictReason.VISIT: "Network of such a sweep",
    VerdictReason.SCANNER: "Network that sweeps emails",
    VerdictReason.EARLY: "At once, from a busy network",
    VerdictReason.CHECKED_BY_SCANNER: "Checked by a scanner",
    VerdictReason.CLOSE: "Two links within a second",
    VerdictReason.CHECKED: "Two networks at once",
}
_WORDS = {
    VerdictReason.NONE: "Nothing speaks for a machine.",
    VerdictReason.FLAGGED: "The sender says that a machine did it.",
    VerdictReason.HEAD: "It asked for the head of the page alone, as programs do.",
    VerdictReason.HONEYPOT: "A link that nobody can see was followed within seconds of it.",
    VerdictReason.CRAWLER: "Its program says that it is a scanner or a crawler.",
    VerdictReason.PRIVACY_PROXY: "A privacy proxy fetched the images; it does so for every email.",
    VerdictReason.PROGRAM: "A program looked at the link; people's clicks come from a browser.",
    VerdictReason.INSTANT: "It came sooner after delivery than anybody reads.",
    VerdictReason.SWEEP: "Several different links of the email were followed within seconds.",
    VerdictReason.UNSUBSCRIBE: "The unsubscribe link and another were followed within seconds.",
    VerdictReason.VISIT: "Its network swept links of the same email within minutes of it.",
    VerdictReason.SCANNER: "It came soon after delivery, from a network that sweeps emails.",
    VerdictReason.EARLY: "It came at once, with other links or from a busy network.",
    VerdictReason.CHECKED_BY_SCANNER: "A scanner followed the link while a person did.",
    VerdictReason.CLOSE: "Two different links were followed within a second.",
    VerdictReason.CHECKED: "The link was followed from two networks at once; one of them counts.",
}


class EventVerdicts(Struct, frozen=True, eq=False):
    """Verdicts on n events: (n,) int, values of `VerdictReason` and of `EventVerdict`."""

    reasons: IntArray
    verdicts: IntArray

    @property
    def persons(self) -> BoolArray:
        """(n,) bool, the events that count."""
        return self.verdicts == EventVerdict.PERSON


def judge_events(
    events: TrackedEvents, counts: NetworkCounts, version: int = NEWEST_RULES
) -> EventVerdicts:
    """Judge n events by a version of the rules.

    Args:
        events: all opens and clicks of their emails, in any order.
        counts: of the networks, as `count_networks` makes them and as they were frozen.
        version: of the rules.

    Raises:
        KeyError: there is no such version.
    """
    rules = RULES[version]
    order = np.lexsort((events.times, events.emails))
    reasons = np.empty(len(events), dtype=np.int64)
    reasons[order] = _sorted_reasons(events.take(order), counts, rules)
    verdicts = np.array([reason.verdict for reason in VerdictReason], dtype=np.int64)
    return EventVerdicts(reasons, verdicts[reasons])


def count_networks(events: TrackedEvents, version: int = NEWEST_RULES) -> NetworkCounts:
    """Count the emails of each network and minute, of clicks that came before it was frozen.

    A network and minute is frozen some time after its first click was received, so that whatever
    comes later changes no verdict.

    Raises:
        KeyError: there is no such version.
    """
    rules = RULES[version]
    clicks = events.take(is_countable(events))
    clicks = clicks.take(np.lexsort((clicks.received, clicks.minutes, clicks.networks)))
    first = np.ones(len(clicks), dtype=np.bool_)
    first[1:] = (np.diff(clicks.networks) != 0) | (np.diff(clicks.minutes) != 0)
    frozen_at = clicks.received[np.flatnonzero(first)][np.cumsum(first) - 1]
    frozen_at = frozen_at + rules.freeze_seconds
    rows = np.flatnonzero(clicks.received <= frozen_at)
    rows = rows[np.lexsort((clicks.times[rows], clicks.emails[rows]))]
    clicks, frozen_at = clicks.take(rows), frozen_at[rows]
    columns = (clicks.networks, clicks.minutes, clicks.emails)
    counted = FrozenRows.from_clicks(*columns, _swept(clicks, rules), frozen_at)
    return NetworkCounts.from_rows(counted)


def find_swept(events: TrackedEvents, version: int = NEWEST_RULES) -> BoolArray:
    """Mark those of n events, in any order, that are clicks made as no person does, (n,) bool.

    Raises:
        KeyError: there is no such version.
    """
    order = np.lexsort((events.times, events.emails))
    swept = np.empty(len(events), dtype=np.bool_)
    swept[order] = _swept(events.take(order), RULES[version])
    return swept


def is_countable(events: TrackedEvents) -> BoolArray:
    """Mark clicks of known networks that may be part of a sweep, by which networks are counted."""
    return _sweepable(events) & (events.networks != UNKNOWN_NETWORK)


def _swept(events: TrackedEvents, rules: MachineRules) -> BoolArray:
    """Mark events, sorted by email and time, that are clicks made as no person does."""
    sweeps = find_sweeps(events, rules)
    crawls = _sweepable(events) & (events.agents == AgentClass.CRAWLER)
    return sweeps.sure | sweeps.close | crawls


def _sorted_reasons(events: TrackedEvents, counts: NetworkCounts, rules: MachineRules) -> IntArray:
    """Return the reason for each of n events that are sorted by email and time."""
    clicks = events.kinds == EventKind.CLICK
    sweeps = find_sweeps(events, rules)
    emails, of_week, swept_of_week = counts.rows(events.networks, events.minutes)
    scans = (swept_of_week >= rules.scanning_emails) & (
        swept_of_week >= rules.scanning_share * of_week
    )
    busy = emails >= rules.busy_emails
    early = events.since_delivery <= rules.early_seconds
    signs: dict[VerdictReason, BoolArray] = {
        VerdictReason.FLAGGED: events.flagged,
        VerdictReason.HEAD: events.head,
        VerdictReason.HONEYPOT: sweeps.honeypot,
        VerdictReason.CRAWLER: events.agents == AgentClass.CRAWLER,
        VerdictReason.PRIVACY_PROXY: events.agents == AgentClass.PRIVACY_PROXY,
        VerdictReason.PROGRAM: clicks & (events.agents == AgentClass.PROGRAM),
        VerdictReason.INSTANT: events.since_delivery <= rules.instant_seconds,
        VerdictReason.SWEEP: sweeps.many | (sweeps.few & scans),
        VerdictReason.UNSUBSCRIBE: sweeps.unsubscribe,
        VerdictReason.VISIT: _beside(events, sweeps.sure, rules.visit_seconds),
        VerdictReason.SCANNER: scans & (events.since_delivery <= rules.soon_seconds),
        VerdictReason.EARLY: early & (sweeps.two | busy),
    }
    people = ~np.any(list(signs.values()), axis=0)
    checked, by_scanner = _checks(events, clicks & people, scans, rules)
    signs |= {
        VerdictReason.CHECKED_BY_SCANNER: by_scanner,
        VerdictReason.CLOSE: sweeps.close,
        VerdictReason.CHECKED: checked,
    }
    return np.select(list(signs.values()), list(signs), default=VerdictReason.NONE).astype(np.int64)


def _sweepable(events: TrackedEvents) -> BoolArray:
    """Mark clicks that sweeps are made of: some phones ask for the head of each link by and by."""
    return (events.kinds == EventKind.CLICK) & ~events.head


class SweepMembership(Struct, frozen=True, eq=False):
    """Membership of n events in groups of clicks of one email within seconds, (n,) bool each.

    Attributes:
        many: more different links than people follow so fast, or more clicks than anybody makes.
        few: different links that may be a sweep.
        unsubscribe: the link that unsubscribes, and another.
        honeypot: the link that nobody sees.
        close: two different links from one network, closer than by hand.
        two: two different links from one network.
    """

    many: BoolArray
    few: BoolArray
    unsubscribe: BoolArray
    honeypot: BoolArray
    close: BoolArray
    two: BoolArray

    @property
    def sure(self) -> BoolArray:
        """(n,) bool, groups that only a machine makes."""
        return self.many | self.unsubscribe | self.honeypot


def find_sweeps(events: TrackedEvents, rules: MachineRules) -> SweepMembership:
    """Find the sweeps among n events that are sorted by email and time.

    A sweep may come from several networks. A click that itself set one off is not part of it.
    """
    rows = np.flatnonzero(_sweepable(events))
    clicks = events.take(rows)
    earlier = _earlier_click_of_link(clicks)
    n_clicks, n_links, n_fast = np.ones((3, len(rows)), dtype=np.int64)  # from each click on
    unsubscribe, honeypot = clicks.unsubscribe.copy(), clicks.honeypot.copy()
    two, close = np.zeros((2, len(rows)), dtype=np.bool_)
    for first, later in _pairs(clicks, rules.sweep_seconds, rules.most_clicks):
        after = clicks.times[later] - clicks.times[first]
        new = earlier[later] < first
        n_clicks[first] += 1
        n_links[first] += new
        n_fast[first] += new & (after <= rules.fast_seconds)
        unsubscribe[first] |= clicks.unsubscribe[later]
        honeypot[first] |= clicks.honeypot[later]
        differ = clicks.links[later] != clicks.links[first]
        differ &= ~_other_networks(clicks, first, later)
        for pairs, members in ((differ, two), (differ & (after < rules.close_seconds), close)):
            members[first] |= pairs
            members[later] |= pairs
    few = n_links >= rules.few_links
    many = (n_links >= rules.sweep_links) | (n_clicks >= rules.most_clicks)
    many |= (n_fast >= rules.few_links) | (few & (clicks.since_delivery <= rules.soon_seconds))
    groups = np.stack([many, few, unsubscribe & (n_links > 1), honeypot])
    members = groups.copy()
    for first, later in _pairs(clicks, rules.sweep_seconds, rules.most_clicks):
        members[:, later] |= groups[:, first]
    members &= ~_triggers(clicks, np.any(members, axis=0), rules)
    columns = np.zeros((6, len(events)), dtype=np.bool_)
    columns[:, rows] = [*members, close, two]
    return SweepMembership(*columns)


def _triggers(clicks: TrackedEvents, members: BoolArray, rules: MachineRules) -> BoolArray:
    """Mark a person's clicks that set off a sweep: some scanners look at all links at a click.

    Such a click is the only one of its network, of a link that the sweep follows from another. As
    of two networks either could be the person's, the later click is; where several links are
    followed so, a scanner follows each of them twice.
    """
    repeated = np.zeros(len(clicks), dtype=np.bool_)
    only = (clicks.networks != UNKNOWN_NETWORK) & ~clicks.honeypot & ~clicks.unsubscribe
    for first, later in _pairs(clicks, rules.sweep_seconds, rules.most_clicks):
        same_link = clicks.links[first] == clicks.links[later]
        other = _other_networks(clicks, first, later)
        twice = same_link & other
        more = ~same_link & ~other
        for end in (first, later):
            repeated[end] |= twice
            only[end] &= ~more
    rows = np.flatnonzero(members & repeated & only)
    candidates = clicks.take(rows)
    person = np.ones(len(rows), dtype=np.bool_)
    for first, later in _pairs(candidates, rules.sweep_seconds, rules.most_clicks):
        other_link = candidates.links[first] != candidates.links[later]
        person[first] &= ~(other_link | _other_networks(candidates, first, later))
        person[later] &= ~other_link
    triggers = np.zeros(len(clicks), dtype=np.bool_)
    triggers[rows[person]] = True
    return triggers


def _other_networks(events: TrackedEvents, first: IntArray, later: IntArray) -> BoolArray:
    """Mark pairs that come from two networks, both known."""
    a, b = events.networks[first], events.networks[later]
    return (a != b) & (a != UNKNOWN_NETWORK) & (b != UNKNOWN_NETWORK)


def _pairs(events: TrackedEvents, seconds: float, most: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Go through pairs of events of one email that are at most so far apart, by distance.

    Each event has at most `most` − 1 pairs, so that an email of any number of events costs little.
    """
    first = np.arange(len(events))
    for distance in range(1, most):
        first = first[first + distance < len(events)]
        later = first + distance
        near = events.emails[later] == events.emails[first]
        near &= events.times[later] - events.times[first] <= seconds
        first, later = first[near], later[near]
        if not len(first):
            return
        yield first, later


def _earlier_click_of_link(clicks: TrackedEvents) -> IntArray:
    """Return the position of the click before each that is of its email and link, else −1."""
    order = np.lexsort((np.arange(len(clicks)), clicks.links, clicks.emails))
    emails, links = clicks.emails[order], clicks.links[order]
    same = (emails[1:] == emails[:-1]) & (links[1:] == links[:-1])
    earlier = np.full(len(clicks), -1)
    earlier[order[1:]] = np.where(same, order[:-1], -1)
    return earlier


def _beside(events: TrackedEvents, marked: BoolArray, seconds: float) -> BoolArray:
    """Mark events within so many seconds of a marked one of the same email and known network."""
    order = np.lexsort((events.times, events.networks, events.emails))
    by_network = events.take(order)
    times = by_network.times
    begins = np.ones(len(order), dtype=np.bool_)
    begins[1:] = np.diff(by_network.emails) != 0
    begins[1:] |= np.diff(by_network.networks) != 0
    group = np.cumsum(begins)
    places = np.flatnonzero(marked[order])  # of marked events, ascending
    beside = np.zeros(len(order), dtype=np.bool_)
    if len(places):
        after = np.searchsorted(places, np.arange(len(order)))
        for nearest in (
            places[np.maximum(after - 1, 0)],
            places[np.minimum(after, len(places) - 1)],
        ):
            beside |= (group[nearest] == group) & (np.abs(times[nearest] - times) <= seconds)
    out = np.empty(len(order), dtype=np.bool_)
    out[order] = beside & (by_network.networks != UNKNOWN_NETWORK)
    return out


def _checks(
    events: TrackedEvents, candidates: BoolArray, scans: BoolArray, rules: MachineRules
) -> tuple[BoolArray, BoolArray]:
    """Find clicks of one link from two networks at once: a person, and a check of the link.

    Returns:
        Where no network is a scanner's, the earlier of the two; and those of scanners' networks.
    """
    rows = np.flatnonzero(candidates & (events.networks != UNKNOWN_NETWORK))
    clicks, of_scanner = events.take(rows), scans[rows]
    checked, by_scanner = np.zeros((2, len(events)), dtype=np.bool_)
    for first, later in _pairs(clicks, rules.pair_seconds, rules.most_clicks):
        pair = clicks.links[first] == clicks.links[later]
        pair &= clicks.networks[first] != clicks.networks[later]
        a, b = first[pair], later[pair]
        by_scanner[rows[a]] |= of_scanner[a]
        by_scanner[rows[b]] |= of_scanner[b]
        checked[rows[a]] |= ~(of_scanner[a] | of_scanner[b])
    return checked, by_scanner
