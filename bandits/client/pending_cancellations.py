"""Pending cancellations: decisions that the server may have made without answering in time."""

from collections.abc import Iterable
from threading import Lock

_MOST = 100_000


class PendingCancellations:
    """Decisions whose fallback was sent: each would count as an email without a reward.

    It holds the newest 100,000.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._lock = Lock()
        self._ids: dict[str, None] = {}  # an ordered set

    def __len__(self) -> int:
        """Count the decisions that are still to be cancelled."""
        return len(self._ids)

    def add(self, decision_ids: Iterable[str]) -> None:
        """Add decisions that the server may have made."""
        with self._lock:
            self._ids.update(dict.fromkeys(decision_ids))
            while len(self._ids) > _MOST:
                del self._ids[next(iter(self._ids))]

    def take(self, *, answered: Iterable[str] = ()) -> list[str]:
        """Remove all, and return them but for those that were `answered` since."""
        with self._lock:
            for decision_id in answered:
                self._ids.pop(decision_id, None)
            pending, self._ids = list(self._ids), {}
        return pending
