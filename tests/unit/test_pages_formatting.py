"""Numbers, times, keys and lengths of time as pages write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from msgspec import convert

from bandits.identifiers import letter_name
from bandits.rewards import RewardRule
from webapp.pages.experiment.labels import reward_measure
from webapp.pages.form.slugs import slug, unused_key
from webapp.pages.formatting import (
    amount,
    average,
    count,
    duration_text,
    gain,
    heading,
    percent,
    period_text,
    phrase,
    plural,
    share,
    short_number,
    split_duration,
    time_tag,
    total,
)


def plain(text):
    return text.replace("\u202f", " ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.183, "18.3 %"),
        (1, "100.0 %"),
        (0, "0.0 %"),
        (0.0004, "0.040 %"),
        (0.000012, "0.0012 %"),
        (3e-12, "0.0 %"),
        (-0.051, "−5.1 %"),
        (12.5, "1,250.0 %"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_rates_are_written_as_per_cent(value, text):
    assert plain(percent(value)) == text


def test_declared_shares_keep_the_digits_they_were_declared_with():
    assert [plain(share(v)) for v in (0.05, 0.025, 0.00125, 0.5)] == [
        "5 %",
        "2.5 %",
        "0.125 %",
        "50 %",
    ]


def test_keys_are_written_as_people_say_them():
    assert (phrase("zip_code"), heading("zip_code")) == ("zip code", "Zip code")
    assert (heading("CRM_tier"), heading("age"), heading("")) == ("CRM tier", "Age", "")


def test_counts_amounts_and_columns():
    assert count(1204) == "1,204"
    assert count(-1204.4) == "−1,204"
    assert [amount(v) for v in (0, 1204, 4.184, 0.02134, -0.5)] == [
        "0",
        "1,204",
        "4.18",
        "0.0213",
        "−0.5",
    ]
    assert total(1204.0, whole=True) == "1,204"
    assert total(80.0, whole=False) == "80.00"
    assert [average(v) for v in (0.15, 0.0000213, -1.5, 0, None)] == [
        "0.150",
        "2.13e−05",
        "−1.500",
        "0.000",
        "–",
    ]
    assert (plural(1, "variant"), plural(1204, "variant")) == ("1 variant", "1,204 variants")


def test_moments_are_written_in_utc_for_a_script_to_turn():
    texts = time_tag(datetime(2026, 11, 22, 9, 5, tzinfo=timezone(timedelta(hours=1))))
    assert texts == '<time datetime="2026-11-22T08:05:00Z">22 Nov 2026, 08:05 UTC</time>'
    assert time_tag(datetime(2026, 11, 22, 8, 5, tzinfo=UTC).timestamp()) == texts
    assert time_tag("2026-11-22T08:05:00+00:00") == texts
    assert time_tag(None) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (60, "1 minute"),
        (90, "90 seconds"),
        (604_800, "1 week"),
        (86_400 * 3, "3 days"),
        (0.5, "0.5 seconds"),
        (0, "0 seconds"),
    ],
)
def test_lengths_of_time_are_said_in_their_largest_whole_unit(seconds, text):
    assert duration_text(seconds) == text
    amount_, unit = split_duration(seconds)
    lengths = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}
    assert float(amount_) * lengths[unit] == seconds, "nothing is lost on the way to the form"


def test_learning_interval_is_written_as_people_say_it():
    assert (period_text(60), period_text(7200)) == ("every minute", "every 2 hours")


def test_keys_are_made_from_names():
    assert slug("Été à –10 %") == "ete-a-10"
    assert slug("Subject line", join="_") == "subject_line"
    assert slug("春") == ""
    assert len(slug("x" * 200)) == 60
    assert unused_key("sale", {"sale", "sale-2"}) == "sale-3"
    assert [letter_name(i) for i in (0, 25, 26, 701, 702)] == ["a", "z", "aa", "zz", "aaa"]


def test_no_number_is_written_with_an_exponent() -> None:
    texts = [short_number(n) for n in (0.42, 9.96, 99.4, 99.7, 1204.4)]
    assert texts == ["0.42", "10", "99", "100", "1,204"]
    assert gain(2050.37, whole=False) == "+2,050"
    assert gain(-3.5, whole=False) == "−3.50"


@pytest.mark.parametrize(
    ("metrics", "mean", "bound"),
    [
        ({"click": {}}, "Click rate", "4.1 clicks per 1,000 emails"),
        ({"revenue": {"high": 500.0, "count": "sum"}}, "Revenue per email", "4.1 of revenue per"),
        (
            {"order": {"weight": 8.0}, "click": {}, "unsubscribe": {"weight": -5.0}},
            "Score per email",
            "4.1 clicks in value per 1,000 emails",
        ),
        ({"order": {"weight": 8.0}}, "Score per email", "4.1 in value per 1,000 emails"),
        (
            {"click": {}, "order": {"count": "sum", "high": 500.0}},
            "Score per email",
            "4.1 in value per 1,000 emails",
        ),
    ],
)
def test_measure_has_a_unit(metrics, mean, bound) -> None:
    measure = reward_measure(convert({"metrics": metrics}, RewardRule))
    assert measure.mean == mean
    assert bound in measure.at_most_per_thousand(0.0041)
