"""For every command one call that is right and quick, to be broken in one place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from interplay.cli.command import commands
from interplay.cli.command_line import CommandLine
from interplay.cli.options import Option

from .conftest import World
from .values import NUMBERS, WORDS

Call = tuple[list[object], list[object]]
"""Words by place, and options."""


def right(world: World, out: Path, command: str) -> Call:
    """A right call of a command; those that would run for minutes stop early for one honest reason.

    Args:
        out: a path where nothing is.
    """
    image = ["--image", world.picture, "--text", "a red square"]
    calls: dict[str, Call] = {
        "demo": ([], ["--out", world.toy / "demo"]),  # below a file
        "demo retrieval": ([], ["--out", world.toy / "demo"]),
        "train": ([], ["--data", world.toy, "--out", out, "--method", "text_probe"]),
        "tune": ([], ["--data", world.toy, "--out", out, "--minutes", 1e-6, "--method", "text_probe"]),
        "evaluate": ([world.run], []),
        "predict": ([world.run], image),
        "calibrate": ([world.run], ["--data", world.stream]),  # no labels
        "compare": ([], ["--methods", "text_probe", "--data", world.toy, "--out", out, "--dry-run"]),
        "experiment": (["ablation"], ["--out", out, "--only", "nothing"]),
        "reproduce": (["table1"], ["--list", "--out", out]),
        "continual": ([], ["--data", world.toy, "--out", out]),  # no tasks
        "learn": ([world.retriever], ["--task", "squares", "--data", world.stream]),  # known already
        "forget": ([world.retriever], ["--task", "none such"]),
        "index": ([world.retriever], ["--images", world.picture, "--no-progress"]),
        "search": ([world.retriever, "red"], ["-k", 2]),
        "refresh": ([world.retriever], ["--no-progress"]),
        "remove": ([world.retriever, "none such"], []),
        "prune": ([world.retriever], []),
        "gallery export": ([world.retriever], ["--out", out]),
        "gallery import": ([world.retriever, out], []),  # nothing there
        "gallery metadata": ([world.retriever, out], []),  # nothing there
        "export": ([world.run], ["--out", out, "--opset", 17]),  # no such
        "plots": ([world.retriever], ["--out", out, "-k", 99]),  # no such recall
        "serve": ([], ["--models", world.run, "--host", "everywhere"]),  # without tokens
        "embed": ([world.folder / "none.tar"], ["--out", out]),  # no such
        "token": ([out], ["--user", "shop"]),
        "methods": ([], []),
        "info": ([], ["--method", "text_probe"]),
        "data list": ([], []),
        "data show": ([world.toy], []),
    }
    return calls[command]


def options(command: str) -> list[Option]:
    """All options of a command."""
    line = CommandLine.of(commands()[command])
    return [*line.own, *line.further]


def broken(call: Call, option: Option, value: object) -> list[object]:
    """A call with another value for one option."""
    by_place, rest = call
    if option.positional:
        at = {"sources": 1, "query": 1, "folder": 1, "file": 1}.get(option.name, 0)
        return [*by_place[:at], value, *by_place[at + 1 :], *rest]
    return [*by_place, *rest, option.switch, value]


def values_for(option: Option, files: Sequence[Path]) -> Iterator[object]:
    """What an option is given."""
    yield from NUMBERS if "number" in option.takes else WORDS
    if "number" not in option.takes:
        yield from files
