"""Every command does what its help says, and `--json` leaves nothing but JSON on stdout."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from interplay.cli.command import Command, commands
from interplay.cli.command_line import CommandLine
from interplay.cli.commands import demo as demo_command
from interplay.cli.commands import demo_retrieval
from interplay.cli.commands.data_list import EMBEDDED
from interplay.cli.result import Result
from interplay.data.readers import EMBEDDED as NAMES
from interplay.key_value import assignments, spelled
from interplay.methods.mitp import MitpSettings
from interplay.methods.registry import choices
from interplay.parts.heads import HeadSettings
from interplay.training.settings import TrainSettings

from .conftest import Run


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; from interplay.cli import main; main(['--help']); main(['data', '--help']); main(['--version']);"
        "heavy = {'torch', 'transformers', 'datasets', 'cyclopts', 'rich', 'pymilvus'} & set(sys.modules);"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in commands():
        assert name in done.stdout


@pytest.mark.parametrize("name", commands())
def test_each_command_explains_itself_with_an_example(name: str, run: Run) -> None:
    done = run(*name.split(), "--help")
    assert done.code == 0
    assert f"interplay {name}" in done.out.partition("Example")[2]
    assert "--json" in done.out


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    done = run()
    assert done.code == 2
    assert "Classify:" in done.err


def test_version(run: Run) -> None:
    assert run("--version").out.startswith("interplay 0.")


def test_methods(run: Run) -> None:
    names = {row["name"]: row for row in run("methods", "--json").json}
    assert names["mitp"]["coupled"]
    assert names["linear_probe"]["trained"] == "logistic regression"
    assert "mitp-small" in names["mitp"]["variants"]
    assert "mitp-small" in run("methods").out


def test_info_needs_no_weights(run: Run) -> None:
    large = run("info", "--backbone", "clip-vit-large-patch14", "--method", "mitp", "--json").json
    assert large["trained_parameters"] == pytest.approx(2.0e6, rel=0.05)
    short = run("info", "--method", "mitp", "--set", "layers=8", "hidden=168", "--text-tokens", "8")
    assert "203,344" in short.out
    assert "texts of 8 tokens" in short.out


@pytest.mark.parametrize(
    ("words", "one", "twelve"),
    [
        ("lpi-m", 3_620, 43_440),
        ("lpi-p --set fusion_profile=released", 12_364, 148_368),
        ("l2p --set pool=12 length=4 picked=4", 5_760, 5_760),
    ],
)
def test_info_counts_the_papers_streams(words: str, one: int, twelve: int, run: Run) -> None:
    line = ["info", "--backbone", "glip-tiny", "--sessions", "12", "--method", *words.split()]
    found = run(*line, "--json").json
    assert (found["trained_parameters"], found["session_parameters"]) == (one, twelve)
    assert found["backbone_parameters"] == 151_430_526
    assert 110 < found["forward_gflops"] < 150
    assert found["training_gflops"] > 1.5 * found["forward_gflops"]


@pytest.mark.parametrize("method", [name for name, choice in choices().items() if not choice.preset])
def test_info_counts_every_method(method: str, run: Run) -> None:
    found = run("info", "--method", method, "--sessions", 2, "--json")
    assert found.code == 0, found.err
    assert found.json["session_parameters"] >= found.json["trained_parameters"]
    assert found.json["forward_gflops"] > 0


def test_info_measures_a_step_in_a_process_of_its_own(run: Run) -> None:
    shown = run("info", "--method", "lpi-m", "--measure", "--text-tokens", 12, "--batch-size", 2).out
    peak, loaded = re.search(
        r"training step +(\d+) .* 2 pairs; with the backbone loaded (\d+)", shown
    ).groups()  # type: ignore[union-attr]
    assert int(peak) > int(loaded) > 20  # 6 million parameters in 32 bits


@pytest.mark.slow
def test_more_pairs_need_more_memory(run: Run) -> None:
    words = ["info", "--method", "lpi-m", "--measure", "--text-tokens", 12, "--json", "--batch-size"]
    small, large = (run(*words, size).json["memory"] for size in (2, 96))
    assert large["peak"] > small["peak"] + 100
    assert (large["batch_size"], large["text_tokens"], large["random_weights"]) == (96, 12, False)


def test_data_list_names_every_embedded_set(run: Run) -> None:
    assert [row["name"] for row in run("data", "list", "--json").json] == list(NAMES) == list(EMBEDDED)
    assert "openmoji/relation" in run("data", "list").out


def test_data_show(run: Run, toy: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    done = run("data", "show", toy, "--out", sheet, "--json")
    assert done.json["rows"] == 24
    assert set(done.json["classes"]) == {"same", "other"}
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert "24 rows" in run("data", "show", toy).out


def test_train_leaves_a_record_that_can_be_run_again(run: Run, trained: Path, tmp_path: Path) -> None:
    assert {"method.safetensors", "config.json", "README.md", "config.yaml", "metrics.jsonl", "env.json"} <= {
        path.name for path in trained.iterdir()
    }
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert "hidden=8" in config["set"]
    assert config["epochs"] == 1
    environment = (trained / "env.json").read_text()
    assert "torch" in json.loads(environment)["libraries"]
    assert str(Path.home()) not in environment
    done = run(
        "train", "--config", trained / "config.yaml", "--method", "text_probe", "--set", "--out", tmp_path
    )
    assert done.code == 2  # --set without a value
    again = run("train", "--config", trained / "config.yaml", "--out", tmp_path / "again", "--json")
    assert again.code == 0, again.err
    assert (tmp_path / "again" / "metrics.jsonl").exists()
    assert (tmp_path / "again" / "method.safetensors").read_bytes()[-999:] == (
        trained / "method.safetensors"
    ).read_bytes()[-999:]


def test_resume_goes_on_only_as_the_run_began(run: Run, trained: Path, toy: Path) -> None:
    first = run("train", "--config", trained / "config.yaml", "--out", trained)
    assert first.code == 2
    assert "already" in first.err
    other = run(
        "train", "--config", trained / "config.yaml", "--set", "hidden=9", "--out", trained, "--resume"
    )
    assert other.code == 2
    assert "goes on only as it began" in other.err
    finished = run("train", "--config", trained / "config.yaml", "--out", trained, "--resume", "--json")
    assert finished.code == 0, finished.err
    assert finished.json["best_epoch"] == 1


def test_a_killed_run_is_not_overwritten(run: Run, toy: Path, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"a checkpoint")
    (tmp_path / "config.yaml").write_text("method: mitp\n")
    done = run("train", "--method", "text_probe", "--data", toy, "--out", tmp_path)
    assert done.code == 2
    assert "--resume" in done.err
    assert (tmp_path / "config.yaml").read_text() == "method: mitp\n"


def test_typed_options_win_wherever_the_config_stands(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("data: there\nepochs: 3\n")
    line = CommandLine.of(commands()["train"])
    typed = ["--data", "here", "--epochs", "5", "--out", "x"]
    for arguments in (
        [*typed, "--config", str(file)],
        ["--config", str(file), *typed],
        [*typed, f"--config={file}"],
    ):
        values, _ = line.parse(arguments)
        assert (values["data"], values["settings"]["epochs"]) == ("here", 5)


def test_settings_are_spelled_as_they_are_read() -> None:
    settings = {"layers": (4, 5), "length": 3, "renormalise": False, "interaction": "none"}
    assert assignments(spelled(settings), MitpSettings, "--set") == {**settings, "layers": [4, 5]}
    assert assignments(["layers=8"], MitpSettings, "--set") == {"layers": (8,)}
    head = {"template": "{}: a, b", "kind": "pair"}
    assert assignments(spelled(head), HeadSettings, "--head") == head
    assert assignments(["learning_rate=1e-3"], TrainSettings, "--set") == {"learning_rate": 0.001}


def test_numbers_that_json_cannot_write_are_null(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Command, "load", lambda self: lambda: Result({"map": [float("nan"), 1.5]}, ""))
    assert run("methods", "--json").json == {"map": [None, 1.5]}


def test_seeds_give_mean_and_deviation(run: Run, toy: Path, tmp_path: Path) -> None:
    words = [
        "train",
        "--method",
        "linear_probe-pair",
        "--data",
        toy,
        "--out",
        tmp_path,
        "--seeds",
        2,
        "--share",
        0.5,
    ]
    done = run(*words, "--json")
    assert done.code == 0, done.err
    assert {"mean", "deviation"} == set(done.json["validation"]["accuracy"])
    assert (tmp_path / "seed-1" / "method.safetensors").exists()


def test_random_weights_say_loudly_that_results_mean_nothing(run: Run, toy: Path, tmp_path: Path) -> None:
    done = run(
        "train",
        "--method",
        "text_probe",
        "--data",
        toy,
        "--out",
        tmp_path / "run",
        "--random-weights",
        "--json",
    )
    assert done.code == 0, done.err
    assert "RANDOM WEIGHTS" in done.err
    assert "mean nothing" in done.err
    assert done.json["validation"]
    measured = run("evaluate", tmp_path / "run", "--json")
    assert "RANDOM WEIGHTS" in measured.err
    assert measured.code == 0, measured.err


def test_evaluate(run: Run, trained: Path, toy: Path) -> None:
    done = run("evaluate", trained, "--json")
    assert done.code == 0, done.err
    assert done.json["split"] == "test"
    assert 0 <= done.json["metrics"]["accuracy"] <= 1
    assert "accuracy" in run("evaluate", trained, "--data", toy, "--split", "validation").out


def test_predict_one_pair(run: Run, trained: Path, toy: Path) -> None:
    done = run("predict", trained, "--image", toy.parent / "0.png", "--text", "a red square", "--json")
    assert done.code == 0, done.err
    assert done.json["prediction"] in ("same", "other")
    assert sum(done.json["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_predict_a_table(run: Run, trained: Path, unlabelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "predictions.csv"
    done = run("predict", trained, "--table", unlabelled, "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.json["rows"] == 5
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"{i}.png" for i in range(5)]
    assert all(float(row["p(same)"]) + float(row["p(other)"]) == pytest.approx(1, abs=1e-5) for row in rows)
    alone = run("predict", trained, "--table", unlabelled)
    assert alone.out == out.read_text(encoding="utf-8")
    lines = tmp_path / "predictions.jsonl"
    assert run("predict", trained, "--table", unlabelled, "--out", lines).code == 0
    assert len(lines.read_text().splitlines()) == 5


def test_labels_and_splits_are_no_part_of_what_is_predicted(
    run: Run, trained: Path, unlabelled: Path
) -> None:
    with unlabelled.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table = unlabelled.with_name("labelled.csv")
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "label", "split"])
        writer.writeheader()
        said = (("", ""), ("same", "test"), ("unheard of", "test"), ("", "train"), ("same", "somewhere"))
        writer.writerows(
            row | {"label": label, "split": split} for row, (label, split) in zip(rows, said, strict=True)
        )
    found = run("predict", trained, "--table", table)
    assert found.code == 0, found.err
    assert found.out == run("predict", trained, "--table", unlabelled).out


def test_a_bad_row_of_a_table_is_named_or_left_out(
    run: Run, trained: Path, unlabelled: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(unlabelled.parent, folder)
    (folder / "1.png").write_bytes(b"\x89PNG cut off")
    stopped = run("predict", trained, "--table", folder / "pairs.csv")
    assert stopped.code == 2
    assert "row 2" in stopped.err
    skipped = run("predict", trained, "--table", folder / "pairs.csv", "--on-bad-row", "skip", "--json")
    assert skipped.code == 0, skipped.err
    assert len(skipped.json["rows"]) == 4
    assert len(skipped.json["left_out"]) == 1


def test_demo(run: Run, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_command, "DATA", str(toy))
    done = run("demo", "--out", tmp_path, "--epochs", 1, "--json")
    assert done.code == 0, done.err
    assert [row["method"] for row in done.json["rows"]] == [entry.method for entry in demo_command.ENTRIES]
    rows = {row["method"]: row for row in done.json["rows"]}
    assert rows["zero_shot"]["method_parameters"] == rows["zero_shot"]["head_parameters"] == 0
    assert rows["mitp"]["head_parameters"] == rows["p_clip"]["head_parameters"]
    for file in done.json["files"].values():
        assert Path(file).exists()
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["rows"] == done.json["rows"]
    assert (
        run("evaluate", tmp_path / "mitp", "--json").json["metrics"]["accuracy"] == rows["mitp"]["accuracy"]
    )


def test_demo_retrieval(run: Run, stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_retrieval, "DATA", str(stream))
    monkeypatch.setattr(demo_retrieval, "TASKS", ("stripes", "squares"))
    monkeypatch.setattr(demo_retrieval, "QUERIES", ("red stripes", "blue squares"))
    (tmp_path / "mine.txt").write_text("not the demo's")
    for _ in range(2):  # an earlier demo is replaced
        done = run("demo", "retrieval", "--out", tmp_path, "--epochs", 1, "--json")
        assert done.code == 0, done.err
    assert done.json["tasks"] == ["stripes", "squares"]
    assert done.json["summary"]["stages"] == done.json["bare"]["stages"] == 2
    assert list(done.json["answers"]) == ["red stripes", "blue squares"]
    assert all(len(hits) == 5 for hits in done.json["answers"].values())
    for file in done.json["files"].values():
        assert Path(file).exists()
    assert len(list((tmp_path / "pictures").iterdir())) == 6
    assert (tmp_path / "mine.txt").exists()
    found = run(
        "search", tmp_path / "run", "red stripes", "--gallery", tmp_path / "gallery.db", "-k", 5, "--json"
    )
    assert [Path(hit["source"]).name for hit in found.json["hits"]] == [
        hit["source"] for hit in done.json["answers"]["red stripes"]
    ]
    assert "[2/2] squares" in done.err


def test_train_tells_what_the_run_is_worth(run: Run, toy: Path, tmp_path: Path) -> None:
    words = ("train", "--data", toy, "--out")
    found = run(*words, tmp_path / "one", "--preset", "fast", "--json").json
    names = [one["name"] for one in found["table"]]
    assert names == ["zero-shot", "text alone", "image alone", "linear probe", "start", "this run"]
    assert all(0 <= one["low"] <= one["value"] <= one["high"] <= 1 for one in found["table"])
    shown = run(*words, tmp_path / "two", "--preset", "fast").out
    assert all(name in shown for name in (*names, "95 % interval"))
    assert all(note in shown for note in found["notes"])
    several = run(*words, tmp_path / "three", "--preset", "fast", "--seeds", 2).out
    assert all(f"seed {seed}: {note}" in several for seed in (0, 1) for note in found["notes"])


def test_train_tells_the_time_and_records_what_auto_chose(run: Run, toy: Path, tmp_path: Path) -> None:
    words = ("train", "--data", toy, "--method", "auto", "--out", tmp_path / "run")
    done = run(*words, "--preset", "thorough", "--json")
    assert done.code == 0, done.err
    assert "Preset thorough: at most " in done.err
    assert "forward passes of a pair" in done.err
    assert done.json["method"] == "head_only"  # too few validation pairs to try any
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert config.splitlines()[-1] == "# chosen: head_only []"
    assert "method: auto" in config
    again = run("train", "--config", tmp_path / "run" / "config.yaml", "--out", tmp_path / "again", "--json")
    assert again.json["validation"] == done.json["validation"]
    assert run("evaluate", tmp_path / "run", "--split", "validation").code == 0
    for refused in (("--set", "rank=2"), ("--head", "kind=pair")):
        told = run(*words[:-1], tmp_path / "no", *refused)
        assert told.code == 2
        assert "auto" in told.err
