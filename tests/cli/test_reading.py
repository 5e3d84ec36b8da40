"""Data of the user's own on the command line: columns, further files, shares, one side, figures by class."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from interplay.cli import main

from .conftest import SMALL, Run, write_toy
from .test_bad_input import said


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train.csv`, `val.tsv` and `test.json` beside their pictures, under other names of the columns."""
    folder = write_toy(tmp_path_factory.mktemp("parts"), rows=48).parent
    rows = list(csv.DictReader((folder / "pairs.csv").read_text(encoding="utf-8").splitlines()))
    named = [{"file": row["image"], "title": row["text"], "kind": row["label"]} for row in rows]
    for name, separator, some in (("train.csv", ",", named[:30]), ("val.tsv", "\t", named[30:40])):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["file", "title", "kind"], delimiter=separator)
            writer.writeheader()
            writer.writerows(some)
    (folder / "test.json").write_text(json.dumps(named[40:]), encoding="utf-8")
    return folder


COLUMNS = ("--columns", "image=file,text=title", "label=kind")


@pytest.fixture(scope="session")
def told(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a probe on the three files."""
    folder = tmp_path_factory.mktemp("told") / "run"
    words = [
        "train",
        "--data",
        parts / "train.csv",
        "--validation",
        parts / "val.tsv",
        "--test",
        parts / "test.json",
    ]
    assert main([str(word) for word in [*words, *COLUMNS, "--method", "linear_probe", "--out", folder]]) == 0
    return folder


def test_a_run_remembers_what_it_was_told_of_its_data(run: Run, told: Path, parts: Path) -> None:
    found = run("evaluate", told, "--json").json
    assert (found["rows"], found["split"]) == (8, "test")
    assert run("evaluate", told, "--split", "all", "--json").json["rows"] == 48
    config = yaml.safe_load((told / "config.yaml").read_text())
    assert config["columns"] == list(COLUMNS[1:])
    assert config["test"] == str(parts / "test.json")
    again = run("train", "--config", told / "config.yaml", "--out", told.parent / "again", "--json")
    assert again.code == 0, again.err
    assert run("evaluate", told.parent / "again", "--json").json["metrics"] == found["metrics"]
    assert run("calibrate", told, "--json").code in (0, 2)  # a probe may get all of ten rows right


def test_other_data_are_read_as_they_are_told(run: Run, told: Path, parts: Path) -> None:
    words = ("evaluate", told, "--data", parts / "val.tsv", "--split", "all", "--json")
    assert run(*words, *COLUMNS).json["rows"] == 10
    assert "no column called 'image'" in said(run, *words)
    table = ("predict", told, "--table", parts / "test.json", "--batch-size", 3, "--json")
    assert len(run(*table, *COLUMNS[:2]).json["rows"]) == 8
    shown = run(
        "data", "show", parts / "train.csv", "--test", parts / "test.json", *COLUMNS, "--split", "50/50/0"
    )
    assert "8 test" in shown.out
    assert "split 50/50/0 by a hash" in shown.out


def test_a_plain_run_records_no_more_than_before(trained: Path) -> None:
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert not {"columns", "validation", "test", "split"} & set(config)


def test_figures_of_every_class(run: Run, trained: Path, toy: Path) -> None:
    found = run("evaluate", trained, "--split", "all", "--per-class", "--json").json
    assert [one["class"] for one in found["classes"]] == found["confusion"]["classes"] == ["other", "same"]
    assert sum(one["rows"] for one in found["classes"]) == sum(map(sum, found["confusion"]["counts"])) == 24
    shown = run("evaluate", trained, "--split", "all", "--per-class").out
    assert "true, predicted as" in shown
    assert "precision" in shown
    assert "precision" not in run("evaluate", trained).out


def test_of_many_classes_the_most_frequent_confusions() -> None:
    import torch

    from interplay.classification.report import report
    from interplay.cli.class_report import class_report

    names = [f"c{at}" for at in range(20)]
    targets = torch.arange(40) % 20
    predicted = torch.where(targets == 3, 4, targets)
    found, text = class_report(report(names, torch.eye(20)[predicted], targets, "single"))
    assert text.splitlines()[-1].split() == ["c3", "c4", "2"]
    assert found["classes"][3]["precision"] is None
    json.dumps(found, allow_nan=False)
    several, _ = class_report(report(names, torch.eye(20), torch.eye(20), "multi"))
    assert "confusion" not in several


@pytest.fixture(scope="session")
def image_run(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image") / "run"
    assert main(["train", "--data", str(toy), "--method", "image_probe", "--out", str(folder)]) == 0
    return folder


def test_one_side_where_it_is_enough(run: Run, image_run: Path, trained: Path, toy: Path) -> None:
    picture = toy.parent / "0.png"
    alone = run("predict", image_run, "--image", picture, "--json").json
    both = run("predict", image_run, "--image", picture, "--text", "a red square", "--json").json
    assert alone["probabilities"] == pytest.approx(both["probabilities"], abs=1e-5)
    assert "reads the image of a pair: give images too" in said(run, "predict", image_run, "--text", "x")
    assert "reads the image and the text of a pair: give texts too" in said(
        run, "predict", trained, "--image", picture
    )


def folders(base: Path) -> Iterator[str]:
    from .conftest import COLOURS, drawn

    for colour in COLOURS:
        (base / colour).mkdir(parents=True)
        for at in range(8):
            drawn("squares", COLOURS[colour], at).save(base / colour / f"{at}.png")
        yield colour


def test_one_folder_a_class_is_trained_on(run: Run, tmp_path: Path) -> None:
    names = sorted(folders(tmp_path / "data"))
    done = run(
        "train",
        "--data",
        tmp_path / "data",
        "--method",
        "image_probe",
        "--split",
        "2/1/1",
        "--out",
        tmp_path / "run",
    )
    assert done.code == 0, done.err
    assert "the text of every picture is 'a picture'" in done.err
    found = run("evaluate", tmp_path / "run", "--split", "all", "--per-class", "--json").json
    assert found["confusion"]["classes"] == names


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("train --data x.csv --out y --columns text", "--columns takes key=value"),
        ("train --data x.csv --out y --columns text=", "--columns takes key=value"),
        ("train --data x.csv --out y --split 80", "three numbers"),
        ("train --data x.csv --out y --split a/b/c", "--split takes three shares"),
        ("train --data x.csv --out y --split 0/1/1", "that of train above 0"),
        ("train --data openmoji/relation --out y --columns text=title", "columns of its own"),
        ("train --data openmoji/relation --out y --test x.csv", "splits"),
        ("train --data  --out y", "--data"),
        ("predict no-such-run --image a.png --text b --columns text=title", "--table"),
        ("predict no-such-run --image a.png", "no-such-run"),
    ],
)
def test_what_cannot_be_read_is_told(
    words: str, told: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in said(run, *words.split(" "))


def test_options_of_the_machine(run: Run, trained: Path, learned: Path, toy: Path) -> None:
    for words in (("evaluate", trained), ("predict", trained, "--table", toy), ("calibrate", trained)):
        assert "There is no device called 'gpu'" in said(run, *words, "--device", "gpu")
        assert "batch_size must be at least 1" in said(run, *words, "--batch-size", 0)
    for option in (
        "--per-class",
        "--split=all",
        "--device=cuda",
        "--batch-size=3",
        "--confusion=a.png",
        "--errors=a.png",
    ):
        assert "is for classifiers" in said(run, "evaluate", learned, option)


def test_a_damaged_record_is_named(run: Run, told: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(told, tmp_path / "run")
    for text in (b"[1", b"\xff\xfe", b"- a"):
        (tmp_path / "run" / "config.yaml").write_bytes(text)
        assert "config.yaml cannot be read: name the data with --data" in said(
            run, "evaluate", tmp_path / "run"
        )


def test_a_stream_is_told_of_its_columns_too(run: Run, stream: Path, tmp_path: Path) -> None:
    rows = "".join(f"{stream.parent}/{line}\n" for line in stream.read_text().splitlines()[1:])
    (tmp_path / "stream.csv").write_text(f"file,title,session,split\n{rows}")
    (tmp_path / "one.csv").write_text(f"file,title,unused,split\n{rows}")
    told = ("--columns", "image=file,text=title,task=session")
    done = run(
        "continual",
        "--method",
        "lpi-p",
        "--data",
        tmp_path / "stream.csv",
        "--out",
        tmp_path / "run",
        *told,
        *SMALL,
    )
    assert done.code == 0, done.err
    assert run("evaluate", tmp_path / "run").code == 0
    words = ("learn", tmp_path / "run", "--task", "more", "--data", tmp_path / "one.csv", "--no-progress")
    assert "no column called 'image'" in said(run, *words)
    done = run(*words, "--columns", "image=file,text=title")
    assert done.code == 0, done.err
