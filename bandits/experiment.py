"""Experiment: slots, variants, arms, and all that is declared about them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isqrt, prod
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct, field

from bandits.allocation import default_floor
from bandits.errors import Fault, InvalidInput
from bandits.features import Encoder, Feature
from bandits.guardrails import MAX_GUARDRAILS, Guardrail, guardrail_faults
from bandits.identifiers import Key, pointer
from bandits.policy import AnyPolicy
from bandits.registry import make, policies
from bandits.rewards import RewardRule

MAX_ARMS = 500
MAX_FEATURES = 500
MAX_CELLS = 2_000_000  # K d², so that a snapshot of a linear model stays below 40 MB
MAX_FLOOR_TOTAL = 0.5  # the part of all sends that floors may take
_MAX_PAYLOAD_BYTES = 100_000
_YEAR = 31_536_000
DAY = 86_400

MachineRulesVersion = Annotated[int, Meta(ge=1, le=1)]  # those of `bandits.machines.RULES`
Label = Annotated[str, Meta(max_length=200)]
Moment = Annotated[datetime, Meta(tz=True)]


class Variant(Struct, frozen=True, forbid_unknown_fields=True):
    """One content of a slot; `payload` is handed to the sender as it is."""

    key: Key
    payload: dict[str, Any] = field(default_factory=dict)
    name: Label = ""
    paused: bool = False


class Slot(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the email."""

    key: Key
    variants: Annotated[tuple[Variant, ...], Meta(min_length=1, max_length=100)]
    kind: Literal["subject_line", "content", "discount", "other"] = "other"
    name: Label = ""


class PolicyChoice(Struct, frozen=True, forbid_unknown_fields=True):
    """A registered policy and its parameters."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)


class Forgetting(Struct, frozen=True, forbid_unknown_fields=True):
    """Forgetting: observations fade by half every `half_life_seconds`, or end after a window."""

    half_life_seconds: Annotated[float, Meta(gt=0, le=100 * _YEAR)] | None = None
    window_seconds: Annotated[float, Meta(gt=0, le=100 * _YEAR)] | None = None


Combination = dict[str, str]  # slot key to variant key


class Experiment(Struct, frozen=True, forbid_unknown_fields=True):
    """One optimised email, as declared; `check` refuses one that is inconsistent.

    Attributes:
        exclude: an arm that agrees with one of these in every slot named there is left out.
        control: the arm to compare with and to fall back to; first variants unless given.
        floor: the least probability of each eligible arm; min(.01, .05/K) unless given.
        holdout: the part of subjects who always get the control and are never learned from.
        await_activation: a decision's clocks start when it is activated, not when it is made.
        send_within_seconds: for how long after its clocks started a decision may still be cancelled
            as never sent; later, what came of it may be known.
        strict: refuse contexts that would otherwise be clipped or mended.
        starts_at: when a draft starts by itself.
        ends_at: when it stops by itself once it has started.
        retention_days: after how long the rows of decisions are removed, if ever.
        attribution: take events that name a subject and a time in place of a decision. ``last``: an
            event is this experiment's where its email is the newest of all experiments that are
            found so; ``all``: whatever others the subject got. None: it is not found by subject.
        machine_rules: version of the rules by which opens and clicks of machines are left out;
            none unless given, so that all count.
        guardrails: events that have to stay rare, and what becomes of a version where they do not.
        paused: arms that agree with one of these in every slot named there are not sent at the
            moment, as those with a paused variant are not.
    """

    key: Key
    slots: Annotated[tuple[Slot, ...], Meta(min_length=1, max_length=20)]
    policy: PolicyChoice
    reward: RewardRule
    name: Label = ""
    exclude: Annotated[tuple[Combination, ...], Meta(max_length=1000)] = ()
    control: Combination = field(default_factory=dict)
    floor: Annotated[float, Meta(ge=0, le=0.5)] | None = None
    holdout: Annotated[float, Meta(ge=0, le=0.5)] = 0.0
    forgetting: Forgetting | None = None
    context: Annotated[tuple[Feature, ...], Meta(max_length=100)] = ()
    assignment: Literal["per_decision", "per_subject"] = "per_decision"
    learn_every_seconds: Annotated[float, Meta(ge=0.1, le=86_400)] = 60.0
    await_activation: bool = False
    send_within_seconds: Annotated[float, Meta(ge=300, le=_YEAR)] = 86_400.0
    strict: bool = False
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    retention_days: Annotated[int, Meta(ge=1, le=36_500)] | None = None
    attribution: Literal["last", "all"] | None = None
    machine_rules: MachineRulesVersion | None = None
    guardrails: Annotated[tuple[Guardrail, ...], Meta(max_length=MAX_GUARDRAILS)] = ()
    paused: Annotated[tuple[Combination, ...], Meta(max_length=MAX_ARMS)] = ()

    @property
    def title(self) -> str:
        """Name on pages."""
        return self.name or self.key

    def make_policy(self) -> AnyPolicy:
        """Make its policy.

        Raises:
            InvalidInput: at ``/policy/...``.
        """
        try:
            return make(self.policy.name, self.policy.params)
        except InvalidInput as error:
            raise error.under("/policy") from None

    def floor_among(self, n_arms: int) -> float:
        """Return the least probability of each of `n_arms` eligible ones."""
        return default_floor(n_arms) if self.floor is None else self.floor

    def encoder(self) -> Encoder:
        """Make the encoder of its declared features."""
        return Encoder(self.context, strict=self.strict)

    def control_variants(self) -> tuple[str, ...]:
        """Return the control's variant of each slot."""
        return tuple(self.control.get(s.key, s.variants[0].key) for s in self.slots)

    def is_paused(self, variants: Mapping[str, str]) -> bool:
        """Return true where emails with these variants, of all slots or of some, are not sent."""
        if any(v.paused and variants.get(s.key) == v.key for s in self.slots for v in s.variants):
            return True
        return any(rule.items() <= variants.items() for rule in self.paused)

    def combinations(self) -> list[tuple[str, ...]]:
        """List every arm by its variants' keys, the last slot changing fastest."""
        variants = [[v.key for v in s.variants] for s in self.slots]
        levels = np.indices([len(keys) for keys in variants]).reshape(len(variants), -1)
        place = {
            (s.key, v): (i, j) for i, s in enumerate(self.slots) for j, v in enumerate(variants[i])
        }
        kept = np.ones(levels.shape[1], dtype=np.bool_)
        for rule in filter(None, self.exclude):
            named = [place.get(pair, (0, -1)) for pair in rule.items()]
            kept &= ~np.logical_and.reduce([levels[slot] == level for slot, level in named])
        return [
            tuple(keys[i] for keys, i in zip(variants, arm, strict=True))
            for arm in levels.T[kept].tolist()
        ]

    def check(self) -> None:
        """Check that its parts fit each other.

        Raises:
            InvalidInput: naming every place that does not fit.
        """
        faults = [*self._slot_faults(), *self._part_faults(), *self._rate_faults()]
        if not faults:  # arms can be counted only once slots are sound
            faults = [*self._arm_faults(), *self._policy_faults(), *self._retention_faults()]
        if not faults:
            faults = self._size_faults()
        if faults:
            raise InvalidInput(faults)

    def _slot_faults(self) -> list[Fault]:
        faults = _repeated([s.key for s in self.slots], "slots")
        for i, slot in enumerate(self.slots):
            faults += _repeated([v.key for v in slot.variants], "slots", i, "variants")
            for j, variant in enumerate(slot.variants):
                size = len(msgspec.json.encode(variant.payload))
                if size > _MAX_PAYLOAD_BYTES:
                    place = pointer("slots", i, "variants", j, "payload")
                    limit = f"{_MAX_PAYLOAD_BYTES:,}"
                    faults.append(Fault(place, f"must be at most {limit} bytes, it is {size:,}"))
        return faults

    def _part_faults(self) -> list[Fault]:
        faults = _repeated([f.name for f in self.context], "context", leaf="name")
        for i, feature in enumerate(self.context):
            faults += [Fault(pointer("context", i) + f.pointer, f.detail) for f in feature.faults()]
        faults += [Fault("/reward" + f.pointer, f.detail) for f in self.reward.faults()]
        declared = {s.key: {v.key for v in s.variants} for s in self.slots}
        for i, rule in enumerate(self.exclude):
            faults += unknown(rule, declared, "exclude", i)
            if not rule:
                faults.append(Fault(pointer("exclude", i), "must name at least one slot"))
        faults += _unknown_variants(self.reward.costs, declared, "reward", "costs")
        for name, metric in self.reward.metrics.items():
            faults += _unknown_variants(metric.by, declared, "reward", "metrics", name, "by")
        n_features = self.encoder().n_features
        if n_features > MAX_FEATURES:
            detail = f"makes {n_features} features; at most {MAX_FEATURES} can be learned"
            faults.append(Fault("/context", detail))
        faults += guardrail_faults(self.guardrails, self.reward)
        for i, rule in enumerate(self.paused):
            faults += unknown(rule, declared, "paused", i)
            if not rule:
                faults.append(Fault(pointer("paused", i), "must name at least one slot"))
        return faults + unknown(self.control, declared, "control")

    def _rate_faults(self) -> list[Fault]:
        faults = []
        if self.forgetting is not None:
            periods = (self.forgetting.half_life_seconds, self.forgetting.window_seconds)
            if sum(period is not None for period in periods) != 1:
                detail = "must have exactly one of half_life_seconds and window_seconds"
                faults.append(Fault("/forgetting", detail))
        if self.starts_at and self.ends_at and self.ends_at <= self.starts_at:
            faults.append(Fault("/ends_at", "must be after the start, starts_at"))
        return faults

    def _arm_faults(self) -> list[Fault]:
        total = prod(len(s.variants) for s in self.slots)
        if total > 100 * MAX_ARMS:
            return [Fault("/slots", f"make {total} arms; at most {MAX_ARMS} can be learned")]
        arms = self.combinations()
        n_arms = len(arms)
        if n_arms < 2:  # noqa: PLR2004 - a choice needs two
            return [Fault("/slots", f"need at least two arms to choose from, they make {n_arms}")]
        faults = []
        if n_arms > MAX_ARMS:
            faults.append(Fault("/slots", f"make {n_arms} arms; at most {MAX_ARMS} can be learned"))
        if self.floor is not None and n_arms * self.floor > MAX_FLOOR_TOTAL:
            most = MAX_FLOOR_TOTAL / n_arms
            faults.append(Fault("/floor", f"with {n_arms} arms must be at most {most:.4g}"))
        if self.control_variants() not in arms:
            faults.append(Fault("/control", "must not be an excluded combination"))
        paused = {(s.key, v.key) for s in self.slots for v in s.variants if v.paused}
        for slot, variant in zip(self.slots, self.control_variants(), strict=True):
            if (slot.key, variant) in paused:
                faults.append(Fault(pointer("control", slot.key), "must not be paused"))
        keys = (s.key for s in self.slots)
        control = dict(zip(keys, self.control_variants(), strict=True))
        for i, rule in enumerate(self.paused):
            if rule.items() <= control.items():
                faults.append(Fault(pointer("paused", i), "must not be the control"))
        return faults

    def _policy_faults(self) -> list[Fault]:
        try:
            policy = self.make_policy()
        except InvalidInput as error:
            return list(error.faults)
        low, high = self.reward.bounds
        least, most = policy.support
        if policy.statistic.timed:
            return self._timed_faults()
        if covers(policy.support, (low, high)):
            return []
        able = [
            n
            for n, p in policies().items()
            if covers(p.support, (low, high)) and not p.statistic.timed
        ]
        detail = (
            f"{self.policy.name} takes rewards in [{least:g}, {most:g}], this rule gives "
            f"[{low:g}, {high:g}]; these take it: {', '.join(able)}"
        )
        return [Fault("/policy/name", detail)]

    def _timed_faults(self) -> list[Fault]:
        """List the reasons why a policy cannot learn how late answers are."""
        faults = []
        if not self.reward.is_single_answer:
            detail = (
                f"{self.policy.name} learns how late one kind of answer is: the rule needs a single"
                " metric that happens or not, with weight 1, without costs, and to be maximised"
            )
            faults.append(Fault("/policy/name", detail))
        if self.forgetting is not None and self.forgetting.window_seconds is not None:
            detail = f"cannot be used with {self.policy.name}; use half_life_seconds"
            faults.append(Fault("/forgetting/window_seconds", detail))
        return faults

    def _retention_faults(self) -> list[Fault]:
        """List the reasons why old decisions cannot be removed."""
        if self.retention_days is None:
            return []
        faults = []
        window = 0.0 if self.forgetting is None else self.forgetting.window_seconds or 0.0
        for name, seconds in (("reward", self.reward.window_seconds), ("forgetting", window)):
            if self.retention_days * DAY < seconds:
                detail = f"must be at least the {name} window, {seconds / DAY:.4g} days"
                faults.append(Fault("/retention_days", detail))
        try:
            invertible = self.make_policy().statistic.invertible
        except InvalidInput:  # a fault of the policy
            invertible = True
        if not invertible:
            detail = (
                f"cannot be used with {self.policy.name}, which learns from every decision anew"
                " each time, so none may be removed; leave it out or choose another policy"
            )
            faults.append(Fault("/retention_days", detail))
        return faults

    def _size_faults(self) -> list[Fault]:
        n_arms, n_features = len(self.combinations()), self.encoder().n_features
        if not self.make_policy().statistic.contextual or n_arms * n_features**2 <= MAX_CELLS:
            return []
        most = isqrt(MAX_CELLS // n_arms)
        detail = f"makes {n_features} features; with {n_arms} arms at most {most} can be learned"
        return [Fault("/context", detail)]


def covers(support: tuple[float, float], bounds: tuple[float, float]) -> bool:
    """Return true where rewards within `bounds` all lie within `support`."""
    return support[0] <= bounds[0] and bounds[1] <= support[1]


def _repeated(keys: Sequence[str], *place: str | int, leaf: str = "key") -> list[Fault]:
    return [
        Fault(pointer(*place, i, leaf), f"{key!r} is used twice")
        for i, key in enumerate(keys)
        if key in keys[:i]
    ]


def _unknown_variants(
    by_slot: Mapping[str, Mapping[str, float]], declared: Mapping[str, set[str]], *place: str
) -> list[Fault]:
    """List what numbers by slot and variant name that is not declared."""
    return [
        fault
        for slot, by_variant in by_slot.items()
        for variant in by_variant
        for fault in unknown({slot: variant}, declared, *place)
    ]


def unknown(
    combination: Mapping[str, str], declared: Mapping[str, set[str]], *place: str | int
) -> list[Fault]:
    """List what a combination names that is not among the declared variants of each slot."""
    faults = []
    for slot, variant in combination.items():
        if slot not in declared:
            detail = f"unknown slot; known are {', '.join(sorted(declared))}"
            faults.append(Fault(pointer(*place, slot), detail))
        elif variant not in declared[slot]:
            variants = ", ".join(sorted(declared[slot]))
            detail = f"unknown variant {variant!r}; known are {variants}"
            faults.append(Fault(pointer(*place, slot), detail))
    return faults
