"""Pending cancellations: decisions that the server may have made without answering in time."""

import time
from collections.abc import Sequence
from threading import Lock

from bandits.client.batching import MAX_BATCH, portions
from bandits.client.transport import ApiError, ConnectionFailed, Timeouts, Transport
from bandits.schemas import Request
from bandits.store.values import MarkResult

_MOST = 100_000


class PendingCancellations:
    """Decisions whose fallback was sent: each would count as an email without a reward."""

    def __init__(self, transport: Transport, timeouts: Timeouts) -> None:
        """Cancel over `transport`; once one is added, the server is down for the deadline."""
        self._transport = transport
        self._timeouts = timeouts
        self._lock = Lock()
        self._ids: dict[str, None] = {}  # an ordered set
        self._down_until = 0.0

    def __len__(self) -> int:
        """Count the decisions that are still to be cancelled."""
        return len(self._ids)

    @property
    def server_is_down(self) -> bool:
        """True where the server failed to answer within the last deadline."""
        return time.monotonic() < self._down_until

    def add(self, requests: Sequence[Request]) -> None:
        """Add requests whose fallback is sent although the server may have decided."""
        with self._lock:
            self._down_until = time.monotonic() + self._timeouts.deadline_seconds
            self._ids.update(dict.fromkeys(str(r.decision_id) for r in requests))
            for decision_id in list(self._ids)[:-_MOST]:
                del self._ids[decision_id]

    def cancel(self, answered: Sequence[Request] = ()) -> None:
        """Cancel all but the requests that were `answered` since, if the server answers."""
        with self._lock:
            for request in answered:
                self._ids.pop(str(request.decision_id), None)
            pending, self._ids = self._ids, {}
        for portion in portions(pending, MAX_BATCH):
            body = {"decision_ids": portion}
            try:
                self._transport.call(
                    "/decisions/cancel", MarkResult, self._timeouts, body=body, once=True
                )
            except (ApiError, ConnectionFailed):
                with self._lock:
                    self._ids.update(dict.fromkeys(portion))
