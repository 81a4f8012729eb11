"""Single choices, answered before Flask looks at them.

Thousands of them come in a second where an email is sent when somebody does something, and Flask
takes longer for each than to decide and to store it. What is said of them here is what the
operation `choose` says: the same key, the same body, the same counts. Only requests without
anything unusual are taken; all else is Flask's, and so is every error: it is handed on, to be
answered as any other.
"""

import re
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from flask import Flask

from webapp.api.addresses import KeyConverter
from webapp.api.bodies import JSON
from webapp.api.decisions import ONE, decide_one
from webapp.api.health import METRICS, WORK
from webapp.api.operation import FAILED, allow
from webapp.asked import ASKED, HEADER, Asked, request_id
from webapp.services import of_extensions
from webapp.tracing import BEGUN

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_LONGEST = 10_000  # bytes of a body
_UNUSUAL = ("QUERY_STRING", "HTTP_CONTENT_ENCODING", "HTTP_TRANSFER_ENCODING")
_STATUS = {200: "200 OK", 201: "201 CREATED"}


def init(app: Flask, prefix: str) -> None:
    """Let single choices of `app` below `prefix` pass Flask by, unless each is to be logged."""
    if not app.config["ACCESS_LOG"]:
        app.wsgi_app = Express(app, app.wsgi_app, prefix)  # type: ignore[method-assign]  # as its manual does


class Express:
    """A WSGI application that answers single choices, and leaves all else to another."""

    def __init__(self, app: Flask, inner: "WSGIApplication", prefix: str) -> None:
        """Take requests for `app` below `prefix`; `inner` gets the others."""
        self._app = app
        self._inner = inner
        path = f"{prefix}/experiments/%s/choose"
        self._route = path % "<key:key>"
        self._path = re.compile(path % f"({KeyConverter.regex})")

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request."""
        found = self._path.fullmatch(environ["PATH_INFO"])
        if found is None or not _usual(environ):
            return self._inner(environ, start_response)
        environ[BEGUN] = begun = time.perf_counter()
        extensions = self._app.extensions
        told = of_extensions(extensions)
        logged = ASKED.set(Asked(environ, self._route, found[1]))
        try:
            allow(environ.get("HTTP_AUTHORIZATION"), "choose", told)
            body = ONE.decode(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            decision = decide_one(told.engine, found[1], body)
        except Exception as error:  # noqa: BLE001 - the operation raises it again
            environ[FAILED] = error
            return self._inner(environ, start_response)
        finally:
            ASKED.reset(logged)
        extensions[WORK].decided(found[1], [decision])
        status = 200 if decision.repeat else 201
        content = msgspec.json.encode(decision)
        extensions[METRICS].count(self._route, "POST", status, time.perf_counter() - begun)
        headers = [
            ("Content-Type", JSON),
            ("Content-Length", str(len(content))),
            (HEADER, request_id(environ)),
        ]
        start_response(_STATUS[status], headers)
        return [content]


def _usual(environ: "WSGIEnvironment") -> bool:
    """Tell whether a request is one that nobody would look at twice."""
    length = environ.get("CONTENT_LENGTH", "")
    return (
        environ["REQUEST_METHOD"] == "POST"
        and environ.get("CONTENT_TYPE") == JSON
        and not any(map(environ.get, _UNUSUAL))
        and length.isascii()
        and length.isdigit()
        and int(length) <= _LONGEST
    )
