"""Published tables: the recipes are those of the code, every one of them runs, and finished cells are kept."""

from __future__ import annotations

import json
import runpy
import shlex
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from interplay.classification.classifier import Classifier
from interplay.cli.command import commands
from interplay.cli.command_line import CommandLine
from interplay.comparison.engine import Record
from interplay.comparison.loader import Loader
from interplay.comparison.papers import lpi
from interplay.comparison.papers.cells import RecipeCell, RunRecipe, training_of
from interplay.comparison.papers.mitp import tables
from interplay.comparison.papers.recipes import Recipe, chosen
from interplay.key_value import assignments
from interplay.methods.registry import choices, choose
from interplay.parts.heads import HeadSettings
from interplay.towers.presets import PRESETS
from tests.published import write_all

from .conftest import Run

ROOT = Path(__file__).parents[2]
RECIPES = [recipe for table in tables().values() for recipe in table]
STREAMS = lpi.tables()["lpi-table1"]
PRESENT = [recipe for recipe in RECIPES if recipe.method in choices()]
QUICK = {"epochs": 1, "batch_size": 4, "backbone": "tiny", "progress": False, "seed": 0}
"""Two or three steps each on the miniature benchmarks."""


def named(recipe: Recipe) -> str:
    return f"{recipe.table}/{recipe.title}"


def representatives() -> list[Recipe]:
    """One recipe for each method and data set, data set after data set."""
    found = {(recipe.method, recipe.dataset): recipe for recipe in reversed(PRESENT)}
    return sorted(found.values(), key=lambda recipe: recipe.dataset)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("benchmarks"))


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader()


@pytest.fixture(scope="module")
def sources(root: Path) -> dict[str, str]:
    """The data by name; Food101 with a validation split that its few rows can fill."""
    return {
        "food101": f"food101:{root}/food101?validation=0.3",
        "mm_imdb": f"mm_imdb:{root}/mm_imdb",
        "snli_ve": f"snli_ve:{root}/snli_ve",
    }


def test_the_committed_recipes_are_those_of_the_code() -> None:
    folder = ROOT / "recipes"
    written = {path.relative_to(folder): path.read_text("utf-8") for path in folder.glob("*/*/*.yaml")}
    assert written == {recipe.file: recipe.text() for recipe in [*RECIPES, *STREAMS]}


def test_the_script_writes_the_recipes_and_takes_old_ones_away(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "recipes.py"))
    (tmp_path / "mitp" / "table1").mkdir(parents=True)
    (tmp_path / "mitp" / "table1" / "food101-gone.yaml").write_text("")
    script["main"].__globals__["FOLDER"] = tmp_path
    script["main"]()
    assert {path.relative_to(tmp_path) for path in tmp_path.glob("*/*/*")} == {
        recipe.file for recipe in [*RECIPES, *STREAMS]
    }


def test_every_recipe_has_its_method() -> None:
    assert {recipe.method for recipe in [*RECIPES, *STREAMS]} <= {*choices()}


@pytest.mark.parametrize("recipe", RECIPES, ids=named)
def test_train_reads_every_recipe(recipe: Recipe) -> None:
    path = ROOT / "recipes" / recipe.file
    line = CommandLine.of(commands()["train"])
    keywords, _ = line.parse(["--config", str(path), "--out", "x"])
    options = keywords | keywords.pop("settings")
    stored = yaml.safe_load(path.read_text("utf-8"))
    assert {key: options.get(key, []) for key in stored} == stored
    assert stored["data"] == f"{recipe.dataset}:data/{recipe.dataset}"
    assert training_of(stored).learning_rate == (5e-5 if recipe.method == "mmbt" else 2e-4)
    HeadSettings(**assignments(stored["head"], HeadSettings, "head"))
    if recipe.method in choices():
        choice = choose(recipe.method)
        choice.settings(assignments(stored["set"], choice.method.Settings, "set"))


def test_the_rows_of_the_ablation_prompt_the_same_layers_and_have_one_head() -> None:
    shape = PRESETS["clip-vit-large-patch14"]
    for data in ("food101", "mm_imdb", "snli_ve"):
        rows = {recipe.name: recipe for recipe in tables()["table2"] if recipe.dataset == data}
        prompted = []
        for name in ("model-1", "model-2", "model-3"):
            choice = choose(rows[name].method)
            given = assignments(rows[name].options()["set"], choice.method.Settings, "set")
            prompted.append(choice.build(shape, given).schedule.prompted)  # type: ignore[attr-defined]
            assert rows[name].options()["head"] == rows["baseline"].options()["head"]
        assert prompted[0] == prompted[1] == prompted[2]
        trained_head = "start=probe" in rows["baseline"].options()["head"]
        assert rows["baseline"].method == ("head_only" if trained_head else "linear_probe")


def test_the_papers_settings_stand_in_the_recipes() -> None:
    found = {recipe.title: recipe.options() for recipe in tables()["table1"]}
    settings = {
        name: (found[f"{name}-mitp"]["set"], found[f"{name}-mitp"]["batch_size"])
        for name in ("food101", "mm_imdb", "snli_ve")
    }
    assert settings == {
        "food101": (["layers=[4, 5, 6]", "length=3"], 10),
        "mm_imdb": (["layers=[7, 8, 9]", "length=2"], 32),
        "snli_ve": (["layers=[7, 8, 9]", "length=6"], 64),
    }
    assert {one["backbone"] for one in found.values()} == {"clip-vit-large-patch14"}
    assert {one["optimizer"] for one in found.values()} == {"adam"}
    assert len(found) == 29


def test_published_averages_are_those_of_the_paper() -> None:
    published = {recipe.title: list(recipe.published.values()) for recipe in tables()["table1"]}
    printed = {"maple": 72.79, "p_clip": 72.05, "pmf": 75.02, "mitp": 76.17, "mitp-small": 75.26}
    for method, average in printed.items():
        parts = [statistics.mean(published[f"{name}-{method}"]) for name in ("food101", "mm_imdb", "snli_ve")]
        assert statistics.mean(parts) == pytest.approx(average, abs=0.011), method


def smoke(recipe: Recipe, sources: dict[str, str], loader: Loader, out: Path) -> None:
    """Train and measure one cell."""
    cell = RecipeCell(recipe, recipe.options() | QUICK | {"data": sources[recipe.dataset]})
    result = RunRecipe(cell, out).run(loader)
    assert set(recipe.published) <= set(result["metrics"])
    assert all(0 <= value <= 1 for name, value in result["metrics"].items() if name != "map")
    assert cell.recorded(json.loads(json.dumps(result))) == cell.plain()
    if recipe.options()["share"] < 1:
        assert result["pairs"]["train"] < loader.table(sources[recipe.dataset], "skip").splits()["train"]


@pytest.mark.parametrize("recipe", representatives(), ids=named)
def test_a_recipe_of_every_method_and_data_set_runs(
    recipe: Recipe, sources: dict[str, str], loader: Loader, tmp_path: Path
) -> None:
    smoke(recipe, sources, loader, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", PRESENT, ids=named)
def test_every_recipe_runs(recipe: Recipe, sources: dict[str, str], loader: Loader, tmp_path: Path) -> None:
    smoke(recipe, sources, loader, tmp_path)


def words_of(root: Path, out: Path, *more: object) -> list[object]:
    quick = ["--backbone", "tiny", "--epochs", 1, "--batch-size", 4, "--no-progress"]
    return ["reproduce", "table1", "--root", root, "--out", out, *quick, *more]


def test_a_table_is_measured_over_seeds_and_goes_on_where_it_was(
    run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    train = RunRecipe.run

    def watched(work: RunRecipe, loader: Loader) -> Record:
        trained.append(work.cell.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(work, loader)

    monkeypatch.setattr(RunRecipe, "run", watched)
    words = words_of(root, tmp_path, "--only", "mitp-small,mm_imdb", "--seeds", 2, "--json")
    assert run(*words).code == 130
    assert len([*tmp_path.glob("cells/*.json")]) == 1
    outcome = run(*words)
    assert (outcome.code, trained[2:]) == (0, ["mm_imdb-mitp-small, seed 1"])
    rows = {row["metric"]: row for row in outcome.json["rows"]}
    assert list(rows) == ["f1_micro", "f1_macro"]
    stored = [json.loads(Path(path).read_text()) for path in outcome.json["cells"]]
    for metric, published in (("f1_micro", 64.8), ("f1_macro", 55.4)):
        values = [100 * one["metrics"][metric] for one in stored]
        assert rows[metric]["values"] == pytest.approx(values)
        assert rows[metric]["deviation"] == pytest.approx(statistics.stdev(values))
        assert rows[metric]["difference"] == pytest.approx(statistics.mean(values) - published)
    assert stored[0]["split"] == "test"
    assert "finished before" in run(*words[:-1]).err


def test_a_cell_that_was_stopped_goes_on_in_its_run_folder(
    sources: dict[str, str], loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = next(recipe for recipe in tables()["table1"] if recipe.title == "snli_ve-mitp")
    cell = RecipeCell(recipe, recipe.options() | QUICK | {"data": sources["snli_ve"]})

    def stopped(*_: object) -> dict[str, float]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "evaluate", stopped)
        with pytest.raises(KeyboardInterrupt):
            RunRecipe(cell, tmp_path / "one").run(loader)
    log = tmp_path / "one" / cell.key / "metrics.jsonl"
    before = log.read_text()
    resumed = RunRecipe(cell, tmp_path / "one").run(loader)
    assert log.read_text() == before  # the finished epoch was not trained again
    whole = RunRecipe(cell, tmp_path / "two").run(loader)
    assert resumed["metrics"] == whole["metrics"]


def test_a_cell_that_cannot_be_trained_ends_the_command(run: Run, root: Path, tmp_path: Path) -> None:
    outcome = run(*words_of(root, tmp_path, "--only", "snli_ve-mitp", "--learning-rate", "1e30"))
    assert (outcome.code, outcome.out) == (2, "")
    assert not [*tmp_path.glob("cells/*.json")]


def test_equal_cells_of_two_tables_are_trained_once() -> None:
    one, two = (
        next(recipe for recipe in tables()[table] if recipe.title == title)
        for table, title in (("table1", "food101-mitp"), ("table2", "food101-model-1"))
    )
    assert RecipeCell(one, one.options() | QUICK).key == RecipeCell(two, two.options() | QUICK).key
    changed = replace(one, config={**one.config, "epochs": 11})
    options = {key: value for key, value in QUICK.items() if key != "epochs"}
    assert (
        RecipeCell(one, one.options() | options).key != RecipeCell(changed, changed.options() | options).key
    )
    assert RecipeCell(one, one.options("elsewhere") | QUICK).key != RecipeCell(one, one.options() | QUICK).key


def test_without_data_it_says_what_is_missing_and_where_it_is_from(
    run: Run, root: Path, tmp_path: Path
) -> None:
    outcome = run("reproduce", "table1", "--root", tmp_path, "--backbone", "tiny")
    assert (outcome.code, outcome.out) == (2, "")
    for name, origin in (("food101", "kaggle"), ("mm_imdb", "archive.org"), ("snli_ve", "necla-ml")):
        assert f"{tmp_path / name} has no" in outcome.err
        assert origin in outcome.err
    assert "--list" in outcome.err
    (tmp_path / "food101").symlink_to(root / "food101")
    outcome = run("reproduce", "table2", "--root", tmp_path)
    assert "UPMC-Food101:" not in outcome.err
    assert "--only food101" in outcome.err


def test_the_list_needs_no_data(run: Run, tmp_path: Path) -> None:
    shown = run("reproduce", "table3", "--list", "--root", tmp_path)
    assert shown.code == 0
    assert "accuracy 87.59" in shown.out
    assert "estimate" in shown.out
    assert f"--root {tmp_path}" in shown.out
    listed = run("reproduce", "figure4", "--list", "--json").json
    assert [row["published"] for row in listed if row["published"]] == [{"accuracy": 93.95}]
    for row in listed:
        assert (ROOT / row["recipe"]).exists()
        words = row["command"].split()
        CommandLine.of(commands()["reproduce"]).parse(words[2:])
        assert [recipe.title for recipe in chosen(tables()["figure4"], [words[4]])] == [row["cell"]]


@pytest.mark.parametrize("name", ["food101", "mm_imdb", "snli_ve"])
def test_the_commands_of_the_data_pages_exist(name: str) -> None:
    text = (ROOT / "docs" / "guides" / "data" / f"{name}.md").read_text("utf-8")
    lines = [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("interplay ")]
    assert [words[1] for words in lines] == ["data", "train", "reproduce"]
    for words in lines:
        name = " ".join(words[1:3]) if words[1] == "data" else words[1]
        CommandLine.of(commands()[name]).parse(
            [
                str(ROOT / word) if word.startswith("recipes/") else word
                for word in words[1 + len(name.split()) :]
            ]
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["table4"], "Did you mean 'table"),
        (["table1", "--only", "mipt"], "Did you mean 'mitp'"),
        (["table1", "--only", "cma_clip,snli_ve", "--list"], "No cell is all of"),
        (["table1", "--seeds", "0"], "--seeds must be at least 1"),
        (["table1", "--epochs", "0"], "epochs must be at least 1"),
    ],
)
def test_mistakes_are_named(run: Run, root: Path, tmp_path: Path, words: list[str], said: str) -> None:
    outcome = run("reproduce", *words, "--root", root, "--out", tmp_path)
    assert outcome.code == 2
    assert said in outcome.err


def test_a_broken_result_is_named(run: Run, root: Path, tmp_path: Path) -> None:
    recipe = next(recipe for recipe in tables()["table1"] if recipe.title == "food101-linear_probe")
    options = recipe.options(str(root)) | {"backbone": "tiny", "seed": 0}
    path = tmp_path / RecipeCell(recipe, options).file
    path.parent.mkdir(parents=True)
    for text in ("{", "[]"):
        path.write_text(text)
        words = ["--only", recipe.title, "--root", root, "--out", tmp_path, "--backbone", "tiny"]
        outcome = run("reproduce", "table1", *words)
        assert outcome.code == 2
        assert path.name in outcome.err
