"""Interactions of slots: whether a variant's lift depends on the variant of another slot."""

from itertools import combinations, product

import numpy as np

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.engine.analysis.findings import Analysis
from bandits.experiment import Slot
from bandits.inference.estimates import contrast_rows, joined_arms
from bandits.inference.intervals import Family, Finding
from bandits.results import Interaction, InteractionResult

MOST = 60  # more of them, each at its share of alpha, would show nothing


def interactions(analysis: Analysis) -> InteractionResult | None:
    """Find the interactions of every two slots; None where there are none, or more than `MOST`.

    A variant's lift over the control's is taken with a variant of the other slot, less the same
    lift with the control's variant there, under an equal mix of all further slots.
    """
    slots = analysis.active.experiment.slots
    evidence = analysis.inference.arms
    joined = joined_arms(evidence) if evidence.sends.any() else np.ones(len(analysis.levels), bool)
    cells = [
        ((s, t), (v, w))
        for s, t in combinations(range(len(slots)), 2)
        for v in _others(analysis, s)
        for w in _others(analysis, t)
    ]
    if not 0 < len(cells) <= MOST:
        return None
    control = analysis.control
    weights = [
        interaction_weights(analysis.levels, joined, (s, t), pair, (control[s], control[t]))
        for (s, t), pair in cells
    ]
    rows = [(cell, row) for cell, row in zip(cells, weights, strict=True) if row.any()]
    family = Family("dependencies between parts", max(1, len(rows)))
    if not rows or not evidence.sends.any():
        return InteractionResult([], family)
    contrasts = np.array([row for _, row in rows])
    findings = contrast_rows(analysis.facts, evidence, contrasts, family)
    return InteractionResult(
        [
            _interaction(slots[s], v, slots[t], w, finding)
            for (((s, t), (v, w)), _), finding in zip(rows, findings, strict=True)
        ],
        family,
    )


def _interaction(slot: Slot, variant: int, other: Slot, at: int, lift: Finding) -> Interaction:
    return Interaction(
        slot.key, slot.variants[variant].key, other.key, other.variants[at].key, lift
    )


def _others(analysis: Analysis, slot: int) -> list[int]:
    """List a slot's variants but the control's, those paused left out."""
    variants = analysis.active.experiment.slots[slot].variants
    control = int(analysis.control[slot])
    return [i for i, v in enumerate(variants) if i != control and not v.paused]


def interaction_weights(
    slot_levels: IntArray,
    joined: BoolArray,
    slots: tuple[int, int],
    variants: tuple[int, int],
    against: tuple[int, int],
) -> FloatArray:
    """Return the contrast (K,) of a lift with one variant of another slot and with the control's.

    Args:
        slot_levels: (K, n_slots) the variant of each slot that each arm shows.
        joined: (K,) arms that decisions could have got.
        slots: the two slots.
        variants: the variant of each.
        against: the control's variant of each.

    Returns:
        All 0 where no combination of further slots goes with all four cells.
    """
    rest = np.delete(slot_levels, slots, axis=1)
    _, mix = np.unique(rest, axis=0, return_inverse=True)
    mix = mix.reshape(-1)
    signs = np.zeros(len(slot_levels))
    kept = np.ones(int(mix.max(initial=0)) + 1, dtype=np.bool_)
    for first, second in product((True, False), repeat=2):
        levels_of_cell = (
            variants[0] if first else against[0],
            variants[1] if second else against[1],
        )
        cell = joined & np.all(slot_levels[:, slots] == levels_of_cell, axis=1)
        signs += np.where(cell, 1.0 if first == second else -1.0, 0.0)
        kept &= np.bincount(mix[cell], minlength=len(kept)) > 0
    weights: FloatArray = np.where(kept[mix], signs, 0.0) / max(1, np.count_nonzero(kept))
    return weights
