"""Resummation: sums of inference made anew from the log, in portions, where stored ones lack some.

A newer version of this program may keep sums that an earlier one did not. They are made from the
log, a portion of start batches in a transaction, in the order of time; every fold takes into them
what it takes in of the decisions they have so far. So they may be interrupted at any place. Once no
batch is left, the next snapshot has them, with the sums of rows that retention had removed.
"""

from collections.abc import Callable

from msgspec import structs

from bandits.engine.fold import begin_resummation, seed_of
from bandits.engine.sums import SumsBuilder, load_inference_state
from bandits.inference.state import InferenceState
from bandits.store import Store
from bandits.store.fold import ResummationPortion
from bandits.store.values import ExperimentState

_AT_ONCE = 5_000  # decisions in a transaction, which holds writers up


def sum_anew(
    store: Store,
    key: str,
    *,
    between: Callable[[], object],
    most: int = _AT_ONCE,
    portions: float,
) -> bool:
    """Sum an experiment's log anew where its stored sums need it; return true where none is left.

    Args:
        store: holds them.
        key: the experiment.
        between: called between transactions, to let others write.
        most: about how many decisions are summed in one transaction.
        portions: how many transactions are enough for now.

    Raises:
        NotFound: there is no experiment of this key.
    """
    if not store.snapshots.resumming(key):
        return True
    done = 0
    while done < portions:
        with store.snapshots.resum(key, most=most) as portion:
            if portion is None or _add(portion):
                return True
        done += 1
        between()
    return False


def _add(portion: ResummationPortion) -> bool:
    """Add a portion to the sums so far; return true where it was the last, which is empty."""
    snapshot = portion.snapshot
    builder = SumsBuilder(portion.record, portion.history, snapshot.at, recording=True)
    resummation = portion.resummation or begin_resummation(builder, snapshot)
    configuration = portion.record.configuration
    so_far = InferenceState.load(resummation.inference_state).padded(configuration.compared)
    if portion.place is None:
        retained = load_inference_state(configuration, portion.retained)
        whole = so_far + retained
        version = snapshot.version + 1
        portion.finish(
            structs.replace(
                snapshot,
                version=version,
                seed=seed_of(portion.record.salt, version),
                inference_state=whole.dump(),
            )
        )
        return True
    so_far = builder.without_past_days(so_far) + builder.sum_inference(portion.decisions)
    portion.save(structs.replace(resummation, place=portion.place, inference_state=so_far.dump()))
    portion.save_allocations(builder.allocations.derived)
    return False


def resummed_part(state: ExperimentState, inference: InferenceState) -> float | None:
    """Return the part of sent decisions that are summed anew so far; None where none have to be.

    Args:
        state: the experiment.
        inference: the stored sums, read from `state`.
    """
    snapshot, resummation = state.snapshot, state.resummation
    if snapshot is None:
        return None
    if resummation is None:
        return 0.0 if InferenceState.is_older(snapshot.inference_state) else None
    if InferenceState.is_older(resummation.inference_state):
        return 0.0
    so_far = InferenceState.load(resummation.inference_state)
    return float(min(1.0, so_far.ratio.sent.sum() / max(1.0, inference.ratio.sent.sum())))
