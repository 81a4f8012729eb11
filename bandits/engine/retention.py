"""Retention: snapshots grow fewer with age; old decisions are removed, and their sums stay."""

from collections.abc import Callable, Sequence
from math import inf

from msgspec import Struct

from bandits.engine.sums import SumsBuilder
from bandits.store import Store
from bandits.store.fold import Removal
from bandits.store.values import KeptSnapshot, RetainedSums

_AT_ONCE = 5_000  # decisions in a transaction, which holds rewards up
_HOUR, _DAY = 3600.0, 86_400.0
EVERY_SECONDS = _DAY  # how long every snapshot is kept,
HOURLY_SECONDS = 7 * _DAY  # and how long one of each hour; after that one of each day
WAITING_SECONDS = 30 * _DAY  # how long a snapshot is kept for decisions that wait to be sent
DEFAULT_SNAPSHOT_BYTES = 500_000_000


class ThinningPlan(Struct, frozen=True):
    """Snapshots whose arrays are to go.

    Attributes:
        by_age: versions, the oldest first.
        by_size: versions that would stay for their age, but are beyond the limit of bytes.
        left: bytes of those that stay.
    """

    by_age: list[int]
    by_size: list[int]
    left: int


def plan_thinning(kept: Sequence[KeptSnapshot], *, now: float, most_bytes: int) -> ThinningPlan:
    """Decide which snapshots go: those that are old, and the oldest of those that are too many.

    Of a whole hour or day the last one stays, so what stays of a day was the last of its hour. One
    that is needed always stays.

    Args:
        kept: those that have their arrays, the oldest first.
        now: seconds since 1970.
        most_bytes: that all of them may have.
    """
    last: dict[tuple[float, float], int] = {}
    for snapshot in kept:
        last[_period_of(snapshot, now)] = snapshot.version
    by_age: list[int] = []
    staying: list[KeptSnapshot] = []
    for snapshot in kept:
        if snapshot.needed or last[_period_of(snapshot, now)] == snapshot.version:
            staying.append(snapshot)
        else:
            by_age.append(snapshot.version)
    left = sum(snapshot.size for snapshot in staying)
    by_size: list[int] = []
    for snapshot in staying:
        if left <= most_bytes:
            break
        if not snapshot.needed:
            by_size.append(snapshot.version)
            left -= snapshot.size
    return ThinningPlan(by_age, by_size, left)


def _period_of(snapshot: KeptSnapshot, now: float) -> tuple[float, float]:
    """Return the period that a snapshot stands for: its length and number; its own if it is new."""
    for length, age in ((_DAY, HOURLY_SECONDS), (_HOUR, EVERY_SECONDS)):
        number = snapshot.at // length
        if (number + 1) * length <= now - age:
            return length, number
    return 0.0, float(snapshot.version)


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
            guardrails=sums.guardrails.dump(),
        )
    )
