"""Lifecycle of an experiment, from draft to archive: states, changes and dates."""

from bandits.edit_rules import refused_changes
from bandits.errors import FixedOnceStarted, InvalidInput, StaleEdit, WrongState
from bandits.experiment import Combination, Experiment
from bandits.store import Store
from bandits.store.values import ExperimentRecord, State

SCHEDULE = "schedule"  # the user in the audit log


def scheduled_state(record: ExperimentRecord, now: float) -> State | None:
    """Return the state that `record` should move to by its dates, None where it stays."""
    if is_over(record, now):
        return "stopped" if record.state in {"running", "paused"} else None
    starts_at = record.configuration.experiment.starts_at
    due = starts_at is not None and starts_at.timestamp() <= now
    return "running" if due and record.state == "draft" else None


def is_over(record: ExperimentRecord, now: float) -> bool:
    """Return true where the end of an experiment has passed."""
    ends_at = record.configuration.experiment.ends_at
    return ends_at is not None and ends_at.timestamp() <= now


_STOPPABLE: tuple[State, ...] = ("running", "paused")


def edit_experiment(  # noqa: PLR0913 - a change, and who makes it when
    store: Store, key: str, experiment: Experiment, *, version: int, at: float, by: str
) -> ExperimentRecord:
    """Replace a declaration, as `Engine.edit` declares."""
    record = store.experiments.record(key)
    old = record.configuration
    if old.version != version:
        raise StaleEdit(key, version, old.version)
    if record.state in ("stopped", "archived"):
        raise WrongState(key, record.state, "only a draft, running or paused one can change")
    if experiment.key != key:
        raise InvalidInput.at("/key", f"may not change; it is {key!r}")
    new = old.next_version(experiment, started=record.started)
    if record.started and (faults := refused_changes(old.experiment, experiment)):
        raise FixedOnceStarted(faults)
    # A draft that is started meanwhile does not allow what a draft does.
    allowed: tuple[State, ...] = ("running", "paused") if record.started else ("draft",)
    return store.experiments.configure(key, new, allowed=allowed, at=at, by=by)


def start_experiment(store: Store, key: str, *, at: float, by: str) -> ExperimentRecord:
    """Start a draft, or resume a paused experiment, as `Engine.start` declares."""
    record = store.experiments.record(key)
    if record.state in {"draft", "paused"} and is_over(record, at):
        raise WrongState(key, record.state, "its ends_at has passed; move that first")
    return store.experiments.move(key, "running", allowed=("draft", "paused"), at=at, by=by)


def pause_experiment(store: Store, key: str, *, at: float, by: str) -> ExperimentRecord:
    """Stop choosing for a while."""
    return store.experiments.move(key, "paused", allowed=("running",), at=at, by=by)


def stop_experiment(
    store: Store, key: str, ship: Combination | None, *, at: float, by: str
) -> ExperimentRecord:
    """Stop choosing for good, or send one combination from now on, as `Engine.stop` declares."""
    if ship is None:
        return store.experiments.move(key, "stopped", allowed=_STOPPABLE, at=at, by=by)
    record = store.experiments.record(key)
    if record.state not in _STOPPABLE:
        raise WrongState(key, record.state, "only a running or paused one can be stopped")
    try:
        arm = record.configuration.arm(ship)
    except InvalidInput as error:
        raise error.under("/ship") from None
    return store.experiments.move(key, "stopped", allowed=_STOPPABLE, at=at, by=by, shipped=arm)


def archive_experiment(store: Store, key: str, *, at: float, by: str) -> ExperimentRecord:
    """Put a draft or a stopped experiment out of sight."""
    return store.experiments.move(key, "archived", allowed=("draft", "stopped"), at=at, by=by)


def keep_to_schedule(store: Store, record: ExperimentRecord, *, at: float) -> ExperimentRecord:
    """Start or stop an experiment whose time has come, once however many threads try."""
    to = scheduled_state(record, at)
    if to is None:
        return record
    try:
        return store.experiments.move(record.key, to, allowed=(record.state,), at=at, by=SCHEDULE)
    except WrongState:  # another thread was faster
        return store.experiments.record(record.key)
