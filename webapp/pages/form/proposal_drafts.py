"""Proposals: versions that a program suggests, in drafts that a person approves or discards.

Nothing of a proposal is sent before somebody who may manage campaigns has gone through its draft
and saved it: then it is that person's edit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bandits.errors import Conflict, InvalidInput
from bandits.experiment import Slot, Variant
from bandits.identifiers import pointer
from bandits.store.values import ExperimentRecord
from storage.drafts import DraftTable
from webapp.pages.form.draft_store import DraftService, SavedDraft
from webapp.pages.form.form_model import TypedDraft
from webapp.pages.form.from_experiment import fill_form
from webapp.pages.form.slugs import slug, unused_key
from webapp.pages.form.steps import STEPS

MOST_OPEN = 20  # of one experiment


class ProposedVariant(Struct, frozen=True):
    """A variant of one slot, and why it is proposed."""

    slot: str
    name: str
    payload: Mapping[str, Any]
    reason: str = ""


def open_proposals(drafts: DraftTable, key: str) -> list[SavedDraft]:
    """List the proposals for an experiment that nobody has approved or discarded."""
    every = DraftService(drafts, 0.0, "").all()
    return [draft for draft in every if draft.form.edits == key and draft.form.proposed_by]


def propose_variant(
    record: ExperimentRecord, drafts: DraftTable, proposed: ProposedVariant, *, at: float, by: str
) -> SavedDraft:
    """Put a proposed variant into a draft of its own.

    Raises:
        InvalidInput: at ``/slot`` or ``/payload``: there is no such slot, or the experiment cannot
            have this variant.
        Conflict: as many proposals wait as may.
    """
    if record.state == "archived":
        raise Conflict("this campaign is archived: no version can join it")
    if len(open_proposals(drafts, record.key)) >= MOST_OPEN:
        raise Conflict(f"{MOST_OPEN} proposals wait for a person already; none is added")
    experiment = record.configuration.experiment
    places = {slot.key: i for i, slot in enumerate(experiment.slots)}
    if proposed.slot not in places:
        names = ", ".join(places)
        raise InvalidInput.at("/slot", f"there is no such part; this campaign has {names}")
    slot = experiment.slots[places[proposed.slot]]
    slots = tuple(_with_variant(s, proposed) if s is slot else s for s in experiment.slots)
    changed = replace(experiment, slots=slots)
    try:
        changed.check()
    except InvalidInput as error:
        faults = "; ".join(fault.detail for fault in error.faults)
        raise InvalidInput.at(pointer("payload"), faults) from None
    declared = msgspec.to_builtins(fill_form(replace(record.configuration, experiment=changed)))
    form = replace(
        msgspec.convert(declared, TypedDraft),
        edits=record.key,
        seen=_seen(),
        proposed_by=by,
        reason=proposed.reason,
    )
    return DraftService(drafts, at, by).add(form)


def _seen() -> Sequence[str]:
    return tuple(STEPS)[:-1]


def _with_variant(slot: Slot, proposed: ProposedVariant) -> Slot:
    taken = {variant.key for variant in slot.variants}
    key = unused_key(slug(proposed.name) or "proposed", taken)
    variant = Variant(key, dict(proposed.payload), proposed.name)
    return replace(slot, variants=(*slot.variants, variant))
