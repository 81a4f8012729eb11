"""Proxies: nginx and Caddy as docs/proxies configures them, before a real server."""

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from storage import open_store
from tests.e2e.conftest import Server
from tests.patience import LIMIT_SECONDS, wait_until
from webapp.passwords import hash_password
from webapp.trusted_proxies import TrustedProxies, parse_networks

EXAMPLES = Path(__file__).parents[2] / "docs" / "proxies"
PATH = "/usr/sbin:/usr/bin:/usr/local/bin"
PASSWORD = "plum velvet harbour tractor"
STRANGER, COLLEAGUE = "127.0.0.9", "127.0.0.10"  # addresses of this machine, all of them

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def program(name: str) -> str:
    path = shutil.which(name, path=PATH)
    assert path is not None, f"tests/install-proxies installs {name}"
    return path


def replaced(text: str, pairs: dict[str, str]) -> str:
    """Replace what an example asks to be replaced; each has to be there."""
    for old, new in pairs.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


class Proxy:
    """A proxy that listens on a port by TLS, below the path ``/bandits``."""

    def __init__(self, port: int) -> None:
        self.port = port

    def browser(self, address: str) -> httpx.Client:
        """Open a browser at another address of this machine."""
        trusting = ssl.create_default_context()
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        transport = httpx.HTTPTransport(verify=trusting, local_address=address)
        return httpx.Client(
            base_url=f"https://localhost:{self.port}/bandits",
            transport=transport,
            timeout=LIMIT_SECONDS,
        )

    def is_up(self) -> bool:
        with self.browser(STRANGER) as browser:
            try:
                return browser.get("/healthz").status_code == 200
            except httpx.TransportError:
                return False


def nginx(folder: Path, upstream: int) -> tuple[Proxy, list[str]]:
    port = free_port()
    subprocess.run(
        f"{program('openssl')} req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost"
        " -keyout key.pem -out cert.pem".split(),
        check=True,
        capture_output=True,
        timeout=LIMIT_SECONDS,
        cwd=folder,
    )
    pairs = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "listen 80": f"listen 127.0.0.1:{free_port()}",
        "/etc/ssl/bandits.pem": f"{folder}/cert.pem",
        "/etc/ssl/bandits.key": f"{folder}/key.pem",
        "127.0.0.1:8000": f"127.0.0.1:{upstream}",
        "location / {": "location /bandits/ {",
        "body_timeout 20s": "body_timeout 1s",
    }
    example = (EXAMPLES / "nginx.conf").read_text()
    (folder / "site.conf").write_text(replaced(example, pairs))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
    return Proxy(port), [program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, upstream: int) -> tuple[Proxy, list[str]]:
    port = free_port()
    pairs = {
        "{\n\tservers": "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n"
        f"\tlocal_certs\n\tstorage file_system {folder}\n\tservers",
        "read_body 10m": "read_body 1s",
        "\nbandits.example.com {": f"\nlocalhost:{port} {{\n\tbind 127.0.0.1",
        "reverse_proxy 127.0.0.1:8000": f"reverse_proxy /bandits/* 127.0.0.1:{upstream}",
    }
    example = (EXAMPLES / "Caddyfile").read_text()
    (folder / "Caddyfile").write_text(replaced(example, pairs))
    return Proxy(port), [
        program("caddy"),
        "run",
        "--adapter",
        "caddyfile",
        "--config",
        str(folder / "Caddyfile"),
    ]


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(LIMIT_SECONDS)


@pytest.fixture(scope="session")
def proxied(tmp_path_factory) -> Iterator[Server]:
    """A server that trusts proxies on this machine, and has two accounts."""
    folder = tmp_path_factory.mktemp("proxied")
    server = Server(
        folder,
        BANDITS_TRUSTED_PROXIES="127.0.0.1",
        BANDITS_URL_PREFIX="/bandits",
        BANDITS_REQUEST_SECONDS="1",
    )
    with closing(open_store(server.database_url)) as store:
        for name in ("nginx", "caddy"):
            store.accounts.add_user(
                f"{name}@shop.example", hash_password(PASSWORD), "viewer", at=0.0, by="test"
            )
    yield server
    assert server.stop() == 0, server.log.read_text()


@pytest.fixture(scope="session", params=[nginx, caddy], ids=["nginx", "caddy"])
def proxy(request, proxied, tmp_path_factory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    upstream = int(proxied.url.rpartition(":")[2])
    made, command = request.param(folder, upstream)
    made.email = f"{request.param.__name__}@shop.example"
    log = folder / "proxy.log"
    with running(command, log) as process:

        def is_up() -> bool:
            assert process.poll() is None, log.read_text()
            return made.is_up()

        wait_until(is_up, "proxy")
        yield made


def sign_in(browser: httpx.Client, email: str, password: str, **headers: str) -> httpx.Response:
    page = browser.get("/sign-in")
    token = re.search(r'csrf_token" value="([^"]+)"', page.text)[1]
    fields = {"csrf_token": token, "email": email, "password": password}
    referrer = {"Referer": str(page.url)}
    return browser.post("/sign-in", data=fields, headers=referrer | headers)


def test_proxy_hands_on_address_scheme_and_prefix(proxy) -> None:
    with proxy.browser(COLLEAGUE) as browser:
        answer = sign_in(browser, proxy.email, PASSWORD, **{"X-Forwarded-For": "203.0.113.9"})
        assert answer.status_code == 302, answer.text
        assert answer.headers["Location"] == "/bandits/"
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
        cookies = answer.headers.get_list("Set-Cookie")
        assert len(cookies) == 2
        for cookie in cookies:
            assert "Path=/bandits" in cookie
            assert "Secure" in cookie
            assert "HttpOnly" in cookie
        settings = browser.get("/settings").text
        assert COLLEAGUE in settings
        assert "203.0.113.9" not in settings
        addresses = set(re.findall(r'(?:href|src|action)="(/[^"]*)"', settings))
        assert addresses
        assert {a for a in addresses if not a.startswith("/bandits/")} == set()
        for address in addresses:
            if "/static/" in address:
                found = browser.get(f"https://localhost:{proxy.port}{address}")
                assert found.status_code == 200


def test_proxy_lets_the_right_password_in_from_elsewhere(proxy) -> None:
    """120 wrong guesses of a stranger: before the colleague got 429, after the page."""
    with proxy.browser(STRANGER) as stranger:
        guesses = [sign_in(stranger, proxy.email, "guess").status_code for _ in range(12)]
    assert guesses == [422] * 10 + [429] * 2
    with proxy.browser(COLLEAGUE) as colleague:
        assert sign_in(colleague, proxy.email, PASSWORD).status_code == 302


def test_proxy_and_server_end_slow_bodies(proxy) -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    head = (
        "POST /bandits/sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\nabc"
    )
    connections = []
    for _ in range(12):
        plain = socket.create_connection(("127.0.0.1", proxy.port))
        connections.append(trusting.wrap_socket(plain, server_hostname="localhost"))
        connections[-1].sendall(head.encode())
    with proxy.browser(COLLEAGUE) as browser:
        assert browser.get("/readyz").status_code == 200
    for connection in connections:
        connection.settimeout(LIMIT_SECONDS)
        with connection:
            assert connection.recv(4096)[:9] in {b"HTTP/1.1 ", b""}


def seen(networks: str, prefix: str = "", **environ: str) -> dict[str, str]:
    """Return the environment that an application sees behind `TrustedProxies`."""
    inner: dict[str, str] = {}
    proxies = TrustedProxies(
        lambda environ, _: inner.update(environ) or [], parse_networks(networks), prefix
    )
    sent = {"REMOTE_ADDR": "10.0.0.1", "PATH_INFO": "/", "wsgi.url_scheme": "http"} | environ
    proxies(sent, None)
    return inner


@pytest.mark.parametrize(
    ("networks", "sender", "forwarded", "address"),
    [
        ("10.0.0.0/8", "10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.0/8", "10.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.0/8", "10.0.0.1", "198.51.100.7, 10.2.3.4", "198.51.100.7"),
        ("10.0.0.0/8", "10.0.0.1", "[2001:db8::7]:123", "2001:db8::7"),
        ("10.0.0.0/8", "10.0.0.1", "198.51.100.7:5000", "198.51.100.7"),
        ("10.0.0.0/8", "10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "1.1.1.1, unknown", "10.0.0.1"),
        ("10.0.0.0/8", "::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.0/8", "11.0.0.1", "198.51.100.7", "11.0.0.1"),
        ("", "10.0.0.1", "198.51.100.7", "10.0.0.1"),
        ("fd00::/8,10.0.0.1", "fd00::1", "198.51.100.7", "198.51.100.7"),
    ],
)
def test_trusted_proxies_name_the_last_untrusted_address(
    networks, sender, forwarded, address
) -> None:
    assert (
        seen(networks, REMOTE_ADDR=sender, HTTP_X_FORWARDED_FOR=forwarded)["REMOTE_ADDR"] == address
    )


def test_trusted_proxies_alone_name_scheme_and_host() -> None:
    sent = {"HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_HOST": "b.example"}
    trusted = seen("10.0.0.1", **sent)
    assert (trusted["wsgi.url_scheme"], trusted["HTTP_HOST"]) == ("https", "b.example")
    stranger = seen("10.0.0.2", **sent)
    assert stranger["wsgi.url_scheme"] == "http"
    assert "HTTP_HOST" not in stranger


@pytest.mark.parametrize(
    ("path", "inner"),
    [("/bandits/a", "/a"), ("/bandits", "/"), ("/a", "/a"), ("/banditsx", "/banditsx")],
)
def test_prefix_is_taken_off_the_path(path, inner) -> None:
    environ = seen("", "/bandits", PATH_INFO=path)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/bandits", inner)
