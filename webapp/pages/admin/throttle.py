"""Limit on password guesses: by address, account and device, in each web worker (docs/adr/0046)."""

from ipaddress import IPv6Address, ip_address

from flask import Flask, current_app, request
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from werkzeug.exceptions import TooManyRequests

from webapp.pages.known_device import nonce_for

_NAME = "bandits.throttle"
_WINDOW_SECONDS = 60
_LONGEST = 320
_NETWORK_BITS = 64  # of an IPv6 address: what one caller may have all of
_BY_DEVICE = parse("10 per minute")  # a browser that knows the account
_BY_ADDRESS = parse("100 per minute")  # a whole office may share one
_BY_ACCOUNT_AND_ADDRESS = (parse("10 per minute"), parse("60 per hour"))
_BY_ACCOUNT = parse("3000 per hour")  # from all unknown devices together
_CODES_BY_ADDRESS = parse("20 per minute")  # of one-time links
_RESETS_BY_ADDRESS = parse("10 per minute")
_RESETS_BY_ACCOUNT = parse("3 per hour")

Limit = tuple[RateLimitItem, tuple[str, ...]]


def init(app: Flask) -> None:
    """Give `app` its limiter; only guesses are counted, not every request."""
    app.extensions[_NAME] = MovingWindowRateLimiter(MemoryStorage())


def count_guess(email: str) -> None:
    """Count a password that is about to be checked.

    A known device has a count of its own, so that guesses from elsewhere do not keep it out. An
    unknown one is counted by its address first: who exceeds that counts against no account.

    Raises:
        TooManyRequests: there were too many guesses lately.
    """
    limiter = _limiter()
    device = _device_limit(email)
    if device is not None and limiter.hit(device[0], *device[1]):
        return
    account, network = _account(email), _network(request.remote_addr or "")
    limits: list[Limit] = [
        (_BY_ADDRESS, ("address", network)),
        *_pair_limits(account, network),
        (_BY_ACCOUNT, ("account", account)),
    ]
    if not all(limiter.hit(limit, *name) for limit, name in limits):
        raise TooManyRequests(retry_after=_WINDOW_SECONDS)


def count_code() -> None:
    """Count a one-time link's code that is about to be looked up.

    Raises:
        TooManyRequests: this address sent too many lately.
    """
    if not _limiter().hit(_CODES_BY_ADDRESS, "code", _network(request.remote_addr or "")):
        raise TooManyRequests(retry_after=_WINDOW_SECONDS)


def count_reset(email: str) -> bool:
    """Count somebody who forgot a password; return False where the account had enough mails.

    Raises:
        TooManyRequests: this address asked too often lately.
    """
    if not _limiter().hit(_RESETS_BY_ADDRESS, "reset", _network(request.remote_addr or "")):
        raise TooManyRequests(retry_after=_WINDOW_SECONDS)
    return _limiter().hit(_RESETS_BY_ACCOUNT, "reset", _account(email))


def forget_guesses(email: str) -> None:
    """Reset the counts of this device and address for an account whose password was right."""
    limits = _pair_limits(_account(email), _network(request.remote_addr or ""))
    device = _device_limit(email)
    for limit, name in limits if device is None else [*limits, device]:
        _limiter().clear(limit, *name)


def _limiter() -> MovingWindowRateLimiter:
    limiter: MovingWindowRateLimiter = current_app.extensions[_NAME]
    return limiter


def _device_limit(email: str) -> Limit | None:
    nonce = nonce_for(email)
    return None if nonce is None else (_BY_DEVICE, ("device", _account(email), nonce))


def _pair_limits(account: str, network: str) -> list[Limit]:
    return [(limit, ("pair", account, network)) for limit in _BY_ACCOUNT_AND_ADDRESS]


def _account(email: str) -> str:
    return email.strip().casefold()[:_LONGEST]


def _network(address: str) -> str:
    """Return what one caller holds: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(int(parsed) >> _NETWORK_BITS)
