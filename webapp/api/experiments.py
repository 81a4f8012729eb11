"""Experiments: declaration, edits, life cycle and results."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from flask import request
from msgspec import Meta, Struct, structs

from bandits.engine.analysis.receipts import moment
from bandits.errors import (
    AlreadyExists,
    FixedOnceStarted,
    InvalidInput,
    NotFound,
    StaleEdit,
    WrongState,
)
from bandits.experiment import Combination, Experiment
from bandits.results import Results, SetAside
from bandits.store.values import ExperimentRecord, State
from bandits.validation import refusal
from bandits.verdict import Verdict
from webapp.api.bodies import JSON, MERGE_PATCH, Body
from webapp.api.operation import OperationGroup, OperationResponse, caller
from webapp.pages.experiment.verdict_text import verdict_text
from webapp.services import Services

operations = OperationGroup("experiments")

_PATH = "/experiments/<key:key>"
_LAST = 2**53  # the largest whole number that every JSON reader keeps
EXAMPLE = {
    "key": "spring",
    "name": "Spring sale",
    "slots": [
        {
            "key": "subject_line",
            "kind": "subject_line",
            "variants": [
                {"key": "plain", "payload": {"text": "Our spring sale starts today"}},
                {"key": "question", "payload": {"text": "Ready for spring?"}},
            ],
        },
        {
            "key": "discount",
            "kind": "discount",
            "variants": [
                {"key": "none", "payload": {"percent": 0}},
                {"key": "ten", "payload": {"percent": 10}},
            ],
        },
    ],
    "policy": {"name": "thompson", "params": {}},
    "reward": {
        "metrics": {"click": {"weight": 1.0}},
        "window_seconds": 604800,
        "maturity_seconds": 86400,
    },
    "context": [
        {"name": "recency", "kind": "number", "low": 0, "high": 24},
        {"name": "channel", "kind": "category", "values": ["Web", "Phone"]},
    ],
}
_VERSION = re.compile(r"[0-9]{1,18}")
_ETAG = {"ETag": "the version of the configuration, to send as If-Match with an edit"}


class ExperimentDocument(Struct, frozen=True):
    """An experiment in its present state.

    Attributes:
        configuration_version: grows with every edit; the ETag.
        policy_version: of the snapshot that decides now; grows with every fold.
        declaration: with every default filled in.
        shipped: by slot, the variant that a stopped experiment sends to every recipient.
        results_close_at: the time from which a stopped experiment's result is final.
        keep_control_group: its control group goes on getting the control, instead of `shipped`.
    """

    key: str
    state: State
    configuration_version: int
    policy_version: int
    arms: int
    created_at: datetime
    started_at: datetime | None
    stopped_at: datetime | None
    declaration: Experiment
    shipped: Combination | None = None
    results_close_at: datetime | None = None
    keep_control_group: bool = False

    @classmethod
    def from_record(cls, record: ExperimentRecord) -> "ExperimentDocument":
        """Describe a stored experiment."""
        return cls(
            record.key,
            record.state,
            record.configuration.version,
            record.learned_version,
            len(record.configuration.arms),
            moment(record.created_at),
            None if record.started_at is None else moment(record.started_at),
            None if record.stopped_at is None else moment(record.stopped_at),
            record.configuration.experiment,
            record.shipped_variants,
            None if record.closes_at is None else moment(record.closes_at),
            record.keeps_control,
        )


class ExperimentList(Struct, frozen=True):
    """Experiments, the newest first; `next` continues the list, null at its end."""

    experiments: list[ExperimentDocument]
    next: int | None


class ListQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Page of a list of experiments."""

    state: Annotated[
        State | None,
        Meta(description="only those in this state; all but the archived unless given"),
    ] = None
    after: Annotated[int, Meta(ge=0, le=_LAST, description="`next` of the page before")] = _LAST
    limit: Annotated[int, Meta(ge=1, le=100, description="how many at most")] = 50


def _answer(record: ExperimentRecord, status: int = 200) -> OperationResponse:
    headers = {"ETag": f'"{record.configuration.version}"'}
    if status == 201:  # noqa: PLR2004 - Created
        headers["Location"] = f"/api/v1/experiments/{record.key}"
    return OperationResponse(ExperimentDocument.from_record(record), status, headers)


@operations(
    "POST",
    "/experiments",
    scope="manage",
    body=Body(Experiment, example=EXAMPLE),
    answers={201: ExperimentDocument},
    refusals=(AlreadyExists,),
    idempotent=True,
    headers={**_ETAG, "Location": "where it is"},
    gives={"key": "$response.body#/key"},
)
def create_experiment(services: Services, body: Experiment) -> OperationResponse:
    """Add an experiment as a draft."""
    return _answer(services.engine.create(body, by=caller()), 201)


@operations(
    "GET",
    "/experiments",
    scope="read",
    query=ListQuery,
    answers={200: ExperimentList},
)
def list_experiments(services: Services, query: ListQuery) -> OperationResponse:
    """List experiments, the newest first, page by page; archived ones only by `state`."""
    states = {"draft", "running", "paused", "stopped"} if query.state is None else {query.state}
    records = services.engine.store.experiments.records()
    records = [r for r in records if r.id < query.after and r.state in states]
    page = records[: query.limit]
    following = page[-1].id if len(records) > len(page) else None
    return OperationResponse(
        ExperimentList([ExperimentDocument.from_record(r) for r in page], following)
    )


@operations(
    "GET",
    _PATH,
    scope="read",
    answers={200: ExperimentDocument},
    refusals=(NotFound,),
    headers=_ETAG,
)
def read_experiment(services: Services, key: str) -> OperationResponse:
    """Read one experiment."""
    return _answer(services.engine.store.experiments.record(key))


@operations(
    "PATCH",
    _PATH,
    scope="manage",
    body=Body(dict[str, Any], MERGE_PATCH, JSON, example={"name": "Summer sale", "floor": None}),
    answers={200: ExperimentDocument},
    refusals=(NotFound, StaleEdit, FixedOnceStarted, WrongState),
    headers=_ETAG,
    takes={"If-Match": "the ETag of what the edit was made on"},
)
def edit_experiment(services: Services, key: str, body: dict[str, Any]) -> OperationResponse:
    """Edit an experiment's declaration by a JSON Merge Patch (RFC 7396).

    Objects are merged, null restores a default, a list replaces the whole list. Once started, only
    these may change: `name`, `floor`, `learn_every_seconds`, `send_within_seconds`, `ends_at`,
    `retention_days`, `machine_rules`, `attribution` from one rule to the other, `policy` within its
    statistic family, a variant's `payload`, `name` and `paused`; variants may be added at the end
    of a slot.
    """
    record = services.engine.store.experiments.record(key)
    version = _version_of_edit(record.configuration.version)
    merged = merge_patch(msgspec.to_builtins(record.configuration.experiment), body)
    try:
        experiment = msgspec.convert(merged, Experiment)
    except msgspec.ValidationError:
        raise refusal(merged, Experiment) from None
    return _answer(services.engine.edit(key, experiment, version=version, by=caller()))


def _version_of_edit(current: int) -> int:
    if "If-Match" not in request.headers:
        raise InvalidInput.at("/If-Match", "is required: the ETag of what the edit was made on")
    if str(current) in request.if_match:  # also where it is *
        return current
    # Werkzeug reads an empty tag as None. Any other tag is like that of a version that is gone.
    numbers = [int(tag) for tag in request.if_match.as_set() if tag and _VERSION.fullmatch(tag)]
    return numbers[0] if numbers else 0


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON Merge Patch: RFC 7396, section 2."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


_TRANSITION: dict[str, Any] = {
    "scope": "manage",
    "answers": {200: ExperimentDocument},
    "refusals": (NotFound, WrongState),
    "headers": _ETAG,
    "idempotent": True,
}


@operations("POST", f"{_PATH}/start", **_TRANSITION)
def start_experiment(services: Services, key: str) -> OperationResponse:
    """Start a draft, or resume a paused experiment, unless its `ends_at` has passed."""
    return _answer(services.engine.start(key, by=caller()))


@operations("POST", f"{_PATH}/pause", **_TRANSITION)
def pause_experiment(services: Services, key: str) -> OperationResponse:
    """Pause choosing; rewards still count."""
    return _answer(services.engine.pause(key, by=caller()))


class StopRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a stop.

    Attributes:
        ship: by slot, the variant that every recipient gets from now on; without it, requests
            are refused.
        keep_control_group: the control group goes on getting the control instead.
    """

    ship: Annotated[Combination, Meta(min_length=1)] | None = None
    keep_control_group: bool = False


@operations(
    "POST",
    f"{_PATH}/stop",
    body=Body(StopRequest, example={"ship": {"subject_line": "plain"}}, optional=True),
    **_TRANSITION,
)
def stop_experiment(services: Services, key: str, body: StopRequest) -> OperationResponse:
    """Stop for good; rewards still count until `results_close_at`.

    With `ship` every later decision is that one combination: with propensity 1 and `shipped`,
    recorded for receipts and never learned from. Without it, requests to choose are refused.
    Neither can be undone.
    """
    return _answer(
        services.engine.stop(
            key, by=caller(), ship=body.ship, keep_control_group=body.keep_control_group
        )
    )


@operations("POST", f"{_PATH}/archive", **_TRANSITION)
def archive_experiment(services: Services, key: str) -> OperationResponse:
    """Archive a draft or a stopped experiment: lists leave it out."""
    return _answer(services.engine.archive(key, by=caller()))


class VerdictDocument(Verdict, frozen=True, kw_only=True):
    """The verdict, and the sentences that pages write of it.

    Attributes:
        text: the state, the leader, the cost of switching and the next step, as of this request.
    """

    text: str


class ResultsDocument(Results, frozen=True, kw_only=True):
    """Results with the verdict in words."""

    verdict: VerdictDocument


def results_document(services: Services, key: str) -> ResultsDocument:
    """Read the results of an experiment, with the verdict in words."""
    engine = services.engine
    record, results = engine.store.experiments.record(key), engine.results(key)
    text = verdict_text(record, results, engine.clock()).text
    verdict = VerdictDocument(**structs.asdict(results.verdict), text=text)
    return ResultsDocument(**structs.asdict(results) | {"verdict": verdict})


@operations(
    "GET", f"{_PATH}/results", scope="read", answers={200: ResultsDocument}, refusals=(NotFound,)
)
def read_results(services: Services, key: str) -> OperationResponse:
    """Read the results of an experiment, as of its newest snapshot."""
    return OperationResponse(results_document(services, key))


@operations(
    "GET", f"{_PATH}/set-aside", scope="read", answers={200: SetAside}, refusals=(NotFound,)
)
def read_set_aside(services: Services, key: str) -> OperationResponse:
    """Read which opens and clicks were set aside as made by machines, as of the newest snapshot."""
    return OperationResponse(services.engine.set_aside(key))
