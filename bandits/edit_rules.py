"""Edit rules: the changes of a running experiment that keep its log and statistics valid."""

import msgspec

from bandits.errors import Fault
from bandits.experiment import Experiment, Slot
from bandits.identifiers import pointer

_FREE = frozenset(
    {"name", "floor", "policy", "slots", "learn_every_seconds", "ends_at", "retention_days"}
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
}


def refused_changes(old: Experiment, new: Experiment) -> list[Fault]:
    """List the changes that a started experiment does not allow.

    Allowed are the name, the floor, how often to learn, when it ends, how long decisions are
    retained, the policy within its statistic family, a variant's payload, name and pausing, and
    variants added at the end of a slot.
    """
    faults = [
        Fault(pointer(name), f"{_FIXED}: {_WHY[name]}" if name in _WHY else _FIXED)
        for name in (f.name for f in msgspec.structs.fields(Experiment))
        if name not in _FREE and getattr(old, name) != getattr(new, name)
    ]
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
