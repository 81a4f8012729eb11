"""Logged rounds refuse what would pass for a finding, each by the name of its field."""

import numpy as np
import pytest

from bandits.errors import InvalidInput
from simulations import LoggedRounds

N, K = 6, 3
GOOD = {
    "arms": [0, 1, 2, 0, 1, 2],
    "rewards": [0, 1, 0, 1, 0, 1],
    "propensities": [0.5, 0.3, 0.2, 0.5, 0.3, 0.2],
    "probabilities": [[0.5, 0.3, 0.2]] * N,
    "contexts": [[0.1, 1.0]] * N,
    "eligible": [[True, True, True]] * N,
    "times": [1, 2, 2, 3, 4, 5],
    "slot_levels": [[0, 0], [0, 1], [1, 0]],
}


def changed(field, place, value):
    values = np.array(GOOD[field], dtype=object)
    values[place] = value
    return GOOD | {field: values.tolist()}


def test_rounds_take_lists_and_number_their_arms():
    rounds = LoggedRounds(**GOOD)
    assert (rounds.n, rounds.n_arms, rounds.names) == (N, K, ("0", "1", "2"))
    assert rounds.features.shape == (N, 3)
    assert np.array_equal(rounds.features[:, 0], np.ones(N))
    assert LoggedRounds([0, 1], [0, 1], [0.5, 0.5]).features.shape == (2, 1)


NUMBERS = ("rewards", "propensities", "probabilities", "contexts", "times")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("field", NUMBERS)
def test_rounds_refuse_what_is_not_finite(field, value):
    place = (2, 0) if field in {"probabilities", "contexts"} else 2
    with pytest.raises(InvalidInput, match=rf"^/{field}: \[2.*must be finite"):
        LoggedRounds(**changed(field, place, value))


@pytest.mark.parametrize(
    ("field", "place", "value", "detail"),
    [
        ("arms", 3, 3, "row 3: 3 is no arm"),
        ("arms", 0, -1, "row 0: -1 is no arm"),
        ("arms", 0, 0.5, "must be whole numbers"),
        ("rewards", 1, 1.5, r"row 1: 1.5 is not in \[0, 1\]"),
        ("rewards", 1, -0.1, r"row 1: -0.1 is not in \[0, 1\]"),
        ("propensities", 4, 0.0, r"row 4: 0 is not in \(0, 1\]"),
        ("propensities", 4, 1.2, r"row 4: 1.2 is not in \(0, 1\]"),
        ("propensities", 4, -0.3, r"row 4: -0.3 is not in \(0, 1\]"),
        ("propensities", 4, 0.31, "is not the probability of the arm that was sent"),
        ("probabilities", (5, 0), -0.5, "row 5: -0.5 is a negative probability"),
        ("probabilities", (5, 0), 0.6, "row 5: 1.1 is the sum, which must be 1"),
        ("eligible", (1, 1), False, "was not eligible"),
        ("eligible", (1, slice(None)), False, "was sent where no arm was eligible"),
        ("times", 3, 0, "row 3 is earlier than the row before it"),
    ],
)
def test_rounds_refuse_impossible_values(field, place, value, detail):
    with pytest.raises(InvalidInput, match=detail) as caught:
        LoggedRounds(**changed(field, place, value))
    assert caught.value.faults[0].pointer in {f"/{field}", "/arms"}


@pytest.mark.parametrize(
    ("field", "value", "shape"),
    [
        ("rewards", [0, 1], r"\(n,\) = \(6,\), not \(2,\)"),
        ("propensities", [[0.5]] * N, r"\(n,\) = \(6,\), not \(6, 1\)"),
        ("probabilities", [[0.5, 0.5]] * N, r"must have shape \(n, K\) = \(6, 3\), not \(6, 2\)"),
        ("contexts", [[1.0]] * 5, r"\(n, d\) with 6 rows, not \(5, 1\)"),
        ("contexts", [1.0] * N, r"\(n, d\) with 6 rows, not \(6,\)"),
        ("eligible", [[True] * 4] * N, r"\(n, K\) = \(6, 3\), not \(6, 4\)"),
        ("times", [1.0], r"\(n,\) = \(6,\), not \(1,\)"),
        ("slot_levels", [[0], [1]], r"\(K, S\) with 3 rows, not \(2, 1\)"),
    ],
)
def test_rounds_refuse_another_shape_and_say_which(field, value, shape):
    with pytest.raises(InvalidInput, match=rf"^/{field}: .*{shape}"):
        LoggedRounds(**GOOD | {field: value, "names": ("a", "b", "c")})


def test_rounds_refuse_no_rows_twin_names_and_an_empty_range():
    with pytest.raises(InvalidInput, match=r"^/arms: must have shape"):
        LoggedRounds([], [], [])
    with pytest.raises(InvalidInput, match=r"^/names: must be different"):
        LoggedRounds(**GOOD | {"names": ("a", "b", "a")})
    with pytest.raises(InvalidInput, match=r"^/high: must be a finite number above low"):
        LoggedRounds(**GOOD | {"low": 1.0, "high": 1.0})
    with pytest.raises(InvalidInput, match=r"^/rewards: must be an array of numbers"):
        LoggedRounds(**GOOD | {"rewards": ["a"] * N})


def test_take_keeps_all_columns_and_times_only_in_order():
    rounds = LoggedRounds(**GOOD)
    part = rounds.take(np.array([0, 4]))
    assert part.times.tolist() == [1, 4]
    assert part.probabilities.shape == (2, 3)
    assert rounds.take(np.array([4, 0])).times is None
    with pytest.raises(InvalidInput, match=r"has no arm 'x'; it has 0, 1, 2"):
        rounds.arm("x")
