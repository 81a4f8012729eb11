"""Egress guard: the address that was checked is the one that is called."""

import socket

import pytest

from tests.listmonk_server import ListmonkServer
from webapp.egress import EgressGuard, EgressRefused


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/",
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://user@198.51.100.1/",
        "ftp://8.8.8.8/",
        "https://",
        "http://8.8.8.8/",
        "no address",
    ],
)
def test_address_that_may_not_be_called_is_refused(url):
    with pytest.raises(EgressRefused):
        EgressGuard().client(url, seconds=1)


def test_name_with_one_private_address_is_refused(monkeypatch):
    answers = [(0, 0, 0, "", (host, 443)) for host in ("8.8.8.8", "192.168.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(EgressRefused, match="private"):
        EgressGuard().client("https://example.com", seconds=1)
    with EgressGuard("192.168.0.0/16").client("https://example.com", seconds=1) as http:
        assert http.base_url.host == "8.8.8.8"


def test_name_is_resolved_once_and_told_to_the_server(monkeypatch):
    server = ListmonkServer().start()
    port = int(server.url.rpartition(":")[2])
    calls = []

    def resolve(host, *_, **__):
        calls.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        http = EgressGuard("127.0.0.0/8").client(f"http://lists.test:{port}", seconds=5)
    with http:
        answer = http.get("api/maintenance/analytics/clicks/export")
    assert calls == ["lists.test"]
    assert answer.request.headers["Host"] == f"lists.test:{port}"
    assert answer.status_code == 200
    server.stop()


def test_redirect_is_not_followed():
    server = ListmonkServer().start()
    server.status = 302
    with EgressGuard("127.0.0.0/8").client(server.url, seconds=5) as http:
        assert http.get("api/maintenance/analytics/views/export").status_code == 302
    server.stop()


def test_networks_that_are_none_are_refused():
    with pytest.raises(ValueError, match="local"):
        EgressGuard("local")
