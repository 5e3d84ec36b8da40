"""`key=value` words as settings, and settings as such words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from interplay.errors import InterplayError, brief
from interplay.files import parsed_yaml

_LIST = re.compile(r"[\w.+-]+(,[\w.+-]+)*,?")


def assignments(words: Sequence[str], cls: type[Any], option: str) -> dict[str, Any]:
    """`["layers=4,5,6", "interaction=naive"]` as values for the fields of a settings dataclass.

    A field for text takes it as it stands; for any other the value is read as YAML, `4,5,6` is `[4, 5, 6]`, and one
    value is enough where a field holds several. Unknown keys are left for `make_settings` to name.

    Args:
        words: `key=value` each.
        cls: the dataclass.
        option: where the words come from, for messages.

    Raises:
        InterplayError: a word without `=`, or a value that is no YAML.
    """
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise InterplayError(f"{option} takes key=value, not '{word}'.")
        values[key] = _value(text, hints.get(key), f"{option} {key}: the value '{brief(text, 80)}'")
    return values


def _value(text: str, hint: Any, what: str) -> Any:
    if hint is str:
        return text
    value = parsed_yaml(f"[{text}]" if "," in text and _LIST.fullmatch(text) else text, what)
    if get_origin(hint) is tuple and not isinstance(value, list):
        return (value,)
    if float in (hint, *get_args(hint)) and isinstance(value, str):  # YAML takes 1e-3 for text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def spelled(values: Mapping[str, Any]) -> list[str]:
    """Settings as words that `assignments` reads."""

    def word(value: Any) -> str:
        if isinstance(value, str):
            return value
        plain = list(value) if isinstance(value, tuple) else value
        return str(yaml.safe_dump(plain, default_flow_style=True, width=10**6)).removesuffix("...\n").strip()

    return [f"{key}={word(value)}" for key, value in values.items()]


def given(settings: Any) -> dict[str, Any]:
    """The values of a settings dataclass as YAML holds them; those that are None are left out."""
    return {
        key: list(v) if isinstance(v, tuple) else v for key, v in asdict(settings).items() if v is not None
    }
