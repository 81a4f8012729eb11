"""What a sender is told of decisions: new ones, and those that were made before."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from bandits.engine.active_policy import ActivePolicy
from bandits.schemas import Decision
from bandits.store import Store
from bandits.store.values import NewDecisions, StoredDecision


def new_decisions_response(
    live: ActivePolicy, chosen: NewDecisions, *, dry_run: bool
) -> list[Decision]:
    """Say what was chosen, row by row; what is only tried has no decision id."""
    slots, version = live.slots, chosen.policy_version
    columns = zip(
        [None] * len(chosen.ids) if dry_run else chosen.ids,
        chosen.arms.tolist(),
        chosen.propensities.tolist(),
        chosen.holdout.tolist(),
        chosen.fallback.tolist(),
        strict=True,
    )
    return [
        Decision(key, slots[arm], propensity, version, holdout, fallback, shipped=chosen.shipped)
        for key, arm, propensity, holdout, fallback in columns
    ]


def repeated_decisions_response(
    store: Store, before: Mapping[int, StoredDecision]
) -> Iterator[tuple[int, Decision]]:
    """Answer these rows as before, with the payloads of then."""
    configuration = cache(store.configuration)

    @cache
    def slots(experiment: str, version: int, arm: int) -> dict[str, dict[str, Any]]:
        return configuration(experiment, version).slots_of(arm)

    for row, stored in before.items():
        yield (
            row,
            Decision(
                stored.id,
                slots(stored.experiment, stored.configuration_version, stored.arm),
                stored.propensity,
                stored.policy_version,
                stored.holdout,
                stored.fallback,
                repeat=True,
                shipped=stored.shipped,
            ),
        )
