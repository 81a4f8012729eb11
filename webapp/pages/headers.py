"""Response headers that keep browsers from doing what our pages never need."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

# Plotly fills an empty style element from its script, brings one for maps, and sets style
# attributes. A hash lets in exactly its text, so an empty element and that of the maps: no style of
# anybody else. A Plotly that brings another one for maps works as well, and is told of it in the
# browser's console.
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
_FRESH = ("Cache-Control", "private, no-cache")
_ENCRYPTED = ("Strict-Transport-Security", "max-age=31536000")


def init(app: Flask) -> None:
    """Add the headers to every response of `app`."""
    app.wsgi_app = SecurityHeaders(app.wsgi_app)  # type: ignore[method-assign]  # as its manual does


class SecurityHeaders:
    """A WSGI application, its answers with our headers where they have none of their own.

    Around Flask rather than a hook in it: its headers are searched anew for each one that is added,
    which cost single choices more than to decide.
    """

    def __init__(self, inner: "WSGIApplication") -> None:
        """Add to what `inner` answers."""
        self._inner = inner

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request."""
        encrypted = environ["wsgi.url_scheme"] == "https"

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, headers + _missing(headers, encrypted=encrypted), *error)

        return self._inner(environ, start)


def _missing(headers: list[tuple[str, str]], *, encrypted: bool) -> list[tuple[str, str]]:
    given = {name.title(): value for name, value in headers}
    added = [*_ALWAYS]
    if "frame-ancestors 'none'" in given.get("Content-Security-Policy", PAGE_POLICY):
        added.append(_UNFRAMED)
    if given.get("Content-Type", "").startswith("text/html"):
        added.append(_FRESH)
    if encrypted:
        added.append(_ENCRYPTED)
    return [header for header in added if header[0] not in given]
