"""Finding the decisions that were made for recipients, many of them at once."""

from collections.abc import Sequence

from sqlalchemy import select

from bandits.store.records import ExperimentRecord
from storage.databases import Transaction
from storage.schema import batches, decisions, of_batch, subjects


def newest_decisions(
    transaction: Transaction, record: ExperimentRecord, hashes: Sequence[bytes]
) -> dict[bytes, str]:
    """Return, by the hash of a subject, the newest decision made for it in an experiment.

    Where each subject has one decision, that is looked up; else the experiment's log is gone
    through, once for all of them: at most 10,000, as a statement takes.
    """
    if record.configuration.experiment.assignment == "per_subject":
        query = select(subjects.c.subject, subjects.c.decision_id).where(
            subjects.c.experiment_id == record.id, subjects.c.subject.in_(hashes)
        )
    else:
        mine = select(decisions.c.subject, decisions.c.id, decisions.c.serial).where(
            of_batch(batches.c.id), decisions.c.subject.in_(hashes)
        )
        found = transaction.for_each(batches, [], mine)
        query = found.where(batches.c.experiment_id == record.id).order_by("serial")
    return {row.subject: row[1] for row in transaction.execute(query)}
