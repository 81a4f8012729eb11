"""Who calls the API: bearer tokens (RFC 6750)."""

from bandits.errors import NotFound
from storage.accounts.api_keys import ApiKey
from webapp.api.problems import Unauthenticated
from webapp.services import Services

_CHALLENGE = 'Bearer realm="bandits"'


def authenticate(authorization: str | None, services: Services) -> ApiKey:
    """Find the API key that an ``Authorization`` header carries.

    Raises:
        Unauthenticated: there is no such header, or its token is unknown or revoked.
    """
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("send an API key as `Authorization: Bearer TOKEN`", _CHALLENGE)
    try:
        return services.accounts.keys.find(token, at=services.engine.clock())
    except NotFound:
        challenge = f'{_CHALLENGE}, error="invalid_token"'
        raise Unauthenticated("this API key is unknown or revoked", challenge) from None
