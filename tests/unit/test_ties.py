import numpy as np
import pytest

from bandits.numerics.ties import TIE, TieSampler, draw_largest, equal_shares, largest


def test_scores_equal_but_for_rounding_are_tied():
    assert largest(np.array([0.1 + 0.2, 0.3, 0.2999])).tolist() == [True, True, False]


def test_large_and_negative_scores_keep_their_order():
    assert largest(np.array([-3.0, -2.0, -2.5])).tolist() == [False, True, False]
    assert largest(np.array([1e150, 1e150, 1.0])).tolist() == [True, True, False]
    assert largest(np.array([0.0, -1e-13])).tolist() == [True, False]


def test_shares_of_tied_arms_are_equal():
    marked = np.array([[True, True, False], [False, False, True]])
    assert equal_shares(marked).tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]


def test_draw_largest_without_ties_takes_the_largest():
    scores = np.random.default_rng(2).random((50, 6))
    arms = draw_largest(scores, np.random.default_rng(3))
    assert arms.tolist() == scores.argmax(axis=-1).tolist()


def test_draw_largest_never_takes_an_unmarked_arm_and_takes_each_marked_one():
    scores = np.array([0.3, 0.1, 0.1 + 0.2, 0.3])
    arms = draw_largest(np.broadcast_to(scores, (20, 200, 4)), np.random.default_rng(1))
    assert arms.shape == (20, 200)
    arms = arms.ravel()
    counts = np.bincount(arms, minlength=4)
    assert counts[1] == 0
    # A false alarm has chance 1e-6: 4.9 standard deviations of a count of 4000 at 1/3.
    assert np.abs(counts[[0, 2, 3]] - 4000 / 3).max() < 4.9 * np.sqrt(4000 * 2 / 9)


TIED = ([0.0, 0.0], [0.5, 0.5 - 2.0**-54], [-1.0, -1.0 + 2.0**-53], [1e300, 1e300])


@pytest.mark.parametrize("tied", TIED)
def test_lots_treat_scores_equal_but_for_rounding_alike(tied):
    lots, rng, states = TieSampler((100, 2)), np.random.default_rng(4), 100
    scores = np.broadcast_to(np.array(tied), (states, 2))
    assert largest(scores).all()
    second = sum(lots.draw_largest(scores, rng).sum() for _ in range(500))
    # A false alarm has chance 1e-6: 4.9 standard deviations of a count of 50,000 at 1/2.
    assert abs(second - 25_000) < 4.9 * np.sqrt(12_500)


@pytest.mark.parametrize("sign", [1, -1])
def test_lots_keep_the_order_of_whatever_is_not_called_tied(sign):
    lots, rng = TieSampler((100, 3)), np.random.default_rng(5)
    for scale in (1e-300, 0.7, 1.0, 1.9, 1e300):
        better = sign * scale * (1.0 + sign * 1.01 * TIE)
        scores = np.broadcast_to(np.array([sign * scale, better, -2 * scale]), (100, 3))
        assert largest(scores)[0].tolist() == [False, True, False]
        assert all((lots.draw_largest(scores, rng) == 1).all() for _ in range(500))


def test_lots_of_one_step_tell_nothing_of_the_next():
    lots, rng = TieSampler((1, 2)), np.random.default_rng(6)
    scores = np.zeros((1, 2))
    drawn = np.array([lots.draw_largest(scores, rng)[0] for _ in range(20_000)])
    pairs = np.bincount(2 * drawn[:-1] + drawn[1:], minlength=4)
    # A false alarm has chance 1e-6 or less: 5.1 standard deviations, for the largest of four.
    assert np.abs(pairs - 5_000).max() < 5.1 * np.sqrt(20_000 * 3 / 16)


def test_lots_leave_scores_as_they_are():
    scores = np.full((4, 3), 0.3)
    TieSampler((4, 3)).draw_largest(scores, np.random.default_rng(7))
    assert (scores == 0.3).all()


def test_lots_draw_alike_from_scores_in_their_own_place():
    scores = np.round(np.random.default_rng(8).random((50, 4)), 1)
    lots, others = TieSampler((50, 4)), TieSampler((50, 4))
    lots.scores[...] = scores
    drawn = lots.draw_largest(lots.scores, np.random.default_rng(9))
    assert np.array_equal(drawn, others.draw_largest(scores, np.random.default_rng(9)))
    assert np.array_equal(lots.scores, scores)


def test_lots_would_never_draw_a_minus_zero_beside_a_zero():
    """Why indices may not be -0.0: it is equal, and its bits are far away."""
    lots, rng = TieSampler((100, 2)), np.random.default_rng(8)
    scores = np.broadcast_to(np.array([-0.0, 0.0]), (100, 2))
    assert largest(scores).all()
    assert all((lots.draw_largest(scores, rng) == 1).all() for _ in range(20))
