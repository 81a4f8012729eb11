"""What contract tests of several files share."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Event

import pytest


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
                assert released.wait(60)

        with ThreadPoolExecutor(1) as leader:
            leading = leader.submit(store.log._groups.do, HeldCall())
            assert entered.wait(60)
            try:
                yield
            finally:
                released.set()
            leading.result()

    return hold


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """A function that waits until something is so."""

    def wait(so: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not so():
            assert time.monotonic() < end
            time.sleep(0.001)

    return wait
