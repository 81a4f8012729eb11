"""Circuit breaker: who may try a server that did not answer."""

from threading import Barrier, Thread
from types import SimpleNamespace

import pytest

from bandits.client.circuit_breaker import CircuitBreaker
from bandits.client.pending_cancellations import PendingCancellations
from tests.patience import LIMIT_SECONDS, join


@pytest.fixture
def clock() -> SimpleNamespace:
    return SimpleNamespace(now=5.0)


@pytest.fixture
def breaker(clock) -> CircuitBreaker:
    return CircuitBreaker(30.0, lambda: clock.now)


def test_breaker_is_closed_until_a_call_has_no_answer(breaker) -> None:
    assert [breaker.enter() for _ in range(3)] == ["closed"] * 3
    breaker.open()
    assert [breaker.enter() for _ in range(3)] == ["open"] * 3


def test_breaker_lets_one_call_through_after_its_pause(breaker, clock) -> None:
    breaker.open()
    clock.now += 29.9
    assert breaker.enter() == "open"
    clock.now += 0.2
    assert [breaker.enter() for _ in range(3)] == ["half_open", "open", "open"]
    clock.now += 30.0  # nobody said what became of that call
    assert breaker.enter() == "half_open"


def test_breaker_closes_at_an_answer_and_opens_anew_without_one(breaker, clock) -> None:
    breaker.open()
    clock.now += 30.0
    assert breaker.enter() == "half_open"
    breaker.open()
    clock.now += 29.9
    assert breaker.enter() == "open"
    breaker.close()
    assert breaker.enter() == "closed"


def test_breaker_lets_one_of_many_threads_through(breaker, clock) -> None:
    breaker.open()
    clock.now += 30.0
    start, states = Barrier(8), []

    def enter() -> None:
        start.wait(LIMIT_SECONDS)
        states.append(breaker.enter())

    threads = [Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    join(*threads)
    assert sorted(states) == ["half_open"] + ["open"] * 7


def test_pending_cancellations_keep_the_newest_hundred_thousand() -> None:
    pending = PendingCancellations()
    for i in range(100_010):
        pending.add([f"d-{i}"])
    pending.add(["d-50000"])  # known already
    assert len(pending) == 100_000
    ids = pending.take(answered=["d-100009", "unknown"])
    assert len(ids) == 99_999
    assert (ids[0], ids[-1]) == ("d-10", "d-100008")
    assert len(pending) == 0
    assert pending.take() == []
