"""Confirmation by password: before something that a stolen session must not do."""

from webapp.pages.access import person
from webapp.pages.admin.throttle import count_guess, forget_guesses
from webapp.passwords import matches

NOT_YOURS = "this is not your password"


def is_own_password(password: str) -> bool:
    """Return True for the password of the person who is signed in; each try counts as a guess.

    Raises:
        TooManyRequests: there were too many guesses lately.
    """
    user = person().user
    count_guess(user.email)
    if not matches(user.password_hash, password):
        return False
    forget_guesses(user.email)
    return True
