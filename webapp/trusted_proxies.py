"""Trusted proxies: the address, scheme and host that a proxy before the server tells it.

Headers that name them count only where the connection comes from an address that is trusted. A
prefix of all addresses is taken off the path, for a server that is reached below a path.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Network = IPv4Network | IPv6Network

_SCHEMES = {"http", "https"}


def parse_networks(text: str) -> list[Network]:
    """Read addresses and networks that are separated by commas.

    Raises:
        ValueError: one of them is none.
    """
    return [ip_network(part.strip()) for part in text.split(",") if part.strip()]


class TrustedProxies:
    """WSGI middleware that takes over what trusted proxies say of a request."""

    def __init__(
        self, inner: "WSGIApplication", networks: Sequence[Network], prefix: str = ""
    ) -> None:
        """Wrap `inner`.

        Args:
            inner: the application.
            networks: of the proxies.
            prefix: begins the path of each address, whether the proxy passes it on or cuts it off.
        """
        self._inner = inner
        self._networks = networks
        self._prefix = prefix

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request as the inner application does."""
        if self._networks and self._is_trusted(environ.get("REMOTE_ADDR", "")):
            self._forward(environ)
        if self._prefix:
            environ["SCRIPT_NAME"] = self._prefix
            path = environ["PATH_INFO"]
            if path == self._prefix or path.startswith(f"{self._prefix}/"):
                environ["PATH_INFO"] = path.removeprefix(self._prefix) or "/"
        return self._inner(environ, start_response)

    def _forward(self, environ: "WSGIEnvironment") -> None:
        environ["REMOTE_ADDR"] = self._client(
            environ["REMOTE_ADDR"], environ.get("HTTP_X_FORWARDED_FOR", "")
        )
        scheme = _last(environ.get("HTTP_X_FORWARDED_PROTO", "")).lower()
        if scheme in _SCHEMES:
            environ["wsgi.url_scheme"] = scheme
        if host := _last(environ.get("HTTP_X_FORWARDED_HOST", "")):
            environ["HTTP_HOST"] = host

    def _client(self, address: str, forwarded_for: str) -> str:
        """Return the last address that no trusted proxy has: those before it anybody may write."""
        for part in reversed(forwarded_for.split(",")):
            sender = _bare(part.strip())
            if not sender:
                break
            address = sender
            if not self._is_trusted(sender):
                break
        return address

    def _is_trusted(self, address: str) -> bool:
        bare = _bare(address)
        return bool(bare) and any(ip_address(bare) in network for network in self._networks)


def _last(values: str) -> str:
    return values.rpartition(",")[2].strip()


def _bare(text: str) -> str:
    """Return the address in a text without its port, empty where it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)
