"""Calls that wait for each other are done together, and nobody fails for a neighbour."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from bandits import waits
from bandits.errors import Unavailable
from bandits.waits import BatchingQueue, NotCombinable, limit_waits
from tests.patience import LIMIT_SECONDS, wait_until


class Doubling:
    """Doubles numbers; notes which were done alone, and which together."""

    def __init__(self):
        self.entered, self.released = Event(), Event()
        self.alone, self.groups = [], []
        self.queue = BatchingQueue(self.one, self.several)

    def one(self, n):
        if n == 0:  # the first to come holds up the others
            self.entered.set()
            assert self.released.wait(LIMIT_SECONDS)
        self.alone.append(n)
        if n < 0:
            raise ValueError(n)
        return 2 * n

    def several(self, numbers):
        if any(n < 0 for n in numbers):
            raise NotCombinable
        if 13 in numbers:
            raise Unavailable("unlucky", 7)
        self.groups.append(list(numbers))
        return [2 * n for n in numbers]

    def ask(self, *numbers):
        """Have these asked for while zero is being done; return answers and errors."""
        with ThreadPoolExecutor(len(numbers) + 1) as pool:
            first = pool.submit(self.queue.do, 0)
            assert self.entered.wait(LIMIT_SECONDS)
            asked = []
            try:
                for n in numbers:
                    asked.append(pool.submit(self.queue.do, n))
                    wait_until(
                        lambda: len(self.queue) == len(asked) or asked[-1].done(),
                        "call in the queue",
                    )
            finally:
                self.released.set()
            assert first.result() == 0
            return [f.exception() or f.result() for f in asked]


def test_group_commit_does_waiting_calls_together_in_their_order():
    doubling = Doubling()
    assert doubling.ask(5, 6, 7, 8) == [10, 12, 14, 16]
    assert (doubling.alone, doubling.groups) == ([0], [[5, 6, 7, 8]])
    assert doubling.queue.do(9) == 18  # without company
    assert doubling.alone == [0, 9]


def test_call_that_cannot_be_grouped_fails_alone():
    doubling = Doubling()
    answers = doubling.ask(5, -6, 7)
    assert isinstance(answers.pop(1), ValueError)
    assert answers == [10, 14]
    assert (sorted(doubling.alone), doubling.groups) == ([-6, 0, 5, 7], [])


def test_unavailable_reaches_every_caller_of_a_group():
    doubling = Doubling()
    errors = doubling.ask(12, 13, 14)
    assert [(type(e), str(e), e.retry_after_seconds) for e in errors] == [
        (Unavailable, "unlucky", 7)
    ] * 3
    assert len({id(e) for e in errors}) == 3  # each its own, with its own traceback
    assert doubling.alone == [0]
    assert doubling.queue.do(1) == 2  # the queue goes on


def test_long_queue_is_done_in_several_groups_and_a_longer_one_refuses(monkeypatch):
    monkeypatch.setattr(waits, "MOST_CALLS", 3)
    monkeypatch.setattr(waits, "MOST_WAITING", 7)
    doubling = Doubling()
    *answers, refused = doubling.ask(1, 2, 3, 4, 5, 6, 7, 8)
    assert answers == [2, 4, 6, 8, 10, 12, 14]
    assert doubling.groups == [[1, 2, 3], [4, 5, 6]]
    assert doubling.alone == [0, 7]
    assert isinstance(refused, Unavailable)


def test_leader_that_fails_does_not_hold_up_the_others():
    doubling = Doubling()
    with pytest.raises(ValueError, match="-1"):
        doubling.queue.do(-1)
    assert doubling.queue.do(1) == 2


def test_call_whose_limit_ends_in_the_queue_is_taken_out_and_never_done():
    doubling = Doubling()

    def ask_with_limit(n):
        with limit_waits(0.0):
            return doubling.queue.do(n)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(doubling.queue.do, 0)
        assert doubling.entered.wait(LIMIT_SECONDS)
        try:
            with pytest.raises(Unavailable, match="not recorded yet"):
                ask_with_limit(5)
            assert len(doubling.queue) == 0
        finally:
            doubling.released.set()
        assert first.result() == 0
    assert (doubling.alone, doubling.groups) == ([0], [])
    assert doubling.queue.do(6) == 12
