"""Pages for errors: what each means, and what to do about it."""

import logging

from flask import Flask, Response, g, render_template, request
from flask_wtf.csrf import CSRFError
from msgspec import Struct
from werkzeug.exceptions import HTTPException, TooManyRequests

from bandits.errors import (
    BanditsError,
    Conflict,
    InvalidInput,
    NoDatabase,
    NotFound,
    NotUpgraded,
    Unavailable,
)
from webapp.request_context import route

_log = logging.getLogger(__name__)


class ProblemText(Struct, frozen=True):
    """Title and advice of an error page."""

    title: str
    help: str


_STATUS_TEXTS = {
    400: ProblemText("This request cannot be read", "Go back and try again."),
    403: ProblemText(
        "You may not do this", "Your role does not allow it. Ask an admin of your team."
    ),
    404: ProblemText("There is no such page", "It may have been renamed; look for it in the list."),
    405: ProblemText("This page cannot be used like that", "Go back and use its buttons."),
    409: ProblemText("This does not go together", "Look at how it stands now, then decide anew."),
    413: ProblemText(
        "This is too much at once",
        "Go back: what you typed is still there. Shorten it, or split the file.",
    ),
    422: ProblemText("Something does not fit", "Go back and try again."),
    429: ProblemText("Too many attempts", "Wait a minute, then try again."),
    500: ProblemText("Something broke on our side", "Nothing was changed. Try again in a moment."),
    503: ProblemText(
        "The database does not answer",
        "It may be busy. Nothing was changed. Try again in a few seconds.",
    ),
}

_DATABASE_TEXTS = {
    NotUpgraded: ProblemText(
        "The database has to be upgraded",
        "It is of an older version than this server. An administrator upgrades it by “bandits"
        " db upgrade”, or by starting “bandits serve” again, which does it by itself. Nothing was"
        " changed.",
    ),
    NoDatabase: ProblemText(
        "The database is not there",
        "Its file was moved, removed or replaced, or the server was started with another address."
        " An administrator brings it back, or starts “bandits serve” with the right one; the"
        " server's log says where it was looked for. Nothing was changed.",
    ),
}


def init(app: Flask) -> None:
    """Answer errors of pages with pages; the API answers its own."""
    app.register_error_handler(HTTPException, _http_error_page)
    app.register_error_handler(CSRFError, _forged_page)
    app.register_error_handler(NotFound, lambda e: _page(404, str(e)))
    app.register_error_handler(InvalidInput, lambda e: _page(422, str(e)))
    app.register_error_handler(Conflict, lambda e: _page(409, str(e)))
    app.register_error_handler(Unavailable, _unavailable_page)
    app.register_error_handler(BanditsError, _broken_page)
    app.register_error_handler(Exception, _broken_page)


def _http_error_page(error: HTTPException) -> Response:
    status = error.code or 500
    if status < 400:  # noqa: PLR2004 - a redirect is an exception to werkzeug, not to us
        return error.get_response()  # type: ignore[return-value]
    is_ours = status in {403, 409} and error.description != type(error).description
    detail = str(error.description) if is_ours else ""
    if status == 413 and request.max_content_length:  # noqa: PLR2004 - too large
        detail = f"At most {request.max_content_length / 1e6:g} MB are taken at once."
    if status == 403 and detail:  # noqa: PLR2004 - forbidden: the gate says which role it takes
        detail = f"It takes the role {detail}."
    response = _page(status, detail)
    if isinstance(error, TooManyRequests):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _forged_page(error: CSRFError) -> Response:  # noqa: ARG001 - Flask hands it over
    return _page(
        400,
        "The form was opened before you signed in or out. Go back, reload the page, and send it"
        " again.",
    )


def _unavailable_page(error: Unavailable) -> Response:
    _log.error("%s %s failed: %s", request.method, route(), error.log_text)
    response = _page(503, text=_DATABASE_TEXTS.get(type(error)))
    response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


def _broken_page(error: Exception) -> Response:
    _log.error("%s %s failed", request.method, route(), exc_info=error)
    return _page(500)


def _page(status: int, detail: str = "", text: ProblemText | None = None) -> Response:
    text = text or _STATUS_TEXTS.get(status) or _STATUS_TEXTS[500 if status >= 500 else 400]  # noqa: PLR2004
    return Response(
        render_template(
            "problem.html",
            status=status,
            text=text,
            detail=detail,
            unsure=status == 500 and request.method == "POST",  # noqa: PLR2004 - our own fault
            request_id=g.get("request_id", ""),
        ),
        status,
    )
