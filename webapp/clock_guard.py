"""Whether the clock may be believed, where something is removed for good by it."""

import time
from collections.abc import Callable

from msgspec import Struct

from bandits.store import Store

FAR_SECONDS = 86_400.0  # further ahead than this is doubted: what retention counts in, a day
STEADY_SECONDS = 6 * 3600.0  # how long a doubted clock has to go on evenly; less than a day
# or a server that is started anew every night, and for which nobody sends, would never believe it


class _ClockDoubt(Struct, frozen=True):
    offset: float
    since: float
    newest: float | None


class ClockGuard:
    """What is believed of a clock: that it goes on evenly from the newest of what is recorded.

    One that jumped ahead while the server runs, or that is far ahead of all that was recorded when
    it starts, is doubted. So is a right one, where the machine slept or nobody sent for days: one
    that goes on evenly for `STEADY_SECONDS` is believed again, unless something is recorded
    meanwhile that is far behind it, by machines whose clocks are right.
    """

    def __init__(self, clock: Callable[[], float], newest: Callable[[], float | None]) -> None:
        """Believe nothing yet.

        Args:
            clock: gives seconds since 1970.
            newest: gives when the newest thing was recorded, None where there is none.
        """
        self._clock = clock
        self._newest = newest
        self._offset: float | None = None  # of the clock from one that nobody sets
        self._doubt: _ClockDoubt | None = None

    def ahead(self) -> float:
        """Return how many seconds the clock is further on than is believed; 0 if it is believed."""
        now, steady = self._clock(), time.monotonic()
        offset = now - steady
        if self._offset is None:
            newest = self._newest()
            self._offset = offset if newest is None else newest - steady
        ahead = offset - self._offset
        if ahead > FAR_SECONDS and not self._kept_on(now, steady):
            return ahead
        self._offset, self._doubt = offset, None
        return 0.0

    def _kept_on(self, now: float, steady: float) -> bool:
        """Tell whether a doubted clock has gone on evenly for long, and nothing contradicts it."""
        doubt, newest = self._doubt, self._newest()
        behind = newest is not None and now - newest > FAR_SECONDS
        if (
            doubt is None
            or abs(now - steady - doubt.offset) > FAR_SECONDS
            or (behind and newest != doubt.newest)
        ):
            self._doubt = _ClockDoubt(now - steady, steady, newest)
            return False
        return steady - doubt.since >= STEADY_SECONDS


def newest_recorded(store: Store) -> float | None:
    """Return when the newest decision was made, or an experiment begun or ended, by any clock."""
    times: list[float | None] = []
    for record in store.experiments.records():
        times += (record.created_at, record.started_at, record.stopped_at)
        times += (d.made_at for d in store.log.latest_decisions(record.key, limit=1))
    return max((t for t in times if t is not None), default=None)
