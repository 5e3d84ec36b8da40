"""The command line: `interplay COMMAND …`, each command one typed function (`interplay.cli.commands`)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from interplay.cli.command import commands
from interplay.cli.printing import print_result, say
from interplay.errors import InterplayError, brief, unknown
from interplay.ranks import follows, launched
from interplay.threads import settle

_ON_SEVERAL = ("train", "continual", "learn")
"""Commands whose training may take several devices."""


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
        from interplay.cli.overview import overview

        print(overview(commands()), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"interplay {version('interplay')}")
        return 0
    if arguments[0] == "--install-completion":
        from interplay.cli.completion import install

        say(install(arguments[1:]))
        return 0
    name, rest = _command(arguments)
    options = rest[: (*rest, "--").index("--")]
    if {"-h", "--help"} & {word.partition("=")[0] for word in options}:
        say(_help(name, rest))
        return 0
    return _call(name, rest)


def _help(name: str, rest: list[str]) -> str:
    """The help of a command, or of a group of them."""
    from interplay.cli.overview import overview

    known = commands()
    if name not in known:
        return overview({other: c for other, c in known.items() if other.split()[0] == name}, name)
    from interplay.cli.command_line import CommandLine
    from interplay.cli.help_page import page

    return page(CommandLine.of(known[name]), rest)


def _call(name: str, rest: list[str]) -> int:
    """Run one command, and tell its result."""
    from interplay.cli.command_line import CommandLine

    command = commands()[name]
    keywords, manner = CommandLine.of(command).parse(rest)
    further = _is_further(name, keywords.get("settings", {}))
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
        print_result(result, manner.json)
    return 0


def _is_further(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a command runs in a further process that a launcher started: the first one tells the result.

    Raises:
        InterplayError: several devices for a command that has one, or several machines for one that has one.
    """
    devices, nodes = settings.get("devices", 1), settings.get("num_nodes", 1)
    if devices > 1 and name not in _ON_SEVERAL:
        raise InterplayError(
            f"interplay {name} trains on one device, not on {devices}: leave --devices out; only interplay "
            f"{', '.join(_ON_SEVERAL)} take several."
        )
    if name != "train" and (nodes > 1 or (devices > 1 and launched())):
        raise InterplayError(
            f"interplay {name} runs on one machine and starts its processes itself: leave --num-nodes and the launcher "
            "out; only 'interplay train' takes them."
        )
    return follows(devices * nodes)


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
    known = commands()
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if name in known:
            return name, arguments[words:]
    group = arguments[0]
    members = [name.split()[1] for name in known if name.startswith(f"{group} ")]
    if not members:
        raise unknown("command", group, [*dict.fromkeys(name.split()[0] for name in known)])
    if arguments[1:2] in (["-h"], ["--help"]):
        return group, arguments[1:]
    if len(arguments) == 1:
        raise InterplayError(f"interplay {group} needs one of: {', '.join(members)}.")
    raise unknown(f"command of interplay {group}", arguments[1], members)
