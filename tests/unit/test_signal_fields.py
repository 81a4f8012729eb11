"""Fields of senders' events: times, texts, ids that passed through, and classes of bounces."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from bandits.schemas import Id
from webapp.signals.bounces import bounce_class
from webapp.signals.json_fields import (
    event_id,
    iso_time_at,
    loose_text,
    message_id_at,
    number_of,
    part_at,
    passed_ids,
    required_text,
    text_at,
    unix_time_at,
)
from webapp.signals.signal_event import EventUnreadable

TIME = datetime(2026, 3, 2, 9, 30, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [TIME.timestamp(), int(TIME.timestamp()), str(int(TIME.timestamp()))],
)
def test_unix_time_is_a_number_or_a_text(value) -> None:
    assert unix_time_at({"t": value}, "t") == TIME


def test_unix_time_in_milliseconds() -> None:
    millis = int(TIME.timestamp() * 1000) + 250
    assert unix_time_at({"t": millis}, "t", milliseconds=True) == TIME + timedelta(milliseconds=250)


@pytest.mark.parametrize("value", [True, "soon", [], {}, "1e9", float("inf"), 10**30, -1, 0, "²"])
def test_unix_time_that_is_none_is_unreadable(value) -> None:
    with pytest.raises(EventUnreadable, match=r"^a\.t is not"):
        unix_time_at({"a": {"t": value}}, "a", "t")


@pytest.mark.parametrize("item", [{}, {"t": None}, {"t": ""}, [], 7, None])
def test_time_that_is_missing_is_none(item) -> None:
    assert unix_time_at(item, "t") is None
    assert iso_time_at(item, "t") is None


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-03-02T09:30:05Z", TIME),
        ("2026-03-02T09:30:05.0000000-00:00", TIME),
        ("2026-03-02T04:30:05.0000000-05:00", TIME),
        ("2026-03-02 09:30:05+00", TIME),
        ("2026-03-02T10:30:05.1234567+01:00", TIME + timedelta(microseconds=123456)),
    ],
)
def test_iso_time_has_any_offset_and_up_to_seven_digits(text: str, time: datetime) -> None:
    assert iso_time_at({"t": text}, "t") == time
    assert iso_time_at({"t": text}, "t").tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["2026-03-02T09:30:05", "yesterday", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59Z"]
)
def test_iso_time_without_an_offset_or_out_of_range_is_unreadable(text: str) -> None:
    with pytest.raises(EventUnreadable):
        iso_time_at({"t": text}, "t")


def test_iso_time_is_told_in_utc() -> None:
    east = TIME.astimezone(timezone(timedelta(hours=9)))
    assert iso_time_at({"t": east.isoformat()}, "t") == TIME


def test_part_at_a_path_that_is_not_there_is_none() -> None:
    for item in (None, 7, "text", [], {"a": 7}, {"a": {"c": 1}}):
        assert part_at(item, "a", "b") is None
    assert part_at({"a": {"b": 0}}, "a", "b") == 0


def test_text_is_a_text_or_a_whole_number() -> None:
    assert text_at({"a": "x"}, "a") == "x"
    assert text_at({"a": 42}, "a") == "42"
    for empty in ("", None):
        assert text_at({"a": empty}, "a") is None
    for wrong in (True, 1.5, [], {}, 10**100, "x" * 1001, "a\x00b", "a\nb"):
        with pytest.raises(EventUnreadable):
            text_at({"a": wrong}, "a")
    with pytest.raises(EventUnreadable, match="a is missing"):
        required_text({}, "a")


def test_loose_text_is_cut_and_cleaned_rather_than_refused() -> None:
    assert loose_text({"a": "x\x00y\r\nz"}, "a") == "xyz"
    assert len(loose_text({"a": "x" * 9000}, "a")) == 2000
    for none in (None, 5, [], "", "\x00"):
        assert loose_text({"a": none}, "a") is None


def test_message_id_loses_its_brackets() -> None:
    for text in ("<m@x>", "m@x", " <m@x> "):
        assert message_id_at({"id": text}, "id") == "m@x"
    assert message_id_at({"id": "<>"}, "id") is None


def test_number_is_finite() -> None:
    assert number_of("12.5") == 12.5
    assert number_of(-3) == -3.0
    for wrong in (True, None, "x", "nan", "1e5", float("nan"), float("inf"), 10**400, [], "١"):
        assert number_of(wrong) is None


def test_passed_ids_keep_their_order_and_come_once() -> None:
    assert passed_ids({"bandits_2": "b", "bandits_10": "c", "bandits_1": "a"}) == ("a", "b", "c")
    assert passed_ids({"bandits_decision": "a", "bandits_1": "a"}) == ("a",)
    assert passed_ids({"bandits_decision": ["a"], "x": "y"}) == ("a",)
    assert passed_ids({"bandits_decision": "campaign.subscriber"}) == ("campaign.subscriber",)
    for none in (None, [], 7, "text", {}, {"bandits_decision": ""}, {"bandits_21": "a"}):
        assert passed_ids(none) == ()


@pytest.mark.parametrize("value", ["two words", "é", "x" * 129, 7, ["a", "b"], {}, True, "a\n"])
def test_passed_id_that_is_none_is_unreadable(value) -> None:
    with pytest.raises(EventUnreadable, match="bandits_1 is not 1 to 128 printable"):
        passed_ids({"bandits_1": value})


def test_event_id_is_readable_where_it_fits() -> None:
    assert event_id("sendgrid", "own-id==", "open") == "sendgrid:own-id==:open"
    assert event_id("sendgrid", None, 3) == "sendgrid::3"


def test_event_id_is_a_digest_where_it_does_not_fit() -> None:
    parts = [
        ("https://shop.example",),
        ("a:b", "c"),
        ("a", "b:c"),
        ("é",),
        ("two words",),
        ("x" * 200,),
        (None, "x" * 200),
    ]
    ids = [event_id("brevo", *part) for part in parts]
    assert len(set(ids)) == len(ids)
    assert all(msgspec.convert(one, Id).startswith("brevo:") for one in ids)
    assert {len(one) for one in ids} == {len("brevo:") + 40}
    assert ids == [event_id("brevo", *part) for part in parts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("550 5.1.1 no such user", "address"),
        ("5.1.10", "address"),
        ("refused: 5.1.1.", "address"),
        ("550-5.2.1 disabled", "address"),
        ("5.4.4", "address"),
        ("552 5.7.1 spam", "content"),
        ("5.6.0", "content"),
        ("5.3.4", "content"),
        ("5.2.3", "content"),
        ("5.1.8 bad sender", None),
        ("5.2.2 full", None),
        ("5.0.0", None),
        ("4.1.1", None),
        ("550 no such user", None),
        ("version 15.1.1", None),
        ("5.1.1.1", None),
        ("", None),
        (None, None),
        (550, None),
    ],
)
def test_bounce_is_of_the_address_or_of_the_content(text, expected) -> None:
    assert bounce_class(text) == expected


def test_bounce_is_classified_by_the_first_code() -> None:
    assert bounce_class(None, "no code", "5.7.1 then 5.1.1", "5.1.1") == "content"
