"""How much one fold takes: little enough that others write within seconds, and that it fits memory.

A fold derives again, for each decision that it sees for the first time, the probabilities that it
was drawn from. What that costs follows from what the experiment declares.
"""

from collections.abc import Sequence

from sqlalchemy import select

from bandits.store.records import ExperimentRecord
from storage.databases import Found, Transaction
from storage.schema import activations, batch_of, batches, cancellations, decisions

MOST_ROWS = 200_000  # that a fold sees, that it learns, and that it closes
MOST_CELLS = 1_000_000  # rows seen, by arms, by features, where each has probabilities of its own
MOST_ORIGINS = 100  # policies to prepare again, for what was chosen long before a fold sees it
MOST_BATCHES = 20_000

_made_in = batches.alias("made_in")


def seen_at_most(record: ExperimentRecord) -> int:
    """Return how many rows a fold sees for the first time, if they are of several batches."""
    if not record.configuration.experiment.make_policy().statistic.contextual:
        return MOST_ROWS  # probabilities are the same for everybody
    problem = record.configuration.problem
    return min(MOST_ROWS, max(1, MOST_CELLS // (problem.n_arms * problem.n_features)))


def affordable(transaction: Transaction, unseen: Sequence[Found]) -> Sequence[Found]:
    """Keep the first batches, at least one, whose rows rest on few enough policies.

    What is chosen rests on the newest ones, what is activated or cancelled on any.
    """
    rested: dict[int, set[tuple[int, bytes | None]]] = {}
    for kind, marks in (("activate", activations), ("cancel", cancellations)):
        numbers = [row.id for row in unseen if row.kind == kind]
        query = (
            select(marks.c.batch_id, _made_in.c.policy_version, decisions.c.restriction)
            .join(decisions, decisions.c.serial == marks.c.decision)
            .join(_made_in, _made_in.c.id == batch_of)
            .where(transaction.among(marks.c.batch_id, numbers))
            .distinct()
        )
        for number, version, restriction in transaction.execute(query) if numbers else ():
            rested.setdefault(number, set()).add((version, restriction))
    origins: set[tuple[int, bytes | None]] = set()
    for i, row in enumerate(unseen):
        origins |= rested.get(row.id, set())
        if i and len(origins) > MOST_ORIGINS:
            return unseen[:i]
    return unseen
