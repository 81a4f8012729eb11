"""What contract tests of several files share."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Event

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
