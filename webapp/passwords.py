"""Passwords of users: argon2id hashes (RFC 9106), and checks of their strength."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from werkzeug.exceptions import TooManyRequests

MIN_LENGTH = 10
MAX_LENGTH = 200  # hashing costs time in proportion

_UNGUESSABLE = 3  # at least 10^8 guesses
_SCORED = 72  # characters; scoring takes longer with each
AT_ONCE = 2  # a hash takes 64 MiB and four cores
_WAITING = 6  # besides those; each waits in one of a worker's places for requests
_RETRY_SECONDS = 2

_hasher = PasswordHasher()
_hashing = BoundedSemaphore(AT_ONCE)
_admitted = BoundedSemaphore(AT_ONCE + _WAITING)


def refuse_password(password: str, email: str) -> str | None:
    """Return the reason why a new password is refused, or None."""
    if len(password) < MIN_LENGTH:
        return f"must have at least {MIN_LENGTH} characters; a short phrase works well"
    if len(password) > MAX_LENGTH:
        return f"must have at most {MAX_LENGTH} characters"
    if password.casefold() == email.strip().casefold():
        return "must not be the e-mail address"
    if _score(password, email) < _UNGUESSABLE:
        return "is too easy to guess; a phrase of unrelated words works well"
    if len(set(password)) <= 2:  # noqa: PLR2004 - aaaaaaaaaa, ababababab
        return "must not repeat one or two characters"
    return None


def _score(password: str, email: str) -> int:
    """Score a password from 0 to 4 by the guesses that it takes (Wheeler, USENIX Security 2016)."""
    from zxcvbn import zxcvbn  # noqa: PLC0415 - its lists of words take a while to load

    own = [part for part in (email, *email.split("@")) if part]
    score: int = zxcvbn(password[:_SCORED], user_inputs=[*own, "bandits"])["score"]
    return score


def hash_password(password: str) -> str:
    """Hash a password for storing.

    Raises:
        TooManyRequests: too many passwords are hashed right now.
    """
    with _turn():
        return _hasher.hash(password)


def matches(password_hash: str | None, password: str) -> bool:
    """Compare a password with its hash; without one it takes as long, and is False.

    Raises:
        TooManyRequests: too many passwords are hashed right now.
    """
    with _turn():
        try:
            _hasher.verify(password_hash or _placeholder_hash(), password[:MAX_LENGTH])
        except (VerificationError, InvalidHashError):
            return False
    return bool(password_hash)


@contextmanager
def _turn() -> Iterator[None]:
    """Wait for a turn to hash.

    Raises:
        TooManyRequests: enough others wait already.
    """
    if not _admitted.acquire(blocking=False):
        raise TooManyRequests(retry_after=_RETRY_SECONDS)
    try:
        with _hashing:
            yield
    finally:
        _admitted.release()


def is_outdated(password_hash: str) -> bool:
    """Return True for a hash that was made with weaker settings than today's."""
    return _hasher.check_needs_rehash(password_hash)


@cache
def _placeholder_hash() -> str:
    return _hasher.hash("no user has this password")
