"""The engine of cells: all that were ever kept are found and read, none is run again, and any kind of cell runs."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from interplay.comparison.engine import Cell, Place, Record, load_record, run_cells
from interplay.comparison.grid import Grid, make_grid, read_grid
from interplay.comparison.loader import Loader
from interplay.comparison.papers.cells import RecipeCell, RunRecipe
from interplay.comparison.papers.experiments import OPENMOJI, Experiment, values_of
from interplay.comparison.papers.lpi import tables
from interplay.comparison.streams import RunStream, StreamCell, read_streams
from interplay.errors import InterplayError
from tests.published import write_coco

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


@dataclass(frozen=True)
class Never:
    """Work that must not be done."""

    def run(self, loader: Loader) -> Record:
        raise AssertionError


@dataclass(frozen=True)
class Counted:
    """A cell that says a number, and its work."""

    number: int
    settings: int = 0

    @property
    def name(self) -> str:
        return f"cell {self.number}"

    @property
    def file(self) -> Path:
        return Path("cells") / f"{self.number}.json"

    @property
    def indent(self) -> None:
        return None

    def plain(self) -> Record:
        return {"settings": self.settings}

    def recorded(self, record: Record) -> Record:
        return {"settings": record["settings"]}

    def run(self, loader: Loader) -> Record:
        if self.number < 0:
            raise InterplayError("There is no such number.")
        return {"settings": self.settings, "number": self.number}


def grids() -> Iterator[tuple[Path, Grid]]:
    """Every grid with committed cells, and its folder."""
    yield RESULTS / "openmoji", read_grid(ROOT / "recipes" / "openmoji.yaml")
    for name in get_args(Experiment):
        values = values_of(name, OPENMOJI) | {"seeds": [0, 1, 2]}
        yield RESULTS / "experiments" / name, make_grid(values, "test")


def streams() -> list[StreamCell]:
    files = sorted((ROOT / "recipes").glob("openmoji-continual*.yaml"))
    return [cell for path in files for cells in read_streams(path).values() for cell in cells]


def finished(folder: Path, cells: list[Any]) -> set[Path]:
    """The files of the cells that are there: each is read, and none is run."""
    there = [cell for cell in cells if load_record(folder, cell) is not None]
    found = run_cells([(cell, Never()) for cell in there], folder, Place())
    assert all(found)
    return {folder / cell.file for cell in there}


def test_every_committed_cell_is_found_read_and_not_run_again() -> None:
    found = finished(ROOT, streams())
    for folder, grid in grids():
        found |= finished(folder, [*grid.cells])
    assert found == {path for path in RESULTS.rglob("*.json") if "cells" in path.parts}
    assert len(found) > 300


def test_only_finds_every_cell_of_every_grid_by_its_name() -> None:
    for _, grid in grids():
        names = [cell.name for cell in grid.cells]
        assert len(set(names)) == len(names)
        for cell in grid.cells[:: max(1, len(names) // 20)]:
            assert grid.only([cell.name]).cells == (cell,)


def test_a_finished_stream_of_other_settings_is_refused() -> None:
    cell = next(cell for cell in streams() if cell.row == "lpi-p")
    other = replace(cell, training={**cell.training, "epochs": 13})
    with pytest.raises(InterplayError, match=r"training = .*'epochs': 12.* now it is .*'epochs': 13"):
        load_record(ROOT, other)
    said = replace(cell, settings={**cell.settings, "rank": 4})  # as it is by default
    assert load_record(ROOT, said) == load_record(ROOT, cell)


def test_it_runs_what_is_missing_keeps_it_and_says_so(tmp_path: Path) -> None:
    told: list[tuple[str, object]] = []

    def go(*numbers: int) -> list[Record]:
        told.clear()
        return run_cells(
            [(cell, cell) for cell in map(Counted, numbers)],
            tmp_path,
            Place(),
            announce=lambda cell, done: told.append((cell.name, done)),
            report=lambda cell, record: told.append((cell.name, record)),
        )

    assert go(2) == [{"settings": 0, "number": 2}]
    first, *_, last = go(1, 2, 1, -3)
    assert first == json.loads((tmp_path / "cells" / "1.json").read_text()) == {"settings": 0, "number": 1}
    assert last == {"problem": "There is no such number."}
    assert told[0] == ("cell 2", True)
    assert [what for what in told if what[1] is False] == [("cell 1", False), ("cell -3", False)]
    assert told[-1] == ("cell -3", last)
    assert sorted(path.stem for path in tmp_path.glob("cells/*")) == ["1", "2"]
    with pytest.raises(InterplayError, match="run with settings = 0, now it is 5"):
        run_cells([(Counted(1, 5), Never())], tmp_path, Place())


def test_what_the_report_raises_ends_the_run_and_keeps_what_was_finished(tmp_path: Path) -> None:
    def strict(cell: Counted, record: Record) -> None:
        if "problem" in record:
            raise InterplayError(record["problem"])

    with pytest.raises(InterplayError, match="no such number"):
        run_cells([(c, c) for c in map(Counted, (1, -2, 3))], tmp_path, Place(), report=strict)
    assert sorted(path.stem for path in tmp_path.glob("cells/*")) == ["1"]


@pytest.mark.slow
def test_streams_and_recipes_run_on_a_cluster_too_and_come_to_the_same(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    write_coco(tmp_path / "coco")
    training = {"epochs": 1, "batch_size": 40}
    stream = StreamCell(
        "clip", "zero_shot", f"coco:{tmp_path}/coco", "table", training=training, settings={}, order=1
    )
    recipe = next(recipe for recipe in tables()["lpi-table1"] if recipe.name == "lpi-m")
    options = recipe.options(str(tmp_path)) | training | {"backbone": "tiny", "seed": 0, "set": ["length=2"]}
    cell = RecipeCell(recipe, options)
    found = {}
    for where in (None, "local"):
        folder = tmp_path / str(where)
        jobs: list[tuple[Cell, Any]] = [
            (stream, RunStream(stream)),
            (cell, RunRecipe(cell, folder / "runs")),
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found[where] = run_cells(jobs, folder, Place(1, ray=where))
            finally:
                ray.shutdown()
        again = run_cells([(cell, Never()) for cell, _ in jobs], folder, Place())
        assert json.loads(json.dumps(found[where])) == again
    for one, other in zip(found[None], found["local"], strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}
