"""The help of one command, as text."""

from __future__ import annotations

import io
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from interplay.cli.command_line import CommandLine
from interplay.cli.options import Option
from interplay.cli.printing import can_show
from interplay.key_value import spelled

if TYPE_CHECKING:
    from interplay.methods.settings_text import Setting

_WIDTH = 118
"""Columns of a help page, where the terminal has as many."""
_INDENT = 24


def page(line: CommandLine, arguments: Sequence[str]) -> str:
    """The help of one command.

    Args:
        line: the command.
        arguments: what was typed; a method that it names is the one whose settings are listed.
    """

    return "\n\n".join([_usage(line), line.description, _panels(line), *_settings(line, arguments)])


def _usage(line: CommandLine) -> str:
    """What has to be given, and what can be."""
    given = [
        option.flag if option.positional else f"{option.flag} {option.name.upper()}"
        for option in line.options.values()
        if option.required
    ]
    can_be = [f"[{option.flag}]" for option in line.own if option.positional and not option.required]
    return " ".join(["usage: interplay", line.name, *given, *can_be, "[options]"])


def _panels(line: CommandLine) -> str:
    """The options under their headings, as `cyclopts` draws them."""
    from cyclopts.help import DefaultFormatter
    from cyclopts.help.specs import PanelSpec
    from rich import box
    from rich.console import Console

    app, drawn, on_terminal = line.app(), io.StringIO(), sys.stdout.isatty()
    app.usage, app.help = "", ""
    frame = box.ROUNDED if can_show("╭─│╯") else box.ASCII
    app.help_formatter = DefaultFormatter(panel_spec=PanelSpec(box=frame))
    width = min(_WIDTH, Console().width) if on_terminal else _WIDTH
    app.help_print([], console=Console(file=drawn, width=width, force_terminal=on_terminal, highlight=False))
    return drawn.getvalue().strip()


def _settings(line: CommandLine, arguments: Sequence[str]) -> list[str]:
    """The settings of the method that is meant, and those of the head, each with type, default and meaning."""
    from interplay.methods.catalogue import AUTO, DEFAULT_METHOD, known_name
    from interplay.methods.settings_text import head_settings, settings_of

    parts: list[str] = []
    if "set" in line.options:
        typed = _typed(arguments, "--method") or str(line.options["method"].default)
        name = known_name(DEFAULT_METHOD if typed == AUTO else typed)
        title = f"settings of the method {name} for --set (--method NAME --help lists those of another one):"
        parts.append(_listed(title, settings_of(name)))
    if "head" in line.options:
        parts.append(_listed("settings of the head for --head:", head_settings()))
    return parts


def _typed(arguments: Sequence[str], flag: str) -> str | None:
    """The last value of an option among what was typed."""
    found = None
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word == flag and following:
            found = following
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found


def _listed(title: str, settings: Iterable[Setting]) -> str:
    """A title and one paragraph a setting."""
    lines = [title]
    for one in settings:
        (shown,) = spelled({one.name: one.default})
        head = f"  {one.name}"
        takes = Option(one.name, one.hint, one.default, False, one.help).takes
        body = f"{one.help} (takes {takes}; {shown})"
        paragraph = textwrap.fill(body, _WIDTH, initial_indent=" " * _INDENT, subsequent_indent=" " * _INDENT)
        fits = len(head) < _INDENT - 1
        lines.append(head.ljust(_INDENT) + paragraph[_INDENT:] if fits else f"{head}\n{paragraph}")
    return "\n".join(lines) if len(lines) > 1 else f"{title}\n  none"
