"""Data of one subject, to be read and erased."""

from functools import cache
from itertools import chain

from bandits.engine.analysis.receipts import event_of, moment
from bandits.engine.fold import take_in
from bandits.features import decode
from bandits.schemas import ErasureReceipt, SubjectDecision, SubjectDecisions, SubjectSignal
from bandits.store import Store
from bandits.store.values import StoredDecision, SubjectPage
from bandits.versions import decode_restriction


def read_subject(
    store: Store, subject_id: str, *, after: int, limit: int, any_spelling: bool = False
) -> SubjectDecisions:
    """Read at most `limit` of a subject's decisions after a place, the oldest first.

    The first page has the events of connections too that no decision has.
    """
    configuration = cache(store.experiments.configuration)

    def describe(stored: StoredDecision) -> SubjectDecision:
        declared = configuration(stored.experiment, stored.configuration_version)
        return SubjectDecision(
            stored.id,
            stored.experiment,
            moment(stored.made_at),
            None if stored.started_at is None else moment(stored.started_at),
            None if stored.cancelled_at is None else moment(stored.cancelled_at),
            declared.slots_of(stored.arm),
            stored.propensity,
            stored.holdout,
            stored.fallback,
            decode(declared.experiment.context, stored.context),
            decode_restriction(stored.eligible_set),
            [event_of(e) for e in store.log.events(stored.id)],
            stored.void,
            stored.former_id,
            message_ids.get(stored.id, []),
        )

    page = store.subjects.subject(subject_id, after=after, limit=limit, any_spelling=any_spelling)
    message_ids = store.log.message_ids([stored.id for stored in page.decisions])
    signals = [] if after else _read_signals(store, subject_id, page, any_spelling=any_spelling)
    others = 0 if any_spelling else store.subjects.other_spellings(subject_id)
    opted_out_at = store.subjects.opted_out_at(subject_id)
    return SubjectDecisions(
        [describe(s) for s in page.decisions],
        page.next,
        signals,
        others,
        None if opted_out_at is None else moment(opted_out_at),
    )


def _read_signals(
    store: Store, subject_id: str, first: SubjectPage, *, any_spelling: bool
) -> list[SubjectSignal]:
    """Read a subject's signals, by the ids of its decisions: the first page may have them all."""
    ids = [stored.id for stored in first.decisions]
    if first.next is not None:
        by_key = store.subjects.subject_decisions(subject_id, any_spelling=any_spelling)
        ids = list(chain.from_iterable(by_key.values()))
    return [
        SubjectSignal(s.connection, moment(s.received_at), s.reason or None, s.content)
        for s in store.subjects.signals(subject_id, ids)
    ]


def erase_subject(
    store: Store, subject_id: str, *, now: float, by: str, any_spelling: bool = False
) -> ErasureReceipt:
    """Erase a subject from every experiment, and subtract its decisions from every sum.

    Each experiment is a transaction of its own; where this is interrupted, doing it again goes on
    with the others.
    """
    ids_by_experiment = store.subjects.subject_decisions(subject_id, any_spelling=any_spelling)
    every_id = list(chain.from_iterable(ids_by_experiment.values()))
    # First, while the log still tells the ids; and again for those that came in between.
    signals = store.subjects.erase_signals(subject_id, every_id)
    for key, ids in sorted(ids_by_experiment.items()):
        with store.subjects.erase(key, ids, now=now, by=by) as folding:
            take_in(folding, now)
    signals += store.subjects.erase_signals(subject_id, every_id)
    store.subjects.erase_opt_out(subject_id, at=now)
    store.subjects.purge()
    others = store.subjects.other_spellings(subject_id)
    return ErasureReceipt(len(every_id), sorted(ids_by_experiment), signals, others)
