"""Egress guard: what the server calls by itself, at addresses that people typed in.

A name is resolved once, its addresses are checked, and the call goes to the address that was
checked. No redirect is followed, and no proxy of the environment is used.
"""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import httpx

from webapp.trusted_proxies import Network, parse_networks

_SCHEMES = {"https": 443, "http": 80}


class EgressRefused(OSError):
    """An address that the server may not call."""


class EgressGuard:
    """Guard of the calls that leave one server."""

    def __init__(self, networks: str = "") -> None:
        """Allow public addresses, and those in `networks`, separated by commas.

        Raises:
            ValueError: one of them is no network.
        """
        self._networks: Sequence[Network] = parse_networks(networks)

    def client(self, url: str, *, seconds: float) -> httpx.Client:
        """Return a client whose requests go to paths below an address; it is to be closed.

        Encryption may be left out only on the way to a private network that is allowed.

        Raises:
            EgressRefused: the address cannot be used, or is none that may be called.
        """
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            raise EgressRefused("it is no address of a server") from None
        if parsed.scheme not in _SCHEMES or not parsed.host or parsed.userinfo:
            raise EgressRefused("it is no http or https address")
        address = self._resolve(parsed.host, parsed.port or _SCHEMES[parsed.scheme])
        if parsed.scheme == "http" and address.is_global:
            raise EgressRefused("it must begin with https://")
        pinned = parsed.copy_with(host=str(address))
        name = parsed.host

        def keep_name(request: httpx.Request) -> None:
            request.headers["Host"] = parsed.netloc.decode("ascii")
            request.extensions = {**request.extensions, "sni_hostname": name}

        return httpx.Client(
            base_url=pinned,
            timeout=seconds,
            follow_redirects=False,
            trust_env=False,
            event_hooks={"request": [keep_name]},
        )

    def connect(self, host: str, port: int, *, seconds: float, encrypted: bool) -> socket.socket:
        """Connect to a port of a server; without encryption to a private network alone.

        Raises:
            EgressRefused: the address is none that may be called.
            OSError: it cannot be reached.
        """
        address = self._resolve(host, port)
        if not encrypted and address.is_global:
            raise EgressRefused("it must be reached by TLS or STARTTLS")
        return socket.create_connection((str(address), port), seconds)

    def _resolve(self, host: str, port: int) -> IPv4Address | IPv6Address:
        """Return the first address of a name, where all of them may be called."""
        try:
            places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise EgressRefused(f"no address is known of {host}") from None
        addresses = [_plain(str(place[0])) for *_, place in places]
        for address in addresses:
            if not address.is_global and not any(address in n for n in self._networks):
                raise EgressRefused(f"{host} leads into a private network")
        return addresses[0]


def _plain(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
