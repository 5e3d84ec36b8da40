"""Pictures of streams are drawn from what is there, and say what is not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from interplay.errors import InterplayError
from interplay.metrics.recall import Recall
from interplay.plotting import streams as stream_plots
from interplay.plotting.streams import RankPoint
from interplay.retrieval.score_matrix import ScoreMatrix

from .conftest import SMALL, Run, write_stream
from .test_bad_input import said


def recall(share: float) -> Recall:
    return {d: dict.fromkeys((1, 5, 10), share) for d in ("image_to_text", "text_to_image")}  # type: ignore[misc]


def matrix(tasks: int, shift: float = 0.0) -> ScoreMatrix:
    """R[t, i] = 0.1·i + 0.01·(T − t) + shift."""
    found = ScoreMatrix(tuple(f"task {i} $" for i in range(tasks)))
    for t in range(tasks):
        found.append(t, [recall(min(1, 0.1 * (i % 5) + 0.01 * (tasks - t) + shift)) for i in range(t + 1)])
    return found


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved while a test runs."""
    kept: list[Figure] = []
    save = stream_plots.save

    def keep(figure: Figure, path: Path) -> Path:
        kept.append(figure)
        return save(figure, path)

    monkeypatch.setattr(stream_plots, "save", keep)
    return kept


def lines_of(axes: Any) -> dict[str, list[float]]:
    return {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}


@pytest.mark.parametrize("tasks", [1, 2, 25])
def test_any_number_of_tasks(tasks: int, tmp_path: Path, figures: list[Figure]) -> None:
    ours, bare = matrix(tasks, 0.1), matrix(tasks)
    for path in (
        stream_plots.tasks_figure({"lpi": ours}, tmp_path / "tasks.png", bare),
        stream_plots.matrix_figure(ours, tmp_path / "matrix.png", "lpi"),
    ):
        with Image.open(path) as picture:
            assert picture.size[0] > 800
    last = lines_of(figures[0].axes[0])
    assert last["lpi"] == pytest.approx([line["last"] for line in ours.per_task("image_to_text", 1)])
    assert last["bare backbone"] == pytest.approx(
        [line["last"] for line in bare.per_task("image_to_text", 1)]
    )
    forgotten = lines_of(figures[0].axes[2])["lpi"]
    assert forgotten[:-1] == pytest.approx([0.01 * (tasks - 1 - i) for i in range(tasks - 1)])
    assert np.isnan(forgotten[-1])  # of the last task nothing can have been forgotten


def test_the_matrix_shows_the_lower_triangle(tmp_path: Path, figures: list[Figure]) -> None:
    stream_plots.matrix_figure(matrix(4), tmp_path / "matrix.png")
    shown = figures[0].axes[1].images[0].get_array().filled(np.nan)
    values = matrix(4).matrix("text_to_image", 1)
    for t in range(4):
        for i in range(4):
            assert np.isnan(shown[t, i]) if i > t else shown[t, i] == pytest.approx(values[t][i])


def test_ranks_are_in_order_and_averaged_over_runs(tmp_path: Path, figures: list[Figure]) -> None:
    points = [
        RankPoint(rank, "lpi-m", matrix(3, shift))
        for rank, shift in ((16, 0.0), (2, 0.1), (2, 0.3), (4, 0.5))
    ]
    stream_plots.rank_figure(
        [*points, RankPoint(2, "lpi-p", matrix(3))], "prompt rank", tmp_path / "rank.png"
    )
    axes = figures[0].axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2", "4", "16"]
    base = np.mean([0.01, 0.11, 0.21])
    (line,) = (c.lines[0] for c in axes.containers if c.get_label() == "lpi-m")
    assert list(line.get_ydata()) == pytest.approx([base + 0.2, base + 0.5, base])


def test_unlike_tasks_are_not_set_beside_each_other(tmp_path: Path) -> None:
    with pytest.raises(InterplayError, match="unlike tasks"):
        stream_plots.tasks_figure(
            {"a": matrix(3), "b": ScoreMatrix(("x",), stages=matrix(1).stages)}, tmp_path / "x.png"
        )


def test_alike_vectors_lie_close_together_on_the_plane() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(3, 8)) * 10
    vectors = np.concatenate([centre + random.normal(size=(6, 8)) * 0.1 for centre in centres])
    places = stream_plots.plane(vectors)
    assert places.shape == (18, 2)
    assert np.array_equal(places, stream_plots.plane(vectors))
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    group = np.repeat(range(3), 6)
    own = apart[(group[:, None] == group[None]) & ~np.eye(18, dtype=bool)]
    assert own.max() < apart[group[:, None] != group[None]].min()
    with pytest.raises(InterplayError, match="at least 3 points, not 2"):
        stream_plots.plane(vectors[:2])


def test_one_run(run: Run, copied: Path) -> None:
    done = run("plots", copied, "--json")
    assert done.code == 0, done.err
    assert set(done.json["pictures"]) == {"tasks", "matrix", "names", "prompts"}
    assert not done.json["not_drawn"]
    for path in done.json["pictures"].values():
        assert Path(path).parent == copied / "plots"
        with Image.open(path) as picture:
            assert picture.size[0] > 800
    assert "matrix.png" in run("plots", copied, "-k", 10).out
    assert "one of 1, 5, 10" in said(run, "plots", copied, "-k", 3)


def test_what_cannot_be_drawn_is_said(run: Run, stream: Path, tmp_path: Path) -> None:
    two = write_stream(tmp_path / "two", ["squares", "circles"])
    assert run("continual", "--method", "lpi-m", "--data", two, "--out", tmp_path / "run", *SMALL).code == 0
    done = run("plots", tmp_path / "run", "--json").json
    assert set(done["pictures"]) == {"tasks", "matrix", "prompts"}
    assert "at least 3 tasks, this run has 2" in done["not_drawn"]["names"]
    assert "names was not drawn" in run("plots", tmp_path / "run").out
    assert run("continual", "--method", "zero_shot", "--data", two, "--out", tmp_path / "frozen").code == 0
    frozen = run("plots", tmp_path / "frozen", "--json").json
    assert set(frozen["not_drawn"]) == {"names", "prompts"}


def test_a_side_without_prompts_is_left_out(run: Run, tmp_path: Path) -> None:
    two = write_stream(tmp_path / "two", ["squares", "circles"])
    words = ["continual", "--method", "dual_prompt", "--data", two, "--out", tmp_path / "run"]
    small = ["--set", "general_layers=1", "expert_layers=2", "length=2", "--epochs", 1, "--no-progress"]
    assert run(*words, *small).code == 0
    done = run("plots", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    assert "prompts" in done.json["pictures"]


def test_several_runs(run: Run, learned: Path, stream: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(learned, runs / "r2")
    words = ["continual", "--method", "lpi-p", "--data", stream, *SMALL, "--set"]
    assert run(*words, "rank=1", "--out", runs / "r1").code == 0
    done = run("plots", runs, "--json")
    assert done.code == 0, done.err
    assert set(done.json["pictures"]) == {"tasks", "rank"}
    assert Path(done.json["pictures"]["rank"]) == runs / "plots" / "rank.png"
    assert "fusion_rank" in done.json["not_drawn"]
    assert run(*words, "rank=1", "fusion_rank=1", "--out", runs / "f1").code == 0
    again = run("plots", runs / "f1", runs / "r1", "--out", tmp_path / "pictures", "--json").json
    assert set(again["pictures"]) == {"tasks", "fusion_rank"}
    turned = run(*words, "rank=2", "--order-seed", 1, "--out", tmp_path / "turned")
    assert turned.code == 0
    assert "nothing to draw" in said(run, "plots", learned, tmp_path / "turned")


def test_places_without_a_run(run: Run, tmp_path: Path) -> None:
    assert "no folder" in said(run, "plots", tmp_path / "nowhere")
    assert "no trained method" in said(run, "plots", tmp_path)
