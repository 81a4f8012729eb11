"""Stall guard: a database that keeps every request waiting is not waited for by more of them."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from bandits.errors import Unavailable
from bandits.waits import seconds_left
from storage.databases import DatabaseProgress
from tests.patience import LIMIT_SECONDS, wait_until
from webapp import middleware
from webapp.middleware import StallGuard


class Application:
    """Answers with the seconds that it may wait; work in the database takes until `released`."""

    def __init__(self, progress: DatabaseProgress) -> None:
        self.progress = progress
        self.entered = 0
        self.released = Event()

    def __call__(self, environ, _start_response):
        if environ["PATH_INFO"] == "/work":
            with self.progress.noted():
                self.entered += 1
                assert self.released.wait(LIMIT_SECONDS)
        try:
            return [seconds_left(1000.0)]
        except Unavailable:
            return [0.0]


@pytest.fixture
def progress() -> DatabaseProgress:
    return DatabaseProgress()


WAIT_SECONDS = 8.0


@pytest.fixture
def application(progress) -> Application:
    return Application(progress)


@pytest.fixture
def guard(application, progress) -> StallGuard:
    return StallGuard(application, progress, WAIT_SECONDS, at_once=2)


def ask(guard: StallGuard, path: str) -> float:
    (seconds,) = guard({"PATH_INFO": path}, lambda *_: None)
    return seconds


def test_request_may_wait_for_so_long(guard) -> None:
    assert WAIT_SECONDS - 1 < ask(guard, "/") <= WAIT_SECONDS


def test_request_behind_a_stalled_database_may_not_wait_and_health_is_answered(
    guard, application, progress
) -> None:
    with ThreadPoolExecutor(2) as pool:
        working = [pool.submit(ask, guard, "/work") for _ in range(2)]
        try:
            wait_until(lambda: application.entered, "requests at work", lambda n: n == 2)
            assert ask(guard, "/") == 0.0
            assert progress.stalled_seconds() >= middleware.STALLED_SECONDS
            assert ask(guard, "/healthz") == 1000.0, "no limit, and no place"
            assert ask(guard, "/t/token") == 1000.0
        finally:
            application.released.set()
        assert all(w.result() > 0 for w in working)
    assert ask(guard, "/") > 0
    assert progress.stalled_seconds() == 0.0


def test_request_behind_a_database_that_goes_on_waits_for_its_place(
    guard, application, progress, monkeypatch
) -> None:
    monkeypatch.setattr(middleware, "STALLED_SECONDS", LIMIT_SECONDS)  # also on a busy machine
    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(ask, guard, "/work") for _ in range(2)]
        try:
            wait_until(lambda: application.entered, "requests at work", lambda n: n == 2)
            behind = pool.submit(ask, guard, "/")
            for _ in range(100):
                with progress.noted():  # somebody else's work ends
                    assert not behind.done()
        finally:
            application.released.set()
        assert all(w.result() > 0 for w in (*working, behind))
