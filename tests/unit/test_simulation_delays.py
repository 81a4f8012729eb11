"""Delays of rewards, decision by decision, on examples small enough to follow by hand."""

import numpy as np
import pytest

from bandits.errors import InvalidInput
from bandits.problem import Problem
from simulations.running.delays import DelayNoise, DelayQueue, Feedback

MIDDLE = 0.5


def noise_of(n, *, speed=None, lost=None, doubled=None):
    """Noise of n rounds in one replication: every reward takes its median, and is reported once."""
    rows = [
        np.zeros(n) if speed is None else np.array(speed, dtype=float),
        np.ones(n) if lost is None else np.array(lost, dtype=float),
        np.ones(n) if doubled is None else np.array(doubled, dtype=float),
    ]
    return DelayNoise(*(row[None] for row in rows))


def delayed_batches(feedback, ends, rewards, *, arms=None, noise=None, patient=False):  # noqa: PLR0913 - of which most tests need two
    rewards = np.array([rewards], dtype=float)
    arms = np.zeros(rewards.shape, dtype=int) if arms is None else np.array([arms])
    noise = noise_of(rewards.shape[1]) if noise is None else noise
    queue = DelayQueue(feedback, np.array(ends), patient=patient)
    return list(queue.split(0, 0, arms, rewards, noise))


def test_a_decision_is_learned_at_the_first_fold_after_it_is_mature():
    """Decisions 0 to 3 are made at 1 to 4 and wait 3; folds are at 4, 8 and 12."""
    batches = delayed_batches(Feedback(median=1.0, maturity=3.0), [4, 8, 12], [1, 1, 1, 1])
    assert [(batch.fold, batch.first, batch.stop) for batch in batches] == [(0, 0, 1), (1, 1, 4)]
    assert all(batch.arrived.all() for batch in batches)
    assert all(batch.corrections == [] for batch in batches)


def test_correction_of_silence_comes_at_the_fold_after_the_reward():
    """A reward after 6: made at 1 it comes at 7, made at 2 at 8; both were learned from at 4."""
    batches = delayed_batches(Feedback(median=6.0, maturity=0.0), [4, 8, 12], [1, 1])
    (batch,) = batches
    assert batch.fold == 0
    assert not batch.arrived.any()
    assert [(c.fold, c.changed.tolist()) for c in batch.corrections] == [(1, [[1, 1]])]


def test_corrections_go_to_the_folds_they_arrive_before():
    batches = delayed_batches(Feedback(median=6.0, maturity=0.0), [4, 8, 12], [1, 1, 1, 0])
    (batch,) = batches
    corrections = [(c.fold, c.changed.tolist()) for c in batch.corrections]
    assert corrections == [(1, [[1, 1, 0, 0]]), (2, [[0, 0, 1, 0]])]


def test_a_reward_after_the_window_is_lost_and_one_inside_is_not():
    feedback = Feedback(median=(2.0, 6.0), maturity=0.0, window=5.0)
    (batch,) = delayed_batches(feedback, [10, 20], [1, 1], arms=[0, 1])
    assert batch.arrived.tolist() == [[True, False]]
    assert batch.corrections == []


def test_decision_maturing_after_the_last_fold_is_learned_with_all_its_rewards():
    (batch,) = delayed_batches(Feedback(median=3.0, window=100.0), [4, 8], [1, 1, 0])
    assert batch.fold == 2
    assert batch.arrived.tolist() == [[True, True, False]]


def test_a_lost_reward_never_comes():
    feedback = Feedback(median=1.0, maturity=5.0, lost=0.3)
    (batch,) = delayed_batches(feedback, [10], [1, 1], noise=noise_of(2, lost=[0.29, 0.31]))
    assert batch.arrived.tolist() == [[False, True]]
    assert batch.corrections == []


def test_a_reward_reported_twice_counts_once_where_it_is_recognised():
    noise = noise_of(2, doubled=[0.1, 0.9])
    once = Feedback(median=1.0, maturity=5.0, doubled=0.5)
    (batch,) = delayed_batches(once, [10], [1, 1], noise=noise)
    assert batch.rewards.tolist() == [[1, 1]]
    twice = Feedback(median=1.0, maturity=5.0, doubled=0.5, deduplicated=False)
    (batch,) = delayed_batches(twice, [10], [1, 1], noise=noise)
    assert batch.rewards.tolist() == [[2, 1]]


def test_reward_delays_exceed_the_median_half_of_the_time():
    rng = np.random.default_rng(1)
    n = 40_000
    noise = DelayNoise(rng.standard_normal((1, n)), np.ones((1, n)), np.ones((1, n)))
    feedback = Feedback(median=50.0, sigma=2.0, maturity=50.0, window=50.0)
    (batch,) = delayed_batches(feedback, [10**6], [1] * n, noise=noise)
    assert abs(batch.arrived.mean() - MIDDLE) < 4 * (0.25 / n) ** 0.5


def test_learner_that_waits_for_the_window_learns_every_reward_at_once():
    feedback = Feedback(median=(2.0, 6.0), maturity=1.0, window=5.0)
    (batch,) = delayed_batches(feedback, [1, 20], [1, 1], arms=[0, 1], patient=True)
    assert (batch.fold, batch.first, batch.stop) == (0, 0, 2)
    assert batch.arrived.tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"median": 5.0}, "/maturity"),
        ({"median": 5.0, "maturity": 9.0, "window": 8.0}, "/maturity"),
        ({"median": 0.0, "window": 8.0}, "/median"),
        ({"median": 5.0, "window": 8.0, "lost": 1.5}, "/lost"),
        ({"median": 5.0, "window": float("nan")}, "/window"),
    ],
)
def test_impossible_feedback_is_refused(given, pointer):
    with pytest.raises(InvalidInput) as error:
        Feedback(**given)
    assert error.value.faults[0].pointer == pointer


def test_medians_must_be_as_many_as_arms():
    with pytest.raises(InvalidInput, match="3 arms"):
        Feedback(median=(1.0, 2.0), window=9.0).check(Problem.of(3))


def queue_delays(feedback, n=200_000, arms=None):
    speed = np.random.default_rng(5).standard_normal((1, n))
    ones = np.ones((1, n))
    arms = np.zeros((1, n), dtype=int) if arms is None else arms
    queue = DelayQueue(feedback, np.array([n]), patient=False)
    arrivals = queue.arrivals(0, arms, ones, DelayNoise(speed, ones, ones))
    return (arrivals.arrives_at - arrivals.sent_at)[0]


def test_delays_of_a_weibull_law_have_its_median_shape_and_spread():
    """Of shape .6: sigma is pi / (sqrt(6) × .6), and the quartiles are Weibull's."""
    sigma = np.pi / np.sqrt(6) / 0.6
    delays = queue_delays(Feedback(median=4.0, sigma=sigma, law="weibull", maturity=1.0))
    assert np.log(delays).std() == pytest.approx(sigma, rel=0.01)
    scale = 4 / np.log(2) ** (1 / 0.6)
    for part in (0.1, 0.5, 0.9):
        quantile = scale * (-np.log(1 - part)) ** (1 / 0.6)
        assert (delays < quantile).mean() == pytest.approx(part, abs=0.005)


def test_delays_of_slow_rewards_have_their_own_median():
    feedback = Feedback(median=2.0, sigma=0.1, slow=0.4, slow_median=24.0, maturity=1.0)
    delays = queue_delays(feedback)
    slow = delays > 7
    assert slow.mean() == pytest.approx(0.4, abs=0.005)
    assert np.median(delays[slow]) == pytest.approx(24, rel=0.01)
    assert np.median(delays[~slow]) == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("fields", [{"slow": 0.4}, {"slow_median": 24.0}])
def test_slow_rewards_need_their_part_and_their_median(fields):
    with pytest.raises(InvalidInput, match="together"):
        Feedback(median=2.0, maturity=1.0, **fields)


def test_emails_of_a_batch_that_are_sent_at_once_are_as_old_as_it():
    """Batches begin at 0 and 4: with a maturity of 4, each is learned when the next one begins."""
    feedback = Feedback(median=1.0, sigma=0.0, maturity=4.0, at_once=True)
    queue = DelayQueue(feedback, np.array([4, 8, 12]), patient=False)
    arms, rewards = np.zeros((1, 6), dtype=int), np.ones((1, 6))
    noise = noise_of(6)
    assert queue.arrivals(2, arms, rewards, noise).sent_at.tolist() == [0, 0, 4, 4, 4, 4]
    batches = delayed_batches(feedback, [4, 8, 12], [1] * 8)
    assert [(batch.fold, batch.first, batch.stop) for batch in batches] == [(0, 0, 4), (1, 4, 8)]
