"""Limit on password guesses: by account and by address, in each web worker."""

from flask import Flask, current_app, request
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from werkzeug.exceptions import TooManyRequests

_NAME = "bandits.throttle"
_WINDOW_SECONDS = 60
_BY_ACCOUNT = parse("10 per minute")
_BY_ADDRESS = parse("100 per minute")  # a whole office may share one


def init(app: Flask) -> None:
    """Give `app` its limiter; only guesses are counted, not every request."""
    app.extensions[_NAME] = MovingWindowRateLimiter(MemoryStorage())


def count_guess(email: str) -> None:
    """Count a password that is about to be checked.

    Raises:
        TooManyRequests: there were too many guesses lately.
    """
    limiter: MovingWindowRateLimiter = current_app.extensions[_NAME]
    by_account = limiter.hit(_BY_ACCOUNT, "account", email.strip().casefold()[:320])
    by_address = limiter.hit(_BY_ADDRESS, "address", request.remote_addr or "")
    if not (by_account and by_address):
        raise TooManyRequests(retry_after=_WINDOW_SECONDS)


def forget_guesses(email: str) -> None:
    """Reset the count of an account whose password was right."""
    limiter: MovingWindowRateLimiter = current_app.extensions[_NAME]
    limiter.clear(_BY_ACCOUNT, "account", email.strip().casefold()[:320])
