"""Form of a stored experiment, to edit it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from bandits.experiment import Experiment, Slot, Variant
from bandits.features import Feature
from bandits.guardrails import Guardrail
from bandits.rewards import Metric
from bandits.versions import Configuration
from webapp.pages.form import margins
from webapp.pages.form.fields import typed_text
from webapp.pages.form.form_model import (
    TypedDuration,
    TypedExclusion,
    TypedExperiment,
    TypedFeature,
    TypedGuardrail,
    TypedMetric,
    TypedMoment,
    TypedSlot,
    TypedVariant,
)
from webapp.pages.formatting import split_duration


def fill_form(configuration: Configuration) -> TypedExperiment:
    """Return the form that declares a configuration."""
    experiment = configuration.experiment
    forgetting, forgetting_time = _forgetting(experiment)
    return TypedExperiment(
        name=experiment.name,
        key=experiment.key,
        slots=tuple(
            _slot(slot, control, experiment.reward.costs.get(slot.key, {}))
            for slot, control in zip(experiment.slots, experiment.control_variants(), strict=True)
        ),
        exclude=tuple(
            TypedExclusion(tuple(_level(slot, rule.get(slot.key)) for slot in experiment.slots))
            for rule in experiment.exclude
        ),
        metrics=tuple(
            _metric(name, m, experiment.slots) for name, m in experiment.reward.metrics.items()
        ),
        window=_duration(experiment.reward.window_seconds),
        maturity=_duration(experiment.reward.maturity_seconds),
        goal=experiment.reward.goal,
        context=tuple(_feature(f) for f in experiment.context),
        assignment=experiment.assignment,
        holdout=_percent(experiment.holdout),
        floor="" if experiment.floor is None else _percent(experiment.floor),
        await_activation=_tick(experiment.await_activation),
        send_within=_duration(experiment.send_within_seconds),
        strict=_tick(experiment.strict),
        starts_at=_moment(experiment.starts_at),
        ends_at=_moment(experiment.ends_at),
        attribution=experiment.attribution or "",
        retention_days="" if experiment.retention_days is None else str(experiment.retention_days),
        machine_rules="" if experiment.machine_rules is None else str(experiment.machine_rules),
        policy=experiment.policy.name,
        parameters={
            experiment.policy.name: {
                name: typed_text(value) for name, value in experiment.policy.params.items()
            }
        },
        learn_every=_duration(experiment.learn_every_seconds),
        forgetting=forgetting,
        forgetting_time=forgetting_time,
        version=str(configuration.version),
        guardrails=tuple(map(_guardrail, experiment.guardrails)),
        paused=tuple(
            TypedExclusion(tuple(_level(slot, rule.get(slot.key)) for slot in experiment.slots))
            for rule in experiment.paused
        ),
    )


def _metric(name: str, metric: Metric, slots: Sequence[Slot]) -> TypedMetric:
    margin, basis = margins.recognised(metric, slots) or ("", "paid")
    return TypedMetric(
        name,
        typed_text(metric.weight),
        "latest" if metric.latest else metric.count,
        typed_text(metric.low),
        typed_text(metric.high),
        metric.currency or "",
        margin,
        basis,
        "" if margin else margins.weights_text(metric.by),
    )


def _guardrail(guardrail: Guardrail) -> TypedGuardrail:
    kind, amount = "times", typed_text(guardrail.worse_than_control)
    if guardrail.limit is not None:
        kind, amount = "limit", _percent(guardrail.limit)
    return TypedGuardrail(guardrail.event, "yes", amount, kind, guardrail.action, guardrail.scope)


def _slot(slot: Slot, control: str, costs: Mapping[str, float]) -> TypedSlot:
    return TypedSlot(
        slot.kind,
        slot.key,
        slot.name,
        tuple(_variant(slot.kind, v, typed_text(costs.get(v.key))) for v in slot.variants),
        _level(slot, control),
    )


def _level(slot: Slot, variant: str | None) -> str:
    keys = [v.key for v in slot.variants]
    return "" if variant is None else str(keys.index(variant))


def _variant(kind: str, variant: Variant, cost: str) -> TypedVariant:
    payload = dict(variant.payload)
    text = html = percent = ""
    # A payload made elsewhere may hold anything: members without a field of their own stay.
    if kind == "subject_line" and isinstance(payload.get("text"), str):
        text = payload.pop("text")
    if kind == "content" and isinstance(payload.get("html"), str):
        html = payload.pop("html")
    if kind == "discount" and isinstance(payload.get("percent"), (int, float)):
        percent = typed_text(payload.pop("percent"))
    more = msgspec.json.format(msgspec.json.encode(payload)).decode() if payload else ""
    return TypedVariant(
        variant.key, variant.name, text, html, percent, more, _tick(variant.paused), cost
    )


def _feature(feature: Feature) -> TypedFeature:
    declared: dict[str, Any] = msgspec.to_builtins(feature)
    return TypedFeature(
        declared["kind"],
        feature.name,
        typed_text(declared.get("low")),
        typed_text(declared.get("high")),
        ", ".join(declared.get("values", ())),
        typed_text(declared["default"]),
    )


def _forgetting(experiment: Experiment) -> tuple[str, TypedDuration]:
    forgetting = experiment.forgetting
    if forgetting is None:
        return "never", TypedDuration()
    if forgetting.half_life_seconds is not None:
        return "half_life", _duration(forgetting.half_life_seconds)
    return "window", _duration(forgetting.window_seconds)


def _duration(seconds: float | None) -> TypedDuration:
    return TypedDuration() if seconds is None else TypedDuration(*split_duration(seconds))


def _moment(moment: datetime | None) -> TypedMoment:
    """Write a moment in UTC, in the digits that browsers know."""
    if moment is None:
        return TypedMoment()
    local = moment.astimezone(UTC).replace(tzinfo=None)
    digits = "milliseconds" if local.microsecond else "seconds" if local.second else "minutes"
    return TypedMoment(local.isoformat(timespec=digits))


def _percent(share: float) -> str:
    return f"{100 * share:.12g}"


def _tick(chosen: object) -> str:
    return "yes" if chosen else ""
