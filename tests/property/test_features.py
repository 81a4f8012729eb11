"""Laws of encoding contexts."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bandits.features import CategoryFeature, Encoder, Feature, NumberFeature, decode

finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)


@st.composite
def number_features(draw: Any, name: str) -> NumberFeature:
    low, high = sorted(draw(st.tuples(finite, finite)))
    default = draw(st.none() | st.floats(low + 0.0, high + 0.0))  # -0.0 sorts beside 0.0
    return NumberFeature(name, low, high, default)


@st.composite
def category_features(draw: Any, name: str) -> CategoryFeature:
    values = tuple(draw(st.lists(words, min_size=1, max_size=5, unique=True)))
    return CategoryFeature(name, values, draw(st.none() | st.sampled_from(values)))


@st.composite
def declared(draw: Any) -> list[Feature]:
    """Draw features whose declarations are sound."""
    names = [f"f{i}" for i in range(draw(st.integers(0, 4)))]
    features = [draw(st.one_of(number_features(n), category_features(n))) for n in names]
    return [f for f in features if not f.faults()]


@st.composite
def tables(draw: Any) -> tuple[list[Feature], list[dict[str, Any]]]:
    """Draw features, and contexts that an encoder has to take."""
    features = draw(declared())
    number = st.none() | finite
    value = {
        f.name: number | st.booleans() | words | st.sampled_from(f.values)
        if isinstance(f, CategoryFeature)
        else number
        for f in features
    }
    rows = draw(st.lists(st.fixed_dictionaries({}, optional=value), max_size=6))
    return features, rows


@given(tables())
def test_features_lie_between_0_and_1_behind_the_constant(
    table: tuple[list[Feature], list[dict[str, Any]]],
) -> None:
    features, rows = table
    encoder = Encoder(features)
    x = encoder.encode(rows).contexts
    assert x.shape == (len(rows), encoder.n_features)
    assert encoder.n_features == len(encoder.labels)
    assert np.all((x >= 0) & (x <= 1))  # false for NaN too
    assert np.all(x[:, 0] == 1)


@given(tables())
def test_values_fit_or_are_counted(
    table: tuple[list[Feature], list[dict[str, Any]]],
) -> None:
    features, rows = table
    lenient = Encoder(features).encode(rows).counts
    mended = lenient.clipped + lenient.unknown + lenient.missing
    refused = [
        feature.refuse(row.get(feature.name), strict=True) for row in rows for feature in features
    ]
    assert mended == sum(r is not None for r in refused)


@given(tables())
def test_a_row_alone_is_encoded_as_among_others(
    table: tuple[list[Feature], list[dict[str, Any]]],
) -> None:
    features, rows = table
    encoder = Encoder(features)
    together = encoder.encode(rows).contexts
    for row, x in zip(rows, together, strict=True):
        assert encoder.encode([row]).contexts[0].tolist() == x.tolist()


@given(tables())
def test_a_categorys_features_are_one_hot_and_all_0_for_an_unknown_value(
    table: tuple[list[Feature], list[dict[str, Any]]],
) -> None:
    features, rows = table
    for row, x in zip(rows, Encoder(features).encode(rows).contexts, strict=True):
        read = decode(features, x)
        at = 1
        for feature in features:
            part, at = x[at : at + feature.width], at + feature.width
            if isinstance(feature, CategoryFeature):
                assert sorted(part.tolist())[:-1] == [0] * (feature.width - 1)
                known = row.get(feature.name) in feature.values
                assert not known or read[feature.name] == row[feature.name]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.floats(0, 1))
def test_a_number_within_its_range_reads_back(low: float, width: float, share: float) -> None:
    feature = NumberFeature("x", low, low + width)
    value = min(low + share * width, feature.high)
    x = Encoder([feature]).encode([{"x": value}]).contexts[0]
    tolerance = 1e-12 * max(abs(low), width)
    assert abs(float(decode([feature], x)["x"]) - value) <= tolerance


@given(tables())
def test_a_batch_is_encoded_as_one_in_which_every_value_is_looked_at(
    table: tuple[list[Feature], list[dict[str, Any]]],
) -> None:
    features, rows = table
    encoder = Encoder(features)
    more = [*features, CategoryFeature("odd", ("a",))]
    odd = {"odd": 0.5}  # a category that is a fraction has every value looked at
    quick, slow = encoder.encode(rows), Encoder(more).encode([*rows, odd])
    assert quick.contexts.tobytes() == slow.contexts[:-1, :-1].tobytes()
    assert quick.counts.missing == slow.counts.missing - len(features) - len(rows)
    assert quick.counts.clipped == slow.counts.clipped
    assert quick.counts.unknown == slow.counts.unknown - 1
