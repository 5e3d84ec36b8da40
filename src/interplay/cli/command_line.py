"""One command's options as a `cyclopts` application: what is typed becomes keyword arguments, or one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import Parameter as Place
from inspect import Signature, cleandoc
from typing import Annotated, Any

import cyclopts

from interplay.cli.command import Command
from interplay.cli.config_file import apply_config
from interplay.cli.options import Option, further_of, options_of, shielded, unshielded
from interplay.errors import InterplayError, unknown

_HEADINGS = (
    "Arguments",
    "Options",
    "Data",
    "Method",
    "Training",
    "Output",
    "Gallery",
    "Server",
    "Every command",
)
"""The headings of a command's help, in their order."""
_STANDS_UNDER: Mapping[str, str] = {
    **dict.fromkeys(("data", "columns", "validation", "test", "split", "share", "shares", "root"), "Data"),
    **dict.fromkeys(
        ("table", "image", "text", "images", "texts", "metadata", "on_bad_row", "on_bad"), "Data"
    ),
    **dict.fromkeys(("order", "order_seed", "min_rows", "small"), "Data"),
    **dict.fromkeys(
        ("method", "methods", "backbone", "set", "head", "multi_loss", "random_weights"), "Method"
    ),
    **dict.fromkeys(("out", "overwrite", "resume"), "Output"),
    **dict.fromkeys(("gallery", "collection"), "Gallery"),
    **dict.fromkeys(("config", "json", "quiet", "help"), "Every command"),
}
"""The heading of an option, by its name; of any other `Options`."""
_EVERYWHERE = tuple(
    Option(name, bool, False, False, words)
    for name, words in (
        ("json", "print the result as one JSON document on stdout."),
        ("quiet", "print neither notes nor progress: the result alone, or what went wrong."),
        ("help", "show this text."),
    )
)
_CONFIG = Option(
    "config",
    tuple[str, ...],
    (),
    False,
    "YAML file with values of these options, as `config.yaml` in a run folder; what is typed wins.",
)


@dataclass(frozen=True)
class Manner:
    """How a result is wanted: as JSON, and without notes and progress."""

    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class CommandLine:
    """One command with its options, ready to read arguments.

    Attributes:
        name: what is typed after `interplay`.
        own: options of the function itself.
        further: options of its settings dataclass.
        heading: of the further ones in the help.
        description: the docstring without its arguments.
    """

    name: str
    own: tuple[Option, ...]
    further: tuple[Option, ...]
    heading: str
    description: str

    @classmethod
    def of(cls, command: Command) -> CommandLine:
        """The command line of a command."""
        function = command.load()
        mark = further_of(function)
        further: tuple[Option, ...] = ()
        if mark is not None:
            kind = mark.source if isinstance(mark.source, type) else type(mark.source)
            further = tuple(options_of(kind, defaults=None if kind is mark.source else mark.source))
            if not mark.shown:
                further = tuple(o if o.hint is bool else replace(o, default=None) for o in further)
        return cls(
            command.name,
            tuple(options_of(function, skip=("settings",))),
            further,
            "" if mark is None else mark.heading,
            cleandoc(function.__doc__ or "").partition("\nArgs:\n")[0].strip(),
        )

    @property
    def options(self) -> dict[str, Option]:
        """Everything that can be given, by name."""
        config = (_CONFIG,) if self.further else ()
        return {option.name: option for option in (*self.own, *self.further, *config, *_EVERYWHERE)}

    def app(self, *, demanding: bool = True) -> cyclopts.App:
        """The `cyclopts` application that reads the arguments, and draws the help.

        Args:
            demanding: whether it asks for what must be given; without, all that is wrong can be told before.
        """
        return cyclopts.App(
            name=self.name.split()[-1],
            help=self.description.partition("\n")[0],
            help_format="plaintext",
            help_flags=(),
            version_flags=(),
            group_arguments=_group("Arguments"),
            default_command=self._signed(demanding),
            config=partial(apply_config, options=self.options, owner=f"interplay {self.name}"),
        )

    def parse(self, arguments: Sequence[str]) -> tuple[dict[str, Any], Manner]:
        """What was given, as keyword arguments of the function, and how the result is wanted.

        Raises:
            InterplayError: an option that does not exist, a value that it cannot hold, or one that is missing.
        """
        try:
            _, bound, left, _ = self.app(demanding=False).parse_known_args(map(shielded, arguments))
        except cyclopts.CycloptsError as error:
            raise self._sentence(error) from None
        if left:
            raise self._no_use_for(left)
        given = dict(bound.arguments)
        if missing := [o.flag for o in self.options.values() if o.required and o.name not in given]:
            raise self._see_help(f"needs {' and '.join(missing)}")
        manner = Manner(given.pop("json", False), given.pop("quiet", False))
        for name in ("config", "help"):
            given.pop(name, None)
        more = {option.name: given.pop(option.name) for option in self.further if option.name in given}
        return given | ({"settings": more} if self.further else {}), manner

    def _signed(self, demanding: bool) -> Callable[..., None]:
        """A function with a parameter for every option, which is how `cyclopts` is told of them."""

        def given() -> None:
            """Never called: what it would be called with is what was given."""

        places = [self._place(option, demanding) for option in self.options.values()]
        given.__signature__ = Signature(sorted(places, key=lambda place: place.kind))  # type: ignore[attr-defined]
        return given

    def _place(self, option: Option, demanding: bool) -> Place:
        how = self._parameter(option, demanding)
        if option.positional and option.several:
            return Place(option.name, Place.VAR_POSITIONAL, annotation=Annotated[option.kinds[0], how])
        kind = Place.POSITIONAL_ONLY if option.positional else Place.KEYWORD_ONLY
        default = None if option.required and not demanding else option.default
        hint = option.hint
        if default is None:  # of which pydantic is asked, where it is loaded
            hint |= None
        return Place(option.name, kind, default=default, annotation=Annotated[hint, how])

    def _parameter(self, option: Option, demanding: bool) -> cyclopts.Parameter:
        names = ("--help", "-h") if option.name == "help" else (option.flag,)
        return cyclopts.Parameter(
            name=None if option.positional else names,
            help=option.help,
            group=_group(self._heading(option)),
            required=option.required and demanding,
            negative=option.switch if option.switch != option.flag else (),
            converter=None if option.hint is bool else _converter(option),
            consume_multiple=(1, None) if option.several and option is not _CONFIG else None,
            allow_repeating=True,
            metavar="FILE" if option is _CONFIG else "KEY=VALUE" if "key=value" in option.help else None,
            show_default=_shown if option.shown else False,
        )

    def _heading(self, option: Option) -> str:
        """What an option stands under in the help."""
        if option.positional:
            return "Arguments"
        if option in self.further:
            return self.heading
        return _STANDS_UNDER.get(option.name, "Options")

    def _sentence(self, error: cyclopts.CycloptsError) -> InterplayError:
        """What the parser complains of, for people."""
        option = None if error.argument is None else self.options[error.argument.field_info.name]
        match error:
            case cyclopts.UnknownOptionError():
                return self._unknown(error.token.keyword or error.token.value)
            case cyclopts.MissingArgumentError() if option is not None:
                return InterplayError(f"{option.flag} needs a value: it takes {option.takes}.")
            case cyclopts.CoercionError() if option is not None and error.token is not None:
                value = unshielded(error.token.value)
                return InterplayError(f"{option.flag} cannot be '{value}': it takes {option.takes}.")
        return self._see_help(f"cannot read this ({' '.join(str(error).split())})")

    def _no_use_for(self, words: Sequence[str]) -> InterplayError:
        for word in words:
            if word.startswith("-"):
                return self._unknown(word)
        return self._see_help(f"has no use for '{unshielded(words[0])}'")

    def _see_help(self, what: str) -> InterplayError:
        return InterplayError(f"interplay {self.name} {what}: see 'interplay {self.name} --help'.")

    def _unknown(self, word: str) -> InterplayError:
        flags = [option.switch for option in self.options.values() if not option.positional]
        return unknown(f"option of interplay {self.name}", word.split("=")[0], flags)


def _converter(option: Option) -> Callable[[Any, Sequence[cyclopts.Token]], Any]:
    """How `cyclopts` makes a value of words."""

    def convert(_: Any, tokens: Sequence[cyclopts.Token]) -> Any:
        values = [option.read(unshielded(token.value)) for token in tokens]
        return values if option.several and not option.positional else values[-1]

    return convert


def _group(heading: str) -> cyclopts.Group:
    return cyclopts.Group(heading, sort_key=[*_HEADINGS, heading].index(heading))


def _shown(default: Any) -> str:
    """A default as it would be typed."""
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
