"""Statistics are sums: the laws that merging, late rewards, erasing and windows rest on."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.problem import Problem
from bandits.registry import policies
from bandits.statistics import dump, load
from tests.conftest import SOAK

few = settings(max_examples=500 if SOAK else 25)
FAMILIES = sorted({p.statistic for p in policies().values()}, key=lambda s: s.family)
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda s: s.family)
invertible = pytest.mark.parametrize(
    "family", [f for f in FAMILIES if f.invertible], ids=lambda s: s.family
)
seeds = st.integers(0, 10_000)
sizes = st.integers(0, 12)
leads = st.sampled_from([(), (2,), (2, 3)])
PROBLEM = Problem.of(4, 3)


def observations(seed, n, lead=()):
    rng = np.random.default_rng(seed)
    shape = (*lead, n)
    return (
        rng.integers(0, PROBLEM.n_arms, shape),
        rng.choice([0.0, 0.25, 1.0], shape),
        rng.random((*shape, PROBLEM.n_features)),
        rng.choice([0.5, 1.0], shape),
    )


def of(family, seed, n, lead=()):
    return family.from_observations(PROBLEM, *observations(seed, n, lead))


def same(one, other, tolerance=1e-12):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@every_family
@few
@given(seed=seeds, n=sizes, m=sizes, lead=leads)
def test_addition_commutes(family, seed, n, m, lead):
    a, b = of(family, seed, n, lead), of(family, seed + 1, m, lead)
    same(a + b, b + a, 0 if family.invertible else 1e-12)


@every_family
@few
@given(seed=seeds, n=sizes, m=sizes, lead=leads)
def test_addition_associates(family, seed, n, m, lead):
    a, b, c = (
        of(family, seed, n, lead),
        of(family, seed + 1, m, lead),
        of(family, seed + 2, 3, lead),
    )
    same((a + b) + c, a + (b + c))


@invertible
@few
@given(seed=seeds, n=sizes, m=sizes, lead=leads)
def test_statistic_of_all_is_the_sum_of_parts(family, seed, n, m, lead):
    together = family.from_observations(
        PROBLEM,
        *(
            np.concatenate([a, b], axis=len(lead))
            for a, b in zip(
                observations(seed, n, lead), observations(seed + 1, m, lead), strict=True
            )
        ),
    )
    same(together, of(family, seed, n, lead) + of(family, seed + 1, m, lead))


@every_family
@few
@given(seed=seeds, n=sizes, lead=leads)
def test_zeros_is_the_identity_of_addition(family, seed, n, lead):
    a = of(family, seed, n, lead)
    same(a + family.zeros(PROBLEM, lead), a)
    same(of(family, seed, 0, lead), family.zeros(PROBLEM, lead))


@invertible
@few
@given(seed=seeds, n=sizes, m=sizes)
def test_subtraction_undoes_addition(family, seed, n, m):
    a, b = of(family, seed, n), of(family, seed + 1, m)
    same(a + b - b, a)


@invertible
@few
@given(seed=seeds, n=st.integers(1, 12))
def test_maturity_moves_a_decision_from_pending_to_learned(family, seed, n):
    arms, rewards, contexts, weights = observations(seed, n)
    waiting = family.from_pending(PROBLEM, arms, contexts, weights)
    learned = family.from_observations(PROBLEM, arms, rewards, contexts, weights)
    same(waiting - waiting + learned, learned)


@every_family
@few
@given(seed=seeds, n=sizes, lead=leads)
def test_leading_axes_broadcast(family, seed, n, lead):
    together = of(family, seed, n, lead)
    given_ = observations(seed, n, lead)
    for at in np.ndindex(lead):
        alone = family.from_observations(PROBLEM, *(a[at] for a in given_))
        for field in dataclasses.fields(alone):
            column = getattr(together, field.name)
            whole = (
                np.broadcast_to(column, lead + column.shape[-1:])
                if field.name == "clock"
                else column
            )
            np.testing.assert_allclose(whole[at], getattr(alone, field.name), rtol=0, atol=1e-9)


@every_family
@few
@given(seed=seeds, n=sizes, order=st.permutations(range(4)), left=st.integers(1, 4))
def test_restriction_twice_is_restriction_once(family, seed, n, order, left):
    a, kept = of(family, seed, n), np.array(order[:left])
    same(a.take(np.array(order)).take(np.arange(left)), a.take(kept))


@every_family
@few
@given(seed=seeds, n=sizes)
def test_an_arm_that_joins_is_as_if_it_had_been_there_unseen(family, seed, n):
    a = of(family, seed, n)
    grown = a.padded(Problem.of(6, 3))
    same(grown, family.from_observations(Problem.of(6, 3), *observations(seed, n)), 0)
    same(grown.padded(Problem.of(6, 3)), grown, 0)


@every_family
@few
@given(seed=seeds, n=sizes, lead=leads)
def test_stored_statistic_is_read_back_bit_for_bit(family, seed, n, lead):
    a = of(family, seed, n, lead)
    same(load(family, dump(a)), a, 0)


@invertible
@few
@given(seed=seeds, n=sizes, factor=st.floats(0, 1))
def test_decay_is_a_weight_on_every_observation(family, seed, n, factor):
    arms, rewards, contexts, weights = observations(seed, n)
    faded = family.from_observations(PROBLEM, arms, rewards, contexts, weights).decayed(factor)
    same(faded, family.from_observations(PROBLEM, arms, rewards, contexts, weights * factor))


@invertible
@few
@given(seed=seeds, n=sizes, factor=st.floats(0.1, 1))
def test_pending_decisions_do_not_decay(family, seed, n, factor):
    arms, _, contexts, weights = observations(seed, n)
    waiting = family.from_pending(PROBLEM, arms, contexts, weights)
    same(waiting.decayed(factor), waiting)


def test_statistic_of_another_family_is_refused():
    moments, ridge = (f for f in FAMILIES if f.family in {"moments", "ridge"})
    with pytest.raises(ValueError, match="a moments statistic was stored, not a ridge one"):
        load(ridge, dump(moments.zeros(PROBLEM)))
