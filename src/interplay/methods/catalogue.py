"""What the methods are called and how they are trained, read from their files: nothing is imported, torch least."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interplay import methods
from interplay.errors import unknown
from interplay.typed import expect

DEFAULT_METHOD = "lora"
"""What is trained where nobody names a method: it starts as the frozen model and reads both sides, and in the recorded
trials on validation (results/openmoji/tuning) it leads on several labels, is level on many classes, and is behind deep
prompts where both sides are needed."""
AUTO = "auto"
"""In place of a method: the best of `RIVALS` on validation, or none of them."""
RIVALS = (DEFAULT_METHOD, "mitp", "p_clip")
"""They start exactly as the frozen model, read both sides and cost about the same: in the recorded trials on validation
the first leads on several labels and the others where both sides are needed."""
_SOLVER, _COUPLING = "Gradient", "apart"  # of a method that says nothing else (`Traits`)


@dataclass(frozen=True)
class ListedMethod:
    """A method as a list shows it.

    Attributes:
        name: of its file.
        summary: the first line of its docstring.
        trained: the words of its solver.
        coupled: whether its towers run in lock-step on true pairs, or its route crosses between them.
        variants: its named settings.
    """

    name: str
    summary: str
    trained: str
    coupled: bool
    variants: Mapping[str, Mapping[str, Any]]


def catalogue() -> list[ListedMethod]:
    """All methods by name. What is read here stands as literals in their files; a test holds it against the classes."""
    solvers = _classes(Path(__file__).with_name("solvers.py"), "Solver")
    words = {solver.name: _literal(solver, "words") for solver in solvers}
    found = []
    for path in files():
        for method in _classes(path, "Method"):
            traits = _value(method, "traits")
            given = {k.arg: k.value for k in traits.keywords} if isinstance(traits, ast.Call) else {}
            solver = given.get("solver")
            coupling = ast.literal_eval(given["coupling"]) if "coupling" in given else _COUPLING
            variants: dict[str, dict[str, Any]] = {}
            for settings in _classes(path, "MethodSettings"):
                variants |= _literal(settings, "variants") or {}
            found.append(
                ListedMethod(
                    name=path.stem,
                    summary=(ast.get_docstring(method) or "").split("\n")[0],
                    trained=words[_SOLVER if solver is None else _called(solver)],
                    coupled=coupling != _COUPLING,
                    variants=variants,
                )
            )
    return found


def files() -> list[Path]:
    """The files of the package of methods, sorted; some hold no method."""
    return [path for folder in methods.__path__ for path in sorted(Path(folder).glob("*.py"))]


def known_name(name: str) -> str:
    """A method's or a variant's name as its file spells it; `-` and `_` are the same.

    Raises:
        InterplayError: there is none; names the nearest.
    """
    expect("method", name, str)
    known = [one for entry in catalogue() for one in (entry.name, *entry.variants)]
    for spelling in (name, name.replace("-", "_"), name.replace("_", "-")):
        if spelling in known:
            return spelling
    raise unknown("method", name, known)


def _classes(path: Path, base: str) -> Iterator[ast.ClassDef]:
    """The classes of a file that name another one as their base."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef) and base in [ast.unparse(one) for one in node.bases]:
            yield node


def _value(owner: ast.ClassDef, name: str) -> ast.expr | None:
    """What a name is set to in the body of a class."""
    for node in owner.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            return node.value
        if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
            return node.value
    return None


def _literal(owner: ast.ClassDef, name: str) -> Any:
    """The same as what it is; None where it is not set."""
    value = _value(owner, name)
    return None if value is None else ast.literal_eval(value)


def _called(value: ast.expr) -> str:
    """The class that an expression makes an instance of."""
    return ast.unparse(value.func if isinstance(value, ast.Call) else value)
