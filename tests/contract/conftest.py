"""What contract tests of several files share."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Event
from typing import Any

import pytest

from storage.log.group_commit import CallType


@pytest.fixture
def held(store) -> Callable[[], AbstractContextManager[None]]:
    """A context in which no group is committed: what is asked meanwhile waits."""

    @contextmanager
    def hold() -> Iterator[None]:
        entered, released = Event(), Event()

        def wait(_call: None) -> None:
            entered.set()
            assert released.wait(60)

        with ThreadPoolExecutor(1) as leader:
            leading = leader.submit(store.log._groups.do, CallType(wait, None), "held", None)
            assert entered.wait(60)
            try:
                yield
            finally:
                released.set()
            leading.result()

    return hold


@pytest.fixture
def paused(store, monkeypatch) -> Callable[[str], AbstractContextManager[Event]]:
    """A context in which the first call of a method of the log, when it has come, waits."""

    @contextmanager
    def pause(method: str) -> Iterator[Event]:
        entered, released = Event(), Event()
        append = getattr(store.log, method)

        def wait(*args: Any, **options: Any) -> Any:
            if not entered.is_set():
                entered.set()
                assert released.wait(60)
            return append(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(store.log, method, wait)
            try:
                yield entered
            finally:
                released.set()

    return pause


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """A function that waits until something is so."""

    def wait(so: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not so():
            assert time.monotonic() < end
            time.sleep(0.001)

    return wait
