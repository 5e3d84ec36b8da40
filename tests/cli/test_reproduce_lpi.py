"""LPI's Table 1: its recipes, its list, and every row as a stream on a miniature of MS-COCO."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from interplay.cli.command import commands
from interplay.cli.command_line import CommandLine
from interplay.comparison.loader import Loader
from interplay.comparison.papers.cells import RecipeCell, RunRecipe, training_of
from interplay.comparison.papers.lpi import tables
from interplay.comparison.papers.recipes import Recipe, chosen
from interplay.key_value import assignments
from interplay.methods.registry import choose
from interplay.retrieval.retriever import RETRIEVAL_TRAINING
from interplay.towers.presets import PRESETS
from tests.published import write_coco

from .conftest import Run

ROOT = Path(__file__).parents[2]
ROWS = tables()["lpi-table1"]
QUICK = {"epochs": 1, "batch_size": 40, "backbone": "tiny", "progress": False, "seed": 0}
SHORT = {"length=16", "image_length=16", "text_length=16"}
"""Longer than the bundled backbone's texts have room for."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    write_coco(folder / "coco")
    return folder


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader()


@pytest.mark.parametrize("recipe", ROWS, ids=lambda recipe: recipe.name)
def test_continual_reads_every_recipe(recipe: Recipe) -> None:
    path = ROOT / "recipes" / recipe.file
    keywords, _ = CommandLine.of(commands()["continual"]).parse(["--config", str(path), "--out", "x"])
    options = keywords | keywords.pop("settings")
    stored = yaml.safe_load(path.read_text("utf-8"))
    options["set"] = list(options.get("set", ()))
    assert {key: options[key] for key in stored} == stored
    choice = choose(recipe.method)
    choice.build(PRESETS[stored["backbone"]], assignments(stored["set"], choice.method.Settings, "set"))


def test_the_paper_s_settings_stand_in_the_recipes() -> None:
    """Section 5.1.4: CLIP ViT-B/16, Adam, 0.01, 5 epochs, a cosine, prompts of 16 tokens, rank 4, no warm-up."""
    assert [recipe.name for recipe in ROWS] == [
        "clip", "l2p", "s_prompts", "maple", "dcp", "lpi-m", "lpi-p", "lpi-p-pair",
    ]  # fmt: skip
    for recipe in ROWS:
        assert recipe.options()["backbone"] == "clip-vit-base-patch16"
        assert training_of(recipe.options()) == RETRIEVAL_TRAINING
    lpi = choose("lpi-p").settings()
    assert (lpi.length, lpi.rank, lpi.fusion_rank, lpi.momentum, lpi.weights) == (
        16,
        4,
        4,
        0.9,
        (0.8, 0.1, 0.1),
    )
    assert (lpi.modal_temperature, lpi.task_temperature) == (0.01, 0.01)


def test_the_list_needs_no_data_and_claims_no_published_value(run: Run, tmp_path: Path) -> None:
    shown = run("reproduce", "lpi-table1", "--list", "--root", tmp_path)
    assert shown.code == 0
    assert "not readable" in shown.out
    for row in run("reproduce", "lpi-table1", "--list", "--json").json:
        assert row["published"] == {}
        assert (ROOT / row["recipe"]).exists()
        words = row["command"].split()
        assert words[2] == "lpi-table1"
        CommandLine.of(commands()["reproduce"]).parse(words[2:])
        assert [recipe.title for recipe in chosen(ROWS, [words[4]])] == [row["cell"]]


def test_without_data_it_says_where_they_are_from(run: Run, tmp_path: Path) -> None:
    outcome = run("reproduce", "lpi-table1", "--root", tmp_path, "--backbone", "tiny")
    assert outcome.code == 2
    assert "cocodataset.org" in outcome.err
    assert f"{tmp_path / 'coco'} has no" in outcome.err


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(r, marks=() if r.name in ("clip", "lpi-m") else pytest.mark.slow, id=r.name) for r in ROWS],
)
def test_every_row_runs(recipe: Recipe, root: Path, loader: Loader, tmp_path: Path) -> None:
    options = recipe.options(str(root)) | QUICK
    options["set"] = [word for word in options["set"] if word not in SHORT]
    if recipe.method == "s_prompts":
        options["set"] = ["image_length=2", "text_length=2"]
    cell = RecipeCell(recipe, options)
    result = RunRecipe(cell, tmp_path).run(loader)
    assert tuple(result["metrics"]) == recipe.metrics
    assert all(-1 <= value <= 1 for value in result["metrics"].values())
    assert result["tasks"] == ["appliance", "vehicle", "animal"]
    assert cell.recorded(json.loads(json.dumps(result))) == cell.plain()
    average = result["summary"]["task_average"]["image_to_text"]["5"]
    assert result["metrics"]["image_to_text_recall_5"] == average
    assert (result["trained_parameters"] > 0) == (recipe.name != "clip")


def test_two_seeds_are_set_side_by_side_without_a_published_value(
    run: Run, root: Path, tmp_path: Path
) -> None:
    words = ["reproduce", "lpi-table1", "--only", "lpi-m", "--seeds", 2, "--root", root, "--out", tmp_path]
    outcome = run(*words, "--backbone", "tiny", "--epochs", 1, "--batch-size", 40, "--no-progress", "--json")
    assert outcome.code == 0, outcome.err
    rows = {row["metric"]: row for row in outcome.json["rows"]}
    assert tuple(rows) == ROWS[0].metrics
    assert all(row["published"] is None and len(row["values"]) == 2 for row in rows.values())
    again = run(*words, "--backbone", "tiny", "--epochs", 1, "--batch-size", 40, "--no-progress")
    assert again.err.count("finished before") == 2
