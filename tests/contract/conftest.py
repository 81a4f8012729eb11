"""What contract tests of several files share."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Event
from typing import Any

import pytest

from tests.patience import LIMIT_SECONDS


@pytest.fixture
def held(store) -> Callable[[], AbstractContextManager[None]]:
    """A context in which no group is committed: what is asked meanwhile waits."""

    @contextmanager
    def hold() -> Iterator[None]:
        entered, released = Event(), Event()

        class HeldCall:
            """A call that is done once the context is left."""

            kind = "held"

            def run(self) -> None:
                entered.set()
                assert released.wait(LIMIT_SECONDS)

        with ThreadPoolExecutor(1) as leader:
            leading = leader.submit(store.log._groups.do, HeldCall())
            assert entered.wait(LIMIT_SECONDS)
            try:
                yield
            finally:
                released.set()
            leading.result(LIMIT_SECONDS)

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
                assert released.wait(LIMIT_SECONDS)
            return append(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(store.log, method, wait)
            try:
                yield entered
            finally:
                released.set()

    return pause
