"""Single choices and a few rewards, answered before Flask looks at them.

Thousands of them come in a second where emails are sent, opened and clicked one by one, and Flask
takes longer for each than to record it. What is said of them here is what the operations `choose`
and `record_rewards` say: the same keys, bodies and counts. Only requests without anything unusual
are taken; all else is Flask's, and so is every error: it is handed on, to be answered as any other.
"""

import re
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Flask

from bandits.engine import Engine
from bandits.schemas import Request
from storage.accounts.api_keys import Scope
from webapp.api.bodies import JSON, Body
from webapp.api.decisions import FEW, ONE, RewardBatch, decide_one
from webapp.api.health import METRICS, WORK
from webapp.api.operation import FAILED, OperationResponse, allow
from webapp.api.routes import KeyConverter
from webapp.metrics import DecisionMetrics
from webapp.request_context import BEGUN, CURRENT_REQUEST, HEADER, CurrentRequest, request_id
from webapp.services import of_extensions

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_LONGEST = 10_000  # bytes of a body
_UNUSUAL = ("QUERY_STRING", "HTTP_CONTENT_ENCODING", "HTTP_TRANSFER_ENCODING")
_STATUS = {200: "200 OK", 201: "201 CREATED"}


def init(app: Flask, prefix: str) -> None:
    """Let what comes to `app` one by one pass Flask by, unless each request is to be logged."""
    if not app.config["ACCESS_LOG"]:
        app.wsgi_app = FastPath(app, app.wsgi_app, prefix)  # type: ignore[method-assign]  # as its manual does


class _FastRoute:
    """How an operation passes Flask by."""

    def __init__(
        self,
        route: str,
        scope: Scope,
        body: Body[Any],
        answer: Callable[[Engine, DecisionMetrics, str, Any], OperationResponse],
    ) -> None:
        """Answer requests to `route`, in whose place of a key any may stand.

        Args:
            route: as Flask writes it.
            scope: what the caller's API key must allow.
            body: what is sent.
            answer: answers it, given the engine, what counts, and the key in the path if any.
        """
        self.route = route
        self.scope = scope
        self.body = body
        self.answer = answer
        self.path = re.compile(route.replace("<key:key>", f"({KeyConverter.regex})"))


def _choose(engine: Engine, work: DecisionMetrics, key: str, body: Request) -> OperationResponse:
    decision = decide_one(engine, key, body)
    work.decided(key, [decision])
    return OperationResponse(decision, 200 if decision.repeat else 201)


def _reward(
    engine: Engine, work: DecisionMetrics, _key: str, body: RewardBatch
) -> OperationResponse:
    receipt = engine.reward(body.rewards)
    work.rewarded(receipt)
    return OperationResponse(receipt)


class FastPath:
    """A WSGI application that answers what comes one by one, and leaves all else to another."""

    def __init__(self, app: Flask, inner: "WSGIApplication", prefix: str) -> None:
        """Take requests for `app` below `prefix`; `inner` gets the others."""
        self._app = app
        self._inner = inner
        self._ways = (
            _FastRoute(f"{prefix}/experiments/<key:key>/choose", "choose", ONE, _choose),
            _FastRoute(f"{prefix}/rewards", "reward", FEW, _reward),
        )

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request."""
        for way in self._ways:
            found = way.path.fullmatch(environ["PATH_INFO"])
            if found is not None and _usual(environ):
                key = found[1] if found.re.groups else ""
                return self._answer(way, key, environ, start_response)
        return self._inner(environ, start_response)

    def _answer(
        self, way: _FastRoute, key: str, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        environ[BEGUN] = begun = time.perf_counter()
        extensions = self._app.extensions
        told = of_extensions(extensions)
        logged = CURRENT_REQUEST.set(CurrentRequest(environ, way.route, key))
        try:
            allow(environ.get("HTTP_AUTHORIZATION"), way.scope, told)
            body = way.body.decode(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            answer = way.answer(told.engine, extensions[WORK], key, body)
        except Exception as error:  # noqa: BLE001 - the operation raises it again
            environ[FAILED] = error
            return self._inner(environ, start_response)
        finally:
            CURRENT_REQUEST.reset(logged)
        content = msgspec.json.encode(answer.content)
        extensions[METRICS].count(way.route, "POST", answer.status, time.perf_counter() - begun)
        headers = [
            ("Content-Type", JSON),
            ("Content-Length", str(len(content))),
            (HEADER, request_id(environ)),
        ]
        start_response(_STATUS[answer.status], headers)
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
