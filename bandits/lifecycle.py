"""Lifecycle of an experiment, from draft to archive: states, changes and dates."""

from collections.abc import Mapping

import msgspec

from bandits.errors import Fault, FixedOnceStarted, InvalidInput, StaleEdit, WrongState
from bandits.experiment import Combination, Experiment, Slot
from bandits.identifiers import pointer
from bandits.store import Store
from bandits.store.values import ExperimentRecord, State

_FREE = frozenset(
    {
        *("name", "floor", "policy", "slots", "learn_every_seconds", "send_within_seconds"),
        *("ends_at", "retention_days", "machine_rules", "guardrails", "paused"),
    }
)
_FIXED = "may not change once the experiment has started"
_WHY = {
    "exclude": "versions that were sent have results",
    "control": "everything is compared with it, and the control group got it",
    "holdout": "recipients would move in or out of the control group",
    "forgetting": "what is learned has faded at the old pace",
    "context": "what is learned is learned by these features",
    "assignment": "recipients have been decided for by the old rule",
    "await_activation": "the clocks of emails already chosen run by the old rule",
    "strict": "values so far were mended, or refused, by the old rule",
    "reward": "results so far were counted by the old rule",
    "starts_at": "it has started",
    "attribution": "emails so far were indexed by subject, or not",
}


def refused_changes(old: Experiment, new: Experiment) -> list[Fault]:
    """List the changes that a started experiment does not allow.

    Allowed are the name, the floor, how often to learn, until when emails may be cancelled, when it
    ends, how long decisions are retained, the rules against machines, the guardrails, the policy
    within its statistic family, a variant's payload, name and pausing, pausing of arms, variants
    added at the end of a slot with the weights of metrics there, and the rule of attribution where
    there is one.
    """
    faults = [
        Fault(pointer(name), f"{_FIXED}: {_WHY[name]}" if name in _WHY else _FIXED)
        for name in (f.name for f in msgspec.structs.fields(Experiment))
        if name not in _FREE | {"reward"} and getattr(old, name) != getattr(new, name)
    ]
    faults += _reward_faults(old, new)
    if old.control_variants() == new.control_variants():  # the first variants, said or unsaid
        faults = [fault for fault in faults if fault.pointer != "/control"]
    if None not in (old.attribution, new.attribution):
        faults = [fault for fault in faults if fault.pointer != "/attribution"]
    if old.policy != new.policy:
        before, after = old.make_policy().statistic, new.make_policy().statistic
        if before.family != after.family:
            detail = f"learns from {after.family}, this experiment has learned {before.family}"
            faults.append(Fault("/policy/name", detail))
    if [(s.key, s.kind) for s in old.slots] != [(s.key, s.kind) for s in new.slots]:
        return [*faults, Fault("/slots", "slots may not be added, removed or moved once started")]
    pairs = zip(old.slots, new.slots, strict=True)
    return faults + [
        fault for i, (was, now) in enumerate(pairs) for fault in _variants(i, was, now)
    ]


def _reward_faults(old: Experiment, new: Experiment) -> list[Fault]:
    """List the changes of the reward rule but weights of variants that the old one has not."""
    earlier = {slot.key: {variant.key for variant in slot.variants} for slot in old.slots}
    metrics = {
        name: msgspec.structs.replace(metric, by=_weights_among(metric.by, earlier))
        for name, metric in new.reward.metrics.items()
    }
    if old.reward != msgspec.structs.replace(new.reward, metrics=metrics):
        return [Fault("/reward", f"{_FIXED}: {_WHY['reward']}")]
    if new.reward.goal == "minimise" and new.reward.bounds != old.reward.bounds:
        low, high = old.reward.bounds
        detail = (
            f"a new variant's weight may not move the bounds of rewards, [{low:g}, {high:g}],"
            " where less is better: results so far were mirrored within them"
        )
        return [Fault("/reward/metrics", detail)]
    return []


def _weights_among(
    by: Mapping[str, Mapping[str, float]], variants: Mapping[str, set[str]]
) -> dict[str, dict[str, float]]:
    """Return weights by slot and variant without those of other variants."""
    kept = {
        slot: {v: weight for v, weight in by_variant.items() if v in variants.get(slot, ())}
        for slot, by_variant in by.items()
    }
    return {slot: by_variant for slot, by_variant in kept.items() if by_variant}


def _variants(index: int, was: Slot, now: Slot) -> list[Fault]:
    keys = [v.key for v in now.variants]
    faults = []
    for i, variant in enumerate(was.variants):
        if variant.key not in keys:
            detail = f"variant {variant.key!r} may not be removed once started; pause it instead"
            faults.append(Fault(pointer("slots", index, "variants"), detail))
        elif keys[i : i + 1] != [variant.key]:
            place = pointer("slots", index, "variants", keys.index(variant.key))
            faults.append(Fault(place, "variants keep their order; add new ones at the end"))
    return faults


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


def stop_experiment(  # noqa: PLR0913 - a change, and who makes it when
    store: Store,
    key: str,
    ship: Combination | None,
    *,
    keep_control_group: bool,
    at: float,
    by: str,
) -> ExperimentRecord:
    """Stop choosing for good, or send one combination from now on, as `Engine.stop` declares."""
    if ship is None:
        if keep_control_group:
            raise InvalidInput.at("/keep_control_group", "needs ship: without it nothing is sent")
        return store.experiments.move(key, "stopped", allowed=_STOPPABLE, at=at, by=by)
    record = store.experiments.record(key)
    if record.state not in _STOPPABLE:
        raise WrongState(key, record.state, "only a running or paused one can be stopped")
    try:
        arm = record.configuration.arm(ship)
    except InvalidInput as error:
        raise error.under("/ship") from None
    if keep_control_group and record.configuration.experiment.holdout == 0:
        raise InvalidInput.at("/keep_control_group", "there is no control group: holdout is 0")
    return store.experiments.move(
        key,
        "stopped",
        allowed=_STOPPABLE,
        at=at,
        by=by,
        shipped=arm,
        keeps_control=keep_control_group,
    )


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
