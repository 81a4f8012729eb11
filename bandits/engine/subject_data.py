"""What is stored of one subject: told to them, and erased."""

from functools import cache

from bandits.engine.analysis.receipts import event_of, moment
from bandits.engine.assignment import restriction_of
from bandits.engine.fold import take_in
from bandits.features import decode
from bandits.schemas import ErasureReceipt, SubjectDecision, SubjectDecisions
from bandits.store import Store
from bandits.store.values import StoredDecision


def read_subject(store: Store, subject_id: str, *, after: int, limit: int) -> SubjectDecisions:
    """Write down at most `limit` of a subject's decisions after a place, the oldest first."""
    configuration = cache(store.experiments.configuration)

    def told(stored: StoredDecision) -> SubjectDecision:
        then = configuration(stored.experiment, stored.configuration_version)
        return SubjectDecision(
            stored.id,
            stored.experiment,
            moment(stored.made_at),
            None if stored.started_at is None else moment(stored.started_at),
            None if stored.cancelled_at is None else moment(stored.cancelled_at),
            then.slots_of(stored.arm),
            stored.propensity,
            stored.holdout,
            stored.fallback,
            decode(then.experiment.context, stored.context),
            restriction_of(stored.eligible_set),
            [event_of(e) for e in store.log.events(stored.id)],
        )

    found = store.subjects.subject(subject_id, after=after, limit=limit)
    return SubjectDecisions([told(s) for s in found.decisions], found.next)


def erase_subject(store: Store, subject_id: str, *, now: float, by: str) -> ErasureReceipt:
    """Erase a subject from every experiment, and subtract them from what was learned.

    Each experiment is a transaction of its own; where this is interrupted, doing it again goes on
    with the others.
    """
    found = store.subjects.subject_decisions(subject_id)
    for key, ids in sorted(found.items()):
        with store.subjects.erase(key, ids, now=now, by=by) as folding:
            take_in(folding, now)
    return ErasureReceipt(sum(map(len, found.values())), sorted(found))
