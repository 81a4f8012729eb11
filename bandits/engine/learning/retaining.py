"""Letting old decisions go while what was learned from them stays."""

from collections.abc import Callable
from math import inf

from bandits.engine.learning.grounding import Grounding
from bandits.engine.learning.summing import Summing, base_of
from bandits.folding import Removal
from bandits.records import Base
from bandits.statistics import dump
from bandits.store import Store

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
    done = store.remove(key, before=before, most=most, following=None, keep=_keep)
    removed = done.decisions
    while done.following is not None and removed < enough:
        between()
        done = store.remove(key, before=before, most=most, following=done.following, keep=_keep)
        removed += done.decisions
    return removed


def _keep(removal: Removal) -> None:
    """Add what was learned from a portion to the base, as of the newest snapshot's time."""
    record, snapshot, learned = removal.record, removal.snapshot, removal.learned
    summing = Summing(record.configuration, snapshot.at)
    grounding = Grounding(record, removal.past)
    statistic, tally, grounds = base_of(summing, removal.base)
    statistic = statistic + summing.observed(learned)
    tally = tally + summing.sent(learned) + summing.complete(learned)
    grounds = grounds + grounding.sent(learned) + grounding.closed(learned)
    removal.save(Base(snapshot.version, snapshot.at, dump(statistic), tally.dump(), grounds.dump()))
