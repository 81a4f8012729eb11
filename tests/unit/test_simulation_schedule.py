import numpy as np
import pytest

from bandits.errors import InvalidInput
from simulations.running.delays import Feedback
from simulations.running.schedule import Ramp, Run, batch_ends


def test_schedule_of_equal_batches_differs_by_at_most_one_decision():
    sizes = np.diff(batch_ends(100, 7), prepend=0)
    assert sizes.sum() == 100
    assert set(sizes) == {14, 15}


def test_schedule_without_batches_has_one_decision_each():
    assert batch_ends(4, None).tolist() == [1, 2, 3, 4]
    assert Run(horizon=4).schedule.sequential


def test_a_ramp_may_keep_to_one_size():
    """A hundred a day, say, however many that are in all."""
    assert batch_ends(350, Ramp(first=100, factor=1)).tolist() == [100, 200, 350]
    assert batch_ends(400, Ramp(first=100, factor=1)).tolist() == [100, 200, 300, 400]


def test_schedule_by_list_has_its_sizes():
    run = Run(horizon=10, batches=(1, 2, 7), delay=1)
    assert run.schedule.ends.tolist() == [1, 3, 10]
    assert run.schedule.delay == 1
    assert not run.schedule.sequential


def test_a_ramp_doubles_and_its_last_batch_takes_what_is_left():
    sizes = np.diff(batch_ends(100_000, Ramp(first=1000)), prepend=0)
    assert sizes.tolist() == [1000, 2000, 4000, 8000, 16_000, 32_000, 37_000]
    assert batch_ends(500, Ramp(first=1000)).tolist() == [500]
    assert batch_ends(3999, Ramp(first=1000)).tolist() == [1000, 3999]  # no crumb of 999


@pytest.mark.parametrize(
    ("given", "pointer", "detail"),
    [
        ({"horizon": 10, "batches": (4, 5)}, "/batches", "sizes sum to 9, horizon is 10"),
        ({"horizon": 10**9}, "/batches", "is required beyond 100,000,000 decisions"),
        ({"horizon": 10, "batches": 11}, "/batches", "more batches than horizon"),
        ({"horizon": 10, "batches": (0, 10)}, "/batches/0", "of at least 1"),
        (
            {"horizon": 10, "delay": 1, "feedback": Feedback(median=5.0, window=9.0)},
            "/feedback",
            "either",
        ),
        ({"horizon": 0}, "/horizon", "of at least 1"),
        ({"horizon": 10, "delay": -1}, "/delay", "of at least 0"),
        ({"horizon": 10, "replications": 0}, "/replications", "of at least 1"),
        ({"horizon": 10, "seed": -1}, "/seed", "of at least 0"),
        ({"horizon": 2.5}, "/horizon", "a whole number"),
    ],
)
def test_a_run_that_cannot_be_is_refused_at_its_place(given, pointer, detail):
    with pytest.raises(InvalidInput) as error:
        Run(**given)
    assert error.value.faults[0].pointer == pointer
    assert detail in error.value.faults[0].detail
