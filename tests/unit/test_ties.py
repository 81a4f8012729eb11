import numpy as np

from bandits.numerics.ties import draw_largest, equal_shares, largest


def test_scores_equal_but_for_rounding_are_tied():
    assert largest(np.array([0.1 + 0.2, 0.3, 0.2999])).tolist() == [True, True, False]


def test_large_and_negative_scores_keep_their_order():
    assert largest(np.array([-3.0, -2.0, -2.5])).tolist() == [False, True, False]
    assert largest(np.array([1e150, 1e150, 1.0])).tolist() == [True, True, False]
    assert largest(np.array([0.0, -1e-13])).tolist() == [True, False]


def test_shares_of_tied_arms_are_equal():
    marked = np.array([[True, True, False], [False, False, True]])
    assert equal_shares(marked).tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]


def test_drawing_without_ties_takes_the_largest():
    scores = np.random.default_rng(2).random((50, 6))
    arms = draw_largest(scores, np.random.default_rng(3))
    assert arms.tolist() == scores.argmax(axis=-1).tolist()


def test_drawing_never_takes_an_unmarked_arm_and_takes_each_marked_one():
    scores = np.array([0.3, 0.1, 0.1 + 0.2, 0.3])
    arms = draw_largest(np.broadcast_to(scores, (20, 200, 4)), np.random.default_rng(1))
    assert arms.shape == (20, 200)
    arms = arms.ravel()
    counts = np.bincount(arms, minlength=4)
    assert counts[1] == 0
    # A false alarm has chance 1e-6: 4.9 standard deviations of a count of 4000 at 1/3.
    assert np.abs(counts[[0, 2, 3]] - 4000 / 3).max() < 4.9 * np.sqrt(4000 * 2 / 9)
