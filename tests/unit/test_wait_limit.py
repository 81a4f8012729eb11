"""Wait limit: the waits of one request end together, however many there are."""

from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import pytest

from bandits.errors import Unavailable
from bandits.waits import acquire, held, limit_waits, seconds_left


def test_seconds_left_without_a_limit_is_what_the_wait_may_take() -> None:
    assert seconds_left(7.0) == 7.0


def test_seconds_left_is_shortened_by_a_limit_and_refused_at_its_end() -> None:
    with limit_waits(100.0):
        assert seconds_left(7.0) == 7.0
        assert 99.0 < seconds_left(1000.0) <= 100.0
    with limit_waits(0.0), pytest.raises(Unavailable, match="for too long"):
        seconds_left(7.0)
    assert seconds_left(1000.0) == 1000.0


def test_limit_of_one_thread_is_not_that_of_another() -> None:
    with limit_waits(0.0), ThreadPoolExecutor(1) as pool:
        assert pool.submit(seconds_left, 7.0).result() == 7.0


def test_held_lock_that_is_not_free_is_refused_within_the_limit() -> None:
    lock = Lock()
    with limit_waits(0.0), held(lock, "it is being read"):  # it is free: there is no wait
        assert not acquire(lock)
        with pytest.raises(Unavailable, match="it is being read"), held(lock, "it is being read"):
            pass
    assert acquire(lock)
