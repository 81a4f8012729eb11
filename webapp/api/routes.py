"""Routes of the API and its error responses, registered in an application."""

from collections.abc import Iterator
from typing import Any

import msgspec
from flask import Blueprint, Flask, Response, current_app, g, request
from msgspec import Raw
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from bandits.errors import BanditsError, NotFound, Unavailable
from webapp.api import api_keys, decisions, experiments, health, problems, subjects
from webapp.api.openapi import openapi
from webapp.api.operation import Operation, OperationGroup, OperationResponse
from webapp.metrics import DecisionMetrics, FoldMetrics, HttpMetrics
from webapp.request_context import route


class KeyConverter(BaseConverter):
    """The key of an experiment."""

    regex = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}"


class DecisionIdConverter(BaseConverter):
    """The id of a decision; it may hold slashes, but two words are taken."""

    part_isolating = False
    regex = r"(?!(?:activate|cancel)\Z)[\x21-\x7e]{1,128}"


class SubjectIdConverter(BaseConverter):
    """The id of a subject, as its sender knows it; it may hold slashes."""

    part_isolating = False
    regex = r"(?s:.{1,256})"


CONVERTERS: dict[str, type[BaseConverter]] = {
    "key": KeyConverter,
    "decision_id": DecisionIdConverter,
    "subject_id": SubjectIdConverter,
}


PREFIX = "/api/v1"

_DOCUMENT = "bandits.openapi"
_OURS = ("/api/", f"{problems.FOLDER}/", "/healthz", "/readyz", "/metrics")
_about = OperationGroup("operations")


@_about("GET", "/openapi.json", scope=None, answers={200: dict[str, Any]})
def openapi_document() -> OperationResponse:
    """Read this API's description, in OpenAPI 3.1."""
    return OperationResponse(Raw(current_app.extensions[_DOCUMENT]))


@_about(
    "GET",
    f"{problems.FOLDER}/<key:name>",
    scope=None,
    answers={200: str},
    refusals=(NotFound,),
    media_type="text/plain; charset=utf-8",
)
def explain_problem(name: str) -> OperationResponse:
    """Read what a problem's `type` means and what to do about it."""
    if name not in problems.TYPES:
        raise NotFound("problem", name)
    problem = problems.TYPES[name]
    return OperationResponse(f"{problem.status} {problem.title}\n\n{problem.help}\n")


def every_operation() -> Iterator[tuple[str, Operation]]:
    """Go through all operations, each with the prefix it is served under."""
    modules = (experiments, decisions, subjects, api_keys)
    for declared in (module.operations for module in modules):
        yield from ((PREFIX, operation) for operation in declared)
    document, explain = _about
    yield PREFIX, document
    yield "", explain
    yield from (("", operation) for operation in health.operations)


def init(app: Flask) -> None:
    """Add every operation to `app`, and answer what goes wrong below them with problems."""
    app.url_map.converters.update(CONVERTERS)
    app.extensions[health.METRICS] = HttpMetrics()
    app.extensions[health.WORK] = DecisionMetrics()
    app.extensions[health.FOLDS] = FoldMetrics()  # a server sets those of its learner
    app.extensions[_DOCUMENT] = msgspec.json.encode(openapi(every_operation()))
    blueprint = Blueprint("api", __name__)
    for prefix, operation in every_operation():
        blueprint.add_url_rule(
            prefix + operation.path,
            operation.name,
            operation.respond,
            methods=[operation.method],
            merge_slashes=False,  # an id may hold two of them side by side
        )
    blueprint.register_error_handler(Exception, _fail)
    app.register_blueprint(blueprint)
    app.before_request(_refuse_strange_address)


def _refuse_strange_address() -> Response | None:
    """Answer an unknown address or method of ours with a problem, not with a page."""
    error = request.routing_exception
    if error is None or not request.path.startswith(_OURS):
        return None
    return problems.respond(error, g.request_id)


def _fail(error: Exception) -> Response:
    expected = isinstance(error, HTTPException | BanditsError)  # the roots of what is foreseen
    if isinstance(error, Unavailable):  # where it was raised tells nobody why the database is busy
        current_app.logger.error("%s %s failed: %s", request.method, route(), error)
    elif not expected or problems.type_of(error).status >= 500:  # noqa: PLR2004 - server errors
        current_app.logger.error("%s %s failed", request.method, route(), exc_info=error)
    return problems.respond(error, g.request_id)
