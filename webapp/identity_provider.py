"""Identity provider: sign-in by OpenID Connect, and proof of what its tokens claim.

The authorization code flow of OpenID Connect Core 1.0, with PKCE (RFC 7636), state and nonce. Its
libraries load at first use: most servers have no provider.
"""

import hmac
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import BoundedSemaphore, Lock
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import msgspec
from msgspec import Struct

from bandits.errors import BanditsError
from storage.accounts import Identity, Role
from storage.accounts.roles import ROLES
from webapp.settings import Settings, is_encrypted, roles_of_values

RETURN_PATH = "/sign-in/provider/return"
FLOW_SECONDS = 600.0  # from leaving for the provider to coming back

# Signatures by public keys alone: never `none`, nor a secret that a public key could stand in for.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
_KEY_TYPES = {"RSA", "EC"}
_SCOPE = "openid email profile"
_LEEWAY_SECONDS = 60
_KEPT_SECONDS = 3600.0  # what the provider says of itself
_WORKING_SECONDS = 60.0
_REFETCH_SECONDS = 10.0  # at the soonest, for a key that is not there yet or a provider away
_TIMEOUT_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_MAX_BYTES = 256_000
_LONGEST_CODE = 4000
_LONGEST = 255  # a subject; an address is shorter
_AT_ONCE = 4  # of the places for requests that a worker has
_RANDOM_BYTES = 32


class ProviderAway(BanditsError):
    """The provider does not answer, or not as one does; try again, or use a password."""


class SignInRefused(BanditsError):
    """The provider's answer signs nobody in.

    Attributes:
        reason: for logs; it holds nothing of the answer.
        text: for the person.
        identity: of the person, where it is proven.
    """

    def __init__(self, reason: str, text: str = "", identity: Identity | None = None) -> None:
        self.reason = reason
        self.text = text
        self.identity = identity
        super().__init__(reason)


class SignInFlow(Struct, frozen=True):
    """One way to the provider and back, which the browser's session keeps."""

    state: str
    nonce: str
    verifier: str
    address: str
    at: float


class ProvenPerson(Struct, frozen=True):
    """Person as the provider proves them."""

    identity: Identity
    email: str
    role: Role


class _Description(Struct, frozen=True):
    """What a provider says of itself (OpenID Connect Discovery 1.0)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class _BoundedTransport(httpx.HTTPTransport):
    """Transport that reads answers of a bounded size and time, and none that is compressed."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request.

        Raises:
            httpx.ReadError: the answer is too long, too slow or compressed.
        """
        until, content = time.monotonic() + _ANSWER_SECONDS, b""
        response = super().handle_request(request)
        try:
            for part in response.iter_raw():
                content += part
                if len(content) > _MAX_BYTES or time.monotonic() > until:
                    raise httpx.ReadError("the answer is too long or too slow")
        finally:
            response.close()
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise httpx.ReadError("the answer is compressed")
        return httpx.Response(response.status_code, headers=response.headers, content=content)


class IdentityProvider:
    """The provider of one server. Any method may raise `ProviderAway`."""

    def __init__(self, settings: Settings) -> None:
        """Use the provider that `settings` name; nothing is fetched yet."""
        self.issuer = settings.oidc_issuer or ""
        self.name = settings.oidc_name or urlsplit(self.issuer).hostname or ""
        self._client_id = settings.oidc_client_id or ""
        self._secret = settings.oidc_client_secret or ""
        self._role_claim = settings.oidc_role_claim
        self._roles = roles_of_values(settings.oidc_roles)
        self._redirect_uri = (settings.public_url or "").rstrip("/") + RETURN_PATH
        self._places = BoundedSemaphore(_AT_ONCE)
        self._lock = Lock()
        self._description: _Description | None = None
        self._described_at = self._away_at = self._keys_at = -_KEPT_SECONDS
        self._keys: list[Any] = []
        self._rejects_us = False

    def begin(self, address: str, *, at: float) -> tuple[str, SignInFlow]:
        """Return the provider's address to send a browser to, and what to keep until it is back.

        Args:
            address: of our page that the person wants to see.
            at: now.
        """
        from authlib.oauth2.client import OAuth2Client  # noqa: PLC0415 - as the module says

        state, nonce, verifier = (secrets.token_urlsafe(_RANDOM_BYTES) for _ in range(3))
        with self._place() as http:
            endpoint = self._describe(http).authorization_endpoint
            client = OAuth2Client(
                http,
                client_id=self._client_id,
                scope=_SCOPE,
                redirect_uri=self._redirect_uri,
                code_challenge_method="S256",
            )
            url, _ = client.create_authorization_url(
                endpoint, state=state, code_verifier=verifier, nonce=nonce
            )
        return url, SignInFlow(state, nonce, verifier, address, at)

    def finish(self, flow: SignInFlow, answer: Mapping[str, str], *, at: float) -> ProvenPerson:
        """Prove the person whom the provider sends back.

        Raises:
            SignInRefused: the answer is not to this flow, or proves nobody who may sign in.
        """
        state = answer.get("state", "")
        if not hmac.compare_digest(state.encode(errors="replace"), flow.state.encode()):
            raise SignInRefused("wrong state")
        if at - flow.at > FLOW_SECONDS:
            raise SignInRefused("took too long")
        if "error" in answer:
            raise SignInRefused("the provider refused", f"{self.name} did not sign you in.")
        code = answer.get("code", "")
        if not 0 < len(code) <= _LONGEST_CODE:
            raise SignInRefused("no code")
        with self._place() as http:
            description = self._describe(http)
            issuer = answer.get("iss")  # RFC 9207
            expected = description.authorization_response_iss_parameter_supported
            if issuer != self.issuer and (issuer is not None or expected):
                raise SignInRefused("wrong issuer of the answer")
            token = self._exchange(http, description, code, flow.verifier)
            claims = self._verify(http, token, flow.nonce, at)
            claims = self._complete(http, description, claims, token)
        return self._person(claims)

    def is_working(self) -> bool:
        """Return True while the provider answers and takes this server as its client."""
        try:
            with self._place() as http:
                self._describe(http, _WORKING_SECONDS)
        except ProviderAway:
            return False
        return not self._rejects_us

    @contextmanager
    def _place(self) -> Iterator[httpx.Client]:
        """Take one of the places for requests to the provider, which may be slow."""
        if not self._places.acquire(blocking=False):
            raise ProviderAway("too many sign-ins at once")
        try:
            with httpx.Client(
                transport=_BoundedTransport(),
                timeout=_TIMEOUT_SECONDS,
                follow_redirects=False,
                trust_env=False,
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            ) as http:
                yield http
        except httpx.HTTPError as error:
            raise ProviderAway(f"no answer: {type(error).__name__}") from None
        finally:
            self._places.release()

    def _describe(self, http: httpx.Client, kept_seconds: float = _KEPT_SECONDS) -> _Description:
        now = time.monotonic()
        if self._description is not None and now - self._described_at < kept_seconds:
            return self._description
        if now - self._away_at < _REFETCH_SECONDS:
            raise ProviderAway("no answer a moment ago")
        try:
            url = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
            description = msgspec.convert(_get(http, url), _Description)
            self._check(description)
        except (httpx.HTTPError, msgspec.ValidationError, ProviderAway) as error:
            self._away_at = now
            raise ProviderAway(f"no description: {type(error).__name__}") from None
        self._description, self._described_at = description, now
        return description

    def _check(self, description: _Description) -> None:
        if description.issuer != self.issuer:
            raise ProviderAway("the description is of another issuer")
        endpoints = (
            description.authorization_endpoint,
            description.token_endpoint,
            description.jwks_uri,
            description.userinfo_endpoint or description.jwks_uri,
        )
        if not all(is_encrypted(endpoint) for endpoint in endpoints):
            raise ProviderAway("an endpoint without HTTPS")

    def _exchange(
        self, http: httpx.Client, description: _Description, code: str, verifier: str
    ) -> Mapping[str, Any]:
        """Exchange the code for tokens."""
        from authlib.oauth2 import OAuth2Error  # noqa: PLC0415 - as the module says
        from authlib.oauth2.client import OAuth2Client  # noqa: PLC0415

        auth: Any = (quote(self._client_id, safe=""), quote(self._secret, safe=""))
        fields = {"code": code, "code_verifier": verifier}
        if "client_secret_basic" not in description.token_endpoint_auth_methods_supported:
            auth = httpx.Auth()  # none in the head: they stand in the body
            fields |= {"client_id": self._client_id, "client_secret": self._secret}
        client = OAuth2Client(http, client_id=self._client_id, redirect_uri=self._redirect_uri)
        try:
            token: Mapping[str, Any] = client.fetch_token(
                description.token_endpoint,
                grant_type="authorization_code",
                auth=auth,
                headers={"Accept": "application/json"},
                **fields,
            )
        except OAuth2Error as error:
            if error.error in {"invalid_client", "unauthorized_client"}:
                self._rejects_us = True
                raise ProviderAway("it does not take this server as its client") from None
            raise SignInRefused("the provider refused the code") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ProviderAway("its answer is none") from None
        self._rejects_us = False
        return token

    def _verify(
        self, http: httpx.Client, token: Mapping[str, Any], nonce: str, at: float
    ) -> dict[str, Any]:
        """Return the claims of the ID token once its signature and claims are checked."""
        from authlib.oidc.core import CodeIDToken  # noqa: PLC0415 - as the module says
        from joserfc.errors import InvalidKeyIdError, JoseError  # noqa: PLC0415

        text = token.get("id_token")
        if not isinstance(text, str):
            raise SignInRefused("no ID token")
        try:
            try:
                decoded = self._decode(http, text, fresh=False)
            except InvalidKeyIdError:  # the keys may have changed since
                decoded = self._decode(http, text, fresh=True)
            options = {
                "iss": {"essential": True, "value": self.issuer},
                "aud": {"essential": True, "value": self._client_id},
            }
            proofs = {
                "nonce": nonce,
                "client_id": self._client_id,
                "access_token": token.get("access_token"),
            }
            claims = CodeIDToken(decoded.claims, decoded.header, options, proofs)
            claims.validate(now=int(at), leeway=_LEEWAY_SECONDS)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise SignInRefused(f"invalid ID token: {type(error).__name__}") from None
        return dict(claims)

    def _decode(self, http: httpx.Client, text: str, *, fresh: bool) -> Any:
        from joserfc import jwt  # noqa: PLC0415 - as the module says
        from joserfc.jwk import KeySet  # noqa: PLC0415

        keys = KeySet(self._read_keys(http, _REFETCH_SECONDS if fresh else _KEPT_SECONDS))
        return jwt.decode(text, keys, algorithms=ALGORITHMS)

    def _read_keys(self, http: httpx.Client, kept_seconds: float) -> list[Any]:
        """Return the provider's public keys, fetched anew where they are older."""
        from joserfc.errors import JoseError  # noqa: PLC0415 - as the module says
        from joserfc.jwk import JWKRegistry  # noqa: PLC0415

        with self._lock:
            if self._keys and time.monotonic() - self._keys_at < kept_seconds:
                return self._keys
            entries = _get(http, self._describe(http).jwks_uri).get("keys")
            keys = []
            for entry in entries if isinstance(entries, list) else []:
                if isinstance(entry, dict) and entry.get("kty") in _KEY_TYPES:
                    with suppress(JoseError, ValueError, TypeError, KeyError):
                        keys.append(JWKRegistry.import_key(entry))
            if not keys:
                raise ProviderAway("no keys")
            self._keys, self._keys_at = keys, time.monotonic()
            return keys

    def _complete(
        self,
        http: httpx.Client,
        description: _Description,
        claims: dict[str, Any],
        token: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Add what only the user-info endpoint tells: some providers keep ID tokens short."""
        lacks = "email" not in claims or not _values(claims, self._role_claim)
        access_token = token.get("access_token")
        if not lacks or description.userinfo_endpoint is None or not isinstance(access_token, str):
            return claims
        head = {"Authorization": f"Bearer {access_token}"}
        more = _get(http, description.userinfo_endpoint, head)
        if more.get("sub") != claims.get("sub"):
            raise SignInRefused("user info of somebody else")
        return more | claims

    def _person(self, claims: Mapping[str, Any]) -> ProvenPerson:
        subject, email = claims.get("sub"), claims.get("email")
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST:
            raise SignInRefused("no subject")
        identity = Identity(self.issuer, subject)
        if (
            not isinstance(email, str)
            or not 0 < len(email) < _LONGEST
            or not email.isprintable()
            or "@" not in email.strip("@")
            or (claims.get("email_verified") is not True)
        ):
            raise SignInRefused(
                "e-mail address not verified",
                f"{self.name} has not verified your e-mail address. Verify it there, then try"
                " again.",
            )
        values = _values(claims, self._role_claim)
        roles = {self._roles[value] for value in values if value in self._roles}
        if not roles:
            raise SignInRefused(
                "no role",
                f"Your account at {self.name} has no role in Bandits. Ask an admin of your team"
                " for one.",
                identity,
            )
        return ProvenPerson(identity, email, max(roles, key=ROLES.index))


def _get(http: httpx.Client, url: str, head: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Fetch a JSON object."""
    response = http.get(url, headers=head)
    try:
        content = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, RecursionError):
        content = None
    if response.status_code != httpx.codes.OK or not isinstance(content, dict):
        raise ProviderAway(f"status {response.status_code} or no JSON object")
    return content


def _values(claims: Mapping[str, Any], name: str) -> list[str]:
    """Return the values of a claim, which may lie deeper: ``realm_access.roles``."""
    content: Any = claims
    for part in [name] if name in claims else name.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    values = content if isinstance(content, list) else [content]
    return [value for value in values if isinstance(value, str)]
