"""Running grids: kills, clusters, refusals, and the command."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from interplay.comparison.engine import Place, attempt, load_record
from interplay.comparison.grid import Grid, make_grid
from interplay.comparison.loader import Loader
from interplay.comparison.pages import markdown
from interplay.comparison.run import Conduct, TrainClassifier, run_grid
from interplay.comparison.tables import data_tables
from interplay.errors import InterplayError
from tests.cli.conftest import Run, run, write_toy  # noqa: F401
from tests.compare.child import small_grid
from tests.forking import Runs

TIMES = ("seconds", "pairs_per_second")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed grid."""
    folder = tmp_path_factory.mktemp("whole")
    run_grid(small_grid(data), folder, Conduct(memory=False))
    return folder


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    server = Runs("tests.compare.child")
    yield server
    server.server.communicate()


def without_times(folder: Path) -> dict[str, Any]:
    """All cells below a folder, but for what no two runs share."""
    found = {}
    for path in sorted(folder.rglob("*.json")):
        record = json.loads(path.read_text())
        found[str(path.relative_to(folder))] = {k: v for k, v in record.items() if k not in TIMES}
    return found


def test_a_cell_says_all_that_a_table_needs(whole: Path, data: Path) -> None:
    cells = without_times(whole)
    assert len(cells) == 5
    (mitp,) = [record for name, record in cells.items() if name.endswith("mitp-1.json")]
    assert mitp["cell"] == next(c for c in small_grid(data).cells if c.row == "mitp" and c.seed == 1).plain()
    right = [p == t for p, t in zip(mitp["predicted"], mitp["truth"], strict=True)]
    assert sum(right) / len(right) == pytest.approx(mitp["metrics"]["accuracy"])
    assert mitp["trained_parameters"] > mitp["method_parameters"] > 0
    assert mitp["monitor"] == "accuracy"
    assert set(mitp["validation"]) >= {"accuracy", "loss"}


def kills(runs: Runs, count: int, whole: Path, data: Path, folder: Path) -> None:
    """Kill the grid several times on its way; at the end it holds what an undisturbed one holds."""
    seconds = runs.finish(data, folder / "timed")
    moments, killed = random.Random(count), 0
    for _ in range(count):
        killed += runs.kill_after(moments.uniform(0.05, 0.7) * seconds, data, folder / "killed")
        without_times(folder / "killed")  # no file is ever half written
        for done in sorted((folder / "killed").rglob("*.json"))[2:]:
            done.unlink()  # so that there is something left to kill
    runs.finish(data, folder / "killed")
    assert killed > count // 2
    assert without_times(folder / "killed") == without_times(whole)


def test_three_kills(runs: Runs, whole: Path, data: Path, tmp_path: Path) -> None:
    kills(runs, 3, whole, data, tmp_path)


@pytest.mark.slow
def test_ten_kills(runs: Runs, whole: Path, data: Path, tmp_path: Path) -> None:
    kills(runs, 10, whole, data, tmp_path)


@pytest.mark.slow
def test_a_cluster_of_two_nodes_gives_the_same_cells(whole: Path, data: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        try:
            cluster.add_node(num_cpus=1)
            records = run_grid(
                small_grid(data), tmp_path, Conduct(memory=False), Place(1, ray=cluster.address)
            )
        finally:
            ray.shutdown()
            cluster.shutdown()
    assert len(records) == 5
    assert without_times(tmp_path) == without_times(whole)


def test_no_cluster_at_that_address(data: Path, tmp_path: Path) -> None:
    grid = small_grid(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InterplayError, match="No Ray cluster answers at 'auto'"):
            run_grid(grid, tmp_path, Conduct(memory=False), Place(ray="auto"))


def test_finished_cells_are_not_run_again(whole: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(TrainClassifier, "run", never)
    assert len(run_grid(small_grid(data), whole, Conduct(memory=False))) == 5


def test_a_finished_cell_of_other_settings_is_refused(whole: Path, data: Path) -> None:
    cell = small_grid(data).cells[1]
    with pytest.raises(InterplayError, match=r"training = .*'epochs': 1.* now it is .*'epochs': 2"):
        load_record(whole, replace(cell, training={**cell.training, "epochs": 2}))


def test_a_broken_cell_file_is_named(data: Path, tmp_path: Path) -> None:
    cell = small_grid(data).cells[0]
    path = tmp_path / cell.file
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(InterplayError, match="no finished cell: remove it"):
        load_record(tmp_path, cell)


def test_a_cell_that_cannot_be_trained_leaves_a_sentence(tmp_path: Path) -> None:
    cell = small_grid(tmp_path / "absent.csv").cells[0]
    record = attempt(TrainClassifier(cell), Loader())
    assert "absent.csv" in record["problem"]


def test_options_of_the_machine_are_no_part_of_a_cell(
    run: Run,  # noqa: F811
    whole: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    cell = next(cell for cell in small_grid(data).cells if cell.row == "mitp")
    records = run_grid(
        Grid((cell,)),
        tmp_path,
        Conduct(memory=False, training={"accelerator": "cpu", "cache_prefix": False}),
    )
    assert records[0]["metrics"] == json.loads((whole / cell.file).read_text())["metrics"]
    assert records[0]["cell"] == cell.plain()
    with pytest.raises(InterplayError, match="epochs: this belongs to the cells"):
        Conduct(training={"epochs": 1})
    with pytest.raises(InterplayError, match="'tensorboard' writes into the folder"):
        Conduct(training={"loggers": ("wandb", "tensorboard")})
    words = ("--out", tmp_path, "--only", "#0", "--no-progress", "--accelerator", "cpu", "--dry-run")
    assert run("compare", "--grid", "recipes/openmoji.yaml", *words).code == 0


def test_cells_of_different_test_pairs_are_not_compared(whole: Path, data: Path) -> None:
    records = [load_record(whole, cell) for cell in small_grid(data).cells]
    there = [record for record in records if record is not None]
    data_tables(there)
    changed = {**there[-1], "truth": there[-1]["truth"][::-1]}
    with pytest.raises(InterplayError, match=r"different test pairs: .* has changed between them"):
        data_tables([*there[:-1], changed])


def test_rows_that_cannot_be_used_are_left_out_where_asked(
    run: Run,  # noqa: F811
    data: Path,
    tmp_path: Path,
) -> None:
    table = data.with_name("with_gaps.csv")
    lines = data.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[-1].replace(".png", "-absent.png")]) + "\n")
    words = ("compare", "--methods", "zero_shot", "--data", table, "--out", tmp_path)
    refused = run(*words)
    assert (refused.code, "-absent.png" in refused.err) == (2, True)
    assert "zero_shot@" in (found := run(*words, "--on-bad-row", "skip")).err
    assert found.code == 0
    assert "; 1 rows left out" in found.err


def test_what_ends_a_cell_leaves_a_sentence(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = next(cell for cell in small_grid(data).cells if cell.row == "mitp")

    def full(*given: object, **named: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("interplay.classification.classifier.Classifier.fit", full)
    assert "memory of the GPU" in attempt(TrainClassifier(cell), Loader())["problem"]
    untested = tmp_path / "untested.csv"
    lines = data.read_text().splitlines()
    untested.write_text("\n".join(line for line in lines if ",test" not in line) + "\n")
    record = attempt(TrainClassifier(replace(cell, data=str(untested))), Loader())
    assert "test" in record["problem"]  # before fit, which would say something else


def test_a_part_of_a_grid_leaves_the_others_in_the_tables(
    run: Run,  # noqa: F811
    data: Path,
    tmp_path: Path,
) -> None:
    words = ("compare", "--data", data, "--out", tmp_path, "--methods", "zero_shot", "text_probe", "--json")
    assert run(*words).code == 0
    (table,) = run(*words, "--only", "zero_shot").json["tables"]
    assert [row["name"] for row in table["rows"]] == ["zero_shot", "text_probe"]
    assert "text_probe" in (tmp_path / "table.md").read_text()


def test_the_command_and_its_tables(run: Run, data: Path, tmp_path: Path) -> None:  # noqa: F811
    words = (
        "compare",
        "--data",
        data,
        "--out",
        tmp_path,
        "--epochs",
        1,
        "--head",
        "kind=pair",
        "--no-memory",
    )
    rows = ("--methods", "text_probe", "mitp layers=11 hidden=4")
    listed = run(*words, *rows, "--dry-run", "--json").json
    assert [cell["state"] for cell in listed] == ["to run", "to run"]
    done = run(*words, *rows, "--json")
    assert done.code == 0, done.err
    (table,) = done.json["tables"]
    assert [row["name"] for row in table["rows"]] == ["text_probe", "mitp layers=11 hidden=4"]
    for row in table["rows"]:
        assert (tmp_path / row["files"][0]).exists()
    assert "**" in (tmp_path / "table.md").read_text()
    assert "<table>" in (tmp_path / "table.html").read_text()
    assert [cell["state"] for cell in run(*words, *rows, "--dry-run", "--json").json] == ["finished"] * 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--methods", "mitp"), "needs --methods and --data, or --grid"),
        (("--methods", "", "--data", "openmoji/subgroup"), "not an empty text"),
        (("--methods", "mipt", "--data", "openmoji/subgroup"), "Did you mean 'mitp'"),
        (("--methods", "mitp lenght=3", "--data", "openmoji/subgroup"), "Did you mean 'length'"),
        (("--methods", "mitp", "--data", "openmoji/subgroup", "--seeds", 0), "--seeds must be at least 1"),
        (("--methods", "mitp", "--data", "openmoji/subgroup", "--cpus", 0), "at least 1 processor"),
        (("--grid", "recipes/openmoji.yaml", "--seeds", 2), "--grid brings rows"),
        (("--grid", "recipes/openmoji.yaml", "--backbone", "clip-vit-base-patch32"), "--grid brings rows"),
        (
            ("--methods", "mitp", "mitp", "--data", "openmoji/subgroup"),
            "the row 'mitp' twice",
        ),
    ],
)
def test_mistakes(run: Run, tmp_path: Path, words: tuple[object, ...], sentence: str) -> None:  # noqa: F811
    import re

    done = run("compare", "--out", tmp_path / "out", *words)
    assert done.code == 2
    assert re.search(sentence, done.err), done.err
    assert not (tmp_path / "out").exists()


def test_interaction_is_measured_where_it_is_asked_for_or_the_pairs_have_it(tmp_path: Path) -> None:
    """Two pictures × two texts: a probe of both vectors is a sum, and of a sum no quadruple is right."""
    lines = ["image,text,label,split"]
    for number, split in enumerate(["train"] * 6 + ["validation"] * 2 + ["test"] * 3):
        for side in (0, 1):
            Image.new("RGB", (12, 12), (200 * side, 20 * number, 90)).save(tmp_path / f"{number}-{side}.png")
            lines += [
                f"{number}-{side}.png,{word} {number},{('no', 'yes')[word == 'ab'[side]]},{split}"
                for word in "ab"
            ]
    path = tmp_path / "fours.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    grid = make_grid({"rows": {"linear_probe": {}}, "data": [str(path)]}, "test")
    records = run_grid(grid, tmp_path / "out", Conduct(memory=False, additive=8))
    metrics = records[0]["metrics"]
    assert metrics["accuracy"] == 0.5
    assert metrics["group_score"] == metrics["beyond_additive"] == 0
    (table,) = data_tables(records)
    assert table.beside[-2:] == ("group_score", "beyond_additive")
    assert "| group score | beyond additive |" in markdown([table])
    with pytest.raises(InterplayError, match="2 test pairs at least, not 1"):
        Conduct(additive=1)
