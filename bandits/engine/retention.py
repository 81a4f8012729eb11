"""Letting old decisions go while what was learned from them stays."""

from collections.abc import Callable
from math import inf

from bandits.engine.inference_sums import EvidenceBuilder
from bandits.engine.statistic_sums import StatisticBuilder, load_retained
from bandits.statistics import dump
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
    """Remove decisions from before a time that nothing can change; return how many.

    Args:
        store: where they are.
        key: the experiment.
        before: at least the reward window ago.
        between: called between transactions, to let others write.
        most: about how many decisions are looked at in one transaction.
        enough: how many removed decisions are enough for now.
    """
    done = store.snapshots.remove(key, before=before, most=most, following=None, keep=_keep)
    removed = done.decisions
    while done.following is not None and removed < enough:
        between()
        done = store.snapshots.remove(
            key, before=before, most=most, following=done.following, keep=_keep
        )
        removed += done.decisions
    return removed


def _keep(removal: Removal) -> None:
    """Add what was learned from a portion to the base, as of the newest snapshot's time."""
    record, snapshot, learned = removal.record, removal.snapshot, removal.learned
    summing = StatisticBuilder(record.configuration, snapshot.at)
    grounding = EvidenceBuilder(record, removal.history)
    statistic, tally, grounds = load_retained(summing, removal.retained)
    statistic = statistic + summing.observed(learned)
    tally = tally + summing.sent(learned) + summing.complete(learned)
    grounds = grounds + grounding.sent(learned) + grounding.closed(learned)
    removal.save(
        RetainedSums(snapshot.version, snapshot.at, dump(statistic), tally.dump(), grounds.dump())
    )
