"""Routes of the API and its error responses, registered in an application."""

from collections.abc import Iterator
from typing import Any

import msgspec
from flask import Blueprint, Flask, Response, current_app, g, request
from msgspec import Raw
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from bandits.errors import BanditsError, NotFound, Unavailable
from webapp.api import (
    api_keys,
    connections,
    decisions,
    experiments,
    health,
    problems,
    proposals,
    rewards,
    subjects,
    tracked_links,
    voids,
)
from webapp.api.openapi import openapi
from webapp.api.operation import (
    FastPath,
    Operation,
    OperationGroup,
    OperationResponse,
    authorize,
)
from webapp.api.problems import NotAuthenticated
from webapp.request_context import route
from webapp.row_numbers import RowNumberConverter
from webapp.services import Services, services


class KeyConverter(BaseConverter):
    """Converter of experiment keys."""

    regex = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}"


class DecisionIdConverter(BaseConverter):
    """Converter of decision ids, which may hold slashes; two words are other routes."""

    part_isolating = False
    regex = r"(?!(?:activate|cancel)\Z)[\x21-\x7e]{1,128}"


class SubjectIdConverter(BaseConverter):
    """Converter of subject ids, which may hold slashes."""

    part_isolating = False
    regex = r"(?s:.{1,256})"


CONVERTERS: dict[str, type[BaseConverter]] = {
    "key": KeyConverter,
    "decision_id": DecisionIdConverter,
    "subject_id": SubjectIdConverter,
    "int": RowNumberConverter,
}


PREFIX = "/api/v1"

_DOCUMENT = "bandits.openapi"
_PREFIXES = ("/api/", f"{problems.FOLDER}/", "/healthz", "/readyz", "/metrics")
_descriptions = OperationGroup("operations")


@_descriptions("GET", "/openapi.json", scope=None, answers={200: dict[str, Any]})
def openapi_document(_services: Services) -> OperationResponse:
    """Read this API's description, in OpenAPI 3.1."""
    return OperationResponse(Raw(current_app.extensions[_DOCUMENT]))


@_descriptions(
    "GET",
    f"{problems.FOLDER}/<key:name>",
    scope=None,
    answers={200: str},
    refusals=(NotFound,),
    media_type="text/plain; charset=utf-8",
)
def explain_problem(_services: Services, name: str) -> OperationResponse:
    """Read what a problem's `type` means and what to do about it."""
    if name not in problems.TYPES:
        raise NotFound("problem", name)
    problem = problems.TYPES[name]
    return OperationResponse(f"{problem.status} {problem.title}\n\n{problem.help}\n")


def every_operation() -> Iterator[tuple[str, Operation]]:
    """Yield all operations, each with the prefix of its address."""
    for module in (
        experiments,
        decisions,
        rewards,
        subjects,
        voids,
        connections,
        tracked_links,
        proposals,
        api_keys,
    ):
        yield from ((PREFIX, operation) for operation in module.operations)
    document, explain = _descriptions
    yield PREFIX, document
    yield "", explain
    yield from (("", operation) for operation in health.operations)


def init(app: Flask, url_prefix: str) -> None:
    """Add every operation to `app`, and answer errors of theirs with problem documents.

    A server that logs each request serves none by the fast path: its log lines are Flask's.

    Args:
        app: the application.
        url_prefix: begins the path of every address, where the server is reached below a path.
    """
    app.url_map.converters.update(CONVERTERS)
    description = openapi(every_operation(), server=url_prefix or "/")
    app.extensions[_DOCUMENT] = msgspec.json.encode(description)
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
    app.before_request(_refuse_unknown_address)
    if not app.config["ACCESS_LOG"]:
        app.wsgi_app = FastPath(app, app.wsgi_app, every_operation())  # type: ignore[method-assign]  # as its manual does


def _refuse_unknown_address() -> Response | None:
    """Answer an unknown address or method of the API with a problem, not with a page.

    No operation counts such a request towards the rate of its key, nor one for options.
    """
    error = request.routing_exception
    if not request.path.startswith(_PREFIXES):
        return None
    if error is None and request.method != "OPTIONS":
        return None
    try:
        authorize(request.environ, None, services())
    except NotAuthenticated:  # nobody's
        pass
    except BanditsError as refusal:
        return _fail(refusal)
    return None if error is None else problems.respond(error, g.request_id)


def _fail(error: Exception) -> Response:
    expected = isinstance(error, HTTPException | BanditsError)
    if isinstance(error, Unavailable):  # a traceback does not explain a busy database
        current_app.logger.error("%s %s failed: %s", request.method, route(), error.log_text)
    elif not expected or problems.problem_type(error).status >= 500:  # noqa: PLR2004 - server errors
        current_app.logger.error("%s %s failed", request.method, route(), exc_info=error)
    return problems.respond(error, g.request_id)
