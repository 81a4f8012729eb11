"""Certificate fetcher: what a sender's signature needs, from a public address, bounded in size.

The address was checked by its pattern before. Here nothing else is trusted: no redirect is
followed, and a name that leads into a private network is not called.
"""

import socket
import time
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx

from webapp.signals.certificates import MAX_BYTES

_SECONDS = 5.0


def fetch(address: str) -> bytes:
    """GET an https address; return the body of a 200.

    Raises:
        OSError: it cannot be fetched, whatever the cause.
    """
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.hostname:
        raise OSError("it is no https address")
    for *_, place in socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM):
        number = ip_address(str(place[0]).partition("%")[0])
        if not (getattr(number, "ipv4_mapped", None) or number).is_global:
            raise OSError("its name leads into a private network")
    until = time.monotonic() + _SECONDS
    try:
        with (
            httpx.Client(timeout=_SECONDS, follow_redirects=False, trust_env=False) as http,
            http.stream("GET", address, headers={"Accept-Encoding": "identity"}) as response,
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
