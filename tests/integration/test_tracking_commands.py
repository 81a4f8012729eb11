"""`bandits tracking`: keys made, listed, rotated and revoked; hosts allowed and removed."""

from contextlib import closing

import pytest
from click.testing import CliRunner

from bandits.errors import BanditsError, Conflict, InvalidInput, NotFound
from bandits.tracking_tokens import TrackingKey
from storage import open_store
from webapp.links.commands import tracking

KEY = "k" * 40


@pytest.fixture
def run(sqlite):
    """Run a command on a database of the test's own."""
    url = sqlite.upgraded()

    def run(*arguments: str, key: str = "", **more):
        environment = {"BANDITS_DATABASE_URL": url, "BANDITS_ENCRYPTION_KEY": key}
        return CliRunner().invoke(tracking, arguments, env=environment, **more)

    run.url = url
    return run


def keys(run):
    with closing(open_store(run.url)) as store:
        return store.tracked_links.all()


def test_create_prints_the_key_and_says_that_its_secret_is_plain(run):
    made = run("create", "mailer")
    assert made.exit_code == 0, made.output
    key = TrackingKey.parse(made.stdout)
    assert "unencrypted" in made.stderr
    (stored,) = keys(run)
    assert (stored.key_id, stored.name, stored.created_by) == (key.id, "mailer", "command line")


def test_create_with_a_key_encrypts_the_secret(run):
    made = run("create", "mailer", key=KEY)
    assert made.stderr == ""
    assert keys(run)[0].encrypted


def test_list_has_a_line_for_each_without_secrets(run):
    first = TrackingKey.parse(run("create", "one").stdout)
    TrackingKey.parse(run("rotate", "1").stdout)
    run("create", "three")
    assert run("revoke", "3").exit_code == 0
    listed = run("list").stdout
    assert [line.split()[4 + 1] for line in listed.splitlines()[1:]] == [
        "revoked",
        "signs",
        "replaced",
    ]
    assert first.secret not in listed


def test_hosts_are_allowed_and_removed(run):
    allowed = run("hosts", "--allow", "shop.example", "--allow", "*.Shop.example")
    assert allowed.stdout.split() == ["*.shop.example", "shop.example"]
    assert run("hosts", "--remove", "shop.example").stdout.split() == ["*.shop.example"]
    assert run("hosts").stdout.split() == ["*.shop.example"]
    refused = run("hosts", "--remove", "shop.example")
    assert refused.exit_code == 2
    assert "not allowed now" in refused.output


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("rotate", "7"), NotFound),
        (("revoke", "7"), NotFound),
        (("hosts", "--allow", "https://shop.example/"), InvalidInput),
    ],
)
def test_refusal_is_an_error_of_ours(run, arguments, error):
    refused = run(*arguments)
    assert isinstance(refused.exception, BanditsError)
    assert isinstance(refused.exception, error)


def test_replaced_key_is_not_rotated_again(run):
    run("create", "one")
    run("rotate", "1")
    assert isinstance(run("rotate", "1").exception, Conflict)


def test_name_that_fits_no_key_is_refused(run):
    assert run("create", "").exit_code == 2
    assert run("create", "a\nb").exit_code == 2
    assert keys(run) == []
