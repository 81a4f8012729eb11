"""Provider of the running server, and who may sign in by a password beside it."""

from flask import Flask, current_app

from storage.accounts import User
from webapp.identity_provider import IdentityProvider
from webapp.services import services
from webapp.settings import Settings

_NAME = "bandits.provider"
_PASSWORDS = "PASSWORD_SIGN_IN"


def init(app: Flask, settings: Settings) -> None:
    """Give `app` the provider that `settings` name."""
    with_provider = settings.oidc_issuer is not None
    app.extensions[_NAME] = IdentityProvider(settings) if with_provider else None
    app.config[_PASSWORDS] = settings.password_sign_in


def provider() -> IdentityProvider | None:
    """Return the provider that people sign in by, None without one."""
    current: IdentityProvider | None = current_app.extensions[_NAME]
    return current


def takes_passwords() -> bool:
    """Return True where anybody may sign in by a password."""
    return bool(current_app.config[_PASSWORDS])


def password_opens(user: User) -> bool:
    """Return True if a right password lets this user in.

    Where passwords are off, it lets in an admin while nobody could be admin otherwise: the provider
    does not work, or no admin has signed in by it yet.
    """
    if takes_passwords():
        return True
    own = provider()
    if own is None or user.role != "admin":
        return False
    return not services().accounts.identities.has_admin(own.issuer) or not own.is_working()
