"""The methods by name, found by file name; a new file is a new method."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.catalogue import known_name
from interplay.settings import make_settings
from interplay.towers.tokens import Shape
from interplay.typed import expect

_BESIDE = ("base", "catalogue", "registry", "sessions", "settings", "settings_text", "solvers", "traits")
"""Modules of this package that are no methods."""


def _modules() -> list[str]:
    import interplay.methods as package

    return [m.name for m in pkgutil.iter_modules(package.__path__) if m.name not in _BESIDE]


def _class_in(module_name: str) -> type[Method]:
    module = importlib.import_module(f"interplay.methods.{module_name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise ImportError(
            f"interplay/methods/{module_name}.py must define exactly one Method, not {len(found)}"
        )
    return found[0]


_MOST = 4096
"""The largest whole number among settings: a length, a width or a rank beyond it ends in no reasonable time."""
_TEXT = 3
"""Positions of the shortest text: start token, one word, end token."""


@dataclass(frozen=True)
class MethodChoice:
    """A method by one of its names: the class and the settings that the name stands for."""

    name: str
    method: type[Method]
    preset: Mapping[str, Any]

    def settings(self, overrides: Mapping[str, Any] | None = None) -> Any:
        """The settings dataclass: what the name stands for, with `overrides` on top.

        Raises:
            InterplayError: an unknown setting, a value of the wrong kind, or a contradiction.
        """
        given = {} if overrides is None else overrides
        expect("settings", given, Mapping)
        owner = f"method '{self.name}'"
        built = make_settings(self.method.Settings, {**self.preset, **given}, owner)
        for name, value in vars(built).items():
            for one in value if isinstance(value, tuple) else (value,):
                if type(one) is int and one > _MOST:
                    raise InterplayError(
                        f"The setting '{name}' of {owner} is at most {_MOST:,}, not {one:,}."
                    )
        return built

    def starting_frozen(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Overrides with which a fresh method gives the frozen model's vectors, where it can and nobody chose."""
        given = dict(overrides)
        if "start" in {*given, *self.preset} or "start" not in get_type_hints(self.method.Settings):
            return given
        try:
            self.settings({**given, "start": "frozen"})
        except InterplayError:  # its form under these settings has no such start
            return given
        return {**given, "start": "frozen"}

    def build(self, shape: Shape, overrides: Mapping[str, Any] | None = None) -> Method:
        """A fresh method for a geometry.

        Raises:
            InterplayError: as `settings`; a geometry that the settings do not fit, as prompts that leave no room for
                words.
        """
        method = self.method(shape, self.settings(overrides))
        reserve = method.traits.reserve
        if reserve + _TEXT > shape.text.positions:
            raise InterplayError(
                f"The method '{self.name}' takes {reserve} of the {shape.text.positions} positions of the text "
                "tower, which leaves no room for words: choose fewer prompts."
            )
        return method


def choices() -> dict[str, MethodChoice]:
    """All methods and variants by name, found by file name; a new file is a new method."""
    found: dict[str, MethodChoice] = {}
    for module_name in _modules():
        method = _class_in(module_name)
        found[module_name] = MethodChoice(module_name, method, {})
        for variant, preset in method.Settings.variants.items():
            found[variant] = MethodChoice(variant, method, preset)
    return found


def choose(name: str) -> MethodChoice:
    """A method by its name or the name of a variant; `-` and `_` are the same.

    Raises:
        InterplayError: there is none; names the nearest.
    """
    expect("method", name, str)
    found = choices()
    return found[
        name if name in found else known_name(name)
    ]  # files are read for a name that is not there alone
