"""Headers of every response, of pages and API: browsers may do only what our pages need."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

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


def init(app: Flask) -> None:
    """Add the headers to every response of `app`."""
    app.wsgi_app = SecurityHeaders(app.wsgi_app)  # type: ignore[method-assign]  # as its manual does


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
