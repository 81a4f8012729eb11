"""Certificate fetcher: what a sender's signature needs, from a public address, bounded in size.

The address was checked by its pattern before. Here nothing else is trusted: `EgressGuard` follows
no redirect, and calls no private network.
"""

import time
from urllib.parse import urlsplit, urlunsplit

import httpx

from webapp.egress import EgressGuard
from webapp.signals.certificates import MAX_BYTES

_SECONDS = 5.0
_PUBLIC = EgressGuard()


def fetch(address: str) -> bytes:
    """GET an https address; return the body of a 200.

    Raises:
        OSError: it cannot be fetched, whatever the cause.
    """
    root, path = _parts(address)
    until = time.monotonic() + _SECONDS
    headers = {"Accept-Encoding": "identity"}
    try:
        with (
            _PUBLIC.client(root, seconds=_SECONDS) as http,
            http.stream("GET", path, headers=headers) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise OSError(f"the answer has status {response.status_code}")
            content = b""
            for part in response.iter_raw():
                content += part
                if len(content) > MAX_BYTES or time.monotonic() > until:
                    raise OSError("the answer is too long or too slow")
            return content
    except httpx.HTTPError as error:
        raise OSError(f"no answer: {type(error).__name__}") from None


def _parts(address: str) -> tuple[str, str]:
    """Return the server of an https address, and the path there with its query."""
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "https" or not parts.hostname:
        raise OSError("it is no https address")
    return f"https://{parts.netloc}", urlunsplit(("", "", parts.path or "/", parts.query, ""))
