"""Verdicts on opens and clicks depend on their email and on what their network did, and no more."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bandits.machines import (
    AgentClass,
    EventKind,
    NetworkCounts,
    TrackedEvents,
    count_networks,
    judge_events,
)

ROWS = st.tuples(
    st.integers(0, 3),  # email
    st.sampled_from(EventKind),
    st.integers(0, 400).map(lambda tenth: tenth / 10),  # seconds
    st.integers(0, 300),  # until it was received
    st.integers(0, 4),  # link
    st.integers(0, 3),  # network
    st.sampled_from(AgentClass),
    *[st.sampled_from([False, False, False, True])] * 4,
)
LOGS = st.lists(ROWS, max_size=40)


def tracked(rows: list[tuple]) -> TrackedEvents:
    """Make columns of rows, each event delivered 30 seconds before the first could happen."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * 11
    emails, kinds, times, lags, links, networks, agents, *signs = columns
    at = np.array(times, dtype=float)
    return TrackedEvents(
        *(np.array(column, dtype=np.int64) for column in (emails, kinds)),
        at,
        at + np.array(lags, dtype=float),
        at + 30,
        *(np.array(column, dtype=np.int64) for column in (links, networks, agents)),
        *(np.array(column, dtype=np.bool_) for column in signs),
    )


def counts_as_rows(counts: NetworkCounts) -> list[tuple]:
    columns = [getattr(counts, name) for name in counts.__struct_fields__]
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(LOGS, st.randoms(use_true_random=False))
def test_order_of_events_changes_no_count_and_permutes_verdicts(rows, random) -> None:
    # Events of one time are in no order; which of them is the earlier is then a matter of the log.
    events = tracked([(*row[:2], row[2] + i / 1000, *row[3:]) for i, row in enumerate(rows)])
    order = np.array(random.sample(range(len(rows)), len(rows)), dtype=np.int64)
    counts, shuffled = count_networks(events), count_networks(events.take(order))
    assert counts_as_rows(counts) == counts_as_rows(shuffled)
    reasons = judge_events(events, counts).reasons
    np.testing.assert_array_equal(judge_events(events.take(order), counts).reasons, reasons[order])


@given(LOGS)
def test_email_is_judged_alike_alone_and_among_others(rows) -> None:
    events = tracked(rows)
    counts = count_networks(events)
    reasons = judge_events(events, counts).reasons
    for email in range(4):
        own = events.emails == email
        alone = judge_events(events.take(own), counts).reasons
        np.testing.assert_array_equal(alone, reasons[own])


@given(LOGS, st.integers(1, 10_000))
def test_time_of_day_changes_nothing(rows, minutes) -> None:
    events = tracked(rows)
    columns = {name: getattr(events, name) for name in events.__struct_fields__}
    shift = 60.0 * minutes
    columns |= {"times": events.times + shift, "received": events.received + shift}
    later = TrackedEvents(**columns)
    np.testing.assert_array_equal(
        judge_events(later, count_networks(later)).reasons,
        judge_events(events, count_networks(events)).reasons,
    )


@given(LOGS)
def test_click_received_after_the_freeze_changes_no_earlier_count(rows) -> None:
    events = tracked(rows)
    late = TrackedEvents(
        *(
            np.append(getattr(events, name), value)
            for name, value in zip(
                events.__struct_fields__,
                (9, EventKind.CLICK, 5.0, 9999.0, 35.0, 1, 1, AgentClass.CRAWLER, *[False] * 4),
                strict=True,
            )
        )
    )
    before = counts_as_rows(count_networks(events))
    after = counts_as_rows(count_networks(late))
    here = [row for row in before if row[:2] == (1, 0)]
    if here:
        assert after == before
    else:
        assert set(after) - set(before) == {(1, 0, 1, 1, 1)}
