"""Verdicts on opens and clicks, by example."""

from typing import Any

import numpy as np
import pytest

from bandits.machines import (
    RULES,
    AgentClass,
    EventKind,
    EventVerdict,
    NetworkCounts,
    TrackedEvents,
    VerdictReason,
    agent_class,
    count_networks,
    judge_events,
    network_hash,
)

KEY = b"k" * 16
NONE, SWEEP = VerdictReason.NONE, VerdictReason.SWEEP
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36"
HOME, OFFICE, FLEET = 11, 12, 13
HOUR = 3600.0
DELIVERED = 1_800_000_000.0  # at the beginning of a minute
NOBODY = NetworkCounts(*np.zeros((5, 0), dtype=np.int64))


def event(after: float, link: int = 1, **columns: Any) -> dict[str, Any]:
    """Describe a click so many seconds after delivery; without a link it is an open."""
    kind = EventKind.CLICK if link else EventKind.OPEN
    given = {"emails": 0, "kinds": kind, "networks": HOME, "agents": AgentClass.BROWSER}
    received = DELIVERED + after
    return given | {"times": DELIVERED + after, "received": received, "links": link} | columns


def tracked(*rows: dict[str, Any]) -> TrackedEvents:
    """Make columns of events."""

    def column(name: str, dtype: type) -> Any:
        return np.array([row.get(name, 0) for row in rows], dtype=dtype)

    times = column("times", float)
    return TrackedEvents(
        column("emails", int),
        column("kinds", int),
        times,
        column("received", float),
        np.array([row.get("since", row["times"] - DELIVERED) for row in rows], dtype=float),
        *(column(name, int) for name in ("links", "networks", "agents")),
        *(column(name, bool) for name in ("flagged", "head", "honeypot", "unsubscribe")),
    )


def reasons(*rows: dict[str, Any], counts: NetworkCounts = NOBODY) -> list[VerdictReason]:
    return [VerdictReason(reason) for reason in judge_events(tracked(*rows), counts).reasons]


# Agents and networks


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        (None, AgentClass.UNKNOWN),
        (" ", AgentClass.UNKNOWN),
        (CHROME, AgentClass.BROWSER),
        ("Mozilla/5.0 (iPhone) AppleWebKit/605.1.15 (KHTML) Mobile/15E148", AgentClass.BROWSER),
        ("Mozilla/5.0 (Linux; Android 9; CUBOT_X18) Chrome/90 Mobile", AgentClass.BROWSER),
        ("Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0)", AgentClass.PROGRAM),
        ("Mozilla/4.0 (compatible; ms-office; MSOffice 16)", AgentClass.PROGRAM),
        ("Dalvik/2.1.0 (Linux; U; Android 12)", AgentClass.PROGRAM),
        ("Mozilla/5.0 Firefox/11.0 (via ggpht.com GoogleImageProxy)", AgentClass.IMAGE_PROXY),
        ("YahooMailProxy; https://help.yahoo.com", AgentClass.IMAGE_PROXY),
        ("Mozilla/5.0", AgentClass.PRIVACY_PROXY),
        ("python-requests/2.31", AgentClass.CRAWLER),
        ("Mozilla/5.0 (X11) AppleWebKit/537.36 HeadlessChrome/120.0", AgentClass.CRAWLER),
        ("BarracudaCentral", AgentClass.CRAWLER),
        ("Mozilla/5.0 (compatible; Mimecast)", AgentClass.CRAWLER),
        (f"{CHROME}{' ' * 100_000}bot", AgentClass.BROWSER),
    ],
)
def test_agent_class_of_user_agents(user_agent: str | None, expected: AgentClass) -> None:
    assert agent_class(user_agent) is expected


BLINK = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15"
BROWSERS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:125.0) Gecko/20100101 Firefox/125.0",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:124.0) Gecko/20100101 Firefox/124.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_4) AppleWebKit/605.1.15 Version/17.4 Safari/605.1",
    "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko",
    "Opera/9.80 (Android; Opera Mini/36.2/119.132) Presto/2.12.423 Version/12.16",
    *(f"{CHROME} {brand}" for brand in ("Edg/120.0", "OPR/106.0", "Vivaldi/6.5", "YaBrowser/24.1")),
    f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {BLINK} Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 14; SM-S918B) {BLINK} SamsungBrowser/24.0 Mobile Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 14; Pixel 8; wv) {BLINK} Version/4.0 Mobile Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 11; KFTRWI) {BLINK} Silk/120.3 Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 13) {BLINK} Mobile DuckDuckGo/5 Safari/537.36",
    f"{IPHONE} Version/17.4 Mobile/15E148 Safari/604.1",
    f"{IPHONE} GSA/310.0 Mobile/15E148 Safari/604.1",
    f"{IPHONE} Mobile/15E148 [FBAN/FBIOS;FBAV/450.0;FBDV/iPhone14,5]",
    f"{IPHONE} Mobile/15E148 Instagram 320.0.0 (iPhone14,5; iOS 17_4)",
]


@pytest.mark.parametrize("user_agent", BROWSERS)
def test_agent_class_of_peoples_browsers_is_browser(user_agent: str) -> None:
    # A newer list of crawlers must not take people for them.
    assert agent_class(user_agent) is AgentClass.BROWSER


def test_numbers_that_are_stored_stay() -> None:
    assert [kind.name for kind in EventKind] == ["OPEN", "CLICK"]
    assert {c.name: c.value for c in AgentClass} == {
        "UNKNOWN": 0,
        "BROWSER": 1,
        "PROGRAM": 2,
        "IMAGE_PROXY": 3,
        "PRIVACY_PROXY": 4,
        "CRAWLER": 5,
    }


def test_network_hash_keeps_the_network_alone_under_its_key() -> None:
    hashed = network_hash("203.0.113.7", KEY)
    assert hashed == network_hash(" 203.0.113.250 ", KEY) == network_hash("::ffff:203.0.113.1", KEY)
    assert (
        len({hashed, network_hash("203.0.114.7", KEY), network_hash("203.0.113.7", b"o" * 16)}) == 3
    )
    assert network_hash("2001:db8:1:2::3", KEY) == network_hash("2001:db8:1:ffff::", KEY)
    assert network_hash("2001:db8:1::", KEY) != network_hash("2001:db8:2::", KEY)
    assert -(2**63) <= hashed < 2**63


def test_network_hash_refuses_a_short_key() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes, not 0"):
        network_hash("203.0.113.7", b"")


@pytest.mark.parametrize(
    "address", [None, "", "somewhere", "10.1.2.3", "127.0.0.1", "::1", "fe80::1", "192.168.0.1"]
)
def test_network_hash_of_no_outside_address_is_unknown(address: str | None) -> None:
    assert network_hash(address, KEY) == 0


# What a person does


def test_person_reads_clicks_and_clicks_again() -> None:
    assert set(
        reasons(
            event(2 * HOUR, link=0),
            event(2 * HOUR + 12),
            event(2 * HOUR + 13),
            event(2 * HOUR + 16, link=2),
            event(2 * HOUR + 90, link=3),
            event(2 * HOUR + 130, link=9, unsubscribe=True),
            event(5 * HOUR, networks=OFFICE),
        )
    ) == {NONE}


def test_image_proxy_and_mail_program_show_images_to_people() -> None:
    assert reasons(
        event(HOUR, link=0, agents=AgentClass.IMAGE_PROXY),
        event(HOUR, link=0, agents=AgentClass.PROGRAM, emails=1),
    ) == [NONE, NONE]


def test_unknown_network_agent_delivery_and_link_say_nothing() -> None:
    events = tracked(event(5, networks=0, agents=0, link=0, kinds=EventKind.CLICK))
    unknown = np.full(1, np.nan)
    columns = {name: getattr(events, name) for name in events.__struct_fields__}
    verdicts = judge_events(TrackedEvents(**columns | {"since_delivery": unknown}), NOBODY)
    assert verdicts.persons.all()


# What a machine does


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (event(HOUR, link=0, flagged=True), VerdictReason.FLAGGED),
        (event(HOUR, head=True), VerdictReason.HEAD),
        (event(HOUR, honeypot=True), VerdictReason.HONEYPOT),
        (event(HOUR, agents=AgentClass.CRAWLER), VerdictReason.CRAWLER),
        (event(HOUR, link=0, agents=AgentClass.PRIVACY_PROXY), VerdictReason.PRIVACY_PROXY),
        (event(HOUR, agents=AgentClass.PROGRAM), VerdictReason.PROGRAM),
        (event(10.0), VerdictReason.INSTANT),
        (event(-3.0), VerdictReason.INSTANT),
        (event(10.1), NONE),
    ],
)
def test_single_event_is_judged_by_its_own_sign(row: dict[str, Any], reason: VerdictReason) -> None:
    assert reasons(row) == [reason]


def test_sweep_has_five_links_in_ten_seconds_or_three_in_two() -> None:
    slow = [event(HOUR + 2.5 * k, link=k) for k in range(1, 6)]
    assert reasons(*slow) == [SWEEP] * 5
    assert reasons(*slow[:4]) == [NONE] * 4
    assert reasons(*slow[:4], event(HOUR + 12.6, link=5)) == [NONE] * 5
    assert reasons(*slow[:4], event(HOUR + 12.5, link=4)) == [NONE] * 5
    assert reasons(*slow[:4], event(HOUR + 12.5, link=5, emails=1)) == [NONE] * 5
    fast = [event(HOUR + k, link=k) for k in (1, 2, 3)]
    assert reasons(*fast) == [SWEEP] * 3
    assert reasons(*fast[:2], event(HOUR + 3.1, link=3)) == [NONE] * 3


def test_sweep_of_three_links_in_ten_seconds_is_soon_or_from_a_scanners_network() -> None:
    soon = [event(100 + 5 * k, link=k) for k in (1, 2, 3)]
    assert reasons(*soon) == [SWEEP] * 3
    late = [event(HOUR + 5 * k, link=k, networks=FLEET) for k in (1, 2, 3)]
    assert reasons(*late) == [NONE] * 3
    assert reasons(*late, counts=count_networks(tracked(*sweeps(2), *late))) == [SWEEP] * 3


def test_sweep_from_several_networks_is_one() -> None:
    rows = [event(HOUR + k, link=k, networks=FLEET + k) for k in range(1, 6)]
    assert reasons(*rows) == [SWEEP] * 5


def test_sweep_takes_its_images_and_leaves_the_person_hours_later() -> None:
    swept = [event(60 + k, link=k, networks=FLEET) for k in range(1, 5)]
    image = event(31, link=0, networks=FLEET)
    person = [event(HOUR, link=0), event(HOUR + 9), event(64, networks=HOME, emails=1)]
    assert reasons(image, *swept, *person) == [
        VerdictReason.VISIT,
        *[SWEEP] * 4,
        *[NONE] * 3,
    ]


def test_visit_ends_two_minutes_from_the_sweep() -> None:
    swept = [event(HOUR + k, link=k, networks=FLEET) for k in range(1, 5)]
    near = [event(HOUR - 119, networks=FLEET), event(HOUR + 124, networks=FLEET)]
    far = [event(HOUR - 119.1, networks=FLEET), event(HOUR + 124.1, networks=FLEET)]
    assert reasons(*swept, *near)[4:] == [VerdictReason.VISIT] * 2
    assert reasons(*swept, *far)[4:] == [NONE] * 2


def test_click_that_sets_off_a_sweep_stays_a_persons() -> None:
    swept = [event(HOUR + 1 + k, link=k, networks=FLEET) for k in range(1, 5)]
    person = event(HOUR + 6, link=2)
    assert reasons(*swept, person) == [*[SWEEP] * 4, NONE]
    of_fleet = [event(HOUR + 1 + k, link=k, networks=FLEET + k) for k in range(1, 5)]
    assert reasons(*of_fleet, person) == [*[SWEEP] * 4, NONE]


def test_sweep_that_follows_each_link_twice_has_no_person_in_it() -> None:
    rows = [event(HOUR + k, link=k % 4 + 1, networks=FLEET + k) for k in range(8)]
    assert reasons(*rows) == [SWEEP] * 8


def test_unsubscribe_and_another_link_at_once_are_a_machines() -> None:
    both = [event(HOUR), event(HOUR + 4, link=2, unsubscribe=True)]
    assert reasons(*both) == [VerdictReason.UNSUBSCRIBE] * 2
    assert reasons(both[0]) == reasons(both[1]) == [NONE]


def test_honeypot_takes_what_is_within_ten_seconds_of_it() -> None:
    trap = event(HOUR, link=9, honeypot=True, networks=FLEET)
    around = [event(HOUR - 9, networks=FLEET), event(HOUR + 9, link=2, networks=FLEET)]
    assert reasons(trap, *around, event(2 * HOUR)) == [
        *[VerdictReason.HONEYPOT] * 3,
        NONE,
    ]


def test_heads_of_links_say_nothing_of_the_person() -> None:
    heads = [event(HOUR + k, link=k, head=True) for k in range(1, 7)]
    person = event(HOUR + 5)
    assert reasons(*heads, person) == [*[VerdictReason.HEAD] * 6, NONE]
    assert count_networks(tracked(*heads)).networks.size == 0


def test_two_links_within_a_second_are_unsure_and_early_ones_a_machines() -> None:
    assert reasons(event(HOUR), event(HOUR + 0.9, link=2)) == [VerdictReason.CLOSE] * 2
    assert reasons(event(HOUR), event(HOUR + 1, link=2)) == [NONE] * 2
    assert reasons(event(20), event(25, link=2)) == [VerdictReason.EARLY] * 2
    assert reasons(event(20), event(25)) == [NONE] * 2
    assert reasons(event(30.1), event(35, link=2)) == [NONE] * 2
    assert VerdictReason.CLOSE.verdict is EventVerdict.UNSURE


def test_link_checked_from_another_network_counts_once() -> None:
    check, person = event(HOUR, networks=FLEET), event(HOUR + 2)
    assert reasons(check, person) == [VerdictReason.CHECKED, NONE]
    assert reasons(check, event(HOUR + 2, link=2)) == [NONE] * 2
    assert reasons(check, event(HOUR + 15)) == [VerdictReason.CHECKED, NONE]
    assert reasons(check, event(HOUR + 15.1)) == [NONE] * 2
    later = event(HOUR + 12, networks=FLEET)
    counts = count_networks(tracked(*sweeps(2), later))
    assert reasons(person, later, counts=counts) == [
        NONE,
        VerdictReason.CHECKED_BY_SCANNER,
    ]


def test_email_of_very_many_clicks_is_swept_and_costs_no_more() -> None:
    n = 20_000
    rows = [event(HOUR + k / n, link=1 + k % 2) for k in range(n)]
    assert set(reasons(*rows)) == {SWEEP}


# Networks


def sweeps(n: int, start: float = 60.0, network: int = FLEET) -> list[dict[str, Any]]:
    """Sweep n other emails from a network."""
    return [
        event(start + k, link=k, networks=network, emails=100 + email)
        for email in range(n)
        for k in (1, 2, 3)
    ]


def test_single_link_soon_after_delivery_from_a_scanners_network_is_a_machines() -> None:
    soon, late = event(200, networks=FLEET), event(301, networks=FLEET)
    counts = count_networks(tracked(*sweeps(2), soon, late))
    assert reasons(soon, counts=counts) == [VerdictReason.SCANNER]
    assert reasons(late, counts=counts) == [NONE]
    assert reasons(soon, counts=count_networks(tracked(*sweeps(1), soon))) == [NONE]


def test_network_of_many_people_is_no_scanners() -> None:
    people = [event(HOUR + 60 * k, networks=OFFICE, emails=k) for k in range(20)]
    soon = event(7 * HOUR, networks=OFFICE, since=299)
    counts = count_networks(tracked(*sweeps(2, HOUR, OFFICE), *people, soon))
    assert reasons(soon, counts=counts) == [NONE]
    few = count_networks(tracked(*sweeps(2, HOUR, OFFICE), *people[:5], soon))
    assert reasons(soon, counts=few) == [VerdictReason.SCANNER]


def test_busy_network_makes_early_clicks_a_machines_and_later_ones_not() -> None:
    crowd = [event(30, networks=OFFICE, emails=k) for k in range(5)]
    later = [event(31 + 60, networks=OFFICE, emails=k) for k in range(5)]
    counts = count_networks(tracked(*crowd, *later))
    assert reasons(*crowd, counts=counts) == [VerdictReason.EARLY] * 5
    assert reasons(*later, counts=counts) == [NONE] * 5
    assert reasons(*crowd[:4], counts=count_networks(tracked(*crowd[:4]))) == [NONE] * 4


def test_counts_are_of_emails_by_network_and_minute() -> None:
    rows = [*sweeps(2), event(61, networks=FLEET), event(62, networks=FLEET), event(61)]
    counts = count_networks(tracked(*rows, event(61, networks=0), event(61, link=0)))
    minute = int(DELIVERED / 60) + 1
    assert counts.networks.tolist() == [HOME, FLEET]
    assert counts.minutes.tolist() == [minute] * 2
    assert counts.emails.tolist() == counts.week_emails.tolist() == [1, 3]
    assert counts.week_swept.tolist() == [0, 2]
    of_rows = counts.rows(np.array([FLEET, FLEET, 12, 99]), np.array([minute, 0, minute, minute]))
    assert [column.tolist() for column in of_rows] == [[3, 0, 0, 0], [3, 0, 0, 0], [2, 0, 0, 0]]


def test_counts_of_a_week_are_of_rows_frozen_in_the_week_before() -> None:
    week = 7 * 24 * HOUR
    later = [event(60 + after, networks=FLEET) for after in (0, 60, week, week + 60)]
    counts = count_networks(tracked(*sweeps(2, start=59), *later))
    assert counts.emails.tolist() == [3, 1, 1, 1]
    assert counts.week_emails.tolist() == [3, 4, 2, 2]
    assert counts.week_swept.tolist() == [2, 2, 0, 0]


def test_counts_of_an_earlier_minute_that_is_reported_later_change_no_row() -> None:
    soon = event(200, networks=FLEET)
    reported_late = [row | {"received": DELIVERED + 5000} for row in sweeps(2)]
    assert reasons(soon, counts=count_networks(tracked(soon, *reported_late))) == [NONE]
    assert reasons(soon, counts=count_networks(tracked(soon, *sweeps(2)))) == [
        VerdictReason.SCANNER
    ]


def test_counts_are_frozen_two_minutes_after_the_first_click_was_received() -> None:
    first = [row | {"received": DELIVERED + 1000} for row in sweeps(2)]
    in_time, late = (
        event(61, networks=FLEET, emails=k, received=DELIVERED + at)
        for k, at in enumerate((1120, 1121))
    )
    counts = count_networks(tracked(*first, in_time, late))
    assert counts.emails.tolist() == [3]
    assert reasons(late, counts=counts) == [VerdictReason.SCANNER]


# All together


def test_verdicts_stand_in_the_order_of_the_events() -> None:
    rows = [*sweeps(3), event(HOUR), event(HOUR + 0.5, link=2), event(5)]
    expected = reasons(*rows)
    order = np.random.default_rng(1).permutation(len(rows))
    assert reasons(*(rows[i] for i in order)) == [expected[i] for i in order]


def test_no_events_have_no_verdicts() -> None:
    events = tracked(event(0)).take(np.zeros(1, dtype=np.bool_))
    assert len(judge_events(events, count_networks(events)).persons) == 0


def test_each_reason_has_words_and_a_verdict_and_each_version_its_rules() -> None:
    assert len({reason.words for reason in VerdictReason}) == len(VerdictReason)
    assert {reason.verdict for reason in VerdictReason} == set(EventVerdict)
    assert list(RULES) == [1]
    with pytest.raises(KeyError):
        judge_events(tracked(event(0)), NOBODY, version=2)
