"""The command line's group: commands load when they are called, and errors are one line."""

import subprocess
import sys
from importlib.metadata import entry_points

import click
import pytest
from click.testing import CliRunner

from bandits import cli
from bandits.errors import Fault, InvalidInput, NotFound
from tests.patience import LIMIT_SECONDS


@pytest.fixture
def failing(monkeypatch):
    """Make `bandits fail` raise what it is given."""

    def install(error: Exception) -> None:
        @click.command()
        def fail() -> None:
            raise error

        monkeypatch.setattr(cli.group, "get_command", lambda *_: fail)
        monkeypatch.setattr(sys, "argv", ["bandits", "fail"])

    return install


def test_the_commands_are_those_that_installed_packages_offer() -> None:
    offered = {entry.name for entry in entry_points(group="bandits.commands")}
    assert cli.group.list_commands(click.Context(cli.group)) == sorted(offered)


def test_each_bad_place_is_a_line_and_the_exit_status_is_2(failing, capsys) -> None:
    failing(InvalidInput([Fault("/run/horizon", "must be above 0"), Fault("", "is empty")]))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert shown.err == "error: /run/horizon: must be above 0\nerror: is empty\n"
    assert shown.out == ""


def test_any_error_of_ours_is_a_line_without_a_traceback(failing, capsys) -> None:
    failing(NotFound("experiment", "spring"))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: there is no experiment 'spring'\n"


def test_a_defect_of_ours_shows_where_it_is(failing) -> None:
    failing(ZeroDivisionError("a defect"))
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_an_unknown_command_is_named() -> None:
    ran = CliRunner().invoke(cli.group, ["simulte"])
    assert ran.exit_code == 2
    assert "simulte" in ran.output


def test_a_command_loads_nothing_of_the_others() -> None:
    code = (
        "import sys; from bandits import cli; import click;"
        "cli.group.get_command(click.Context(cli.group), 'db');"
        "print(sorted({'flask', 'plotly', 'policies', 'simulations'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=True)
    assert ran.stdout == "[]\n"
