"""Evidence of guardrails: fair odds, days to begin on, and sums that add up."""

import numpy as np
import pytest

from bandits.inference.guardrail_evidence import BETS, comparison_bets, limit_bets, wealth
from bandits.inference.guardrail_sums import ALL_SLOTS, GuardrailSums, start_period_of

DAY = 86_400.0


def test_limit_bets_are_fair_at_the_limit():
    one_email = limit_bets(np.array([1.0, 1.0]), np.array([0.0, 1.0]), 0.003)
    silent, happened = np.exp(one_email)
    assert 0.997 * silent + 0.003 * happened == pytest.approx(np.ones(len(BETS)))


def test_limit_bets_near_one_has_a_bet():
    one_email = limit_bets(np.array([1.0, 1.0]), np.array([0.0, 1.0]), 0.9)
    silent, happened = np.exp(one_email)
    assert 0.1 * silent + 0.9 * happened == pytest.approx([1.0])


@pytest.mark.parametrize(("own", "control", "times"), [(0.9, 0.1, 2.0), (0.02, 0.5, 1.0)])
def test_comparison_bets_are_fair_where_it_is_just_so_many_times(own, control, times):
    both = comparison_bets(np.full(2, own), np.full(2, control), np.array([1.0, 0.0]), times)
    chance = own * times / (own * times + control)
    expected = chance * np.exp(both[0]) + (1 - chance) * np.exp(both[1])
    assert expected == pytest.approx(np.ones(len(BETS)))


def test_comparison_bets_of_unknown_shares_are_none():
    bets = comparison_bets(np.zeros(1), np.zeros(1), np.ones(1), 2.0)
    assert bets == pytest.approx(np.zeros((1, len(BETS))))


def test_wealth_without_emails_is_one():
    assert wealth(np.zeros((0, 6)), []) == pytest.approx(1.0)


def test_wealth_of_nothing_won_is_one():
    assert wealth(np.zeros((3, 6)), [0, 1, 5]) == pytest.approx(1.0)


def test_wealth_bets_anew_on_each_day():
    bets = np.array([[-50.0], [3.0]])
    part = 6 / np.pi**2
    late = wealth(bets, [0, 1])
    rest = 1 - part - part / 4
    assert late == pytest.approx(part * np.exp(-47.0) + part / 4 * np.exp(3.0) + rest)


def test_wealth_of_days_without_emails_is_the_next_days():
    part = 6 / np.pi**2
    rest = 1 - part * (1 + 1 / 4 + 1 / 9)
    expected = part * np.exp(2.0) + part * (1 / 4 + 1 / 9) * np.exp(3.0) + rest
    assert wealth(np.array([[-1.0], [3.0]]), [4, 6]) == pytest.approx(expected)


def test_start_period_of_days_then_weeks():
    since = 10 * DAY + 5.0
    times = np.array([since, 11 * DAY, 65.5 * DAY, 66 * DAY, 72.9 * DAY, 73 * DAY])
    assert start_period_of(times, since).tolist() == [0, 1, 55, 56, 56, 57]


def sums_of(cells) -> GuardrailSums:
    return GuardrailSums(2, {k: np.array(v, dtype=float) for k, v in cells.items()})


KEY, OTHER = ("bounce>0.01", ALL_SLOTS, 0, 3), ("bounce>0.01", ALL_SLOTS, 4, 3)


def test_guardrail_sums_add_and_subtract():
    one, two = (
        sums_of({KEY: [[3, 1], [1, 0]]}),
        sums_of({KEY: [[1, 1], [0, 0]], OTHER: [[2, 0], [0, 0]]}),
    )
    both = one + two
    assert both.cells[KEY].tolist() == [[4, 2], [1, 0]]
    assert (both - two).heights == one.heights
    assert (both - one - two).heights == {}


def test_guardrail_sums_by_period_since_a_version():
    sums = sums_of({KEY: [[3, 1], [1, 0]], OTHER: [[2, 0], [0, 0]]})
    assert sums.by_period("bounce>0.01").cells.tolist() == [[[5, 1], [1, 0]]]
    assert sums.by_period("bounce>0.01", since=4).cells.tolist() == [[[2, 0], [0, 0]]]
    assert len(sums.by_period("bounce>0.02").numbers) == 0


def test_guardrail_sums_are_read_back_with_room_for_newcomers():
    sums = sums_of({KEY: [[3, 1], [1, 0]], OTHER: [[2, 0], [0, 0], [0.5, 0]]})
    read = GuardrailSums.load(sums.dump(), 3)
    assert read.heights == {KEY: 2, OTHER: 3}
    assert read.cells[OTHER].tolist() == [[2, 0, 0], [0, 0, 0], [0.5, 0, 0]]
    assert GuardrailSums.zeros(2).dump() == b""
