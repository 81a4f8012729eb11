"""The command line: one group whose commands load when they are called."""

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from math import isnan
from typing import Any

import click
from rich.console import Console

from bandits.errors import BanditsError, InvalidInput
from bandits.installation import refuse_strangers

progress_console = Console(stderr=True)


class NumberRange(click.FloatRange):
    """A range of numbers; click's own takes NaN for one that lies in any."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a number that lies in the range.

        Raises:
            click.BadParameter: there is none.
        """
        number: float = super().convert(value, param, ctx)
        if isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List the commands that installed packages offer."""
        return sorted(_commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import and return a command."""
        entry = _commands().get(cmd_name)
        if entry is None:
            return None
        refuse_strangers()
        command: click.Command = entry.load()
        return command


def _commands() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="bandits.commands")}


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="email-bandits")
def group() -> None:
    """Choose the subject line, content and discount of every email, and learn from the answers."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: an error of ours is one line on standard error and exit status 2.

    Args:
        arguments: those of the program unless given.
    """
    try:
        group(arguments, prog_name="bandits")
    except InvalidInput as error:
        for fault in error.faults:
            click.echo(
                f"error: {fault.pointer + ': ' if fault.pointer else ''}{fault.detail}", err=True
            )
        sys.exit(2)
    except BanditsError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
