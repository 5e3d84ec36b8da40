"""What can be given to a command: the parameters of a typed function, and the fields of a settings dataclass."""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from interplay.docstrings import described
from interplay.errors import InterplayError, unknown
from interplay.seeds import shown


@dataclass(frozen=True)
class Further:
    """Marks a parameter `settings` as a mapping of those fields of a dataclass that were given, each an option.

    Attributes:
        source: the dataclass, or an instance whose values are the defaults that are shown.
        heading: of these options in the help.
        shown: whether there are defaults to be shown; not where settings that are not given are those of an earlier
            run, or searched.
    """

    source: Any
    heading: str
    shown: bool = True


@dataclass(frozen=True)
class Option:
    """One thing that can be given.

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
        """How it is called: what is typed for it, or the name of its place."""
        if self.positional:
            return self.name.upper()
        return ("-" if len(self.name) == 1 else "--") + self.name.replace("_", "-")

    @property
    def switch(self) -> str:
        """What is typed for it, where the default is on with `no-` to turn it off."""
        return f"--no-{self.flag[2:]}" if self.hint is bool and self.default else self.flag

    @property
    def several(self) -> bool:
        """Whether it takes more than one value."""
        return get_origin(self.hint) in (list, tuple)

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is inspect.Parameter.empty

    @property
    def shown(self) -> bool:
        """Whether its default says anything."""
        return self.hint is not bool and self.default not in (None, (), "", inspect.Parameter.empty)

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types that a value of it can have."""
        if get_origin(self.hint) in (Union, types.UnionType):
            return tuple(kind for kind in get_args(self.hint) if kind is not types.NoneType)
        return get_args(self.hint)[:1] if self.several else (self.hint,)

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a `Literal`."""
        return tuple(
            str(choice) for kind in self.kinds if get_origin(kind) is Literal for choice in get_args(kind)
        )

    @property
    def takes(self) -> str:
        """What it can hold, in words."""
        words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        named = [
            "one of " + ", ".join(map(str, get_args(kind)))
            if get_origin(kind) is Literal
            else words.get(kind, str(kind))
            for kind in self.kinds
        ]
        return " or ".join(named)

    def read(self, text: str) -> Any:
        """A value from what was typed.

        Raises:
            InterplayError: it is none that the option can hold.
        """
        for kind in self.kinds:
            if kind is str or text in map(str, get_args(kind)):
                return text
            try:
                return _number(text, kind)
            except ValueError:
                continue
        if self.choices:
            raise unknown(f"value of {self.flag}", text, self.choices)
        raise InterplayError(f"{self.flag} cannot be '{text}': it takes {self.takes}.")


def _number(text: str, kind: Any) -> int | float:
    """Digits as a number.

    Raises:
        ValueError: they are none, or have more of them than a number of this kind.
    """
    if kind is int:
        whole = int(text)
        if whole.bit_length() > 63:
            raise ValueError(shown(whole))
        return whole
    if kind is float:
        number = float(text)
        if math.isinf(number) and "inf" not in text.lower():
            raise ValueError(text)
        return number
    raise ValueError(f"{kind} is no kind of number")


def options_of(source: Any, skip: Sequence[str] = (), defaults: Any = None) -> Iterator[Option]:
    """The options that a typed function, or a dataclass, stands for.

    Args:
        source: parameters that can be given by place are positional; everything has to be documented under `Args:`
            or `Attributes:`.
        skip: names to leave out.
        defaults: for a dataclass, an instance whose values are shown as defaults instead of the class's own.
    """
    hints, documented = get_type_hints(source), described(source.__doc__)
    for name, parameter in inspect.signature(source).parameters.items():
        if name not in skip:
            default = parameter.default if defaults is None else getattr(defaults, name)
            positional = inspect.isfunction(source) and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            yield Option(name, hints[name], default, positional, documented[name])


def further_of(function: Any) -> Further | None:
    """How a command's parameter `settings` is marked; None where it has none."""
    hint = get_type_hints(function, include_extras=True).get("settings")
    return next((mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Further)), None)


_NO_OPTION = "\0"
"""Stands before a shielded word; nothing that is typed holds a zero byte."""


def shielded(word: str) -> str:
    """A word as the parser may see it: one that begins with a dash and looks like no option is marked as a value.

    So `-5`, `-` and `- a dash` are values, `-k` and `--seed=1` are not.
    """
    is_value = word.startswith("-") and word != "--" and not re.match(r"-{1,2}[^\W\d_][\w-]*(=|$)", word)
    return _NO_OPTION + word if is_value else word


def unshielded(word: str) -> str:
    """A word as it was typed."""
    return word.removeprefix(_NO_OPTION)
