"""A stream whose tasks are unlike in size: checked before anything is trained, and told beside every recall."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interplay.retrieval.retriever import Retriever
from tests.cli.conftest import SMALL, Run, write_stream
from tests.cli.test_bad_input import said
from tests.cli.test_stream import rewritten, rows

KEPT = {"train": 6, "validation": 3, "test": 3}


def thinned(stream: Path, folder: Path, task: str, **keep: int) -> Path:
    """The stream's folder again, with fewer rows of one task in some splits."""
    left = KEPT | keep
    table = []
    for row in rows(stream):
        if row["task"] == task:
            left[row["split"]] -= 1
            if left[row["split"]] < 0:
                continue
        table.append(row)
    return rewritten(stream, folder, table)


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("count", [0, 1])
def test_a_task_that_is_too_small_is_named_before_anything_is_trained(
    split: str, count: int, run: Run, stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*_: object, **__: object) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr(Retriever, "learn", trained)
    data = thinned(stream, tmp_path / "data", "stripes", **{split: count})
    told = said(run, "continual", "--method", "lpi-p", "--data", data, "--out", tmp_path / "run", *SMALL)
    assert f"task 'stripes' has {count} picture{'s' * (count == 0)} in '{split}'" in told
    assert "at least 2 in 'train', 2 in 'validation', 2 in 'test'" in told
    assert "--small" in told
    assert not (tmp_path / "run").exists()


def test_a_method_without_training_needs_no_validation(run: Run, stream: Path, tmp_path: Path) -> None:
    data = thinned(stream, tmp_path / "data", "stripes", validation=0)
    words = ["continual", "--method", "zero_shot", "--data", data, "--out", tmp_path / "run", "--no-progress"]
    assert run(*words).code == 0


def test_small_tasks_are_left_out(run: Run, stream: Path, tmp_path: Path) -> None:
    data = thinned(stream, tmp_path / "data", "circles", test=1)
    words = ["continual", "--method", "lpi-m", "--data", data, "--out", tmp_path / "run", *SMALL]
    done = run(*words, "--small", "skip", "--json")
    assert done.code == 0, done.err
    assert "Left out, having fewer than 2 pictures in a split: 'circles'." in done.err
    assert done.json["order"] == ["squares", "stripes"]
    again = run(
        "continual", "--config", tmp_path / "run" / "config.yaml", "--out", tmp_path / "run", "--resume"
    )
    assert again.code == 0, again.err
    told = said(run, *words[:-3], "--out", tmp_path / "none", "--min-rows", 4, "--small", "skip")
    assert "has 3 pictures in 'validation'" in told
    assert "at least 2 pictures, not 1" in said(run, *words, "--min-rows", 1)


def test_small_tasks_are_made_one_and_measured_as_one(run: Run, stream: Path, tmp_path: Path) -> None:
    data = thinned(stream, tmp_path / "data", "squares", train=1, test=2)
    words = ["continual", "--method", "lpi-m", "--data", data, "--out", tmp_path / "run", *SMALL]
    done = run(*words, "--small", "merge", "--json")
    assert done.code == 0, done.err
    assert "Made one task" in done.err
    assert done.json["order"] == ["squares + circles", "stripes"]
    assert done.json["counts"] == {
        "squares + circles": {"image": 5, "text": 5},
        "stripes": {"image": 3, "text": 3},
    }
    measured = run("evaluate", tmp_path / "run", "--json")
    assert measured.code == 0, measured.err
    assert measured.json["counts"] == done.json["counts"]
    last = json.loads((tmp_path / "run" / "matrix.json").read_text())["stages"][-1]["recall"]
    assert list(measured.json["per_task"].values()) == last
    forgot = run("forget", tmp_path / "run", "--task", "squares + circles", "--json")
    assert forgot.json["tasks"] == ["stripes"]


def test_the_last_small_task_joins_the_one_before(run: Run, stream: Path, tmp_path: Path) -> None:
    data = thinned(stream, tmp_path / "data", "stripes", train=1)
    words = ["continual", "--method", "zero_shot", "--data", data, "--out", tmp_path / "run", "--no-progress"]
    assert run(*words, "--small", "merge", "--json").json["order"] == ["squares", "circles + stripes"]


def test_counts_stand_beside_every_recall(run: Run, tmp_path: Path) -> None:
    stream = write_stream(tmp_path / "stream", ["squares", "circles"])
    table = rows(stream)
    twice = [{**row, "text": text} for row in table for text in (row["text"], f"the {row['text']}")]
    data = rewritten(stream, tmp_path / "data", twice)
    words = ["--data", data, "--out", tmp_path / "run", "--method", "zero_shot", "--no-progress"]
    told = run("continual", *words)
    assert told.code == 0, told.err
    for task in ("1 squares", "2 circles"):
        line = next(line for line in told.out.splitlines() if line.startswith(task))
        assert line.split()[2:4] == ["3", "6"]  # three pictures with two captions each
    assert "task 1 (3)" in told.out
    assert "task 2 (6)" in told.out
    shown = run("evaluate", tmp_path / "run").out
    assert next(line for line in shown.splitlines() if line.startswith("squares")).split()[1:3] == ["3", "6"]
    assert next(line for line in shown.splitlines() if line.startswith("all tasks")).split()[2:4] == [
        "6",
        "12",
    ]
