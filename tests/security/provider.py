"""A small OpenID Connect provider on this machine, which answers as a test tells it to."""

import hmac
import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.patience import LIMIT_SECONDS

CLIENT, SECRET = "bandits", "a secret that no log has"
ANNA = {"sub": "u-1", "email": "anna@shop.example", "email_verified": True, "roles": ["team"]}


class Provider:
    """The provider: its keys, its codes, and what it says of who signs in."""

    def __init__(self, port: int, clock: Any) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.clock = clock
        self.keys = [first_key()]
        self.person: dict[str, Any] = dict(ANNA)
        self.claims: dict[str, Any] = {}  # other than they should be
        self.algorithm = "RS256"
        self.user_info: dict[str, Any] | None = None
        self.broken: dict[str, tuple[int, bytes]] = {}  # answers by path
        self.codes: dict[str, dict[str, str]] = {}
        self.requests: list[str] = []
        self.redirect_uris: list[str] = []

    def authorize(self, address: str) -> dict[str, str]:
        """Sign the person in, and return what the browser brings back."""
        query = {name: value for name, (value,) in parse_qs(urlsplit(address).query).items()}
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        assert query["client_id"] == CLIENT
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        self.redirect_uris.append(query["redirect_uri"])
        return {"code": code, "state": query["state"]}

    def description(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/me",
        }

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """Exchange a code once, for who asked for it and knows the verifier."""
        if not authorization.startswith("Basic "):
            return 401, {"error": "invalid_client"}
        query = self.codes.pop(form.get("code", ""), None)
        digest = sha256(form.get("code_verifier", "").encode()).digest()
        challenge = urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            query is None
            or challenge != query["code_challenge"]
            or form["redirect_uri"] != query["redirect_uri"]
        ):
            return 400, {"error": "invalid_grant"}
        token = self.id_token(query["nonce"])
        return 200, {"access_token": "opaque", "token_type": "Bearer", "id_token": token}

    def id_token(self, nonce: str) -> str:
        now = int(self.clock())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce}
        claims = {k: v for k, v in (claims | self.person | self.claims).items() if v is not None}
        key: Any = self.keys[0]
        header = {"alg": self.algorithm, "kid": key.kid}
        if self.algorithm == "none":
            return f"{_part(header)}.{_part(claims)}."
        if self.algorithm == "HS256":  # by what everybody can read, as a secret
            text = f"{_part(header)}.{_part(claims)}"
            digest = hmac.digest(key.as_pem(private=False), text.encode(), "sha256")
            return f"{text}.{urlsafe_b64encode(digest).decode().rstrip('=')}"
        if self.algorithm == "forged":
            key, header["alg"] = new_key(key.kid), "RS256"
        return jwt.encode(header, claims, key, algorithms=[header["alg"]])


def _part(content: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@cache
def first_key() -> RSAKey:
    """Make the key of all tests that change none: each takes a while."""
    return new_key("first")


def new_key(name: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"})


@contextmanager
def running(clock: Any) -> Iterator[Provider]:
    """Run a provider."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.provider = Provider(server.server_port, clock)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.provider
    finally:
        server.shutdown()
        thread.join(LIMIT_SECONDS)
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """Hands requests to the provider."""

    server: Any

    def do_GET(self) -> None:
        provider, path = self.server.provider, urlsplit(self.path).path
        answers = {
            "/.well-known/openid-configuration": provider.description,
            "/keys": lambda: {"keys": [key.as_dict(private=False) for key in provider.keys]},
            "/me": lambda: provider.user_info or {"sub": provider.person["sub"]},
        }
        self._answer(path, 200, answers[path]())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        status, content = self.server.provider.token(form, self.headers.get("Authorization", ""))
        self._answer(urlsplit(self.path).path, status, content)

    def _answer(self, path: str, status: int, content: Any) -> None:
        self.server.provider.requests.append(path)
        body = json.dumps(content).encode()
        status, body = self.server.provider.broken.get(path, (status, body))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", body.decode())
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Stay silent."""
