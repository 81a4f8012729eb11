"""Recipient explanation: why an email came as it did, for the person who got it.

It is written from the stored decision alone, without the snapshot that it was drawn from, so it is
the same as long as the decision is kept. Names that managers gave to versions are not in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from bandits.experiment import Slot, Variant
from bandits.features import decode
from bandits.store.values import Event, StoredDecision
from bandits.versions import Configuration, decode_restriction

Reason = Literal["control group", "for everybody", "stand-in", "policy"]


class ExplainedPart(Struct, frozen=True):
    """A part of an email.

    Attributes:
        slot: the part,
        variant: and what it has in this email.
        options: number of variants that it could have had.
    """

    slot: Slot
    variant: Variant
    options: int


class RecipientExplanation(Struct, frozen=True):
    """Why an email came as it did.

    Attributes:
        made_at: when it was decided, seconds since 1970.
        parts: of the email.
        reason: how it was decided: the recipient is in the control group, everybody gets this
            version since the experiment ended, no other version could be sent, or the policy chose.
        propensity: chance that the policy gave this version.
        versions: number of versions that it chose among.
        metrics: names of the events that it learns from.
        data: what the sender told of the recipient, by feature; empty where nothing was used.
        used: the choice depended on `data`.
        events: number of the recipient's events by name, in the order of their first one.
    """

    made_at: float
    parts: Sequence[ExplainedPart]
    reason: Reason
    propensity: float
    versions: int
    metrics: Sequence[str]
    data: Mapping[str, Any]
    used: bool
    events: Mapping[str, int]


def explain_to_recipient(
    stored: StoredDecision, configuration: Configuration, events: Sequence[Event]
) -> RecipientExplanation:
    """Explain a decision to its recipient.

    Args:
        stored: the decision.
        configuration: the one that it was made under.
        events: every event of the decision.
    """
    experiment = configuration.experiment
    restriction = decode_restriction(stored.eligible_set) or {}
    parts = [
        _part(slot, key, restriction.get(slot.key))
        for slot, key in zip(experiment.slots, configuration.arms[stored.arm].variants, strict=True)
    ]
    reason = _reason(stored)
    unknown = configuration.experiment.encoder().unknown_subject
    is_known = stored.context.shape == unknown.shape and bool((stored.context != unknown).any())
    counts: dict[str, int] = {}
    for event in sorted(events, key=lambda e: e.occurred_at):
        if not (event.void or event.withdrawn or event.set_aside):
            counts[event.metric] = counts.get(event.metric, 0) + 1
    return RecipientExplanation(
        stored.made_at,
        parts,
        reason,
        stored.propensity,
        len(configuration.eligible(restriction)),
        list(experiment.reward.metrics),
        decode(experiment.context, stored.context) if is_known else {},
        is_known and reason == "policy" and configuration.policy.statistic.contextual,
        counts,
    )


def _part(slot: Slot, key: str, allowed: Sequence[str] | None) -> ExplainedPart:
    variant = next(v for v in slot.variants if v.key == key)
    options = [
        v.key
        for v in slot.variants
        if v.key == key or (not v.paused and (allowed is None or v.key in allowed))
    ]
    return ExplainedPart(slot, variant, len(options))


def _reason(stored: StoredDecision) -> Reason:
    if stored.holdout:
        return "control group"
    if stored.shipped:
        return "for everybody"
    return "stand-in" if stored.fallback else "policy"
