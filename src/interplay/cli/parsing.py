"""From a typed function to a command line, and from what the parser complains of to one sentence."""

from __future__ import annotations

import argparse
import inspect
import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from interplay.cli.commands import Command
from interplay.cli.config_file import words_of
from interplay.errors import InterplayError, unknown
from interplay.seeds import shown

_CONFIG = (
    "YAML file with values of these options, as `config.yaml` in a run folder; what is typed behind it wins."
)
_JSON = "print the result as one JSON document on stdout"
_QUIET = "print neither notes nor progress: the result alone, or what went wrong"


class _Help(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):  # type: ignore[misc]
    """Descriptions with their own line breaks; options with their type and default."""


@dataclass(frozen=True)
class Option:
    """One parameter of a command.

    Attributes:
        name: as a Python name.
        hint: its type.
        default: `inspect.Parameter.empty` when it must be given.
        positional: whether it is given by its place.
        help: from the docstring.
    """

    name: str
    hint: Any
    default: Any
    positional: bool
    help: str

    @property
    def flag(self) -> str:
        """What is typed for it."""
        if self.positional:
            return self.name.upper()
        return ("-" if len(self.name) == 1 else "--") + self.name.replace("_", "-")

    @property
    def takes(self) -> str:
        """What it can hold, in words."""
        kinds = [kind for kind in _alternatives(self.hint) if kind is not types.NoneType]
        words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        named = [
            "one of " + ", ".join(map(str, get_args(kind)))
            if get_origin(kind) is Literal
            else words.get(kind, str(kind))
            for kind in kinds
        ]
        return " or ".join(named)

    def arguments(self) -> tuple[str, dict[str, Any]]:
        """Name and keywords for `add_argument`."""
        keywords: dict[str, Any] = {"help": self.help}
        if self.positional:
            return self.name, keywords | self._place()
        if self.hint is bool and self.default:
            off = {"action": "store_false", "dest": self.name, "default": argparse.SUPPRESS}
            return f"--no-{self.flag[2:]}", off | {"help": f"turn off: {self.help}"}
        if self.hint is bool:
            return self.flag, keywords | {"action": "store_true", "default": argparse.SUPPRESS}
        if self.default is inspect.Parameter.empty:
            keywords["required"] = True
        else:
            keywords["default"] = argparse.SUPPRESS if self.default in (None, ()) else self.default
        if get_origin(self.hint) in (list, tuple):
            metavar = "KEY=VALUE" if "key=value" in self.help else self.name.upper()
            keywords |= {"nargs": "+", "action": "extend", "metavar": metavar}
            return self.flag, keywords | {"type": get_args(self.hint)[0]}
        return self.flag, keywords | {"type": self.hint}

    def _place(self) -> dict[str, Any]:
        """Keywords of a positional option: one value, one that can be left out, or one and more."""
        place: dict[str, Any] = {"type": self.hint, "metavar": self.flag}
        if get_origin(self.hint) in (list, tuple):
            place |= {"type": get_args(self.hint)[0], "nargs": "+"}
            return (
                place
                if self.default is inspect.Parameter.empty
                else place | {"nargs": "*", "default": argparse.SUPPRESS}
            )
        if self.default is not inspect.Parameter.empty:
            place |= {"nargs": "?", "default": argparse.SUPPRESS}
        return place


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union and the members of a list; a plain type is its only one."""
    if get_origin(hint) in (Union, types.UnionType):
        return get_args(hint)
    return get_args(hint)[:1] if get_origin(hint) in (list, tuple) else (hint,)


def options_of(source: Any, skip: Sequence[str] = (), defaults: Any = None) -> Iterator[Option]:
    """The options that a typed function, or a dataclass, stands for.

    Args:
        source: parameters that can be given by place are positional; everything has to be documented under `Args:`
            or `Attributes:`.
        skip: names to leave out.
        defaults: for a dataclass, an instance whose values are shown as defaults instead of the class's own.
    """
    hints = get_type_hints(source)
    documented = {
        name: " ".join((entry.description or "").split())
        for entry in docstring_parser.parse(source.__doc__ or "").params
        for name in entry.arg_name.split(", ")
    }
    for name, parameter in inspect.signature(source).parameters.items():
        if name not in skip:
            default = parameter.default if defaults is None else getattr(defaults, name)
            positional = inspect.isfunction(source) and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            yield Option(name, hints[name], default, positional, documented[name])


@dataclass(frozen=True)
class Manner:
    """How a result is wanted: as JSON, and without notes and progress."""

    json: bool = False
    quiet: bool = False


def _is_option(word: str) -> bool:
    """Whether a word names an option: `-k`, `--set`, `--seed=1`, but not `-1`, `-` or `-a picture`."""
    return re.match(r"-{1,2}[^\W\d_][\w-]*(=|$)", word) is not None


def _values(option: Option | None, word: str, rest: Sequence[str]) -> list[str]:
    """The words behind an option that are its values."""
    if "=" in word or (option is None and word != "--config") or (option and option.hint is bool):
        return []
    several = option is not None and get_origin(option.hint) in (list, tuple)
    found: list[str] = []
    for value in rest:
        if value == "--" or _is_option(value) or (found and not several):
            break
        found.append(value)
    return found


@dataclass(frozen=True)
class CommandLine:
    """One command with its options, ready to read arguments.

    Attributes:
        name: what is typed after `interplay`.
        own: options of the function itself.
        more: options of its settings dataclass.
    """

    name: str
    own: tuple[Option, ...]
    more: tuple[Option, ...]
    description: str

    @classmethod
    def of(cls, name: str, command: Command) -> CommandLine:
        """The command line of a command."""
        function, settings = command.load(), command.load_settings()
        kind = settings if settings is None or isinstance(settings, type) else type(settings)
        defaults = None if kind is settings else settings
        more = () if kind is None else tuple(options_of(kind, defaults=defaults))
        if command.inherits:
            more = tuple(o if o.hint is bool else replace(o, default=None) for o in more)
        return cls(
            name,
            tuple(options_of(function, skip=("settings",))),
            more,
            inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")[0].strip(),
        )

    def parser(self, epilog: str = "") -> ArgumentParser:
        """The jsonargparse parser, with what stands at the end of its help."""
        parser = ArgumentParser(
            prog=f"interplay {self.name}",
            description=self.description,
            epilog=epilog,
            formatter_class=_Help,
            allow_abbrev=False,
            exit_on_error=False,
            print_config=None,
        )
        for option in (*self.own, *self.more):
            name, keywords = option.arguments()
            parser.add_argument(name, **keywords)
        for flag, words in (("--json", _JSON), ("--quiet", _QUIET)):
            parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=words)
        if self.more:
            parser.add_argument("--config", type=str, default=argparse.SUPPRESS, help=_CONFIG)
        return parser

    def _in_order(self, arguments: Sequence[str]) -> list[str]:
        """First what `--config` says, which typed options replace, then what is given by its place, then the rest."""
        places: list[str] = []
        config: list[str] = []
        others: list[str] = []
        takes = {option.arguments()[0]: option for option in self._by_name().values()}
        rest = list(arguments)
        while rest:
            word = rest.pop(0)
            if word == "--":
                places += rest
                break
            if not _is_option(word):
                places.append(word)
                continue
            values = _values(takes.get(word), word, rest)
            del rest[: len(values)]
            file = "=".join([*word.split("=")[1:], *values]) if word.split("=")[0] == "--config" else ""
            if file and self.more:
                config += words_of(Path(file), self._by_name(), f"interplay {self.name}")
            else:
                others += [word, *values]
        hidden = ["--", *places] if any(_is_option(word) for word in places) else []
        return [*config, *([] if hidden else places), *others, *hidden]

    def parse(self, arguments: Sequence[str]) -> tuple[dict[str, Any], Manner]:
        """What was given, as keyword arguments of the function, and how the result is wanted.

        Raises:
            InterplayError: an option that does not exist, a value that it cannot hold, or one that is missing.
        """
        try:
            given = self.parser().parse_args(self._in_order(arguments), defaults=False).as_dict()
        except argparse.ArgumentError as error:
            raise self._sentence(error.message or str(error)) from None
        except OverflowError:  # jsonargparse makes an integer of it before it becomes a float
            longest = max(arguments, key=len)
            raise InterplayError(f"{longest} has too many digits for a number.") from None
        for name, value in given.items():
            if type(value) is int and value.bit_length() > 63:
                raise self._misfit(self._known()[name], shown(value))
        manner = Manner(bool(given.pop("json", False)), bool(given.pop("quiet", False)))
        more = {option.name: given.pop(option.name) for option in self.more if option.name in given}
        return given | ({"settings": more} if self.more else {}), manner

    def _by_name(self) -> dict[str, Option]:
        """Options that have a name to be typed."""
        return {name: option for name, option in self._known().items() if not option.positional}

    def _known(self) -> dict[str, Option]:
        return {option.name: option for option in (*self.own, *self.more)}

    def _sentence(self, message: str) -> InterplayError:
        """A complaint of the parser for people."""
        owner = f"interplay {self.name}"
        if found := re.match(r"the following arguments are required: (.*)", message):
            names = [name.strip() for name in found[1].split(",")]
            flags = " and ".join(
                self._known()[name].flag if name in self._known() else name for name in names
            )
            return InterplayError(f"{owner} needs {flags}: see '{owner} --help'.")
        if found := re.match(r"unrecognized arguments: (.*)", message, re.DOTALL):
            return self._unrecognized(found[1].split())
        if found := re.match(r"Option '(\w+)' is not accepted", message):
            return unknown(f"option of {owner}", found[1], self._known())
        if found := re.match(r'Parser key "(\w+)".*(?:Got value|Given value): (.*)', message, re.DOTALL):
            return self._misfit(self._known()[found[1]], found[2].strip())
        return InterplayError(f"{owner}: {' '.join(message.split())}.".replace("..", "."))

    def _unrecognized(self, words: Sequence[str]) -> InterplayError:
        wrong = next((word for word in words if word.startswith("-")), None)
        if wrong is None:
            return InterplayError(
                f"interplay {self.name} has no use for '{words[0]}': see 'interplay {self.name} --help'."
            )
        flags = [option.arguments()[0] for option in self._by_name().values()]
        flags += ["--json", "--quiet", "--help", *(["--config"] if self.more else [])]
        return unknown(f"option of interplay {self.name}", wrong.split("=")[0], flags)

    @staticmethod
    def _misfit(option: Option, value: str) -> InterplayError:
        choices = [
            str(c)
            for kind in _alternatives(option.hint)
            if get_origin(kind) is Literal
            for c in get_args(kind)
        ]
        if choices:
            return unknown(f"value of {option.flag}", value, choices)
        return InterplayError(f"{option.flag} cannot be '{value}': it takes {option.takes}.")
