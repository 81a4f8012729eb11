"""Circuit breaker: while a server does not answer, nobody waits for it."""

from collections.abc import Callable
from threading import Lock
from typing import Literal

# Calls go to the server; none does; one does, to see whether it answers again.
CircuitState = Literal["closed", "open", "half_open"]


class CircuitBreaker:
    """State of the way to a server: open from a call without an answer until a call with one.

    Each `recovery_seconds` one call goes through nevertheless, and the others do not wait for it.
    """

    def __init__(self, recovery_seconds: float, clock: Callable[[], float]) -> None:
        """Start closed; `clock` counts seconds that only grow."""
        self._recovery_seconds = recovery_seconds
        self._clock = clock
        self._lock = Lock()
        self._open_until: float | None = None

    def enter(self) -> CircuitState:
        """Return the state that a call finds; half open for one call, and then open for others."""
        with self._lock:
            if self._open_until is None:
                return "closed"
            now = self._clock()
            if now < self._open_until:
                return "open"
            self._open_until = now + self._recovery_seconds
            return "half_open"

    def open(self) -> None:
        """Open: a call had no answer."""
        with self._lock:
            self._open_until = self._clock() + self._recovery_seconds

    def close(self) -> None:
        """Close: a call was answered."""
        with self._lock:
            self._open_until = None
