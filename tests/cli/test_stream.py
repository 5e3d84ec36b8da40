"""Streams on the command line: continual, learn, forget, evaluate, and what a user can do wrong with them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from interplay.retrieval.run_folder import MATRIX
from interplay.retrieval.score_matrix import ScoreMatrix

from .conftest import SMALL, TASKS, Run, write_stream
from .test_bad_input import said

FIGURES = (
    "final_average",
    "stage_average",
    "task_average",
    "forgetting",
    "backward_transfer",
    "forward_transfer",
)


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rewritten(stream: Path, folder: Path, keep: list[dict[str, str]]) -> Path:
    """The stream's folder again, with some rows."""
    shutil.copytree(stream.parent, folder)
    with (folder / "stream.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(keep[0]))
        writer.writeheader()
        writer.writerows(keep)
    return folder / "stream.csv"


def test_a_stream_leaves_a_record_that_agrees_with_itself(learned: Path) -> None:
    found = json.loads((learned / "summary.json").read_text())
    matrix, bare = ScoreMatrix.load(learned / MATRIX), ScoreMatrix.load(learned / "bare.json")
    assert found["order"] == list(matrix.tasks) == list(TASKS)
    assert len(matrix.stages) == len(bare.stages) == 3
    for figure in FIGURES:
        assert found["summary"][figure] == matrix.summary()[figure]
        assert found["bare"][figure] == bare.summary()[figure]
    assert matrix.baseline == bare.baseline
    for at in range(3):  # in the gallery of all tasks so far, which is where the baseline stands
        assert bare.stages[at].recall[at] == bare.baseline[at]  # type: ignore[index]
    config = yaml.safe_load((learned / "config.yaml").read_text())
    assert config["method"] == "lpi-p"
    assert config["epochs"] == 1
    assert config["batch_size"] == 64  # retrieval's own, not classification's
    assert {"method.safetensors", "README.md", "env.json", "sessions"} <= {p.name for p in learned.iterdir()}


def test_progress_goes_to_stderr_and_the_tables_to_stdout(run: Run, stream: Path, tmp_path: Path) -> None:
    words = ["continual", "--method", "lpi-m", "--data", stream, "--out", tmp_path / "run", *SMALL]
    done = run(*words, "--order", "stripes,squares,circles")
    assert done.code == 0, done.err
    for at, task in enumerate(("stripes", "squares", "circles"), start=1):
        assert f"[{at}/3] {task}" in done.err
        assert f"{at} {task}" in done.out
    assert "left" in done.err
    assert "bare backbone" in done.out
    assert "true task given" in done.out
    again = run(
        "continual",
        "--config",
        tmp_path / "run" / "config.yaml",
        "--out",
        tmp_path / "run",
        "--resume",
        "--json",
    )
    assert again.code == 0, again.err
    assert "3 of 3 sessions are there already." in again.err
    assert "[1/3]" not in again.err
    assert again.json["order"] == ["stripes", "squares", "circles"]
    other = said(run, *words, "--resume")
    assert "goes on only as it began" in other


def test_a_stream_that_was_interrupted_goes_on(
    run: Run, learned: Path, stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interplay.retrieval.retriever import Retriever

    learn = Retriever.learn

    def interrupted(self: Retriever, name: str, *rest: object, **more: object) -> object:
        if name == "circles":
            raise KeyboardInterrupt
        return learn(self, name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Retriever, "learn", interrupted)
    words = ["continual", "--method", "lpi-p", "--data", stream, "--out", tmp_path / "run", *SMALL]
    assert run(*words).code == 130
    monkeypatch.undo()
    assert "holds a training run already" in said(run, *words)
    done = run(*words, "--resume", "--json")
    assert done.code == 0, done.err
    assert "1 of 3 sessions are there already." in done.err
    assert "[1/3]" not in done.err
    expected = json.loads((learned / "summary.json").read_text())
    for key in ("summary", "bare", "matrix", "per_task"):
        assert done.json[key] == expected[key]


def test_a_stream_whose_table_has_grown_goes_on_by_learn(run: Run, stream: Path, tmp_path: Path) -> None:
    table = rows(stream)
    data = rewritten(stream, tmp_path / "data", [row for row in table if row["task"] != "stripes"])
    words = ["continual", "--method", "lpi-m", "--data", data, "--out", tmp_path / "run", *SMALL]
    assert run(*words).code == 0
    shutil.copy(stream, data)
    assert "interplay learn" in said(run, *words, "--resume")
    assert run("learn", tmp_path / "run", "--task", "stripes", "--data", data, "--no-progress").code == 0
    assert list(run("evaluate", tmp_path / "run", "--json").json["per_task"]) == list(TASKS)


def test_a_stream_killed_in_its_first_session_is_not_overwritten(
    run: Run, stream: Path, tmp_path: Path
) -> None:
    (tmp_path / "sessions").mkdir()
    (tmp_path / "config.yaml").write_text("method: lpi\n")
    assert "--resume" in said(
        run, "continual", "--method", "lpi-p", "--data", stream, "--out", tmp_path, *SMALL
    )
    assert (tmp_path / "config.yaml").read_text() == "method: lpi\n"


def test_orders(run: Run, stream: Path, tmp_path: Path) -> None:
    words = ["continual", "--method", "zero_shot", "--data", stream, "--no-progress", "--json"]
    orders = {}
    for seed in (0, 1, 2, 3):
        done = run(*words, "--out", tmp_path / str(seed), "--order-seed", seed)
        assert done.code == 0, done.err
        orders[seed] = done.json["order"]
        assert sorted(done.json["order"]) == sorted(TASKS)
        assert done.json["summary"]["final_average"] == done.json["bare"]["final_average"]
    assert orders[0] == list(TASKS)
    assert len({tuple(order) for order in orders.values()}) > 1
    assert run(*words, "--out", tmp_path / "again", "--order-seed", 2).json["order"] == orders[2]


def test_joint_training_is_measured_task_by_task(run: Run, stream: Path, tmp_path: Path) -> None:
    words = ["continual", "--method", "lpi-m", "--data", stream, "--out", tmp_path / "run", "--joint", *SMALL]
    done = run(*words, "--json")
    assert done.code == 0, done.err
    assert set(done.json["per_task"]) == set(TASKS)
    mean = sum(done.json["per_task"][task]["image_to_text"]["1"] for task in TASKS) / 3
    assert done.json["average"]["image_to_text"]["1"] == pytest.approx(mean)
    assert not (tmp_path / "run" / MATRIX).exists()
    measured = run("evaluate", tmp_path / "run", "--json")
    assert measured.json["per_task"] == done.json["per_task"]
    assert run(*words, "--resume", "--json").json["per_task"] == done.json["per_task"]
    assert "all tasks" in run("evaluate", tmp_path / "run").out
    assert "--joint there is none" in said(run, "plots", tmp_path / "run")


def test_evaluate_measures_a_retriever_as_the_stream_did(run: Run, learned: Path, stream: Path) -> None:
    matrix = ScoreMatrix.load(learned / MATRIX)
    done = run("evaluate", learned, "--json")
    assert done.code == 0, done.err
    for at, task in enumerate(TASKS):
        for direction, by_k in matrix.stages[-1].recall[at].items():
            assert done.json["per_task"][task][direction] == {str(k): share for k, share in by_k.items()}
    assert done.json["routing"] == matrix.stages[-1].routing
    assert done.json["oracle"]["mean"] == pytest.approx(matrix.summary()["oracle"]["final_average"]["mean"])
    named = run("evaluate", learned, "--data", stream, "--json")
    assert named.json["per_task"] == done.json["per_task"]
    shown = run("evaluate", learned, "--split", "validation").out
    assert "all tasks" in shown
    assert "own task" in shown


def test_evaluate_takes_any_caption_of_a_picture_for_a_hit(
    run: Run, learned: Path, stream: Path, tmp_path: Path
) -> None:
    table = rows(stream)
    twice = [{**row, "text": text} for row in table for text in (row["text"], f"the {row['text']}")]
    several = [
        {"captions": f"{row['text']}|the {row['text']}", **{k: v for k, v in row.items() if k != "text"}}
        for row in table
    ]
    found = [
        run("evaluate", learned, "--data", rewritten(stream, tmp_path / name, of), "--json").json["per_task"]
        for name, of in (("twice", twice), ("several", several))
    ]
    assert found[0] == found[1]
    assert any(task["text_to_image"]["1"] > 0 for task in found[0].values())


def test_learn_and_forget_leave_the_other_tasks_as_they_are(
    run: Run, copied: Path, stream: Path, tmp_path: Path
) -> None:
    whole = load_file(copied / "method.safetensors")
    forgot = run("forget", copied, "--task", "stripes", "--json")
    assert forgot.json["tasks"] == ["squares", "circles"]
    assert "was not learned; these were: 'squares', 'circles'" in said(
        run, "forget", copied, "--task", "stripes"
    )
    learned = run("learn", copied, "--task", "stripes", "--data", stream, "--no-progress", "--json")
    assert learned.code == 0, learned.err
    assert learned.json["tasks"] == list(TASKS)
    assert learned.json["training_rows"] == 6
    again = load_file(copied / "method.safetensors")
    assert again.keys() == whole.keys()
    for name in whole:  # trained as the run was, with its seed and one epoch: the same prompts as before
        assert torch.equal(again[name], whole[name]), name
    extra = write_stream(tmp_path / "more", ["dots"])
    table = [{k: v for k, v in row.items() if k != "task"} for row in rows(extra)]
    with extra.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    shown = run("learn", copied, "--task", "dots", "--data", extra, "--no-progress")
    assert "knows 4 tasks now" in shown.out
    assert "On its validation rows alone" in shown.out
    assert "the bare backbone" in shown.out
    assert {path.name for path in (copied / "learned").iterdir()} == {"01", "02"}
    measured = run("evaluate", copied, "--json")  # tasks from two tables with unlike columns
    assert measured.code == 0, measured.err
    assert list(measured.json["per_task"]) == [*TASKS, "dots"]


def test_a_session_that_fails_leaves_the_run_as_it_was(
    run: Run, copied: Path, stream: Path, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in copied.iterdir() if path.is_file()}
    known = said(run, "learn", copied, "--task", "circles", "--data", stream)
    assert "learned already" in known
    assert "There is no task called 'circle'. Did you mean 'circles'?" in said(
        run, "learn", copied, "--task", "circle", "--data", stream
    )
    table = rows(stream)
    for row in table:
        row["task"] = row["task"].replace("circles", "discs")
    train = [row for row in table if row["task"] == "discs" and row["split"] == "train"]
    one = rewritten(stream, tmp_path / "one", [row for row in table if row not in train[1:]])
    words = ["learn", copied, "--task", "discs", "--no-progress", "--data"]
    assert "at least 2" in said(run, *words, one)
    none = rewritten(stream, tmp_path / "none", [row for row in table if row not in train])
    assert "task 'discs' has 0 pictures in 'train'" in said(run, *words, none)
    rest = rewritten(stream, tmp_path / "rest", table)
    assert "Lower learning_rate" in said(run, *words, rest, "--learning-rate", "1e30", "--epochs", 2)
    assert {path.name: path.read_bytes() for path in copied.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--order", "squares,circles,stirpes"], "Did you mean 'stripes'?"),
        (["--order", "squares,circles"], "misses stripes"),
        (["--order", "squares,circles,stripes", "--order-seed", "1"], "give one of them"),
        (["--order-seed", "-1"], "--order-seed"),
        (["--method", "mitp"], "not coupled"),
        (["--method", "linear_probe"], "probe for classification"),
        (["--backbone", "glip-tiny"], "of which costs alone can be counted"),
        (["--set", "rnak=2"], "'rank'"),
    ],
)
def test_what_is_wrong_with_a_stream_is_told(
    options: list[str], told: str, run: Run, stream: Path, tmp_path: Path
) -> None:
    assert told in said(
        run, "continual", "--method", "lpi-p", "--data", stream, "--out", tmp_path / "run", *options
    )
    assert not (tmp_path / "run").exists()


def test_training_settings_that_nothing_reads_are_told(run: Run, stream: Path, tmp_path: Path) -> None:
    words = ["continual", "--data", stream, "--out", tmp_path / "run", "--no-progress"]
    done = run(*words, "--epochs", 3, "--seed", 1)
    assert done.code == 0, done.err
    assert "layer_map takes no training steps: epochs change nothing" in done.err
    assert "what it is worth" in done.out
    assert "the bare backbone" in done.out


def test_a_stream_that_fails_in_its_first_epoch_can_be_begun_anew(
    run: Run, stream: Path, tmp_path: Path
) -> None:
    words = ["continual", "--method", "lpi-p", "--data", stream, "--out", tmp_path / "run", *SMALL]
    assert "Lower learning_rate" in said(run, *words, "--learning-rate", "1e30")
    assert not (tmp_path / "run").exists()


def test_data_that_are_no_stream(run: Run, stream: Path, toy: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "run"]
    assert "no column called 'task'" in said(run, "continual", "--method", "lpi-p", "--data", toy, *out)
    table = rows(stream)
    keep = [row for row in table if row["task"] != "circles" or row["split"] != "train"]
    none = rewritten(stream, tmp_path / "none", keep)
    assert "task 'circles' has 0 pictures in 'train'; a session needs at least 2" in said(
        run, "continual", "--method", "lpi-p", "--data", none, *out
    )
    first = next(row for row in table if row["task"] == "circles" and row["split"] == "train")
    one = rewritten(stream, tmp_path / "one", [first, *keep])
    assert "task 'circles' has 1 picture in 'train'" in said(
        run, "continual", "--method", "lpi-p", "--data", one, *out
    )
    lines = [
        {"image": row["image"], "text": [row["text"]], "task": row["task"], "split": row["split"]}
        for row in table
    ]
    lines[4]["text"] = []
    empty = stream.parent / "empty.jsonl"
    empty.write_text("\n".join(map(json.dumps, lines)))
    assert "row 5" in said(run, "continual", "--method", "lpi-p", "--data", empty, *out)
    empty.unlink()


def test_a_run_is_used_for_what_it_is(run: Run, learned: Path, trained: Path, stream: Path) -> None:
    for words in (
        ["learn", trained, "--task", "x", "--data", stream],
        ["forget", trained, "--task", "x"],
        ["index", trained, "--images", stream.parent],
        ["search", trained, "a red square"],
        ["refresh", trained],
        ["plots", trained],
    ):
        assert "holds a classifier" in said(run, *words)
    assert "holds a retriever" in said(run, "predict", learned, "--image", "a.png", "--text", "b")
    for command in ("learn", "forget"):
        assert "no folder 'nowhere'" in said(
            run, command, "nowhere", "--task", "x", *(["--data", "y"] * (command == "learn"))
        )
