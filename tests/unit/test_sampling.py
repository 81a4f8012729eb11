"""The hash draw and the ids."""

import os
from threading import Thread

import numpy as np
import pytest

from bandits.ids import time_ordered_id, time_ordered_ids
from bandits.sampling import draw, uniform, uniforms
from tests.patience import join

SALT = b"0123456789abcdef"
BELOW_ONE = 1 - 2.0**-53


def test_the_uniform_of_an_id_never_changes_between_versions() -> None:
    # Fixed for ever: a receipt derives a decision of years ago from this number.
    assert uniform(SALT, "draw:spring-1") == 0.4113358674831772
    assert uniform(SALT, "draw:größe ✉") == 0.3233244802137737


def test_a_column_of_uniforms_is_each_of_them_alone() -> None:
    keys = [f"draw:{i}" for i in range(50)]
    assert uniforms(SALT, keys).tolist() == [uniform(SALT, k) for k in keys]


def test_uniforms_of_no_keys_are_empty() -> None:
    assert uniforms(SALT, []).shape == (0,)


def test_salt_decides_the_uniforms() -> None:
    assert uniform(SALT, "draw:1") != uniform(SALT[::-1], "draw:1")


@pytest.mark.parametrize("u", [0.0, 0.25, 0.5, BELOW_ONE])
def test_an_arm_of_probability_zero_never_comes_even_at_the_ends(u: float) -> None:
    probabilities = np.array([0.0, 0.5, 0.0, 0.5, 0.0])
    shared = draw(probabilities, np.array([u]))
    own = draw(probabilities[None], np.array([u]))
    assert shared[0] in (1, 3)
    assert own[0] == shared[0]


def test_draw_leaves_no_gap_at_the_top_where_sums_round_below_one() -> None:
    probabilities = np.full(10, 0.1)  # sums to 1 - 2**-53
    assert probabilities.cumsum()[-1] < 1
    assert draw(probabilities, np.array([BELOW_ONE])).tolist() == [9]


def test_draw_broadcasts_leading_axes() -> None:
    probabilities = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]])
    u = np.array([[0.9, 0.1], [0.4, 0.6]])
    assert draw(probabilities, u).tolist() == [[0, 1], [0, 1]]


def test_an_id_is_a_uuid_of_version_7_with_its_time() -> None:
    made = time_ordered_id(1_700_000_000.123)
    first, second, third, fourth, last = made.split("-")
    assert [len(p) for p in made.split("-")] == [8, 4, 4, 4, 12]
    assert int(first + second, 16) == 1_700_000_000_123
    assert third[0] == "7"
    assert fourth[0] in "89ab"
    assert int(last, 16) >= 0


def test_ids_of_one_call_are_distinct_and_ascend_as_do_later_calls() -> None:
    ids = time_ordered_ids(1000, 1_700_000_000.0) + time_ordered_ids(1000, 1_700_000_000.001)
    assert ids == sorted(set(ids))


def test_ids_made_one_by_one_share_no_noise_with_any_other_even_among_threads() -> None:
    made: list[str] = []
    threads = [
        Thread(target=lambda: made.extend(time_ordered_id(1.7e9) for _ in range(2000)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    join(*threads)
    assert len({i[15:] for i in made}) == 8000


def test_a_forked_process_makes_other_ids_than_its_parent() -> None:
    time_ordered_id()  # fetches noise for many more
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writes, "".join(time_ordered_id()[15:] for _ in range(20)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reads, 10_000).decode()
    os.close(reads)
    os.close(writes)
    assert len(theirs) == 20 * 21
    assert not any(time_ordered_id()[15:] in theirs for _ in range(300))


def test_ids_of_no_decisions_are_an_empty_list() -> None:
    assert time_ordered_ids(0, 1.0) == []
