from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interplay.errors import InterplayError
from interplay.metrics.recall import DIRECTIONS, Direction, Recall
from interplay.retrieval.score_matrix import ScoreMatrix, Stage

KS = (1, 5)
Grid = list[list[float]]


def recall_of(value: float) -> Recall:
    """Another figure for each direction and k, so that a mix-up shows; `value` is image→text recall@1."""
    return {
        "image_to_text": {1: value, 5: value / 2},
        "text_to_image": {1: value / 4, 5: value / 8},
    }


SCALES: dict[tuple[Direction, int], float] = {
    ("image_to_text", 1): 1,
    ("image_to_text", 5): 0.5,
    ("text_to_image", 1): 0.25,
    ("text_to_image", 5): 0.125,
}


def build(
    grid: Grid, tasks: int | None = None, baseline: list[float] | None = None, **extra: Any
) -> ScoreMatrix:
    """A matrix with these rows; entries right of the diagonal are tasks not learned yet."""
    matrix = ScoreMatrix(
        tuple(f"task{i}" for i in range(tasks or len(grid))),
        KS,
        baseline=None if baseline is None else tuple(map(recall_of, baseline)),
    )
    for t, row in enumerate(grid):
        matrix.append(t, [recall_of(value) for value in row], **extra)
    return matrix


def loop_figures(grid: Grid, baseline: list[float]) -> dict[str, float | None]:
    """The oracle, for a full square matrix."""
    last = len(grid) - 1
    final = 0.0
    for i in range(last + 1):
        final += grid[last][i] / (last + 1)
    entries, total = 0, 0.0
    for t in range(last + 1):
        for i in range(last + 1):
            if t >= i:
                entries += 1
                total += grid[t][i]
    by_task = 0.0
    for i in range(last + 1):
        own, stages = 0.0, 0
        for t in range(last + 1):
            if t >= i:
                own += grid[t][i]
                stages += 1
        by_task += own / stages / (last + 1)
    forgotten, backward, forward = 0.0, 0.0, 0.0
    for i in range(last):
        best = float("-inf")
        for t in range(last):
            if t >= i:
                best = max(best, grid[t][i])
        forgotten += (best - grid[last][i]) / last
        backward += (grid[last][i] - grid[i][i]) / last
    for i in range(1, last + 1):
        forward += (grid[i - 1][i] - baseline[i]) / last
    return {
        "final_average": final,
        "stage_average": total / entries,
        "task_average": by_task,
        "forgetting": forgotten if last else None,
        "backward_transfer": backward if last else None,
        "forward_transfer": forward if last else None,
    }


def close(value: float | None, expected: float | None) -> bool:
    return value == expected if expected is None else value == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.randoms(use_true_random=False))
def test_equals_the_loops(count: int, source: random.Random) -> None:
    grid = [[source.random() for _ in range(count)] for _ in range(count)]
    baseline = [source.random() for _ in range(count)]
    matrix, expected = build(grid, baseline=baseline), loop_figures(grid, baseline)
    summary = matrix.summary()
    for name, value in expected.items():
        for (direction, k), scale in SCALES.items():
            wanted = None if value is None else scale * value
            assert close(getattr(matrix, name)(direction, k), wanted), name
            assert close(summary[name][direction][str(k)], wanted), name
        mean = None if value is None else value * sum(SCALES.values()) / len(SCALES)
        assert close(summary[name]["mean"], mean)
    lower = build([row[: t + 1] for t, row in enumerate(grid)], baseline=baseline)
    for name in ("final_average", "stage_average", "task_average", "forgetting", "backward_transfer"):
        assert lower.summary()[name] == summary[name], "tasks not learned yet must not count here"


def test_known_figures() -> None:
    matrix = build([[0.8], [0.9, 0.6], [0.5, 0.7, 0.4]])
    at = ("image_to_text", 1)
    assert matrix.final_average(*at) == pytest.approx(1.6 / 3)
    assert matrix.stage_average(*at) == pytest.approx((0.8 + 0.9 + 0.6 + 0.5 + 0.7 + 0.4) / 6)
    # LPI's released script: (2.2/3 + 1.3/2 + 0.4/1)/3, where the mean over all six is 0.65
    assert matrix.task_average(*at) == pytest.approx((2.2 / 3 + 1.3 / 2 + 0.4) / 3)
    assert matrix.forgetting(*at) == pytest.approx(((0.9 - 0.5) + (0.6 - 0.7)) / 2)  # positive: forgotten
    assert matrix.backward_transfer(*at) == pytest.approx(((0.5 - 0.8) + (0.7 - 0.6)) / 2)
    assert matrix.matrix(*at) == [[0.8, None, None], [0.9, 0.6, None], [0.5, 0.7, 0.4]]
    assert matrix.per_task(*at) == [
        {"task": "task0", "learned": 0.8, "best": 0.9, "last": 0.5, "forgetting": pytest.approx(0.4)},
        {"task": "task1", "learned": 0.6, "best": 0.7, "last": 0.7, "forgetting": pytest.approx(-0.1)},
        {"task": "task2", "learned": 0.4, "best": 0.4, "last": 0.4, "forgetting": None},
    ]


def test_one_task_neither_forgets_nor_transfers() -> None:
    matrix = build([[0.5]], baseline=[0.25])
    assert (matrix.final_average("image_to_text", 1), matrix.stage_average("image_to_text", 1)) == (0.5, 0.5)
    for name in ("forgetting", "backward_transfer", "forward_transfer"):
        assert getattr(matrix, name)("image_to_text", 1) is None
        assert matrix.summary()[name] == {
            **{direction: {"1": None, "5": None} for direction in DIRECTIONS},
            "mean": None,
        }


def test_before_the_last_stage_the_stages_so_far_count() -> None:
    whole = [[0.8], [0.6, 0.7], [0.2, 0.3, 0.9]]
    matrix = build(whole[:2], tasks=3)
    assert matrix.forgetting("image_to_text", 1) == pytest.approx(0.2)
    assert matrix.final_average("image_to_text", 1) == pytest.approx(0.65)
    assert [line["task"] for line in matrix.per_task("image_to_text", 1)] == ["task0", "task1"]
    empty = build([], tasks=3)
    assert empty.final_average("image_to_text", 1) is None
    assert empty.stage_average("image_to_text", 1) is None
    assert empty.task_average("image_to_text", 1) is None
    assert empty.per_task("image_to_text", 1) == empty.matrix("image_to_text", 1) == []
    assert empty.summary()["routing"] is None


def test_forward_transfer_needs_all_of_its_figures() -> None:
    ahead = [[0.5, 0.3], [0.5, 0.5, 0.2], [0.5, 0.5, 0.5]]
    at = ("image_to_text", 1)
    assert build(ahead, baseline=[0.9, 0.1, 0.1]).forward_transfer(*at) == pytest.approx((0.2 + 0.1) / 2)
    assert build(ahead).forward_transfer(*at) is None
    assert build([[0.5], *ahead[1:]], baseline=[0.1] * 3).forward_transfer(*at) is None
    assert build(ahead[:2], tasks=3, baseline=[0.1] * 3).forward_transfer(*at) == pytest.approx(0.2)


def test_true_task_identity_has_a_matrix_of_its_own() -> None:
    matrix = ScoreMatrix(("a", "b"), KS)
    matrix.append(0, [recall_of(0.4)], routing={"image": 1.0, "text": 0.5}, oracle=[recall_of(0.8)])
    matrix.append(
        1,
        [recall_of(0.2), recall_of(0.4)],
        routing={"text": 0.25, "image": 0.75},
        oracle=[recall_of(0.6), recall_of(1.0)],
    )
    oracle = matrix.of_oracle()
    assert oracle is not None
    assert oracle.matrix("text_to_image", 1) == [[0.2, None], [0.15, 0.25]]
    summary = matrix.summary()
    assert summary["routing"] == {"image": 0.75, "text": 0.25}
    assert summary["oracle"]["final_average"]["image_to_text"]["1"] == pytest.approx(0.8)
    assert summary["oracle"]["forgetting"]["image_to_text"]["1"] == pytest.approx(0.2)
    assert summary["final_average"]["image_to_text"]["1"] == pytest.approx(0.3)
    assert build([[0.5]]).of_oracle() is build([[0.5]]).summary()["oracle"] is None
    other = ScoreMatrix(("a", "b"), KS, [matrix.stages[0]])
    with pytest.raises(
        InterplayError, match=r"Stage 1: recall with true task identity .* every stage or after none"
    ):
        other.append(1, [recall_of(0.2), recall_of(0.4)])


def test_a_row_out_of_order_is_refused() -> None:
    matrix = build([[0.5]], tasks=2)
    for stage in (0, 2, -1):
        with pytest.raises(InterplayError, match=f"holds 1 stages: stage {stage} .* is not the next one"):
            matrix.append(stage, [recall_of(0.5)] * 2)
    matrix.append(1, [recall_of(0.5)] * 2)
    with pytest.raises(InterplayError, match="stage 2 "):
        matrix.append(2, [recall_of(0.5)] * 2)
    assert len(matrix.stages) == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "stage 0: recall of 0 tasks, not of 1 to 2"),
        ([0.1, 0.1, 0.1], "recall of 3 tasks"),
        ([1.01], "task 'task0', image_to_text recall@1: 1.01 is no share"),
        ([float("nan")], "nan is no share"),
        ([0.5, -0.1], "task 'task1', image_to_text recall@1: -0.1"),
    ],
)
def test_bad_rows_are_refused(row: list[float], message: str) -> None:
    matrix = build([], tasks=2)
    with pytest.raises(InterplayError) as caught:
        matrix.append(0, [recall_of(value) for value in row])
    assert message in str(caught.value)
    assert matrix.stages == []


def test_other_bad_input_is_refused() -> None:
    one = recall_of(0.5)
    with pytest.raises(InterplayError, match=r"text_to_image recall@5: None is no share"):
        build([], tasks=1).append(0, [{**one, "text_to_image": {1: 0.5}}])
    with pytest.raises(InterplayError, match="routing of the image side: 55 "):
        build([], tasks=1).append(0, [one], routing={"image": 55})
    with pytest.raises(InterplayError, match=r"stage 0, true task: recall of 2 tasks, not of 1\."):
        build([], tasks=2).append(0, [one], oracle=[one, one])
    with pytest.raises(InterplayError, match="the baseline: recall of 1 tasks, not of 2"):
        ScoreMatrix(("a", "b"), KS, baseline=(one,))
    for tasks in ((), ("a", "b", "a")):
        with pytest.raises(InterplayError, match="tasks of different names"):
            ScoreMatrix(tasks, KS)
    with pytest.raises(InterplayError, match="at least one k"):
        ScoreMatrix(("a",), ())


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    matrix = ScoreMatrix(("Essen & Trinken", "食"), KS, baseline=(recall_of(0.1), recall_of(1 / 3)))
    matrix.append(0, [recall_of(0.4), recall_of(0.1)], routing={"image": 1.0}, oracle=[recall_of(0.8)])
    path = tmp_path / "new" / "scores.json"
    matrix.save(path)
    again = ScoreMatrix.load(path)
    assert again == matrix
    assert isinstance(again.stages[0], Stage)
    again.append(1, [recall_of(0.2), recall_of(1 / 3)], oracle=[recall_of(1.0)] * 2)
    assert again != matrix
    again.save(path)
    assert ScoreMatrix.load(path).summary() == again.summary()
    assert json.loads(json.dumps(again.summary())) == again.summary()
    assert [file.name for file in path.parent.iterdir()] == ["scores.json"]


def test_files_that_are_no_score_matrix(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    with pytest.raises(InterplayError, match=r"scores\.json cannot be read \(No such file"):
        ScoreMatrix.load(path)
    build([[0.5], [0.5, 0.25]]).save(path)
    good = path.read_text(encoding="utf-8")
    for text in (
        good[:-40],
        "[]",
        "{}",
        good.replace('"format": 1', '"format": 2'),
        good.replace("0.25", "25"),
        good.replace('"1"', '"one"'),
        good.replace('"recall"', '"precision"'),
    ):
        assert text != good
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InterplayError, match=r"scores\.json is no score matrix of this version"):
            ScoreMatrix.load(path)
