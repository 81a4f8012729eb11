"""`bandits connection`: add, list, pause, resume, rotate, encrypt, delete, and what is refused."""

from contextlib import closing

import pytest
from click.testing import CliRunner

from bandits.errors import AlreadyExists, BanditsError, InvalidInput, NotFound
from storage import open_store
from tests.senders import STRANGER
from tests.webhook_senders import Mailer
from webapp.webhooks.commands import connection

KEY = "k" * 40


@pytest.fixture
def run(sqlite):
    """Run a command on a database of the test's own."""
    url = sqlite.upgraded()

    def run(*arguments: str, key: str = "", **more):
        environment = {"BANDITS_DATABASE_URL": url, "BANDITS_ENCRYPTION_KEY": key}
        return CliRunner().invoke(connection, arguments, env=environment, **more)

    run.url = url
    return run


@pytest.fixture
def secret() -> str:
    return Mailer().values["verification_key"]


def opened(run, at=0.0, keys=()):
    with closing(open_store(run.url, keys)) as store:
        return store.connections.open("mailer", at=at)


def test_add_prints_the_path_and_says_that_secrets_are_plain(run, secret):
    added = run("add", "sendgrid", "mailer", "--secret", secret, "--metric", "order=buy")
    assert (added.exit_code, added.stdout) == (0, "/webhooks/sendgrid/mailer\n")
    assert "unencrypted" in added.stderr
    stored, secrets = opened(run)
    assert (stored.metrics, stored.created_by) == ({"order": "buy"}, "command line")
    assert secrets.current == {"verification_key": secret}


def test_secret_comes_from_standard_input_or_by_its_name_or_is_made(run, secret):
    run("add", "sendgrid", "mailer", "--secret-stdin", input=f"{secret}\n")
    assert opened(run)[1].current == {"verification_key": secret}
    named = run("add", "sendgrid", "other", "--value", f"verification_key={secret}")
    assert named.exit_code == 0
    shop = run("add", "standard_webhooks", "shop").stdout.splitlines()
    assert shop[1].startswith("signing_secret: whsec_")


def test_add_excludes_bounces_only_where_it_says_so(run, secret):
    run("add", "sendgrid", "mailer", "--secret", secret)
    assert opened(run)[0].excludes_bounces is False
    run("delete", "mailer", "--yes")
    added = run("add", "sendgrid", "mailer", "--secret", secret, "--excludes-bounces")
    assert added.exit_code == 0, added.output
    assert opened(run)[0].excludes_bounces is True


def test_list_has_a_line_for_each_without_secrets(run, secret):
    run("add", "sendgrid", "mailer", "--secret", secret)
    run("pause", "mailer")
    lines = run("list").stdout.splitlines()
    assert lines[1].split()[:5] == ["mailer", "sendgrid", "paused", "none", "yet"]
    assert secret not in "".join(lines)


def test_pause_and_resume_and_rotate_and_delete(run, secret):
    run("add", "sendgrid", "mailer", "--secret", secret)
    assert run("pause", "mailer").exit_code == 0
    assert opened(run)[0].paused
    assert run("resume", "mailer").exit_code == 0
    assert not opened(run)[0].paused
    fresh = Mailer(number=STRANGER).values["verification_key"]
    rotated = run("rotate", "mailer", "--secret", fresh, "--grace-hours", "1")
    assert rotated.exit_code == 0
    _, secrets = opened(run)
    assert (secrets.current, secrets.previous) == (
        {"verification_key": fresh},
        {"verification_key": secret},
    )
    run("rotate", "mailer", "--secret", secret, "--grace-hours", "0")
    assert opened(run)[1].previous is None
    assert run("delete", "mailer", input="n\n").exit_code == 1
    assert opened(run)
    assert run("delete", "mailer", input="y\n").exit_code == 0
    with pytest.raises(NotFound):
        opened(run)


def test_encrypt_seals_what_was_plain(run, secret):
    run("add", "sendgrid", "mailer", "--secret", secret)
    refused = run("encrypt")
    assert refused.exit_code == 2
    assert "BANDITS_ENCRYPTION_KEY is not set" in refused.stderr
    assert (
        "encrypted the secrets of 1 connections and 0 tracking keys"
        in run("encrypt", key=KEY).stderr
    )
    with pytest.raises(BanditsError):
        opened(run)
    assert opened(run, keys=[KEY])[1].current == {"verification_key": secret}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["add", "sendgrid", "mailer", "--secret", "SECRET"], AlreadyExists),
        (["add", "sendgrid", "other", "--secret", "x"], InvalidInput),
        (["add", "sendgrid", "other"], InvalidInput),
        (["add", "sendgrid", "No Key", "--secret", "SECRET"], InvalidInput),
        (["add", "pigeon", "other"], NotFound),
        (["rotate", "nobody"], NotFound),
        (["pause", "nobody"], NotFound),
        (["delete", "nobody", "--yes"], NotFound),
        (["add", "sendgrid", "other", "--value", "nothing"], SystemExit),
        (["add", "sendgrid", "other", "--metric", "=", "--secret", "SECRET"], InvalidInput),
    ],
)
def test_command_that_does_not_fit_is_refused(run, secret, arguments, error):
    run("add", "sendgrid", "mailer", "--secret", secret)
    arguments = [secret if part == "SECRET" else part for part in arguments]
    refused = run(*arguments)
    assert isinstance(refused.exception, error), refused.exception
    assert secret not in str(refused.exception) + refused.stderr


def test_short_encryption_key_is_refused_without_being_shown(run):
    refused = run("list", key="too short")
    assert isinstance(refused.exception, InvalidInput)
    assert "too short" not in str(refused.exception)
