"""What policies share whose prepared state learns by itself."""

from typing import Protocol

from bandits.arrays import FloatArray, IntArray


class Learning(Protocol):
    """A prepared state that learns one observation at a time."""

    def learned(self, arms: IntArray, rewards: FloatArray) -> "Learning":
        """Learn one observation in each state: arms, rewards (*lead,). Use the result only."""
        ...


def one_learned(
    policy: object,  # noqa: ARG001 - a method of policies
    prepared: Learning,
    arms: IntArray,
    rewards: FloatArray,
    contexts: FloatArray,  # noqa: ARG001 - no arm here depends on the recipient
) -> Learning:
    """Learn one observation in each state: arms, rewards (*lead,)."""
    return prepared.learned(arms, rewards)
