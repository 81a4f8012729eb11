"""Rescoring: opens and clicks judged anew, in portions, where the rules against machines changed.

A portion of start batches is taken out as it was judged and put in as the new rules judge it, in
one transaction, in the order of time. Up to the place that was reached the new rules hold, behind
it the earlier ones, for folds, audits and retention alike: so it may be interrupted at any place.
"""

from collections.abc import Callable

from bandits.engine.fold import take_in
from bandits.store import Store

_AT_ONCE = 10_000  # decisions looked at in a transaction, which holds writers up


def rescore(  # noqa: PLR0913 - what is judged anew, and how gently
    store: Store,
    key: str,
    *,
    now: float,
    between: Callable[[], object],
    most: int = _AT_ONCE,
    portions: float,
) -> bool:
    """Judge anew what needs it; return true where nothing is left, or can be done for now.

    Args:
        store: holds it.
        key: the experiment.
        now: seconds since 1970.
        between: called between transactions, to let others write.
        most: about how many decisions are looked at in one transaction.
        portions: how many transactions are enough for now.

    Raises:
        NotFound: there is no experiment of this key.
    """
    if not store.snapshots.needs_rescoring(key, now=now):
        return True
    done = 0
    while done < portions:
        with store.snapshots.rescore(key, now=now, most=most) as portion:
            if portion is None:
                return True
            take_in(portion, now)
        done += 1
        between()
    return False
