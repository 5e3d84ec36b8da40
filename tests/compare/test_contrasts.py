"""Contrasts: the three verdicts on simulated cells, what a recipe may say, and what the cells have to be."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest

from interplay.comparison.contrasts import Contrast, Finding, judge, read_contrasts
from interplay.comparison.grid import Grid, GridCell, read_grid
from interplay.comparison.measured import measured_grid, measured_streams
from interplay.comparison.streams import StreamCell
from interplay.comparison.verdicts import write_verdicts
from interplay.data.schema import PairTable
from interplay.errors import InterplayError
from tests.cli.conftest import Run, run  # noqa: F401

PAIRS, SEEDS = 800, 10
RECIPE = """
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
data: {toy: {}}
rows:
  hub: {method: mitp}
  naive: {method: mitp-naive}
  prompts: {method: mitp-prompts}
  probe: {method: linear_probe}
contrasts:
  hub over naive: {hypothesis: the hub is better, rows: [hub, naive]}
  naive over prompts: {hypothesis: exchange helps, rows: [naive, prompts]}
  near: {hypothesis: prompts beat the probe, rows: [prompts, probe], negligible: 0.02}
  chain: {hypothesis: Table 2, rows: [hub, naive, prompts]}
  by n: {hypothesis: the hub's lead grows with n, rows: [hub, naive], over: n, negligible: 0.001}
  by objects: {hypothesis: the same by its list, rows: [hub, naive], over: objects, negligible: 0.001}
  with many: {hypothesis: five points with four or more, rows: [hub, naive], over: objects, at: [4, 6], least: 0.05}
  with five: {hypothesis: the same with five, rows: [hub, naive], over: objects, at: [5]}
  far above: {hypothesis: twenty-five points above the probe, rows: [hub, probe], least: 0.25}
"""


class Data:
    """Stands for the loader: quadruples of two pictures and two texts, with 1, 2, 4 or 6 objects."""

    def __init__(self) -> None:
        quadruple = np.arange(PAIRS) // 4
        self.n = np.array([1, 2, 4, 6])[quadruple % 4]
        self.truth = [(0, 1, 1, 0)[at % 4] for at in range(PAIRS)]
        rows = {
            "image": [{"bytes": None, "path": f"{q}-{at % 4 // 2}.png"} for at, q in enumerate(quadruple)],
            "text": [f"{q} {at % 2}" for at, q in enumerate(quadruple)],
            "label": [("no", "yes")[label] for label in self.truth],
            "n": self.n.tolist(),
            "objects": [["x"] * n for n in self.n],
            "split": ["test"] * PAIRS,
        }
        self.whole = PairTable("toy", "single", ("no", "yes"), datasets.Dataset.from_dict(rows))

    def table(self, data: str, on_bad_row: str) -> PairTable:
        return self.whole


@pytest.fixture(scope="module")
def data() -> Data:
    return Data()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def write(folder: Path, cell: GridCell, data: Data, skill: np.ndarray) -> None:
    """A finished cell that is right on each pair with some probability."""
    dice = np.random.default_rng([cell.seed, *map(ord, cell.row)])
    right = dice.random(PAIRS) < skill + dice.normal(0, 0.005)
    predicted = [label if good else 1 - label for label, good in zip(data.truth, right, strict=True)]
    record = {
        "cell": cell.plain(),
        "kind": "single",
        "classes": 2,
        "predicted": predicted,
        "truth": data.truth,
    }
    path = folder / cell.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record), encoding="utf-8")


def verdicts(recipe: Path, data: Data, without: str = "") -> dict[str, Finding]:
    """The hub is 10 points above naive exchange, more so with more objects; below that all is alike."""
    grid, contrasts = read_grid(recipe), read_contrasts(recipe)
    skills = {"hub": 0.72 + 0.02 * (data.n - data.n.mean())} | {
        row: np.full(PAIRS, 0.62) for row in ("naive", "prompts", "probe")
    }
    for cell in grid.cells:
        if cell.name != without:
            write(recipe.parent, cell, data, skills[cell.row])
    measured = measured_grid(grid, recipe.parent, contrasts, data)  # type: ignore[arg-type]
    return {found.contrast.name: found for found in judge(contrasts, measured, resamples=1000)}


def test_each_verdict_is_reached(recipe: Path, data: Data) -> None:
    found = verdicts(recipe, data)
    assert {name: one.verdict for name, one in found.items()} == {
        "hub over naive": "holds",
        "naive over prompts": "not decided",  # alike, but a point more could be there
        "near": "not decided",
        "chain": "not decided",  # as one link of it
        "by n": "holds",
        "by objects": "holds",
        "with many": "holds",
        "with five": "not decided",
        "far above": "does not hold",  # ten points are not twenty-five
    }
    (link,) = found["hub over naive"].links
    assert link.low < 0.1 < link.high
    assert link.low > 0
    assert 0 < link.detectable < 0.1
    assert found["hub over naive"].p_holds <= 0.05 < found["hub over naive"].p_refuted
    assert [(one.better, one.other) for one in found["chain"].links] == [
        ("hub", "naive"),
        ("naive", "prompts"),
    ]
    (slope,) = found["by n"].links
    assert found["by objects"].links == (slope,)
    assert found["with many"].links[0].difference == pytest.approx(0.135, abs=0.03)
    assert found["with five"].missing == "'objects' is never 5"
    assert slope.difference == pytest.approx(0.02, abs=0.01)


def test_a_missing_seed_leaves_it_open_and_stays_in_the_family(recipe: Path, data: Data) -> None:
    found = verdicts(recipe, data, without="naive@toy#3")
    assert found["hub over naive"].verdict == "not decided"
    assert found["hub over naive"].missing == "naive has 9 of 10 seeds"
    assert found["hub over naive"].links == ()
    assert found["far above"].verdict == "does not hold"
    p = min(link.p_refuted for link in found["far above"].links)
    assert found["far above"].p_refuted == pytest.approx(9 * p)


def test_a_cell_without_predictions_is_missing(recipe: Path, data: Data) -> None:
    verdicts(recipe, data)
    (cell,) = read_grid(recipe).only(["naive@toy#3"]).cells
    path = recipe.parent / cell.file
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"predicted": None}), encoding="utf-8")
    contrasts = read_contrasts(recipe)[:1]
    measured = measured_grid(read_grid(recipe), recipe.parent, contrasts, data)  # type: ignore[arg-type]
    assert judge(contrasts, measured, resamples=10)[0].missing == "naive has 9 of 10 seeds"


def test_nothing_finished_is_not_decided(recipe: Path, data: Data) -> None:
    contrasts = read_contrasts(recipe)
    measured = measured_grid(read_grid(recipe), recipe.parent, contrasts, data)  # type: ignore[arg-type]
    for found in judge(contrasts, measured):
        assert (found.verdict, found.missing) == ("not decided", "no cell on toy is finished")


def test_other_pairs_than_the_data_has_now_are_refused(recipe: Path, data: Data) -> None:
    grid = read_grid(recipe)
    other = Data()
    other.truth = [1 - label for label in other.truth]
    for cell in grid.cells:
        write(recipe.parent, cell, other, np.full(PAIRS, 0.7))
    with pytest.raises(InterplayError, match="other test pairs than it has now"):
        measured_grid(grid, recipe.parent, read_contrasts(recipe), data)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x: {hypothesis: h, rows: [hub]}", "needs two or more different rows"),
        ("x: {hypothesis: h, rows: [hub, hubs]}", "hubs"),
        ("x: {rows: [hub, naive]}", "needs a 'hypothesis'"),
        ("x: {hypothesis: h, rows: [hub, naive], least: much}", "least"),
        ("x: {hypothesis: h, rows: [hub, naive], negligible: 0}", "'negligible' has to be above 0"),
        ("x: {hypothesis: h, rows: [hub, naive], ovr: n}", "ovr"),
        ("x: {hypothesis: h, rows: [hub, naive], data: toys}", "toys"),
        ("x: {hypothesis: h, rows: 3}", "'rows' takes a list, not 3"),
        ("x: {hypothesis: h, rows: [hub, naive], data: 3}", "'data' takes a name or a list"),
        ("x: {hypothesis: h, rows: [hub, naive], at: [4]}", "'at' needs 'over'"),
        ("x: {hypothesis: h, rows: [hub, naive], over: n, at: [many]}", "at"),
        ("[x]", "has no contrasts"),
    ],
)
def test_a_recipe_that_says_it_wrong_is_told(recipe: Path, line: str, message: str) -> None:
    recipe.write_text(f"{RECIPE.split('contrasts:')[0]}contrasts:\n  {line}\n", encoding="utf-8")
    with pytest.raises(InterplayError, match=message):
        read_contrasts(recipe)


@pytest.mark.parametrize(
    ("changes", "message"), [({"metric": "f1_macro"}, "give the metric accuracy"), ({"over": "m"}, "column")]
)
def test_what_the_cells_cannot_say_is_told(
    recipe: Path, data: Data, changes: dict[str, str], message: str
) -> None:
    cell = GridCell("hub", "mitp", "toy", 0)
    write(recipe.parent, cell, data, np.full(PAIRS, 0.7))
    contrast = Contrast("x", "h", ("hub", "naive"), "toy", **changes)  # type: ignore[arg-type]
    with pytest.raises(InterplayError, match=message):
        measured_grid(Grid((cell,)), recipe.parent, [contrast], data)  # type: ignore[arg-type]


def test_streams_are_judged_over_their_seeds(tmp_path: Path) -> None:
    """Less forgetting is better, and a seed counts where all its orders are finished."""
    rows = {}
    for name, method, level in (("lpi-p", "lpi-p", 0.02), ("seq", "lpi-p-sequential", 0.12)):
        rows[name] = [
            StreamCell(name, method, "toy", "results", seed, order) for seed in range(6) for order in (0, 1)
        ]
        for cell in rows[name]:
            if (cell.row, cell.seed, cell.order) == ("seq", 5, 1):
                continue
            figure = level + 0.001 * np.random.default_rng(cell.seed + 10 * cell.order).normal()
            record = cell.plain() | {"forgetting": {"mean": figure}, "final_average": {"mean": 0.5}}
            path = tmp_path / cell.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record), encoding="utf-8")
    contrasts = [
        Contrast("forgets less", "h", ("lpi-p", "seq"), "toy", "forgetting", seeds=5),
        Contrast("recalls more", "h", ("lpi-p", "seq"), "toy", "final_average", seeds=5),
        Contrast("six seeds", "h", ("lpi-p", "seq"), "toy", "forgetting", seeds=6),
    ]
    found = judge(contrasts, measured_streams(rows, tmp_path, contrasts), resamples=500)
    assert [one.verdict for one in found] == ["holds", "does not hold", "not decided"]
    assert found[0].links[0].difference == pytest.approx(0.1, abs=0.002)
    assert found[2].missing == "seq has 5 of 6 seeds"
    with pytest.raises(InterplayError, match="no figure 'recall'"):
        measured_streams(rows, tmp_path, [Contrast("x", "h", ("lpi-p", "seq"), "toy", "recall")])


def test_the_page_says_verdicts_figures_and_hypotheses(recipe: Path, data: Data) -> None:
    found = [*verdicts(recipe, data, without="prompts@toy#0").values()]
    text = write_verdicts(found, recipe.parent, "Contrasts").read_text("utf-8")
    (link,) = found[0].links
    shown = [f"{100 * value:+.2f}" for value in (link.difference, link.low, link.high, link.detectable)]
    line = f"| hub over naive | holds | hub − naive | {shown[0]} [{shown[1]}, {shown[2]}] | {found[0].p_holds:.3f} |"
    assert f"{line} {shown[3]} |" in text
    assert "| chain | not decided | prompts has 9 of 10 seeds | – | – | – |" in text
    assert "- **chain**: Table 2" in text


def test_the_command_judges_by_finished_cells(
    recipe: Path,
    data: Data,
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verdicts(recipe, data)
    monkeypatch.setattr("interplay.comparison.measured.Loader", lambda: data)
    done = run("compare", "--grid", recipe, "--out", recipe.parent, "--contrasts", "--json")
    assert done.code == 0, done.err
    found = {one["contrast"]["name"]: one["verdict"] for one in json.loads(done.out)["contrasts"]}
    assert (found["hub over naive"], found["far above"]) == ("holds", "does not hold")
    assert "| hub over naive | holds |" in (recipe.parent / "contrasts.md").read_text("utf-8")
    assert (
        "needs --grid" in run("compare", "--methods", "mitp", "--data", "x", "--out", "y", "--contrasts").err
    )


def test_the_recipe_of_scenes_says_what_it_is_to_show() -> None:
    path = Path(__file__).parents[2] / "recipes" / "scenes-contrasts.yaml"
    grid, found = read_grid(path), read_contrasts(path)
    assert len(found) == 3 * 3 + 2 + 1 + 1
    assert {contrast.seeds for contrast in found} == {SEEDS}
    named = {(contrast.data, row) for contrast in found for row in contrast.rows}
    assert named <= {(cell.data, cell.row) for cell in grid.cells}
    assert len({contrast.name for contrast in found}) == len(found)
