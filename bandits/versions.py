"""Versions of an experiment's declaration, and the arms that each of them has."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import msgspec
import numpy as np
from msgspec import Struct

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.errors import InvalidInput
from bandits.experiment import Combination, Experiment, unknown
from bandits.guardrails import GuardrailAct
from bandits.inference.overlap import Comparisons, comparisons_of
from bandits.inference.state import Compared
from bandits.policy import AnyPolicy
from bandits.problem import Problem
from bandits.schemas import SlotChoice
from bandits.segments import Segmentation


class Arm(Struct, frozen=True):
    """One whole email: a variant for every slot. A newcomer joined a running experiment."""

    variants: tuple[str, ...]
    newcomer: bool = False


class Configuration(Struct, frozen=True, dict=True):
    """One version of an experiment's declaration; arms keep their index from version to version.

    Attributes:
        acts: what guardrails did until then, the oldest first.
    """

    version: int
    experiment: Experiment
    arms: tuple[Arm, ...]
    acts: tuple[GuardrailAct, ...] = ()

    @classmethod
    def first(cls, experiment: Experiment) -> "Configuration":
        """Make the first version.

        Raises:
            InvalidInput: the experiment is inconsistent.
        """
        experiment.check()
        return cls(1, experiment, tuple(Arm(c) for c in experiment.combinations()))

    def next_version(self, experiment: Experiment, *, started: bool) -> "Configuration":
        """Make the next version; once started, arms only join, at the end.

        Raises:
            InvalidInput: the experiment is inconsistent.
        """
        experiment.check()
        kept = self.arms if started else ()
        earlier = {a.variants for a in kept}
        joined = [c for c in experiment.combinations() if c not in earlier]
        arms = (*kept, *(Arm(c, newcomer=started) for c in joined))
        version = self.version + 1
        acts = tuple(_still_in_force(act, experiment, version) for act in self.acts)
        return Configuration(version, experiment, arms, acts)

    @cached_property
    def guard_epoch(self) -> int:
        """Newest version from which on some guardrail counts anew; 0 for none."""
        return max((act.undone or 0 for act in self.acts), default=0)

    def variants_of(self, arm: int) -> dict[str, str]:
        """Return the variant of each slot of an arm."""
        keys = (s.key for s in self.experiment.slots)
        return dict(zip(keys, self.arms[arm].variants, strict=True))

    @cached_property
    def _paused_arms(self) -> frozenset[int]:
        """Arms that are paused as combinations."""
        rules = [rule.items() for rule in self.experiment.paused]
        if not rules:
            return frozenset()
        every = ((i, self.variants_of(i).items()) for i in range(len(self.arms)))
        return frozenset(i for i, variants in every if any(rule <= variants for rule in rules))

    @cached_property
    def policy(self) -> AnyPolicy:
        """Policy that decides, and that learns."""
        return self.experiment.make_policy()

    @cached_property
    def problem(self) -> Problem:
        """Problem of choosing among all arms."""
        slots = self.experiment.slots
        levels = [{v.key: i for i, v in enumerate(s.variants)} for s in slots]
        reward = self.experiment.reward
        low, high = reward.bounds
        slot_levels = np.array(
            [[lv[v] for lv, v in zip(levels, a.variants, strict=True)] for a in self.arms]
        )
        n_features = self.experiment.encoder().n_features
        return Problem(
            np.arange(len(self.arms)), slot_levels, n_features, low, high, reward.window_seconds
        )

    @cached_property
    def control(self) -> int:
        """The control's index."""
        variants = self.experiment.control_variants()
        return next(i for i, a in enumerate(self.arms) if a.variants == variants)

    @cached_property
    def costs(self) -> FloatArray:
        """Amount that sending each arm adds to its reward, (K,)."""
        if not self.experiment.reward.costs:
            return np.zeros(len(self.arms))
        keys = [s.key for s in self.experiment.slots]
        by_slot = (dict(zip(keys, a.variants, strict=True)) for a in self.arms)
        return np.array([self.experiment.reward.cost(variants) for variants in by_slot])

    @cached_property
    def _weights(self) -> FloatArray | None:
        """Weight of each metric in each arm, (M, K); None where none depends on variants."""
        rule = self.experiment.reward
        if not rule.has_weights_by_variant:
            return None
        by_arm = [list(rule.weights(self.variants_of(k)).values()) for k in range(len(self.arms))]
        return np.array(by_arm).T

    def weights_of(self, arms: IntArray) -> FloatArray | None:
        """Return the weights of metrics in decisions of `arms` (n,), as `measure` takes them."""
        return None if self._weights is None else self._weights[:, arms]

    @cached_property
    def newcomers(self) -> BoolArray:
        """Arms that joined after the start, (K,)."""
        return np.array([a.newcomer for a in self.arms])

    @cached_property
    def compared(self) -> Compared:
        """Comparisons that results make."""
        levels = tuple(map(tuple, self.problem.slot_levels.tolist()))
        none = Comparisons.none(len(levels))
        of_variants = comparisons_of(levels, self.control, "none")
        has_group = self.experiment.holdout > 0
        return Compared(
            comparisons_of(levels, self.control),
            of_variants,
            comparisons_of(levels, self.control, "control") if has_group else none,
            of_variants if has_group else none,
            self.segmentation.size,
        )

    @cached_property
    def segmentation(self) -> Segmentation:
        """Segments that results are computed for."""
        return Segmentation(self.experiment.context)

    def arm(self, combination: Combination) -> int:
        """Return the arm that a combination names; a slot of one variant needs no naming.

        Raises:
            InvalidInput: at ``/{slot}``: an unknown slot or variant; at ``""``: it names none or
                several of the arms that are not paused.
        """
        named = self.eligible({slot: [variant] for slot, variant in combination.items()})
        if len(named) > 1:
            detail = f"names {len(named)} arms; name a variant for each slot"
            raise InvalidInput.at("", detail)
        return int(named[0])

    def eligible(self, restriction: Mapping[str, Sequence[str]] | None = None) -> IntArray:
        """List the arms that may be chosen: not paused, and within the request's restriction.

        Raises:
            InvalidInput: at ``/{slot}``: an unknown slot or variant, or no arm is left (at ``""``).
        """
        restriction = restriction or {}
        slots = self.experiment.slots
        declared = {s.key: {v.key for v in s.variants} for s in slots}
        faults = [
            fault
            for slot, variants in restriction.items()
            for variant in variants
            for fault in unknown({slot: variant}, declared)
        ]
        if faults:
            raise InvalidInput(faults)
        allowed = [
            {v.key for v in s.variants if not v.paused}
            & set(restriction.get(s.key, declared[s.key]))
            for s in slots
        ]
        left = [
            i
            for i, arm in enumerate(self.arms)
            if i not in self._paused_arms
            and all(v in a for v, a in zip(arm.variants, allowed, strict=True))
        ]
        if not left:
            raise InvalidInput.at("", "leaves no arm to choose")
        return np.array(left)

    def allowed(self, restriction: bytes) -> frozenset[int]:
        """Return the arms within a request's encoded restriction, paused ones included."""
        eligible = decode_restriction(restriction) or {}
        return frozenset(
            i
            for i, arm in enumerate(self.arms)
            if all(
                slot.key not in eligible or variant in eligible[slot.key]
                for slot, variant in zip(self.experiment.slots, arm.variants, strict=True)
            )
        )

    def slots_of(self, arm: int) -> dict[str, SlotChoice]:
        """Return the variant and payload of each slot of an arm, as the sender gets them."""
        payloads = {(s.key, v.key): v.payload for s in self.experiment.slots for v in s.variants}
        keys = [s.key for s in self.experiment.slots]
        chosen = zip(keys, self.arms[arm].variants, strict=True)
        return {s: {"variant": v, "payload": payloads[s, v]} for s, v in chosen}


def _still_in_force(act: GuardrailAct, experiment: Experiment, version: int) -> GuardrailAct:
    """Return an act as of a version, which undoes a pause by sending the same again."""
    paused = act.guardrail.action == "pause"
    if act.undone is None and paused and not experiment.is_paused(act.variants):
        return msgspec.structs.replace(act, undone=version)
    return act


def encode_restriction(eligible: Mapping[str, Sequence[str]]) -> bytes:
    """Write a request's `eligible` restriction; equal ones are written alike, none as nothing."""
    if not eligible:
        return b""
    ordered = {slot: sorted(set(variants)) for slot, variants in sorted(eligible.items())}
    return msgspec.json.encode(ordered)


def decode_restriction(encoded: bytes) -> dict[str, list[str]] | None:
    """Read a restriction back; None where there was none."""
    return msgspec.json.decode(encoded, type=dict[str, list[str]]) if encoded else None
