"""Clients for senders: retries that cannot decide or count twice, and always an email.

::

    with Client("http://127.0.0.1:8000", token) as client:
        email = client.choose("spring", "u-1", fallback={"subject_line": "a"})
        if email.decision_id:
            client.reward(email.decision_id, "click", event_id="click-1")

    async with AsyncClient("http://127.0.0.1:8000", token) as client:
        email = await client.choose("spring", "u-1", fallback={"subject_line": "a"})

Every request carries ids made here before its first try, so a retry after a lost answer gets the
same decision, and an event counts once. Many at a time are `Request`s and `Reward`s, or dicts of
their fields.

::

    BanditsError
    ├── ApiError          the server refused: trying again would not help
    ├── InvalidInput      it cannot be sent: no JSON has such a value, or a batch is too large
    └── ConnectionFailed  no answer came in time, however often it was tried
"""

from bandits.client.async_client import AsyncClient
from bandits.client.batching import MAX_BATCH
from bandits.client.client import Client
from bandits.client.exchange import ApiError, ConnectionFailed
from bandits.client.sender import DeclaredExperiment
from bandits.errors import InvalidInput
from bandits.schemas import Decision, Request, Reward, RewardReceipt, Tracking

__all__ = [
    "MAX_BATCH",
    "ApiError",
    "AsyncClient",
    "Client",
    "ConnectionFailed",
    "Decision",
    "DeclaredExperiment",
    "InvalidInput",
    "Request",
    "Reward",
    "RewardReceipt",
    "Tracking",
]
