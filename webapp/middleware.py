"""Middleware that every request passes: security headers, and a guard against a stalled database.

Each request has a thread. While the database keeps all of them waiting, what comes is refused
rather than queued behind them, so that the server still tells that it is alive.
"""

from collections.abc import Iterable
from threading import Condition
from typing import TYPE_CHECKING, Any

from bandits.client.tracking import CLICK_PATH, OPEN_PATH
from bandits.waits import limit_waits
from storage.databases import DatabaseProgress

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

# Plotly fills an empty style element from its script, brings one for maps, and sets style
# attributes. A hash allows exactly one text: the empty element, and the one for maps. A Plotly with
# another one for maps works as well; the browser's console then reports it as refused.
_EMPTY_STYLE = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
_MAP_STYLE = "'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='"

PAGE_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self'",
        f"style-src 'self' {_EMPTY_STYLE} {_MAP_STYLE}",
        "style-src-attr 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)

# An HTML block of an email: it may look as it likes and load pictures, and do nothing.
PREVIEW_POLICY = "; ".join(  # noqa: FLY002 - one directive a line
    [
        "sandbox",
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src https: data:",
        "font-src https: data:",
        "frame-ancestors 'self'",
    ]
)


AT_ONCE = 64  # single choices wait for a commit that they share; waiting takes no core
STALLED_SECONDS = 0.25  # without an end of any work in the database
_WITHOUT_DATABASE = ("/healthz", CLICK_PATH, OPEN_PATH)

_ALWAYS = (
    ("Content-Security-Policy", PAGE_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
)
_UNFRAMED = ("X-Frame-Options", "DENY")
_UNSTORED = ("Cache-Control", "no-store")  # unless a response says better
_ENCRYPTED = ("Strict-Transport-Security", "max-age=31536000")


class SecurityHeaders:
    """WSGI middleware that adds our headers to answers without their own.

    Middleware rather than a Flask hook: Flask searches all headers again for each one it adds,
    which took longer than a single choice.
    """

    def __init__(self, inner: "WSGIApplication") -> None:
        """Wrap `inner`."""
        self._inner = inner

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request as the inner application does, with our headers."""
        encrypted = environ["wsgi.url_scheme"] == "https"

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, headers + _missing(headers, encrypted=encrypted), *error)

        return self._inner(environ, start)


def _missing(headers: list[tuple[str, str]], *, encrypted: bool) -> list[tuple[str, str]]:
    own_headers = {name.title(): value for name, value in headers}
    new_headers = [*_ALWAYS, _UNSTORED]
    if "frame-ancestors 'none'" in own_headers.get("Content-Security-Policy", PAGE_POLICY):
        new_headers.append(_UNFRAMED)
    if encrypted:
        new_headers.append(_ENCRYPTED)
    return [header for header in new_headers if header[0] not in own_headers]


class StallGuard:
    """WSGI middleware that limits what requests wait for the database, and how many do."""

    def __init__(
        self,
        inner: "WSGIApplication",
        progress: DatabaseProgress,
        wait_seconds: float,
        at_once: int = AT_ONCE,
    ) -> None:
        """Wrap `inner`.

        Args:
            inner: the application.
            progress: of the work in the database.
            wait_seconds: that a request waits for others, all of its waits together.
            at_once: requests that `inner` gets at once, but for those that need no database.
        """
        self._inner = inner
        self._progress = progress
        self._wait_seconds = wait_seconds
        self._at_once = at_once
        self._changed = Condition()
        self._count = 0

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request as `inner` does; it may not wait where the database is stalled."""
        if environ["PATH_INFO"].startswith(_WITHOUT_DATABASE):
            return self._inner(environ, start_response)
        with limit_waits(self._wait_seconds):
            if self._enter():
                try:
                    return self._inner(environ, start_response)
                finally:
                    with self._changed:
                        self._count -= 1
                        self._changed.notify()
        with limit_waits(0.0):  # whatever needs the database is refused in its own way
            return self._inner(environ, start_response)

    def _enter(self) -> bool:
        """Wait for a place; return False where the database keeps those who have one."""
        with self._changed:
            while self._count >= self._at_once:
                stalled = self._progress.stalled_seconds()
                if stalled >= STALLED_SECONDS:
                    return False
                self._changed.wait(STALLED_SECONDS - stalled)
            self._count += 1
        return True
