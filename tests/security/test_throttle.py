"""Throttle: guesses are slowed down, and keep nobody out who knows the password."""

import pytest
from werkzeug.exceptions import TooManyRequests

from webapp.pages.admin.throttle import count_guess

EMAIL = "anna@shop.example"
STRANGER, COLLEAGUE = "203.0.113.9", "198.51.100.7"


@pytest.fixture
def guesses(site):
    """Count guesses of a password from an address, and with a device's cookie; True if allowed."""

    def count(n, address=STRANGER, email=EMAIL, cookie=None):
        headers = {} if cookie is None else {"Cookie": f"bandits_device={cookie}"}
        allowed = []
        for _ in range(n):
            with site.app.test_request_context(
                "/sign-in", environ_base={"REMOTE_ADDR": address}, headers=headers
            ):
                try:
                    count_guess(email)
                except TooManyRequests:
                    allowed.append(False)
                else:
                    allowed.append(True)
        return allowed

    return count


@pytest.fixture
def device(site, password):
    """The cookie of a browser that signed in as Anna."""
    site.add("viewer", EMAIL)
    visitor = site.visitor()
    answer = visitor.post("/sign-in", {"email": EMAIL, "password": password})
    assert answer.status_code == 302
    return visitor.client.get_cookie("bandits_device").value


def test_guesses_from_elsewhere_keep_nobody_out(guesses) -> None:
    """Before: 10 guesses a minute of anybody kept the account's owner out for as long."""
    assert guesses(12) == [True] * 10 + [False] * 2
    assert guesses(1, COLLEAGUE) == [True]


def test_guesses_of_one_address_are_few_for_all_accounts_together(guesses) -> None:
    allowed = [guesses(1, email=f"{i}@shop.example")[0] for i in range(102)]
    assert allowed == [True] * 100 + [False] * 2


def test_guesses_of_refused_addresses_do_not_count_against_the_account(guesses) -> None:
    for address in range(31):  # 3,100 guesses, where an account takes 3,000 an hour
        guesses(100, f"192.0.2.{address}")
    assert guesses(1, COLLEAGUE) == [True]


def test_known_device_is_let_in_from_the_address_that_guesses(guesses, device) -> None:
    """All behind one proxy that is not trusted: before everybody got 429 for a minute."""
    for i in range(101):
        guesses(1, email=f"{i}@shop.example")
    assert guesses(1) == [False]
    assert guesses(1, cookie=device) == [True]


def test_known_device_may_guess_hardly_more_than_an_unknown_one(guesses, device) -> None:
    assert guesses(22, cookie=device) == [True] * 20 + [False] * 2


def test_known_device_knows_one_account_alone(guesses, device) -> None:
    assert guesses(11, email="bert@shop.example", cookie=device) == [True] * 10 + [False]


@pytest.mark.parametrize("forged", ["", "a", "WyJhIiwiYiJd.aaaa.bbbb", "é"])
def test_known_device_cookie_cannot_be_made(guesses, forged) -> None:
    assert guesses(11, cookie=forged) == [True] * 10 + [False]


def test_network_of_one_caller_is_counted_as_one(guesses) -> None:
    allowed = [guesses(1, f"2001:db8::{i:x}")[0] for i in range(1, 12)]
    assert allowed == [True] * 10 + [False]
    assert guesses(1, "2001:db8:0:1::1") == [True]
    assert guesses(11, "::ffff:203.0.113.9")[-1] is False
