"""Shares of a wave, against giving the sends one by one."""

import numpy as np
import pytest

from bandits.numerics.batched_index import batch_shares


def bound(means, width=1.3):
    return lambda sends: means + np.sqrt(width / np.maximum(sends, 1e-300))


def one_by_one(index, sends, upcoming):
    sends = sends.astype(float).copy()
    given = np.zeros_like(sends)
    for _ in range(upcoming):
        best = index(sends).argmax()
        given[best] += 1
        sends[best] += 1
    return given / upcoming


@pytest.mark.parametrize("seed", range(40))
def test_batched_index_shares_are_those_of_sends_one_by_one(seed):
    rng = np.random.default_rng(seed)
    n_arms, upcoming = rng.integers(1, 7), int(rng.integers(1, 300))
    sends = np.floor(rng.uniform(0, 30, n_arms)) * (rng.random(n_arms) < 0.8)
    sends += np.arange(n_arms) * 1e-7 * (sends > 0)  # no exact ties, which one by one cannot split
    index = bound(rng.random(n_arms))
    if np.count_nonzero(sends == 0) > upcoming:
        upcoming += n_arms  # which of the untried comes first is a tie too
    assert np.allclose(
        batch_shares(index, sends, upcoming), one_by_one(index, sends, upcoming), rtol=0, atol=1e-12
    )


def test_batched_index_broadcasts_leading_axes():
    rng = np.random.default_rng(1)
    means, sends = rng.random((5, 4, 3)), np.floor(rng.uniform(0, 9, (5, 4, 3)))
    together = batch_shares(bound(means), sends, 100)
    for i in range(5):
        assert np.allclose(together[i, 2], batch_shares(bound(means[i, 2]), sends[i, 2], 100))


@pytest.mark.parametrize(
    ("sends", "upcoming", "shares"),
    [
        ([7, 7, 7], 1, [1 / 3, 1 / 3, 1 / 3]),
        ([7, 7, 7], 2, [1 / 3, 1 / 3, 1 / 3]),
        ([7, 7, 7], 3_000_000, [1 / 3, 1 / 3, 1 / 3]),
        ([0, 0, 0], 2, [1 / 3, 1 / 3, 1 / 3]),
        ([0, 0, 5], 1, [1 / 2, 1 / 2, 0]),
        ([0, 0, 5], 2, [1 / 2, 1 / 2, 0]),
        ([1, 2, 2], 1, [1, 0, 0]),
        ([1, 2, 2], 4, [1 / 2, 1 / 4, 1 / 4]),
        ([1, 2, 2], 2, [1 / 2 + 1 / 6, 1 / 6, 1 / 6]),  # one to the first, then any of three
        ([4], 9, [1]),
    ],
)
def test_batched_index_splits_ties_equally(sends, upcoming, shares):
    actual = batch_shares(bound(np.full(len(sends), 0.4)), np.array(sends, float), upcoming)
    assert np.allclose(actual, shares, rtol=0, atol=1e-12)


def test_a_wave_of_one_is_the_plain_argmax():
    index = bound(np.array([0.2, 0.3, 0.1]))
    assert batch_shares(index, np.array([10.0, 10.0, 10.0]), 1).tolist() == [0, 1, 0]


def test_an_index_that_never_falls_takes_everything():
    means = np.array([0.1, 0.3, 0.3])
    shares = batch_shares(lambda sends: means + 0 * sends, np.array([1.0, 5.0, 9.0]), 1000)
    assert np.allclose(shares, [0, 0.5, 0.5])


def test_a_wave_of_millions_needs_no_loop_over_sends():
    calls = []

    def index(sends):
        calls.append(1)
        return bound(np.array([0.2, 0.21, 0.22]))(sends)

    shares = batch_shares(index, np.array([1e6, 1e6, 1e6]), 10_000_000)
    assert shares.sum() == pytest.approx(1)
    assert len(calls) < 2000
