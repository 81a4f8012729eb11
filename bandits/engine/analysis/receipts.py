"""Receipts: a decision explained, by deriving it again from its snapshot."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from bandits.array_types import FloatArray
from bandits.engine.active_policy import ActivePolicy
from bandits.features import decode
from bandits.machines import (
    AgentClass,
    EventKind,
    EventSign,
    EventTrace,
    MailboxClass,
    VerdictReason,
)
from bandits.policy import Contributions
from bandits.schemas import DecisionReceipt, DerivationSource, Prediction, Predictions, VoidEntry
from bandits.store.values import Event, StoredDecision
from bandits.versions import Configuration

_SAME = 1e-9  # a propensity derived again may differ by rounding between machines


def moment(seconds: float) -> datetime:
    """Turn seconds since 1970 into an aware time."""
    return datetime.fromtimestamp(seconds, UTC)


def label(configuration: Configuration, arm: int) -> str:
    """Name an arm by its variants."""
    return " · ".join(configuration.arms[arm].variants)


def explain_decision(  # noqa: PLR0913 - all that a receipt is written from
    stored: StoredDecision,
    configuration: Configuration,
    active: ActivePolicy | str,
    events: Sequence[Event],
    void: VoidEntry | None = None,
    *,
    source: DerivationSource | None = None,
) -> DecisionReceipt:
    """Write the receipt of a decision.

    Args:
        stored: the decision.
        configuration: the one that it was made under.
        active: the policy that decided, or why it cannot be restored.
        events: every event of the decision.
        void: the one that it is part of, if any.
        source: what `active` rests on.
    """
    if reason := _reason_not_drawn(stored):
        active = f"nothing was drawn: {reason}"
    learned = source in {None, "snapshot", "log"}  # else `active` knows the probabilities alone
    derived = None if isinstance(active, str) else _derive(stored, active, learned=learned)
    propensities, u, same, predictions = derived or (None, None, None, None)
    rule = configuration.experiment.reward
    uncounted = [e.late or e.void or e.withdrawn or e.set_aside for e in events]
    counting = [
        e
        for e, left_out in zip(events, uncounted, strict=True)
        if not left_out and e.metric in rule.metrics
    ]
    counting.sort(key=lambda e: (e.as_of or 0.0, e.event_id))  # the last one of `latest` counts
    rewards, _ = rule.measure(
        np.zeros(len(counting), dtype=np.int64),
        np.array([rule.names.index(e.metric) for e in counting], dtype=np.int64),
        np.array([e.value for e in counting]),
        1,
        configuration.weights_of(np.array([stored.arm])),
    )
    return DecisionReceipt(
        stored.id,
        stored.experiment,
        stored.configuration_version,
        stored.policy_version,
        configuration.experiment.policy.name,
        configuration.slots_of(stored.arm),
        stored.propensity,
        stored.holdout,
        stored.fallback,
        moment(stored.made_at),
        _moment(stored.started_at),
        _moment(stored.cancelled_at),
        decode(configuration.experiment.context, stored.context),
        propensities,
        u,
        same,
        active if isinstance(active, str) else None,
        [event_of(e) for e in events],
        float(rewards[0] + configuration.costs[stored.arm]),
        stored.shipped,
        predictions,
        stored.actor,
        void,
        stored.former_id,
        source if derived is not None else None,
        rule.weights(configuration.variants_of(stored.arm)),
    )


def _reason_not_drawn(stored: StoredDecision) -> str:
    if stored.holdout:
        return "the subject is held out"
    if stored.shipped:
        return "the winner was sent to everybody"
    return "the control stood in" if stored.fallback else ""


def _derive(
    stored: StoredDecision, active: ActivePolicy, *, learned: bool
) -> tuple[dict[str, float], float, bool, Predictions | None] | None:
    arms = active.eligible(stored.eligible_set)
    again = active.probabilities_or_none(arms, stored.context[None])
    if again is None:
        return None
    probabilities: FloatArray = np.atleast_2d(again)[0]
    u = active.uniforms([stored.former_id or stored.id])
    chosen, propensity, _ = active.choose(arms, stored.context[None], u)
    labels = [label(active.configuration, int(a)) for a in arms]
    same = int(chosen[0]) == stored.arm and abs(float(propensity[0]) - stored.propensity) <= _SAME
    by_arm = dict(zip(labels, probabilities.tolist(), strict=True))
    predictions = None
    if learned:
        predictions = _predictions(active, labels, active.contributions(arms, stored.context))
    return by_arm, float(u[0]), same, predictions


def _predictions(
    active: ActivePolicy, labels: Sequence[str], parts: Contributions | None
) -> Predictions | None:
    if parts is None:
        return None
    features = active.encoder.labels
    rows = zip(labels, parts.terms.tolist(), parts.widths.tolist(), strict=True)
    return Predictions(
        "log odds" if parts.log_odds else "reward",
        {
            arm: Prediction(dict(zip(features, terms, strict=True)), sum(terms), width)
            for arm, terms, width in rows
        },
    )


def event_of(event: Event) -> dict[str, Any]:
    """Write down an event of a decision."""
    written = {
        "event_id": event.event_id,
        "metric": event.metric,
        "value": event.value,
        "occurred_at": moment(event.occurred_at),
        "late": event.late,
        "void": event.void,
        "withdrawn": event.withdrawn,
    }
    if event.as_of is not None:
        written["as_of"] = moment(event.as_of)
    if event.trace is not None:
        written["tracking"] = _tracking(event.trace)
        words = VerdictReason(event.reason).words if event.reason else None
        written["set_aside"] = words
    return written


def _tracking(trace: EventTrace) -> dict[str, Any]:
    """Write down all that is kept of the request behind an event."""
    return {
        "kind": EventKind(trace.kind).name.lower(),
        "program": AgentClass(trace.agent).name.lower(),
        "mailbox": MailboxClass(trace.mailbox).name.lower(),
        "network": _hexadecimal(trace.network),
        "link": _hexadecimal(trace.link),
        "signs": [sign.name.lower() for sign in EventSign if trace.signs & sign and sign.name],
    }


def _hexadecimal(number: int) -> str | None:
    """Write a 64-bit hash; None of what is not known."""
    return f"{number % 2**64:016x}" if number else None


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)
