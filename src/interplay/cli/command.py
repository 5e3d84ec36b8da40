"""The commands of `interplay`, found by file name: each is one typed function whose docstring is its help.

Their modules import nothing heavy until one of their functions runs, so that `interplay --help` is quick.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from inspect import cleandoc
from types import ModuleType

from interplay.cli import commands as package
from interplay.cli.result import Result

GROUPS = ("Start here", "Classify", "Retrieve", "Gallery", "Serve", "Compare", "Look")
"""Headings of the help, in their order; the module of a command names its own as `GROUP`."""


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: what is typed after `interplay`.
        module: its file below `interplay.cli.commands`, without the suffix; the function has the same name.
    """

    name: str
    module: str

    def load(self) -> Callable[..., Result]:
        """The function itself."""
        function: Callable[..., Result] = getattr(self._imported(), self.module)
        return function

    @property
    def group(self) -> str:
        """The heading that it stands under in the help."""
        return str(self._imported().GROUP)

    @property
    def summary(self) -> str:
        """The first sentence of the command's docstring."""
        return cleandoc(self.load().__doc__ or "").split("\n")[0]

    def _imported(self) -> ModuleType:
        return importlib.import_module(f"{package.__name__}.{self.module}")


def commands() -> dict[str, Command]:
    """Every command by what is typed for it: an underscore in the file's name is a space there."""
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return {name: Command(name, module) for module in found for name in [module.replace("_", " ")]}
