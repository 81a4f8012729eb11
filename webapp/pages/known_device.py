"""Known devices: browsers in which an account signed in before, by a signed cookie of their own.

Guesses from elsewhere never keep a known device out (docs/adr/0046).
"""

import secrets
from hashlib import sha256

from flask import Response, after_this_request, current_app, request
from itsdangerous import BadSignature, URLSafeTimedSerializer
from msgspec import Struct

_COOKIE = "bandits_device"
_SECONDS = 365 * 86_400
_NONCE_BYTES = 12


class KnownDevice(Struct, frozen=True):
    """A browser that knows an account.

    Attributes:
        account: digest of the account's address.
        nonce: names the browser.
    """

    account: str
    nonce: str


def known_device() -> KnownDevice | None:
    """Return the device that the current request comes from, None for an unknown one."""
    cookie = request.cookies.get(_COOKIE)
    if cookie is None:
        return None
    try:
        account, nonce = _serializer().loads(cookie, max_age=_SECONDS)
    except (BadSignature, ValueError):
        return None
    return KnownDevice(account, nonce)


def nonce_for(email: str) -> str | None:
    """Return the name of the current browser if it knows the account of this address."""
    device = known_device()
    return None if device is None or device.account != _digest(email) else device.nonce


def remember_device(email: str) -> None:
    """Make the current browser a known device of an account, with the response to this request."""
    nonce = nonce_for(email) or secrets.token_hex(_NONCE_BYTES)
    cookie = _serializer().dumps((_digest(email), nonce))

    @after_this_request
    def keep(response: Response) -> Response:
        response.set_cookie(
            _COOKIE,
            cookie,
            max_age=_SECONDS,
            path=current_app.config["SESSION_COOKIE_PATH"] or "/",
            secure=current_app.session_interface.get_cookie_secure(current_app),
            httponly=True,
            samesite="Lax",
        )
        return response


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(str(current_app.secret_key), salt="known device")


def _digest(email: str) -> str:
    return sha256(email.strip().casefold().encode(errors="surrogatepass")).hexdigest()[:32]
