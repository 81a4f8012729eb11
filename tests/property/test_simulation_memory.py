"""Laws of a simulated policy's memory, against sums written out."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bandits.problem import Problem
from bandits.statistics import Moments, Ridge
from simulations.learners.memory import (
    DecisionForgetting,
    ExponentialDecay,
    FullMemory,
    MemorySums,
    RefitMemory,
    SlidingWindow,
    create_memory,
)

PROBLEM = Problem.of(3, n_features=2)
REPLICATIONS = 2

segments = st.lists(st.integers(1, 6), min_size=1, max_size=8)
delays = st.integers(0, 3)


def sent_in(sizes, seed):
    """Arms, rewards and contexts of successive segments, (R, n) each."""
    rng = np.random.default_rng(seed)
    for n in sizes:
        shape = (REPLICATIONS, n)
        yield rng.integers(3, size=shape), rng.random(shape), rng.random((*shape, 2))


def remembered(memory, sizes, delay, seed):
    """Send all segments, learning each `delay` segments late: the statistic, and the segments."""
    under_way, sent = [], list(sent_in(sizes, seed))
    for segment in sent:
        under_way.append(memory.send(*segment))
        if len(under_way) > delay:
            memory.learn(under_way.pop(0))
    return memory.statistic, sent


def summed(family, sent, weights):
    """Sum the sent segments, each decision with its weight."""
    arms, rewards, contexts = (np.concatenate(parts, axis=1) for parts in zip(*sent, strict=True))
    n = arms.shape[1]
    return family.from_observations(
        PROBLEM, arms, rewards, contexts, np.broadcast_to(weights[:n], arms.shape)
    )


def assert_same(one, other, names):
    for name in names:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-9)


@given(segments, delays, st.integers(0, 99))
def test_full_memory_sums_what_is_visible_and_the_rest_is_pending(sizes, delay, seed):
    visible = max(0, len(sizes) - delay)
    learned = sum(sizes[:visible])
    weights = np.r_[np.ones(learned), np.zeros(sum(sizes) - learned)]
    for family, names in ((Moments, ("count", "total", "square")), (Ridge, ("gram", "moment"))):
        memory = FullMemory(MemorySums(family, PROBLEM, REPLICATIONS), late=delay > 0)
        statistic, sent = remembered(memory, sizes, delay, seed)
        assert_same(statistic, summed(family, sent, weights), names)
    pending = FullMemory(MemorySums(Moments, PROBLEM, REPLICATIONS), late=delay > 0)
    statistic, _ = remembered(pending, sizes, delay, seed)
    assert (np.abs(statistic.pending.sum(axis=1) - sum(sizes[visible:])) < 1e-9).all()


@given(segments, delays, st.integers(1, 20), st.integers(0, 99))
def test_sliding_window_sums_the_last_visible_decisions(sizes, delay, window, seed):
    n, learned = sum(sizes), sum(sizes[: max(0, len(sizes) - delay)])
    weights = ((np.arange(n) >= n - window) & (np.arange(n) < learned)).astype(float)
    for family, names in ((Moments, ("count", "total", "square")), (Ridge, ("gram", "moment"))):
        memory = SlidingWindow(MemorySums(family, PROBLEM, REPLICATIONS), window)
        statistic, sent = remembered(memory, sizes, delay, seed)
        assert_same(statistic, summed(family, sent, weights), names)


@given(segments, delays, st.floats(0.5, 50), st.integers(0, 99))
def test_exponential_decay_halves_a_weight_in_a_half_life(sizes, delay, half_life, seed):
    n, learned = sum(sizes), sum(sizes[: max(0, len(sizes) - delay)])
    ages = np.arange(n - 1, -1, -1)
    weights = np.where(np.arange(n) < learned, 2.0 ** (-ages / half_life), 0.0)
    for family, names in ((Moments, ("count", "total", "square")), (Ridge, ("gram", "moment"))):
        memory = ExponentialDecay(MemorySums(family, PROBLEM, REPLICATIONS), half_life)
        statistic, sent = remembered(memory, sizes, delay, seed)
        assert_same(statistic, summed(family, sent, weights), names)


@given(
    segments,
    delays,
    st.one_of(
        st.none(),
        st.builds(DecisionForgetting, half_life=st.floats(0.5, 50)),
        st.builds(DecisionForgetting, window=st.integers(1, 20)),
    ),
    st.integers(0, 99),
)
def test_refit_memory_agrees_with_the_sums(sizes, delay, forgetting, seed):
    sums = MemorySums(Moments, PROBLEM, REPLICATIONS)
    kept, _ = remembered(create_memory(sums, forgetting, late=delay > 0), sizes, delay, seed)
    rebuilt, _ = remembered(RefitMemory(sums, forgetting), sizes, delay, seed)
    assert_same(kept, rebuilt, ("count", "total", "square"))


@given(
    segments,
    st.one_of(
        st.none(),
        st.builds(DecisionForgetting, half_life=st.floats(0.5, 50)),
        st.builds(DecisionForgetting, window=st.integers(1, 20)),
    ),
    st.integers(0, 99),
)
def test_correction_of_silence_is_as_if_the_reward_had_been_there(sizes, forgetting, seed):
    """Segments are learned from as silent; late rewards are corrected a segment later."""
    sums = MemorySums(Moments, PROBLEM, REPLICATIONS)
    for make in (
        lambda: create_memory(sums, forgetting, late=True),
        lambda: RefitMemory(sums, forgetting),
    ):
        at_once, corrected = create_memory(sums, forgetting, late=True), make()
        rng = np.random.default_rng(seed)
        corrections = []
        for arms, rewards, contexts in sent_in(sizes, seed):
            late = (rng.random(arms.shape) < 0.5).astype(float)
            at_once.learn(at_once.send(arms, rewards, contexts))
            corrected.learn(corrected.send(arms, rewards * (1 - late), contexts))
            corrections.append(corrected.correct(arms, rewards, contexts, late))
            if len(corrections) > 1:
                corrected.learn(corrections.pop(0))
        corrected.learn(corrections.pop())
        assert_same(at_once.statistic, corrected.statistic, ("count", "total", "square"))
