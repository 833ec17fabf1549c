"""The manual of the command line, made from the command line itself."""

from __future__ import annotations

from collections.abc import Iterator

import click

from app.cli import cli

_HEAD = """# Commands

Made from the command line by `make docs`; a test fails when it is old. Data goes to stdout, progress and notices to stderr. Exit
status: 0 done, 1 failed, 2 wrong usage.
"""


def manual() -> str:
    """Every command with its help, as Markdown."""
    return "\n".join([_HEAD, *_sections(cli, "qoetwin", None)])


def _sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(
        command,
        info_name=name,
        parent=parent,
        help_option_names=["-h", "--help"],
        max_content_width=100,
        terminal_width=100,
    )
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for child_name, child in sorted(command.commands.items()):
            yield from _sections(child, child_name, context)
