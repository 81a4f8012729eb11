"""Guardrail report: the figures of an experiment's guardrails, and their acts."""

from typing import Literal

from bandits.engine.analysis.receipts import moment
from bandits.engine.guardrail_watch import watched
from bandits.guardrails import Guardrail, GuardrailAct
from bandits.inference.guardrail_sums import GuardrailSums
from bandits.results import (
    GuardedVersion,
    GuardrailActResult,
    GuardrailReport,
    GuardrailResult,
)
from bandits.store.values import Snapshot
from bandits.versions import Configuration


def guardrail_report(configuration: Configuration, snapshot: Snapshot | None) -> GuardrailReport:
    """Report guardrails as of the newest snapshot, None before the first."""
    packed = b"" if snapshot is None else snapshot.guardrails
    sums = GuardrailSums.load(packed, len(configuration.arms))
    return GuardrailReport(
        [_result(configuration, sums, g) for g in configuration.experiment.guardrails],
        [_act(number, act) for number, act in enumerate(configuration.acts)],
    )


def _result(
    configuration: Configuration, sums: GuardrailSums, guardrail: Guardrail
) -> GuardrailResult:
    versions = [
        GuardedVersion(
            unit.variants,
            unit.emails,
            unit.events,
            unit.control_emails,
            unit.control_events,
            _state(configuration, guardrail, unit.variants),
        )
        for unit in watched(configuration, sums, guardrail)
    ]
    return GuardrailResult(
        guardrail.event,
        guardrail.limit,
        guardrail.worse_than_control,
        guardrail.action,
        guardrail.scope,
        versions,
    )


def _state(
    configuration: Configuration, guardrail: Guardrail, variants: dict[str, str]
) -> Literal["watched", "alerted", "paused"]:
    in_force = (a for a in configuration.acts if a.undone is None)
    states: set[Literal["alerted", "paused"]] = {
        "paused" if act.guardrail.action == "pause" else "alerted"
        for act in in_force
        if act.is_of(guardrail, variants)
    }
    return max(states, default="watched")  # paused comes behind alerted


def _act(number: int, act: GuardrailAct) -> GuardrailActResult:
    return GuardrailActResult(
        number,
        moment(act.at),
        act.guardrail.event,
        act.guardrail.limit,
        act.guardrail.worse_than_control,
        act.guardrail.action,
        act.variants,
        act.emails,
        act.events,
        act.control_emails,
        act.control_events,
        act.undone is not None,
    )
