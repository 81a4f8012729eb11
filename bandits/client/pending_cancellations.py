"""Decisions that the server may have made, but did not answer in time, so that nobody heard."""

import time
from collections.abc import Sequence
from threading import Lock

from bandits.client.batching import MAX_BATCH, portions
from bandits.client.transport import ApiError, ConnectionFailed, Timeouts, Transport
from bandits.schemas import Request
from bandits.store.values import MarkResult

_MOST = 100_000


class PendingCancellations:
    """Whose fallback was sent: their decisions would count as emails without an answer."""

    def __init__(self, line: Transport, patience: Timeouts) -> None:
        """Cancel them over `line`; after one the server counts as down for the deadline."""
        self._line = line
        self._patience = patience
        self._lock = Lock()
        self._ids: dict[str, None] = {}  # an ordered set
        self._down_until = 0.0

    def __len__(self) -> int:
        """Count the decisions that are still to be cancelled."""
        return len(self._ids)

    @property
    def lately(self) -> bool:
        """Whether the server has not answered within the last deadline."""
        return time.monotonic() < self._down_until

    def add(self, requests: Sequence[Request]) -> None:
        """Remember whose fallback is sent although the server may have decided."""
        with self._lock:
            self._down_until = time.monotonic() + self._patience.deadline_seconds
            self._ids.update(dict.fromkeys(str(r.decision_id) for r in requests))
            for decision_id in list(self._ids)[:-_MOST]:
                del self._ids[decision_id]

    def cancel(self, answered: Sequence[Request] = ()) -> None:
        """Cancel all but those that were asked for again and `answered`, if the server answers."""
        with self._lock:
            for request in answered:
                self._ids.pop(str(request.decision_id), None)
            given_up, self._ids = self._ids, {}
        for portion in portions(given_up, MAX_BATCH):
            body = {"decision_ids": portion}
            try:
                self._line.call(
                    "/decisions/cancel", MarkResult, self._patience, body=body, once=True
                )
            except (ApiError, ConnectionFailed):
                with self._lock:
                    self._ids.update(dict.fromkeys(portion))
