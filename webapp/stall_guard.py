"""Stall guard: waits of requests for the database, within a limit that leaves threads to others.

Each request has a thread. While the database keeps all of them waiting, what comes is refused
rather than queued behind them, so that the server still tells that it is alive.
"""

from collections.abc import Iterable
from threading import Condition
from typing import TYPE_CHECKING

from bandits.client.tracking import CLICK_PATH, OPEN_PATH
from bandits.wait_limit import limit_waits
from storage.databases import DatabaseProgress

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

AT_ONCE = 64  # single choices wait for a commit that they share; waiting takes no core
WAIT_SECONDS = 8.0  # that a request waits for others, all of its waits together
STALLED_SECONDS = 0.25  # without an end of any work in the database
_WITHOUT_DATABASE = ("/healthz", CLICK_PATH, OPEN_PATH)


class StallGuard:
    """WSGI middleware that limits what requests wait for the database, and how many do."""

    def __init__(
        self, inner: "WSGIApplication", progress: DatabaseProgress, at_once: int = AT_ONCE
    ) -> None:
        """Wrap `inner`.

        Args:
            inner: the application.
            progress: of the work in the database.
            at_once: requests that `inner` gets at once, but for those that need no database.
        """
        self._inner = inner
        self._progress = progress
        self._at_once = at_once
        self._changed = Condition()
        self._count = 0

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request as `inner` does; it may not wait where the database is stalled."""
        if environ["PATH_INFO"].startswith(_WITHOUT_DATABASE):
            return self._inner(environ, start_response)
        with limit_waits(WAIT_SECONDS):
            if self._enter():
                try:
                    return self._inner(environ, start_response)
                finally:
                    with self._changed:
                        self._count -= 1
                        self._changed.notify()
        with limit_waits(0.0):  # whatever needs the database is refused in its own way
            return self._inner(environ, start_response)

    def _enter(self) -> bool:
        """Wait for a place; return False where the database keeps those who have one."""
        with self._changed:
            while self._count >= self._at_once:
                stalled = self._progress.stalled_seconds()
                if stalled >= STALLED_SECONDS:
                    return False
                self._changed.wait(STALLED_SECONDS - stalled)
            self._count += 1
        return True
