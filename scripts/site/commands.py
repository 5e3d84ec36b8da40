"""A page for each command: what `interplay COMMAND --help` prints."""

from __future__ import annotations

import os
import subprocess
import sys

from interplay.cli.command import commands

_PLAIN = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}


def names() -> list[str]:
    """Every command."""
    return list(commands())


def uri(name: str) -> str:
    """Where a command's page is; there is a command called `index`, and a page in front of all."""
    return f"commands/interplay-{name.replace(' ', '-')}.md"


def help_of(*words: str) -> str:
    """What `interplay WORDS --help` prints."""
    command = [sys.executable, "-c", "import sys; from interplay.cli import main; sys.exit(main())"]
    return subprocess.run(
        [*command, *words, "--help"],
        check=True,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | _PLAIN,
    ).stdout


def summary(text: str) -> str:
    """The first paragraph below the usage, in one line."""
    return " ".join(text.strip().split("\n\n")[1].split())


def pages() -> dict[str, str]:
    """All pages by their place in the site, and a list of them in front."""
    helps = {name: help_of(*name.split()) for name in names()}
    made = {
        uri(name): f"# interplay {name}\n\n{summary(text)}\n\n```text\n{text.strip()}\n```\n"
        for name, text in helps.items()
    }
    rows = [
        f"| [`{name}`]({uri(name).removeprefix('commands/')}) | {summary(text)} |"
        for name, text in helps.items()
    ]
    table = "\n".join(["| command | what it does |", "|---|---|", *rows])
    return {
        "commands/index.md": f"# Commands\n\nEvery page is what `interplay COMMAND --help` prints.\n\n{table}\n"
    } | made
