"""Experiments: their rows, that they are trained as the committed grid says, and the command with its picture."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import yaml
from PIL import Image

from interplay.comparison.engine import load_record
from interplay.comparison.grid import Grid, make_grid
from interplay.comparison.papers.experiments import (
    ABLATION,
    HEAD,
    LAYERS,
    OPENMOJI,
    SHARES,
    SIMILARITIES,
    TRAINING,
    values_of,
)
from interplay.comparison.tables import data_tables
from interplay.methods.registry import choose
from interplay.plotting.comparisons import PICTURES
from interplay.towers.presets import PRESETS
from tests.cli.conftest import Run, run, write_toy  # noqa: F401
from tests.compare.test_result_tables import record

ROOT = Path(__file__).parents[2]


def grid_of(name: str) -> Grid:
    return make_grid(values_of(name, OPENMOJI), "test")  # type: ignore[arg-type]


def test_they_train_as_the_committed_grid_does() -> None:
    recipe = yaml.safe_load((ROOT / "recipes" / "openmoji.yaml").read_text())
    assert recipe["head"] == HEAD
    assert recipe["training"] == TRAINING
    without_rows = {
        name: {k: v for k, v in special.items() if k != "rows"} for name, special in recipe["data"].items()
    }
    assert without_rows == OPENMOJI


def test_each_has_its_rows() -> None:
    assert len(grid_of("ablation").cells) == 4 * 3
    shares = grid_of("shares").cells
    assert {cell.share for cell in shares} == {0.01, 0.05, 0.1, 0.3, 1.0} == set(SHARES)
    cells = [cell for cell in grid_of("interaction").cells if cell.data == "openmoji/subgroup"]
    assert len(cells) == (4 + 3) * len(SIMILARITIES) + 6
    assert {tuple(cell.settings["layers"]) for cell in cells} == {
        g for all_of in LAYERS.values() for g in all_of
    }


def test_the_rows_of_the_ablation_differ_in_nothing_but_what_they_ablate() -> None:
    shape = PRESETS["clip-vit-base-patch32"]
    for data in OPENMOJI:
        cells = grid_of("ablation").only([data]).cells
        assert {cell.seed for cell in cells} == {0}
        for setting in ("head", "training", "multi_loss"):
            assert len({str(getattr(cell, setting)) for cell in cells}) == 1, setting
        assert all(choose(cell.method).method.traits.solver.by_gradient for cell in cells)
        bare, *prompted = [choose(cell.method).build(shape, cell.settings) for cell in cells]
        assert not list(bare.parameters())
        assert len({tuple(method.schedule.prompted) for method in prompted}) == 1  # type: ignore[attr-defined]


def test_the_committed_cells_of_the_ablation_are_those_of_the_experiment() -> None:
    """Every one opens with today's settings; means as docs/evidence/experiments.md has them, in per cent."""
    grid = make_grid(values_of("ablation", OPENMOJI) | {"seeds": [0, 1, 2]}, "test")
    found: dict[str, dict[str, list[float]]] = {}
    for cell in grid.cells:
        record_ = load_record(ROOT / "results" / "experiments" / "ablation", cell)
        assert record_ is not None, cell.name
        value = record_["metrics"]["f1_macro" if "attributes" in cell.data else "accuracy"]
        found.setdefault(cell.data, {}).setdefault(cell.row, []).append(100 * value)
    page = (ROOT / "docs" / "evidence" / "experiments.md").read_text("utf-8")
    for row, words in zip(ABLATION, ("baseline: the head alone", *list(ABLATION)[1:]), strict=True):
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {words} |")]
        printed = [cell.strip(" *").split(" ± ")[0] for cell in line.split("|")[2:-1]]
        assert printed == [f"{statistics.fmean(found[data][row]):.1f}" for data in OPENMOJI]


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_every_cell_fits_towers_of_clips_depth(name: str) -> None:
    shape = PRESETS["clip-vit-base-patch32"]
    for cell in grid_of(name).only(["openmoji/subgroup", "#0"]).cells:
        choose(cell.method).build(shape, cell.settings)


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_every_experiment_is_drawn(name: str, tmp_path: Path) -> None:
    records = []
    for number, cell in enumerate(grid_of(name).cells):
        one = record(cell.row, cell.seed, "single", 0.3 + 0.5 * (number % 7) / 7)
        one["cell"] = cell.plain()
        records.append(one)
    path = PICTURES[name](data_tables(records), tmp_path / "picture.png")
    with Image.open(path) as picture:
        assert picture.width > 500
        assert len(picture.convert("L").getcolors(1 << 16) or []) > 20


def test_the_command(run: Run, tmp_path: Path) -> None:  # noqa: F811
    data = write_toy(tmp_path / "toy")
    words = ("experiment", "ablation", "--data", data, "--seeds", 1, "--out", tmp_path / "out", "--epochs", 1)
    done = run(*words, "--only", "baseline", "prompts", "--head", "start=zero", "--json")
    assert done.code == 0, done.err
    assert [row["name"] for row in done.json["tables"][0]["rows"]] == ["baseline", "prompts"]
    assert (tmp_path / "out" / "ablation.png").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("ablaton",), "Did you mean 'ablation'"),
        (("ablation", "--seed", 3), "count from 0"),
        (("ablation", "--only", "hub"), "no row, data set or seed"),
    ],
)
def test_mistakes(run: Run, tmp_path: Path, words: tuple[object, ...], sentence: str) -> None:  # noqa: F811
    done = run("experiment", *words, "--out", tmp_path / "out")
    assert done.code == 2
    assert sentence in done.err
