"""Downloads of an experiment: its tables and results as files."""

from collections.abc import Sequence
from math import isnan
from typing import Any

import msgspec
from flask import Response
from flask.typing import ResponseReturnValue

from bandits.inference.intervals import Finding
from bandits.results import EventGroup
from webapp.api.experiments import results_document
from webapp.charts import average_rewards, send_shares
from webapp.pages import pages
from webapp.pages.access import needs
from webapp.pages.experiment.labels import arm_name, slot_name, variant_name
from webapp.pages.experiment.results import load_results_view
from webapp.pages.formatting import csv_response
from webapp.services import services

_FIGURES = (
    "sent",
    "complete",
    "reward",
    "reward_per_email",
    "share_now",
    "final",
    "estimate",
    "low",
    "high",
    "lift",
    "lift_low",
    "lift_high",
    "chance_best",
    "expected_loss",
)

_EVENT_FIGURES = (
    "event",
    "weight",
    "less_is_better",
    "version",
    "sent",
    "still_open",
    "emails",
    "events",
    "rate_so_far",
    "value_so_far",
    "final",
    "final_emails",
    "rate",
    "rate_low",
    "rate_high",
    "difference",
    "difference_low",
    "difference_high",
    "value",
    "value_low",
    "value_high",
    "value_difference",
    "value_difference_low",
    "value_difference_high",
)


@pages.get("/experiments/<key:key>/results.csv")
@needs("viewer")
def results_csv(key: str) -> ResponseReturnValue:
    """Export the table of versions; each row ends with the campaign's verdict."""
    record, view = load_results_view(key)
    slots = [s.key for s in record.configuration.experiment.slots]
    metrics = list(record.configuration.experiment.reward.metrics)
    rows = [
        [
            *(row.result.variants[s] for s in slots),
            *_figures(row.result),
            *(row.result.metrics[m] for m in metrics),
            view.verdict.text,
        ]
        for row in view.arms
    ]
    return csv_response(f"{key}-results.csv", [*slots, *_FIGURES, *metrics, "verdict"], rows)


@pages.get("/experiments/<key:key>/parts.csv")
@needs("viewer")
def parts_csv(key: str) -> ResponseReturnValue:
    """Export the tables of parts."""
    _, view = load_results_view(key)
    rows = [
        [slot_name(part.slot), row.result.variant, variant_name(row.variant), *_figures(row.result)]
        for part in view.parts
        for row in part.rows
    ]
    return csv_response(f"{key}-parts.csv", ["part", "variant", "name", *_FIGURES], rows)


@pages.get("/experiments/<key:key>/events.csv")
@needs("viewer")
def events_csv(key: str) -> ResponseReturnValue:
    """Export every event by version."""
    engine = services().engine
    experiment = engine.store.experiments.record(key).configuration.experiment
    results = engine.results(key)
    labels = [arm_name(experiment, arm.variants) for arm in results.arms]
    rows = []
    for event in results.events:
        head = [event.name, event.weight, event.less_is_better]
        for label, arm in zip(labels, event.arms, strict=True):
            findings = (arm.closed_rate, arm.difference, arm.closed_value, arm.value_difference)
            intervals = [value for finding in findings for value in bounds(finding)]
            rows.append([*head, label, *_event_counts(arm), *intervals])
        if event.holdout is not None:
            rows.append([*head, "control group", *_event_counts(event.holdout), *[None] * 12])
    return csv_response(f"{key}-events.csv", _EVENT_FIGURES, rows)


@pages.get("/experiments/<key:key>/health.csv")
@needs("viewer")
def health_csv(key: str) -> ResponseReturnValue:
    """Export the checks."""
    _, view = load_results_view(key)
    rows = [[c.title, c.word, c.sentence] for c in view.health]
    return csv_response(f"{key}-health.csv", ["check", "state", "meaning"], rows)


@pages.get("/experiments/<key:key>/results.json")
@needs("viewer")
def results_json(key: str) -> ResponseReturnValue:
    """Export the results as the API answers them, with every interval's promise."""
    body = msgspec.json.format(msgspec.json.encode(results_document(services(), key)))
    response = Response(body, content_type="application/json")
    response.headers["Content-Disposition"] = f'attachment; filename="{key}-results.json"'
    return response


@pages.get("/experiments/<key:key>/history.csv")
@needs("viewer")
def history_csv(key: str) -> ResponseReturnValue:
    """Export the figures of both charts: one row for each point and version.

    `sent`, `complete` and `reward` count from the start; `share` is that of the sends since the
    point before, and `average` waits, as the chart does, until there are enough results.
    """
    _, view = load_results_view(key)
    labels = [row.style.label for row in view.arms]
    history = view.results.history
    stretches = send_shares(history)
    shares = dict(zip(stretches.times, stretches.shares.tolist(), strict=True))
    rows = [
        [point.at.isoformat(), point.version, label, *figures]
        for point, means in zip(history, average_rewards(history).tolist(), strict=True)
        for label, *figures in zip(
            labels,
            point.sent,
            point.complete,
            point.reward,
            shares.get(point.at, [None] * len(labels)),
            [None if isnan(mean) else mean for mean in means],
            strict=False,
        )
    ]
    head = ["at", "learned_version", "version", "sent", "complete", "reward", "share", "average"]
    return csv_response(f"{key}-history.csv", head, rows)


def _figures(result: Any) -> Sequence[Any]:
    """List the figures of an arm's or a variant's row, in the order of `_FIGURES`."""
    return [
        result.sent,
        result.complete,
        result.reward,
        result.mean,
        result.share_now,
        result.closed,
        *bounds(result.value),
        *bounds(result.lift),
        result.chance_best,
        result.expected_loss,
    ]


def _event_counts(group: EventGroup) -> list[float | None]:
    return [
        group.sent,
        group.open,
        group.emails,
        group.events,
        group.rate,
        group.value,
        group.closed,
        group.closed_emails,
    ]


def bounds(finding: Finding | None) -> tuple[float | None, float | None, float | None]:
    """Return an estimate and its interval, empty cells where it is not measurable."""
    if finding is None or not finding.measurable:
        return None, None, None
    return finding.estimate, finding.low, finding.high
