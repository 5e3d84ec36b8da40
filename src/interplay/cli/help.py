"""What `--set` and `--head` take, for the help of the commands that have them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from interplay.cli.parsing import CommandLine, options_of
from interplay.key_value import spelled

_WIDTH = 118
_INDENT = 24


def settings_help(line: CommandLine, arguments: Sequence[str]) -> str:
    """The settings of the method that is meant, and those of the head, each with type, default and meaning.

    Args:
        line: the command line.
        arguments: what was typed; a method that it names is the one whose settings are listed.
    """
    parts: list[str] = []
    own = {option.name: option for option in line.own}
    if "set" in own:
        from interplay.methods.registry import choose

        choice = choose(_typed(arguments, "--method") or str(own["method"].default))
        title = f"settings of the method {choice.name} for --set (--method NAME --help lists those of another one):"
        parts.append(_listed(title, choice.method.Settings, choice.settings()))
    if "head" in own:
        from interplay.parts.heads import HeadSettings

        parts.append(_listed("settings of the head for --head:", HeadSettings, HeadSettings()))
    return "\n\n".join(parts)


def _typed(arguments: Sequence[str], flag: str) -> str | None:
    """The last value of an option among what was typed."""
    found = None
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word == flag and following:
            found = following
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found


def _listed(title: str, kind: type[Any], values: Any) -> str:
    """A title and one paragraph a setting."""
    lines = [title]
    for option in options_of(kind, defaults=values):
        (shown,) = spelled({option.name: option.default})
        head = f"  {option.name}"
        body = f"{option.help} (takes {option.takes}; {shown})"
        paragraph = textwrap.fill(body, _WIDTH, initial_indent=" " * _INDENT, subsequent_indent=" " * _INDENT)
        fits = len(head) < _INDENT - 1
        lines.append(head.ljust(_INDENT) + paragraph[_INDENT:] if fits else f"{head}\n{paragraph}")
    return "\n".join(lines) if len(lines) > 1 else f"{title}\n  none"
