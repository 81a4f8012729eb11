"""Retention: old decisions are removed, and their sums stay."""

from collections.abc import Callable
from math import inf

from bandits.engine.sums import SumsBuilder
from bandits.store import Store
from bandits.store.fold import Removal
from bandits.store.values import RetainedSums

_AT_ONCE = 5_000  # decisions in a transaction, which holds rewards up


def remove_old(  # noqa: PLR0913 - what to remove, and how gently
    store: Store,
    key: str,
    *,
    before: float,
    between: Callable[[], object],
    most: int = _AT_ONCE,
    enough: float = inf,
) -> int:
    """Remove old decisions that nothing can change; return how many.

    Args:
        store: holds them.
        key: the experiment.
        before: at least the reward window ago.
        between: called between transactions, to let others write.
        most: about how many decisions are looked at in one transaction.
        enough: how many removed decisions are enough for now.
    """
    result = store.snapshots.remove(key, before=before, most=most, following=None, keep=_keep)
    removed = result.decisions
    while result.following is not None and removed < enough:
        between()
        result = store.snapshots.remove(
            key, before=before, most=most, following=result.following, keep=_keep
        )
        removed += result.decisions
    return removed


def _keep(removal: Removal) -> None:
    """Add the sums of a portion to the retained ones, as of the newest snapshot's time."""
    snapshot = removal.snapshot
    builder = SumsBuilder(removal.record, removal.history, snapshot.at)
    sums = builder.load(removal.retained) + builder.sum_learned(removal.learned)
    removal.save(
        RetainedSums(
            snapshot.version,
            snapshot.at,
            *sums.dump(),
            senders=sums.senders.dump(),
            verdicts=sums.verdicts.dump(),
        )
    )
