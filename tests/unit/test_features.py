"""From what is known of a subject to features, and back."""

import math

import numpy as np
import pytest

from bandits.errors import Fault, InvalidInput
from bandits.features import CategoryFeature, Encoder, NumberFeature, decode

RECENCY = NumberFeature("recency", 0, 10)
CHANNEL = CategoryFeature("channel", ("Web", "Phone"))
NEWBIE = CategoryFeature("newbie", ("true", "false"), default="false")


def test_features_follow_the_constant_in_their_declared_order() -> None:
    encoder = Encoder([RECENCY, CHANNEL])
    encoded = encoder.encode([{"channel": "Phone", "recency": 4}])
    assert encoded.contexts.tolist() == [[1.0, 0.4, 0.0, 1.0]]
    assert encoder.labels == ["always 1", "recency", "channel=Web", "channel=Phone"]
    assert encoder.n_features == 4


def test_context_without_declared_features_is_the_constant() -> None:
    assert Encoder([]).encode([{}, None]).contexts.tolist() == [[1.0], [1.0]]


def test_encoder_of_no_contexts_returns_no_rows() -> None:
    assert Encoder([RECENCY, CHANNEL]).encode([]).contexts.shape == (0, 4)


def test_value_that_does_not_fit_is_mended_and_counted() -> None:
    rows = [
        {"recency": -3, "channel": "Fax"},
        {"recency": 11, "channel": None},
        {"recency": None},
        {"recency": 10, "channel": "Web"},
    ]
    encoded = Encoder([RECENCY, CHANNEL]).encode(rows)
    assert encoded.contexts.tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 0.5, 0, 0],
        [1, 1, 1, 0],
    ]
    counts = encoded.counts
    assert (counts.clipped, counts.unknown, counts.missing) == (2, 1, 3)


def test_a_missing_value_takes_the_declared_default() -> None:
    encoder = Encoder([NumberFeature("age", 20, 60, default=30), NEWBIE])
    assert encoder.encode([{}]).contexts.tolist() == [[1, 0.25, 0, 1]]


def test_categories_are_told_from_json_numbers_and_booleans() -> None:
    encoder = Encoder([CategoryFeature("plan", ("1", "2.5", "true"))])
    encoded = encoder.encode([{"plan": 1.0}, {"plan": 2.5}, {"plan": True}])
    assert encoded.contexts[:, 1:].tolist() == np.eye(3).tolist()


@pytest.mark.parametrize(
    ("context", "place", "says"),
    [
        ({"recency": math.nan}, "/1/recency", "must be a finite number"),
        ({"recency": -math.inf}, "/1/recency", "must be a finite number"),
        ({"recency": "3"}, "/1/recency", "must be a number, not text '3'"),
        ({"channel": math.nan}, "/1/channel", "must not be NaN or infinite"),
        ({"age": 3}, "/1/age", "undeclared feature; this experiment declares recency, channel"),
        ({"a/b~": 3}, "/1/a~1b~0", "undeclared feature; this experiment declares recency, channel"),
    ],
)
def test_value_that_cannot_be_mended_is_refused_by_row_and_name(
    context: dict[str, float | str], place: str, says: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        Encoder([RECENCY, CHANNEL]).encode([{}, context])
    assert caught.value.faults == (Fault(place, says),)


@pytest.mark.parametrize(
    ("context", "place", "says"),
    [
        ({"recency": 11, "channel": "Web"}, "/0/recency", "must lie in [0, 10]"),
        ({"recency": 1, "channel": "Fax"}, "/0/channel", "must be one of Web, Phone"),
        ({"recency": 1, "channel": None}, "/0/channel", "is missing"),
        ({"recency": 1}, "/0/channel", "is missing"),
    ],
)
def test_a_strict_experiment_refuses_what_would_be_mended(
    context: dict[str, float | str | None], place: str, says: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        Encoder([RECENCY, CHANNEL], strict=True).encode([context])
    assert caught.value.faults == (Fault(place, says),)


def test_strict_experiment_takes_what_fits() -> None:
    encoder = Encoder([RECENCY, CHANNEL], strict=True)
    assert encoder.encode([{"recency": 10, "channel": "Web"}]).contexts.tolist() == [[1, 1, 1, 0]]


def test_faults_are_listed_up_to_a_hundred() -> None:
    with pytest.raises(InvalidInput) as caught:
        Encoder([RECENCY]).encode([{"recency": "x"}] * 250)
    assert len(caught.value.faults) == 100


@pytest.mark.parametrize(
    ("feature", "fault"),
    [
        (NumberFeature("x", 1, 1), Fault("/high", "must be a finite number above low")),
        (NumberFeature("x", 0, math.inf), Fault("/high", "must be a finite number above low")),
        (NumberFeature("x", math.nan, 1), Fault("/high", "must be a finite number above low")),
        (NumberFeature("x", -1e308, 1e308), Fault("/high", "must be a finite number above low")),
        (NumberFeature("x", 0, 1, default=2), Fault("/default", "must lie between low and high")),
        (
            NumberFeature("x", 0, 1, default=math.nan),
            Fault("/default", "must lie between low and high"),
        ),
        (CategoryFeature("x", ("a", "b", "a")), Fault("/values/2", "'a' is listed twice")),
        (CategoryFeature("x", ("a",), default="b"), Fault("/default", "must be one of the values")),
    ],
)
def test_a_feature_says_what_is_wrong_with_its_declaration(
    feature: NumberFeature | CategoryFeature, fault: Fault
) -> None:
    assert feature.faults() == [fault]


def test_a_receipt_reads_the_context_back() -> None:
    features = [RECENCY, CHANNEL, NEWBIE]
    x = Encoder(features).encode([{"recency": 2.5, "channel": "Fax"}]).contexts[0]
    assert decode(features, x) == {"recency": 2.5, "channel": None, "newbie": "false"}


def test_a_boolean_is_no_number() -> None:
    with pytest.raises(InvalidInput) as caught:
        Encoder([RECENCY]).encode([{"recency": 3}, {"recency": True}])
    assert caught.value.faults == (Fault("/1/recency", "must be a number, not true or false"),)


def test_a_null_is_missing_also_beside_values() -> None:
    encoded = Encoder([RECENCY, CHANNEL]).encode([{"recency": None, "channel": "Web"}, {}])
    assert encoded.counts.missing == 3
