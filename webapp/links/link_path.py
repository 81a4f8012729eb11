"""Path of tracked links: redirects and pixels, answered before Flask and without the database."""

import logging
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from bandits.client.tracking import CLICK_PATH, OPEN_PATH
from bandits.errors import Unavailable
from bandits.tracking_tokens import BadToken, TokenKind
from webapp.links.link_reader import HostNotAllowed, LinkReader
from webapp.metrics import RequestMetrics
from webapp.request_context import HEADER, request_id

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

CLICK_ROUTE, OPEN_ROUTE = f"{CLICK_PATH}<token>", f"{OPEN_PATH}<token>.gif"
_LEADING = frozenset({TokenKind.CLICK, TokenKind.HONEYPOT})
_GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,"
    b"\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
_ENDING = ".gif"
_WARNED_SECONDS = 10.0
BROKEN_LINK = "This link does not work. Copy the whole link from the email, or ask its sender.\n"
NO_HOST = "This link leads to a website that its sender does not allow (any more).\n"
BUSY = "Please try again in a minute.\n"
_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_log = logging.getLogger(__name__)
_access_log = logging.getLogger("bandits.access")

Answer = tuple[HTTPStatus, list[tuple[str, str]], bytes]


class TrackedLinkPath:
    """WSGI middleware that answers tracked links and pixels, and hands on all other requests."""

    def __init__(
        self,
        inner: "WSGIApplication",
        reader: LinkReader,
        metrics: RequestMetrics,
        *,
        access_log: bool,
    ) -> None:
        """Answer what `inner` is not to see.

        Args:
            inner: the application.
            reader: proves tokens and records hits.
            metrics: counts requests.
            access_log: log each one.
        """
        self._inner = inner
        self._reader = reader
        self._metrics = metrics
        self._access_log = access_log
        self._lost = 0
        self._warned_at = -_WARNED_SECONDS

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request."""
        path = environ["PATH_INFO"]
        if path.startswith(CLICK_PATH):
            route, respond, token = CLICK_ROUTE, self._redirect, path[len(CLICK_PATH) :]
        elif path.startswith(OPEN_PATH):
            token = path[len(OPEN_PATH) :].removesuffix(_ENDING)
            route, respond = OPEN_ROUTE, self._show_pixel
        else:
            return self._inner(environ, start_response)
        started = time.perf_counter()
        method = environ["REQUEST_METHOD"]
        status, headers, content = self._answer(respond, token, environ)
        seconds = time.perf_counter() - started
        self._metrics.count_request(route, method, status, seconds)
        if self._access_log:
            extra = {"status": int(status), "milliseconds": round(seconds * 1000, 3)}
            _access_log.info("%s %s %s", method, route, int(status), extra=extra)
        headers += [("Content-Length", str(len(content))), (HEADER, request_id(environ))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [b"" if method == "HEAD" else content]

    def _answer(
        self,
        respond: "Callable[[str, WSGIEnvironment], Answer]",
        token: str,
        environ: "WSGIEnvironment",
    ) -> Answer:
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return HTTPStatus.METHOD_NOT_ALLOWED, [("Allow", "GET, HEAD"), _TEXT], b""
        try:
            return respond(token, environ)
        except BadToken as error:
            text = NO_HOST if type(error) is HostNotAllowed else BROKEN_LINK
            return HTTPStatus.NOT_FOUND, [_TEXT], text.encode()
        except Unavailable as error:
            _log.warning("cannot answer a tracked link: %s", error)
            headers = [("Retry-After", str(error.retry_after_seconds)), _TEXT]
            return HTTPStatus.SERVICE_UNAVAILABLE, headers, BUSY.encode()

    def _redirect(self, text: str, environ: "WSGIEnvironment") -> Answer:
        """Lead on, also where the click cannot be written: it is the recipient who waits."""
        signed, token = self._reader.prove(text, *_LEADING)
        if not token.address:
            raise BadToken("it leads nowhere")
        try:
            self._reader.record(signed, token, environ)
        except Unavailable as error:
            self._warn(error)
        headers = [("Location", token.address), ("X-Robots-Tag", "noindex")]
        return HTTPStatus.FOUND, headers, b""

    def _warn(self, error: Unavailable) -> None:
        """Count a click that is lost, and say so now and then."""
        self._lost += 1
        if time.monotonic() - self._warned_at >= _WARNED_SECONDS:
            self._warned_at = time.monotonic()
            _log.error("clicks are lost, %d so far: %s", self._lost, error)

    def _show_pixel(self, text: str, environ: "WSGIEnvironment") -> Answer:
        signed, token = self._reader.prove(text, TokenKind.OPEN)
        self._reader.record(signed, token, environ)
        return HTTPStatus.OK, [("Content-Type", "image/gif")], _GIF
