"""The commands of `interplay`: each is one typed function whose docstring is its help.

The modules named here import nothing heavy until one of their functions runs, so that `interplay --help` is quick.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any

from interplay.cli.result import Result


@dataclass(frozen=True)
class Command:
    """Where a command is defined.

    Attributes:
        module: below `interplay.cli.commands`.
        function: in that module.
        settings: `module:Class` of a dataclass whose fields are options too, handed over as the dictionary
            `settings` of those that were given; or `module:INSTANCE`, whose values are the defaults that are shown.
        inherits: settings that are not given are those of an earlier run, or searched, so no defaults are shown.
    """

    module: str
    function: str
    settings: str | None = None
    inherits: bool = False

    def load(self) -> Callable[..., Result]:
        """The function itself."""
        function: Callable[..., Result] = getattr(
            importlib.import_module(f"interplay.cli.commands.{self.module}"), self.function
        )
        return function

    def load_settings(self) -> Any:
        """The dataclass of further options, or an instance of it; None where there are none."""
        if self.settings is None:
            return None
        module, _, name = self.settings.partition(":")
        return getattr(importlib.import_module(module), name)

    @property
    def summary(self) -> str:
        """The first sentence of the command's docstring."""
        return cleandoc(self.load().__doc__ or "").split("\n")[0]


COMMANDS: dict[str, Command] = {
    "demo": Command("demo", "demo"),
    "demo retrieval": Command("demo_retrieval", "demo_retrieval"),
    "train": Command("train", "train", settings="interplay.training.settings:TrainSettings"),
    "tune": Command("tune", "tune", settings="interplay.training.settings:TrainSettings", inherits=True),
    "evaluate": Command("evaluate", "evaluate"),
    "predict": Command("predict", "predict"),
    "calibrate": Command("calibrate", "calibrate"),
    "compare": Command("compare", "compare", settings="interplay.training.settings:TrainSettings"),
    "experiment": Command(
        "experiment", "experiment", settings="interplay.training.settings:TrainSettings", inherits=True
    ),
    "reproduce": Command(
        "reproduce", "reproduce", settings="interplay.training.settings:TrainSettings", inherits=True
    ),
    "continual": Command("continual", "continual", settings="interplay.training.settings:RETRIEVAL_TRAINING"),
    "learn": Command("learn", "learn", settings="interplay.training.settings:TrainSettings", inherits=True),
    "forget": Command("forget", "forget"),
    "index": Command("index", "index", settings="interplay.gallery.address:ServerSettings"),
    "search": Command("search", "search", settings="interplay.gallery.address:ServerSettings"),
    "refresh": Command("refresh", "refresh", settings="interplay.gallery.address:ServerSettings"),
    "remove": Command("remove", "remove", settings="interplay.gallery.address:ServerSettings"),
    "prune": Command("prune", "prune", settings="interplay.gallery.address:ServerSettings"),
    "export": Command("export", "export"),
    "plots": Command("plots", "plots"),
    "methods": Command("methods", "methods"),
    "info": Command("info", "info"),
    "data list": Command("data_list", "data_list"),
    "data show": Command("data_show", "data_show"),
}
"""Every command by what is typed for it, in the order of the help."""
