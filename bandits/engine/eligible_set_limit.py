"""How many sets of variants an experiment may be asked for.

Results are summed apart for each set that requests were restricted to, and every fold reads and
writes these sums. A sender that made a set of its own for everybody would let them grow for ever.
"""

from collections.abc import Sequence
from threading import Lock

from bandits.engine.assignment import AssignmentBatch
from bandits.errors import Fault, InvalidInput
from bandits.identifiers import pointer
from bandits.segments import Segmentation
from bandits.store import Store
from bandits.store.records import ExperimentRecord
from bandits.versions import Configuration

MOST_SETS = 256  # or fewer,
_LEAST_SETS = 16
_MOST_NUMBERS = 2_000_000  # where there are many arms and segments: 10 for each arm, in each
_MOST_FAULTS = 100


def eligible_set_limit(configuration: Configuration) -> int:
    """Return how many different restrictions an experiment takes."""
    segments = 1 + Segmentation(configuration.experiment.context).size
    affordable = _MOST_NUMBERS // (10 * len(configuration.arms) * segments)
    return max(_LEAST_SETS, min(MOST_SETS, affordable))


class EligibleSetRegistry:
    """The restrictions that experiments are known to have been asked for."""

    def __init__(self, store: Store) -> None:
        """Know none yet; `store` knows what other processes let in."""
        self._store = store
        self._known: dict[int, set[bytes]] = {}
        self._changing = Lock()

    def admit(
        self, record: ExperimentRecord, batch: AssignmentBatch, restrictions: Sequence[bytes]
    ) -> None:
        """Let in the restrictions of a batch, or none of them.

        Raises:
            InvalidInput: at ``/requests/{row}/eligible``: they would be too many.
        """
        known = self._known.get(record.id, set())
        new = [r for r in dict.fromkeys(restrictions) if r and r not in known]
        if not new:
            return
        most = eligible_set_limit(record.configuration)
        refused = set(self._store.admit(record, new, most=most))
        if refused:
            detail = (
                f"is one more set of variants than the {most} that this experiment keeps results"
                " for; ask for one that came before, or leave it out"
            )
            rows = [i for i, row in enumerate(batch.rows) if restrictions[row] in refused]
            raise InvalidInput(
                Fault(pointer("requests", i, "eligible"), detail) for i in rows[:_MOST_FAULTS]
            )
        with self._changing:
            self._known[record.id] = self._known.get(record.id, set()) | set(new)
