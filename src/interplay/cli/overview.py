"""The help of `interplay` itself, and of a group of commands, as text."""

from __future__ import annotations

from collections.abc import Mapping

from interplay.cli.command import GROUPS, Command


def overview(commands: Mapping[str, Command], group: str = "") -> str:
    """The help of `interplay` itself, or of the commands that begin with one word.

    Args:
        commands: those to be listed, by name.
        group: that word.
    """
    width = max(map(len, commands))
    headings: dict[str, list[str]] = {heading: [] for heading in GROUPS}
    for command in commands.values():
        headings.setdefault(command.group, []).append(f"  {command.name:<{width}}  {command.summary}")
    listed = "\n\n".join("\n".join([f"{heading}:", *lines]) for heading, lines in headings.items() if lines)
    return f"""usage: interplay {f"{group} " if group else ""}COMMAND [options]

Prompt interaction for frozen vision-language models.

{listed}

Each has a help of its own with examples: 'interplay COMMAND --help'. Results go to stdout, with --json as one JSON
document; progress and notes go to stderr, with --quiet nowhere.

Options:
  -h, --help            this text
  --version             the version
  --install-completion  let the shell complete commands and options: bash, zsh or fish"""
