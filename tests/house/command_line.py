"""Print docs/command-line.md: every command with its help, as the command line itself gives it."""

import sys
from collections.abc import Iterator

import click

from bandits.cli import group

HEAD = """\
# The command line

Settings come from flags, else from the variables named here, else they are the defaults shown.
Results go to standard output, progress and logs to standard error. The exit status is 0 when all is
well, 1 when `verify` finds a difference, and 2 when the input does not fit; one line says where.

This page is made from the code by `make docs`.
"""
WIDTH = 100


def commands(
    command: click.Command, context: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    """Go through a command and everything below it, groups before what they hold."""
    yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                inner = click.Context(
                    below, parent=context, info_name=name, max_content_width=WIDTH
                )
                yield from commands(below, inner)


def page() -> str:
    """Write the page."""
    settings = {"info_name": "bandits", "max_content_width": WIDTH, **group.context_settings}
    root = click.Context(group, **settings)
    root.terminal_width = WIDTH
    parts = [
        f"\n## {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
        for command, context in commands(group, root)
    ]
    return HEAD + "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
