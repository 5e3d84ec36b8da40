"""Trained methods whose files say something else than what was written."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from interplay.artifacts import WEIGHTS, checksum

from .conftest import World
from .judge import Tally

INSTEAD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "none such",
    "x" * 3000,
    "\ud800",
    "../..",
    [],
    [None],
    [[1]],
    ["a", "a"],
    ["", "b"],
    {},
    {"a": "b"},
    {"layers": "x", "depth": None},
)
"""Values of other types, or of the right type and no sense."""
PARTS = ["settings", "head", "training", "metrics"]


def altered(card: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Cards with one thing changed, and what was changed."""
    for key in card:
        yield f"without {key}", {name: value for name, value in card.items() if name != key}
        for value in INSTEAD:
            if value != card[key]:
                yield f"{key} = {value!r:.60}", {**card, key: value}
    yield "a new key", {**card, "colour": "red"}
    yield "a new format", {**card, "format": 2, "colour": "red"}
    yield "another task", {**card, "task": "translation"}
    for value in INSTEAD:
        yield f"{value!r:.60} alone", value


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Card and tensors of an artefact."""
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()["interplay"]), tensors


def write(folder: Path, text: str, tensors: dict[str, Any]) -> None:
    """An artefact with a right checksum of whatever it says."""
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"interplay": text, "checksum": checksum(text, tensors)})


def uses(world: World, run: Path, of: str) -> list[object]:
    """The quickest command that builds the whole of what an artefact holds."""
    if of == "run":
        return ["predict", run, "--image", world.picture, "--text", "x"]
    return ["search", run, "red", "--gallery", world.retriever / "gallery.db"]


@pytest.mark.parametrize("every", [61, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("of", ["run", "retriever"])
def test_headers_that_say_something_else(
    of: str, every: int, world: World, tmp_path: Path, tally: Tally
) -> None:
    card, tensors = read(getattr(world, of))
    for at, (what, changed) in enumerate(altered(card)):
        if at % every:
            continue
        folder = tmp_path / "run"
        write(folder, json.dumps(changed), tensors)
        must = "refused" if what.startswith(("a new", "another")) or "alone" in what else ""
        before = len(tally.failures)
        tally.command(uses(world, folder, of), must=must)
        if of == "run" and not at % 5:
            tally.command(["calibrate", folder, "--data", world.toy])
        tally.failures[before:] = [f"{what}: {failure}" for failure in tally.failures[before:]]
    tally.check()


@pytest.mark.parametrize("times", [4, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.parametrize("of", ["run", "retriever"])
def test_flipped_bytes(of: str, times: int, world: World, tmp_path: Path, tally: Tally) -> None:
    whole = (getattr(world, of) / WEIGHTS).read_bytes()
    draw = random.Random(0)
    for _ in range(times):
        broken = bytearray(whole)
        broken[draw.randrange(min(len(whole), draw.choice((8, 3000, len(whole)))))] ^= 1 << draw.randrange(8)
        (tmp_path / WEIGHTS).write_bytes(broken)
        tally.command(uses(world, tmp_path, of), must="refused")
    tally.check()


@pytest.mark.slow
@pytest.mark.parametrize("of", ["run", "retriever"])
def test_files_that_are_cut_or_no_files(of: str, world: World, tmp_path: Path, tally: Tally) -> None:
    whole = (getattr(world, of) / WEIGHTS).read_bytes()
    for length in (0, 1, 7, 8, 9, 100, 1000, len(whole) // 2, len(whole) - 1):
        (tmp_path / WEIGHTS).write_bytes(whole[:length])
        tally.command(uses(world, tmp_path, of), must="refused")
    (tmp_path / WEIGHTS).write_bytes(whole + b"more")
    tally.command(uses(world, tmp_path, of), must="refused")
    for content in ("[" * 100_000, '{"format": ' + "9" * 5000 + "}", "nan", "", "null"):
        write(tmp_path, content, read(getattr(world, of))[1])
        tally.command(uses(world, tmp_path, of), must="refused")
    (tmp_path / WEIGHTS).unlink()
    (tmp_path / WEIGHTS).mkdir()
    tally.command(uses(world, tmp_path, of), must="refused")
    tally.check()


NUMBERS_OF_JSON = ("1e999", "-1", "NaN", "9" * 5000, '"x"', "null", "[]", "{}", "[" * 100_000, "")


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_matrices_that_are_none(every: int, world: World, tmp_path: Path, tally: Tally) -> None:
    run = tmp_path / "run"
    shutil.copytree(world.retriever, run, ignore=shutil.ignore_patterns("gallery.db", "sessions"))
    whole = json.loads((run / "matrix.json").read_text())
    texts = [*NUMBERS_OF_JSON, "{}", "[1]", '{"format": 1}', '{"format": 2}']
    for key, value in whole.items():
        marked = json.dumps({**whole, key: "HERE"})
        texts += [marked.replace('"HERE"', number) for number in NUMBERS_OF_JSON]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for inner in value[0]:
                marked = json.dumps({**whole, key: [{**value[0], inner: "HERE"}, *value[1:]]})
                texts += [marked.replace('"HERE"', number) for number in NUMBERS_OF_JSON]
    for at, text in enumerate(texts):
        if at % every == 0:
            (run / "matrix.json").write_text(text)
            tally.command(["plots", run, "--out", tmp_path / "out", "-k", 2])
    tally.check()
