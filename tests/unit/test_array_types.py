"""Functions on arrays that signatures name."""

import numpy as np
import pytest

from bandits.array_types import distinct_places


@pytest.mark.parametrize("numbers", [[], [7], [3, 3, 3], [-2, 5, 5, 0, -2, 9], [20_000, 19_993]])
def test_distinct_places_are_those_that_sorting_finds(numbers):
    values, places = distinct_places(np.array(numbers, dtype=np.int64))
    sorted_values, inverse = np.unique(np.array(numbers, dtype=np.int64), return_inverse=True)
    np.testing.assert_array_equal(values, sorted_values)
    np.testing.assert_array_equal(places, inverse.reshape(-1))
