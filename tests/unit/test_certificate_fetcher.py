"""Certificates are fetched from public addresses alone, without redirects, and bounded."""

import socket
from collections.abc import Callable
from functools import partial

import httpx
import pytest

from webapp import egress
from webapp.signals.certificates import MAX_BYTES
from webapp.webhooks.certificate_fetcher import fetch

ADDRESS = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a1b.pem"
Respond = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def network(monkeypatch) -> Callable[..., list[str]]:
    """A network in which every name leads to some addresses, and a server answers."""

    def start(respond: Respond, *places: str) -> list[str]:
        asked: list[str] = []

        def answer(request: httpx.Request) -> httpx.Response:
            url = request.url.copy_with(host=request.extensions["sni_hostname"])
            asked.append(str(url))
            return respond(request)

        def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port)) for place in places]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        transport = httpx.MockTransport(answer)
        client = partial(httpx.Client, transport=transport)
        monkeypatch.setattr(egress.httpx, "Client", client)
        return asked

    return start


def test_certificate_is_fetched_from_a_public_address(network):
    asked = network(lambda _: httpx.Response(200, stream=httpx.ByteStream(b"pem")), "52.94.5.1")
    assert fetch(ADDRESS) == b"pem"
    assert asked == [ADDRESS]


@pytest.mark.parametrize(
    "place",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
    ],
)
def test_name_that_leads_into_a_private_network_is_not_called(network, place):
    asked = network(
        lambda _: httpx.Response(200, stream=httpx.ByteStream(b"pem")), "52.94.5.1", place
    )
    with pytest.raises(OSError, match="private network"):
        fetch(ADDRESS)
    assert asked == []


@pytest.mark.parametrize("address", ["http://sns.eu-west-1.amazonaws.com/x.pem", "https:///x", "x"])
def test_address_without_https_is_not_called(network, address):
    asked = network(lambda _: httpx.Response(200), "52.94.5.1")
    with pytest.raises(OSError, match="https"):
        fetch(address)
    assert asked == []


def test_redirect_is_not_followed(network):
    elsewhere = {"Location": "https://10.0.0.1/"}
    asked = network(lambda _: httpx.Response(302, headers=elsewhere), "52.94.5.1")
    with pytest.raises(OSError, match="status 302"):
        fetch(ADDRESS)
    assert asked == [ADDRESS]


def test_answer_that_is_too_long_is_not_read_to_its_end(network):
    network(
        lambda _: httpx.Response(200, stream=httpx.ByteStream(b"x" * (MAX_BYTES + 1))), "52.94.5.1"
    )
    with pytest.raises(OSError, match="too long"):
        fetch(ADDRESS)


def test_silence_is_an_os_error(network):
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("no answer", request=request)

    network(fail, "52.94.5.1")
    with pytest.raises(OSError, match="ConnectTimeout"):
        fetch(ADDRESS)
