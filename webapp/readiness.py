"""Readiness: one look at the database for all who ask within a second."""

import time
from collections.abc import Callable
from threading import Lock

KEPT_SECONDS = 1.0


class Readiness:
    """Outcome of the last look at the database."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without one; an outcome is kept for a second by `clock`."""
        self._clock = clock
        self._looking = Lock()
        self._good_until = float("-inf")
        self._error: Exception | None = None

    def check(self, look: Callable[[], None]) -> None:
        """Look at the database, unless it was well within the last second.

        One caller looks at a time. Another is given the outcome before that, if there is one.

        Raises:
            Unavailable: the database does not answer.
        """
        if self._clock() < self._good_until:
            return
        if not self._looking.acquire(blocking=self._is_first()):
            if self._error is not None:
                raise self._error
            return
        try:
            look()
        except Exception as error:
            self._error = error
            raise
        else:
            self._error, self._good_until = None, self._clock() + KEPT_SECONDS
        finally:
            self._looking.release()

    def _is_first(self) -> bool:
        return self._error is None and self._good_until == float("-inf")
