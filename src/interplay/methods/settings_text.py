"""What can be set of a method or of the head, read from the files: nothing is imported, torch least."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from interplay.docstrings import described
from interplay.methods.catalogue import catalogue, files, known_name

_BUILTIN: Mapping[str, Any] = {"int": int, "float": float, "bool": bool, "str": str}


@dataclass(frozen=True)
class Setting:
    """One field of a settings dataclass.

    Attributes:
        name: of the field.
        hint: its type.
        default: its value where nothing is set.
        help: what the docstring says of it, on one line.
    """

    name: str
    hint: Any
    default: Any
    help: str


def settings_of(method: str) -> list[Setting]:
    """The settings of a method, with the values that a variant gives them.

    Args:
        method: a method or variant.

    Raises:
        InterplayError: there is none of that name.
    """
    known = known_name(method)
    entry = next(entry for entry in catalogue() if known in (entry.name, *entry.variants))
    preset = entry.variants.get(known, {})
    file = next(path for path in files() if path.stem == entry.name)
    return [
        replace(one, default=preset.get(one.name, one.default)) for one in _fields(file, "MethodSettings")
    ]


def head_settings() -> list[Setting]:
    """The settings of the head."""
    return [*_fields(_file("interplay.parts.heads"), "HeadSettings")]


def _fields(file: Path, kind: str) -> Iterator[Setting]:
    """The fields of the dataclass of a file that has a name, or a base, of this kind; none where there is none."""
    module = ast.parse(file.read_text("utf-8"))
    for owner in module.body:
        if isinstance(owner, ast.ClassDef) and kind in (owner.name, *map(ast.unparse, owner.bases)):
            told = described(ast.get_docstring(owner))
            for field in owner.body:
                if isinstance(field, ast.AnnAssign) and field.value is not None:
                    name, hint = ast.unparse(field.target), field.annotation
                    if "ClassVar" not in ast.unparse(hint):
                        yield Setting(name, _type(hint, module), _default(field.value), told[name])


def _default(value: ast.expr) -> Any:
    """What a field is set to, by itself or as the default of `field(…)`."""
    if isinstance(value, ast.Call):
        value = next(one.value for one in value.keywords if one.arg == "default")
    return ast.literal_eval(value)


def _type(hint: ast.expr, module: ast.Module) -> Any:
    """A type as an annotation of a module spells it; what has a name there is looked up, in another file if need be."""
    match hint:
        case ast.Constant(value=None):
            return None
        case ast.Name(id=name) if name in _BUILTIN:
            return _BUILTIN[name]
        case ast.Name(id=name):
            return _named(name, module)
        case ast.BinOp(left=left, right=right):
            return _type(left, module) | _type(right, module)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=values):
            found = ast.literal_eval(values)
            return Literal.__getitem__(found)
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[item, _])):
            return types.GenericAlias(tuple, (_type(item, module), ...))
    raise TypeError(f"a setting of the type '{ast.unparse(hint)}' cannot be shown")


def _named(name: str, module: ast.Module) -> Any:
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
            return _type(node.value, module)
        if isinstance(node, ast.ImportFrom) and node.module and name in (alias.name for alias in node.names):
            return _named(name, ast.parse(_file(node.module).read_text("utf-8")))
    raise TypeError(f"nothing is called '{name}'")


def _file(module: str) -> Path:
    """The file of a module of this package."""
    return Path(__file__).parents[1].joinpath(*module.split(".")[1:]).with_suffix(".py")
