"""What a value may be, checked against the annotations and said in words."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from interplay.errors import InterplayError, brief, unknown, wrong_type
from interplay.seeds import shown


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type as annotations spell it; whole numbers have at most 63 bits, and are numbers too."""
    origin = get_origin(kind)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in get_args(kind))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(fits(v, get_args(kind)[1]) for v in value.values())
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(v, get_args(kind)[0]) for v in value)
    if origin is not None or get_args(kind):  # a union
        return any(fits(value, option) for option in get_args(kind))
    if kind is float:
        return isinstance(value, float) or fits(value, int)
    if kind is int:  # no count, size or seed has more than 63 bits, and neither PyTorch nor NumPy takes them
        return isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 64
    return kind is Any or value is kind or (isinstance(kind, type) and isinstance(value, kind))


def in_code(value: Any) -> str:
    """A value as it is written in Python; a whole number of very many digits is not written out."""
    if type(value) is int:
        return shown(value)
    try:
        return brief(reprlib.repr(value), 80)
    except ValueError:  # Python writes out no number of more than 4,300 digits
        return f"a {type(value).__name__} with a number of thousands of digits"


def in_words(kind: Any) -> str:
    """A type as a person would name it."""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is Mapping:
        return f"names, each with {in_words(get_args(kind)[1])}"
    if get_origin(kind) is tuple:
        return f"a list, each {in_words(get_args(kind)[0])}"
    if get_args(kind):
        return " or ".join(in_words(option) for option in get_args(kind))
    words: dict[Any, str] = {
        Mapping: "a mapping of names to values",
        Any: "anything",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        type(None): "nothing",
    }
    return words.get(kind, str(kind))


def expect(argument: str, value: Any, kind: Any) -> None:
    """Refuse an argument of another type.

    Raises:
        InterplayError: it is of another one, or a whole number of more than 63 bits.
    """
    if type(value) is int and value.bit_length() > 63:
        raise InterplayError(f"{argument} takes {in_words(kind)}, not {shown(value)}.")
    if fits(value, kind):
        return
    if get_origin(kind) is Literal and isinstance(value, str):
        raise unknown(argument, value, get_args(kind))
    raise wrong_type(argument, in_words(kind), value)


def check_fields(settings: Any) -> None:
    """Refuse a dataclass that was made with a value of another type than its field has.

    Raises:
        InterplayError: names the field.
    """
    hints = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        expect(field.name, getattr(settings, field.name), hints[field.name])
