"""Columns by their usual names, and exports of mailers in the shape that each of them has."""

import pytest

from bandits.rewards import Metric, RewardRule
from webapp.files.known_columns import EXPORTS, KnownColumns, event_name

RULE = RewardRule({"click": Metric(), "revenue": Metric(count="sum", high=500.0)})


@pytest.mark.parametrize(
    "column",
    ["Email Address", "E-Mail", "email", "EMAIL_ID", "Subscriber", "Recipient email", "Id"],
)
def test_subject_has_many_names(column) -> None:
    assert KnownColumns(["First name", column]).subject == column


@pytest.mark.parametrize(
    ("event", "columns"),
    [
        ("click", ["Clicked", "Clicks", "Total Clicks", "Clicked Email", "click_date", "CLICK"]),
        ("open", ["Opens", "Opened", "Unique opens", "Open_Date"]),
        ("revenue", ["Revenue", "revenues", "Order value"]),
        ("unsubscribe", ["Unsubscribed", "Opted out", "UNSUB_TIME"]),
        ("complaint", ["Marked as spam", "Spam complaint"]),
    ],
)
def test_event_has_many_names(event, columns) -> None:
    for column in columns:
        assert KnownColumns(["Email", column]).event(event) == column
        assert event in {event_name(column, RULE), "revenue"}


def test_event_that_nobody_knows_stays_as_it_is() -> None:
    assert event_name("Sent", RULE) == "Sent"


def test_time_of_a_list_is_not_when_somebody_signed_up() -> None:
    assert KnownColumns(["Email", "Clicks", "Date"]).extra()["occurred_at"] == ""
    assert KnownColumns(["Email", "Event", "Date"]).extra()["occurred_at"] == "Date"


@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.key)
def test_export_is_known_by_its_columns(export) -> None:
    mapped = [export.subject, *export.metrics.values(), export.metric, export.occurred_at]
    columns = dict.fromkeys(["Note", *export.columns, *filter(None, mapped)])
    assert KnownColumns(list(columns)).export(export.kind) == export
    assert set(export.metrics) | {export.every_row} - {""} <= set(RULE.event_names)
