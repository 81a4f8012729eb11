"""What the commands of the server refuse: one line, exit status 2, nothing done."""

import io
import sys

import pytest

from bandits.cli import main


@pytest.fixture
def bandits(monkeypatch, capsys, sqlite):
    """Run a command on a new database; return its exit status and what it wrote."""
    monkeypatch.setenv("BANDITS_DATABASE_URL", sqlite.upgraded())

    def run(*arguments: str, typed: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bandits", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--workers", "2"], "error: SQLite takes one worker; more need PostgreSQL"),
        (["--workers", "0"], "'--workers'"),
        (["--database", "mysql://x/y"], "no database 'mysql' is known"),
        (["--database", "sqlite://"], "SQLite needs a file"),
        (["--port", "70000"], "'--port'"),
        (["--port", "http"], "'--port'"),
        (["--log-format", "xml"], "'--log-format'"),
        (["--colour"], "--colour"),
    ],
)
def test_a_wrong_option_is_refused(bandits, options, says) -> None:
    status, out, err = bandits("serve", *options)
    assert (status, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SECRET_KEY", "short", "must be text of length at least 32"),
        ("MAX_BODY_BYTES", "lots", "must be a whole number, not text"),
        ("MAX_BODY_BYTES", "1", "must be a whole number of at least 10000"),
        ("SECURE_COOKIES", "perhaps", "must be true or false, not text"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(bandits, monkeypatch, name, value, says) -> None:
    monkeypatch.setenv(f"BANDITS_{name}", value)
    status, out, err = bandits("serve")
    assert (status, out) == (2, "")
    assert err.startswith(f"error: BANDITS_{name}: {says}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("scopes", ["", ",", "admin", "read,fly"])
def test_unknown_scopes_are_refused(bandits, scopes) -> None:
    status, out, err = bandits("key", "create", "--scopes", scopes)
    assert (status, out) == (2, "")
    assert "known are choose, reward, manage, read" in err


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", "x" * 101])
def test_a_key_is_called_what_the_api_would_call_it(bandits, name) -> None:
    status, out, err = bandits("key", "create", "--scopes", "read", "--name", name)
    assert (status, out) == (2, "")
    assert "must be 1 to 100 characters" in err


def test_a_grace_is_a_number(bandits) -> None:
    assert bandits("key", "create", "--scopes", "read")[0] == 0
    status, out, err = bandits("key", "rotate", "1", "--grace-hours", "nan")
    assert (status, out) == (2, "")
    assert "'nan' is not a number" in err


def test_an_unknown_key_cannot_be_revoked(bandits) -> None:
    assert bandits("key", "revoke", "7") == (2, "", "error: there is no API key '7'\n")


@pytest.mark.parametrize(
    ("arguments", "password"),
    [
        (("ann", "--role", "viewer"), "four words in a row"),
        (("bob@example.com", "--role", "king"), "four words in a row"),
        (("bob@example.com", "--role", "viewer"), "short"),
        (("bob@example.com", "--role", "viewer"), ""),
    ],
)
def test_a_person_who_does_not_fit_is_refused(bandits, arguments, password) -> None:
    status, out, err = bandits("user", "add", *arguments, "--password-stdin", typed=password)
    assert (status, out) == (2, "")
    assert "Traceback" not in err


def test_a_taken_address_is_refused_whatever_its_case(bandits) -> None:
    person = ("--role", "viewer", "--password-stdin")
    typed = "four words in a row\n"
    assert bandits("user", "add", "Ann@example.com", *person, typed=typed)[0] == 0
    status, _, err = bandits("user", "add", "ann@EXAMPLE.com", *person, typed=typed)
    assert (status, err) == (2, "error: the user 'ann@example.com' exists already\n")


def test_a_key_is_listed_by_the_name_it_was_given_whatever_brackets_it_has(bandits) -> None:
    assert bandits("key", "create", "--scopes", "read", "--name", "[/] [old] :key:")[0] == 0
    status, out, _ = bandits("key", "list")
    assert status == 0
    assert "[/] [old] :key:" in out


def test_key_limit_is_set_and_lifted(bandits) -> None:
    assert bandits("key", "create", "--scopes", "read", "--rows-per-minute", "6000")[0] == 0
    assert "6,000" in bandits("key", "list")[1]
    assert bandits("key", "limit", "1", "70")[0] == 0
    assert " 70 " in bandits("key", "list")[1]
    assert bandits("key", "limit", "1")[0] == 0
    assert " default " in bandits("key", "list")[1]
    assert bandits("key", "limit", "1", "0")[0] == 2
    assert bandits("key", "limit", "9", "70")[0] == 2
