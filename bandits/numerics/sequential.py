"""What policies share whose prepared state learns by itself."""

from typing import Protocol

from bandits.array_types import FloatArray, IntArray


class OnlineState(Protocol):
    """A prepared state that learns one observation at a time."""

    def learned(self, arms: IntArray, rewards: FloatArray) -> "OnlineState":
        """Learn one observation in each state: arms, rewards (*lead,). Use the result only."""
        ...


def advance_online(
    policy: object,  # noqa: ARG001 - a method of policies
    prepared: OnlineState,
    arms: IntArray,
    rewards: FloatArray,
    contexts: FloatArray,  # noqa: ARG001 - no arm here depends on the recipient
) -> OnlineState:
    """Learn one observation in each state: arms, rewards (*lead,)."""
    return prepared.learned(arms, rewards)
