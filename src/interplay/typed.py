"""What a value may be, checked against the annotations and said in words."""

from __future__ import annotations

import dataclasses
import operator
import reprlib
from collections.abc import Mapping
from functools import cache, reduce
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from interplay.errors import InterplayError, brief, unknown, wrong_type
from interplay.seeds import LARGEST, shown

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type as annotations spell it; whole numbers have at most 63 bits, and are numbers too."""
    if _plainly(value, kind):
        return True  # without the cost of importing what checks the rest
    from pydantic import ValidationError

    try:
        _checker(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def _plainly(value: Any, kind: Any) -> bool:
    """Whether a value is of a type at first sight: of that class, or one of the options."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return any(_plainly(value, option) for option in get_args(kind))
    if origin is Literal:
        return any(type(value) is type(option) and value == option for option in get_args(kind))
    return type(value) is kind and (kind is not int or -LARGEST <= value <= LARGEST)


@cache
def _checker(kind: Any) -> TypeAdapter[Any]:
    """pydantic's check of a type, which takes nothing for what it could be turned into."""
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(_bounded(kind), config=ConfigDict(strict=True, arbitrary_types_allowed=True))


def _bounded(kind: Any) -> Any:
    """A type whose whole numbers have at most 63 bits: no count, size or seed has more, nor do PyTorch and NumPy."""
    from pydantic import Field, InstanceOf

    origin: Any = get_origin(kind)
    inner = tuple(map(_bounded, get_args(kind)))
    if origin in (Union, UnionType):
        return reduce(operator.or_, inner)
    if origin in (tuple, Mapping):
        return origin[inner]
    whole = Annotated[int, Field(ge=-LARGEST, le=LARGEST)]
    if kind is float:
        return InstanceOf[float] | whole
    return whole if kind is int else kind


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
    """Refuse a dataclass that was made with a value of another type than its field has; defaults are not looked at.

    Raises:
        InterplayError: names the field.
    """
    hints = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value is not field.default:
            expect(field.name, value, hints[field.name])
