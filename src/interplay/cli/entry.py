"""The command line: `interplay COMMAND …`, each command derived from one typed function (`interplay.cli.commands`)."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Sequence
from typing import Any

from interplay.cli.commands import COMMANDS
from interplay.cli.result import Result
from interplay.errors import InterplayError, brief, unknown
from interplay.ranks import follows
from interplay.threads import settle


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: what was typed behind `interplay`; by default that of this process.

    Returns:
        The exit code: 0; 2 for a mistake that the user can mend, told in one line on stderr; 130 when interrupted.
    """
    if argv is None:  # the process is this command's own
        settle(os.environ)
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except InterplayError as error:
        return _complain(str(error))
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.strerror is None:
            raise
        return _complain(f"{error.strerror}{f': {error.filename}' if error.filename else ''}")
    except MemoryError as error:
        return _complain(f"There is not enough memory for this ({error or 'no more could be had'}).")
    except KeyboardInterrupt:
        print("interplay: interrupted", file=sys.stderr)
        return 130


def _complain(sentence: str) -> int:
    print(f"interplay: {brief(sentence)}", file=sys.stderr)
    return 2


def _run(arguments: list[str]) -> int:
    _refuse_unwritable(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"interplay {version('interplay')}")
        return 0
    name, rest = _command(arguments)
    if rest[:1] in (["-h"], ["--help"]) and name not in COMMANDS:
        print(_overview(name))
        return 0
    from interplay.cli.parsing import CommandLine

    command = COMMANDS[name]
    line = CommandLine.of(name, command)
    if "-h" in rest or "--help" in rest:
        from interplay.cli.help import settings_help

        _say(line.parser(settings_help(line, rest)).format_help().rstrip())
        return 0
    keywords, manner = line.parse(rest)
    further = _is_further(name, keywords.get("settings", {}).get("devices", 1))
    with contextlib.ExitStack() as stack:
        quiet = manner.quiet or further
        notes = stack.enter_context(open(os.devnull, "w", encoding="utf-8")) if quiet else sys.stderr
        stack.enter_context(contextlib.redirect_stderr(notes))
        stack.enter_context(contextlib.redirect_stdout(notes))  # stdout is for the result alone
        try:
            result = command.load()(**keywords)
        except InterplayError:
            if further:
                return 2  # the first process has the same to tell
            raise
    if not further:
        _print(result, manner.json)
    return 0


def _is_further(name: str, devices: int) -> bool:
    """Whether a command runs in a further process of a training on several devices: the first one tells the result.

    Raises:
        InterplayError: several devices for a command that has one.
    """
    if devices > 1 and name != "train":
        raise InterplayError(
            f"interplay {name} trains on one device, not on {devices}: leave --devices out; only 'interplay "
            "train' takes several."
        )
    return follows(devices)


def _refuse_unwritable(arguments: Sequence[str]) -> None:
    """Refuse what no name of a file can be: text that is not UTF-8, or with a zero byte in it.

    Raises:
        InterplayError: an argument is of that kind.
    """
    for argument in arguments:
        if "\0" in argument:
            raise InterplayError(f"The argument {argument!a} holds a zero byte: leave it out.")
        if not _is_utf8(argument):
            raise InterplayError(
                f"The argument {argument!a} is no UTF-8 text: give it in UTF-8, or rename the file that it names."
            )


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a byte that is none in UTF-8 stands in it as half a surrogate pair
        return False
    return True


def _command(arguments: list[str]) -> tuple[str, list[str]]:
    """The name of the command and what follows it; a group alone only with a call for help.

    Raises:
        InterplayError: there is no such command.
    """
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if name in COMMANDS:
            return name, arguments[words:]
    group = arguments[0]
    members = [name.split()[1] for name in COMMANDS if name.startswith(f"{group} ")]
    if not members:
        raise unknown("command", group, [*dict.fromkeys(name.split()[0] for name in COMMANDS)])
    if arguments[1:2] in (["-h"], ["--help"]):
        return group, arguments[1:]
    if len(arguments) == 1:
        raise InterplayError(f"interplay {group} needs one of: {', '.join(members)}.")
    raise unknown(f"command of interplay {group}", arguments[1], members)


def _print(result: Result, as_json: bool) -> None:
    """Write a result, JSON that not every terminal can show as JSON that it can."""
    if not as_json:
        _say(result.text)
        return
    data = _plain(result.data)
    text = json.dumps(data, ensure_ascii=False, indent=2)
    print(text if _can_show(text) else json.dumps(data, indent=2), flush=True)


def _say(text: str) -> None:
    """Write a text to stdout; what its encoding has not as escapes."""
    encoding = _encoding()
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def _encoding() -> str:
    return sys.stdout.encoding or "utf-8"


def _can_show(text: str) -> bool:
    try:
        text.encode(_encoding())
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> Any:
    """The same with null for numbers that JSON cannot write."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _overview(group: str = "") -> str:
    """The help of `interplay` itself, or of a group of commands."""
    shown = {name: command for name, command in COMMANDS.items() if not group or name.split()[0] == group}
    width = max(map(len, shown))
    commands = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in shown.items())
    return f"""usage: interplay {f"{group} " if group else ""}COMMAND [options]

Prompt interaction for frozen vision-language models.

commands:
{commands}

Each has a help of its own with an example: 'interplay {next(iter(shown))} --help'. Results go to stdout, with --json
as one JSON document; progress and notes go to stderr, with --quiet nowhere.

options:
  -h, --help  this text
  --version   the version"""
