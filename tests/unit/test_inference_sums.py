"""Sums that results rest on, against what a pocket calculator says."""

import numpy as np
import pytest

from bandits.inference.floors import FloorHistory
from bandits.inference.intervals import GUARANTEES, guarantees
from bandits.inference.late_rewards import LateRewardSums
from bandits.inference.periods import PeriodSums, period_of

DAY = 86_400.0


def test_a_period_is_a_day_for_eight_weeks_and_then_four_weeks():
    since = 10.5 * DAY  # noon
    times = {
        9.0: 0,  # before the start, as an activation by a clock that steps back
        10.0: 0,
        10.999: 0,
        11.0: 1,  # the next midnight, not 24 hours after the start
        65.999: 55,
        66.0: 56,
        93.999: 56,  # 28 days
        94.0: 57,
    }
    found = period_of(np.array(list(times)) * DAY, since)
    assert found.tolist() == list(times.values())


def test_periods_sum_decisions_rewards_and_squares_by_arm():
    periods = PeriodSums.from_decisions(
        np.array([4, 1, 4, 4]), np.array([0, 1, 1, 0]), np.array([2.0, 3.0, 0.0, 5.0]), 2
    )
    assert periods.numbers.tolist() == [1, 4]
    assert periods.sums.tolist() == [
        [[0, 1], [0, 3], [0, 9]],
        [[2, 1], [7, 0], [29, 0]],
    ]


def test_a_period_goes_when_its_last_decision_does():
    one = PeriodSums.from_decisions(np.array([1]), np.array([0]), np.array([2.0]), 1)
    two = PeriodSums.from_decisions(np.array([3, 1]), np.array([0, 0]), np.array([1.0, 4.0]), 1)
    both = one + two
    assert (both.numbers.tolist(), both.sums[:, :, 0].tolist()) == ([1, 3], [[2, 6, 20], [1, 1, 1]])
    left = both - two
    assert (left.numbers.tolist(), left.sums[:, :, 0].tolist()) == ([1], [[1, 2, 4]])
    assert both.padded(2).spread(np.array([1, 2, 3]))[:, 0].tolist() == [[2, 0], [0, 0], [1, 0]]
    again = PeriodSums.load(both.dump(), 1)
    assert (again.numbers.tolist(), again.sums.tolist()) == ([1, 3], both.sums.tolist())


def test_lateness_is_the_part_of_reward_that_moved_after_maturity():
    late = LateRewardSums.from_decisions(
        np.array([0, 0, 0, 1, 1]),
        np.array([3.0, 1.0, 0.0, 2.0, -1.0]),  # in the end
        np.array([1.0, 1.0, 0.0, 2.0, 1.0]),  # at maturity
        2,
    )
    assert late.moved.tolist() == [2, 2]  # 3 − 1, and from 1 to −1
    assert late.earned.tolist() == [4, 3]
    assert late.changed.tolist() == [1, 1]
    assert late.answered.tolist() == [2, 2]
    assert late.shares == [0.5, pytest.approx(2 / 3)]
    assert late.overall == pytest.approx(4 / 7)
    assert LateRewardSums.zeros(2).shares == [None, None]
    assert LateRewardSums.zeros(2).overall is None
    assert (late + late - late).moved.tolist() == [2, 2]


def test_arms_that_answer_at_different_speeds_are_told_by_pearsons_test():
    none = np.zeros(2)
    late = LateRewardSums(none, none, np.array([30.0, 10.0]), np.array([100.0, 100.0]))
    # 20 % in all: 20 and 20 expected; (10² + 10²) / (20 · 0.8) = 12.5; P(χ²₁ > 12.5) = 0.000407.
    assert late.differs_p_value == pytest.approx(0.000407, abs=1e-6)
    few = LateRewardSums(
        none, none, np.array([4.0, 0.0]), np.array([20.0, 20.0])
    )  # 2 expected of each
    assert few.differs_p_value == 1.0


def test_the_least_floor_is_that_of_what_is_still_counted():
    bare, later = (
        FloorHistory.from_floors(np.array([0.0, 0.0])),
        FloorHistory.from_floors(np.array([0.05, 0.01, 0.05])),
    )
    every = bare + later
    assert (every.values.tolist(), every.counts.tolist()) == ([0.0, 0.01, 0.05], [2, 1, 2])
    assert every.least == 0.0
    assert (every - bare).least == 0.01
    assert (every - every).least is None
    assert FloorHistory.load(every.dump()).counts.tolist() == [2, 1, 2]
    assert later.spread(np.array([0.0, 0.01, 0.05])).tolist() == [0, 1, 2]


def test_inference_conditions_say_whether_a_recipient_may_count_twice():
    once, several = guarantees(per_subject=True), guarantees(per_subject=False)
    for key, general in GUARANTEES.items():
        assert once[key].conditions[:-1] == several[key].conditions[:-1] == general.conditions
        assert "each recipient has one decision" in once[key].conditions[-1]
        several_emails = "count together" if key == "randomised" else "also where a recipient gets"
        assert several_emails in several[key].conditions[-1]
