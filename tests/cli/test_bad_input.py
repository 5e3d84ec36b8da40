"""Mistakes end in one sentence on stderr and exit code 2, without a traceback, and nothing on stdout."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from interplay import cli
from interplay.cli.command import Command
from interplay.cli.result import Result

from .conftest import Run


def said(run: Run, *words: object) -> str:
    """The one sentence of a call that must fail."""
    done = run(*words)
    assert done.code == 2
    assert done.out == ""
    assert "Traceback" not in done.err
    lines = [line for line in done.err.splitlines() if line.startswith("interplay: ")]
    assert len(lines) == 1, done.err
    assert done.err.rstrip().splitlines()[-1] == lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        ("trian", "'train'"),
        ("data shwo", "'show'"),
        ("info --method mipt", "'mitp'"),
        ("info --backbone clip-vit-large-patch-14", "'clip-vit-large-patch14'"),
        ("info --backbon tiny", "'--backbone'"),
        ("info --method mitp --set layer=4", "'layers'"),
        ("info --method mitp --set interaction=nave", "naive"),
        ("data show openmoji/relatoin", "'openmoji/relation'"),
        ("data show openmoji/relation --on-bad-row skp", "'skip'"),
        ("train --data openmoji/relation --out x --optimizer adm", "'adam'"),
        ("train --data openmoji/relation --out x --logger csv", "'--loggers'"),
        ("train --data openmoji/relation --out x --loggers tensorbord", "'tensorboard'"),
        ("train --data openmoji/relation --out x --head kin=pair", "'kind'"),
        ("train --data openmoji/relation --out x --method p-clip2", "'p_clip'"),
        ("continual --data openmoji/continaul --out x", "'openmoji/continual'"),
        ("continual --data openmoji/continual --out x --order-sead 1", "'--order-seed'"),
        ("search x red --find images", "'image'"),
    ],
)
def test_the_nearest_name_is_told(words: str, nearest: str, run: Run) -> None:
    assert nearest in said(run, *words.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("data", "list, show"),
        ("train", "--data"),
        ("evaluate", "needs RUN"),
        ("evaluate a b", "no use for 'b'"),
        ("info --text-tokens q", "a whole number"),
        ("info --text-tokens", "--text-tokens"),
        ("info --method mitp --set layers", "key=value"),
        ("info --method mitp --set layers=[4", "cannot be read"),
        ("info --method mitp --set layers=4,99", "99"),
        ("train --data openmoji/relation --out x --learning-rate fast", "a number"),
        ("train --data openmoji/relation --out x --learning-rate 0", "learning_rate"),
        ("train --data openmoji/relation --out x --epochs 0", "epochs"),
        ("train --data openmoji/relation --out x --seeds 0", "--seeds"),
        ("train --data openmoji/relation --out x --share 2", "(0, 1]"),
        ("train --config nowhere.yaml --out x", "nowhere.yaml"),
        ("train --data missing.csv --out x", "missing.csv"),
        ("data show missing/folder.csv", "missing/folder.csv"),
        ("evaluate no-such-run", "no-such-run"),
        ("predict no-such-run", "--image and --text"),
        ("predict no-such-run --table a.csv --out a.xlsx", ".csv or .jsonl"),
        ("predict no-such-run --image a.png --text b --out a.csv", "--out"),
        ("demo --epochs 0", "--epochs"),
        ("demo retrieval --epochs 0", "--epochs"),
        ("info --sessions -1", "--sessions"),
        ("info --backbone glip-tiny --method lpi-m --measure", "of which costs alone can be counted"),
        ("info --method zero_shot --measure", "not trained by gradient"),
        ("info --method lpi-m --measure --batch-size 1", "at least 2 pairs"),
        ("continual --out x", "--data"),
        ("learn", "needs RUN"),
        ("learn x --data y", "--task"),
        ("plots", "needs RUNS"),
        ("search no-such-run red", "no-such-run"),
    ],
)
def test_what_is_wrong_is_told(
    words: str, told: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in said(run, *words.split())


def test_unknown_keys_of_a_config_file_are_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("data: openmoji/relation\nepoch: 3\n")
    assert "'epochs'" in said(run, "train", "--config", tmp_path / "config.yaml", "--out", tmp_path / "run")


def test_a_run_without_an_artefact(run: Run, tmp_path: Path) -> None:
    assert "no trained method" in said(run, "evaluate", tmp_path)


def test_a_pickled_artefact_is_never_opened(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(pickle.dumps({"weights": 1}))
    assert "pickled" in said(run, "evaluate", tmp_path)


def test_a_damaged_artefact(run: Run, trained: Path, tmp_path: Path) -> None:
    whole = (trained / "method.safetensors").read_bytes()
    (tmp_path / "method.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in said(run, "evaluate", tmp_path)
    (tmp_path / "method.safetensors").write_bytes(pickle.dumps({"weights": 1}))
    assert "safetensors" in said(run, "evaluate", tmp_path)


def test_an_adapter_made_for_another_backbone(
    run: Run, trained: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from interplay.towers.backbone import bundled_folder

    other = tmp_path / "other"
    shutil.copytree(bundled_folder(), other)
    weights = load_file(other / "model.safetensors")
    name = next(key for key, value in weights.items() if value.is_floating_point() and value.dim() > 1)
    weights[name] = torch.zeros_like(weights[name])
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert "was trained on the backbone 'tiny'" in said(run, "evaluate", trained, "--backbone", other)


def test_other_classes_than_those_that_were_trained(
    run: Run, trained: Path, toy: Path, tmp_path: Path
) -> None:
    shutil.copytree(toy.parent, tmp_path / "toy")
    table = tmp_path / "toy" / "pairs.csv"
    table.write_text(table.read_text().replace(",other,", ",different,"))
    assert "this classifier knows" in said(run, "evaluate", trained, "--data", table)


def test_data_without_labels_cannot_be_trained_on(run: Run, unlabelled: Path, tmp_path: Path) -> None:
    assert "label" in said(run, "train", "--data", unlabelled, "--out", tmp_path / "run")


def test_bad_tables(run: Run, toy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    shutil.copytree(toy.parent, folder)
    table = folder / "pairs.csv"
    lines = table.read_text().splitlines()

    def with_line(number: int, text: str) -> str:
        table.write_text("\n".join([*lines[:number], text, *lines[number + 1 :]]) + "\n")
        return said(run, "train", "--data", table, "--out", tmp_path / "run")

    assert "text" in with_line(0, "image,words,label,split")
    assert "row 1" in with_line(1, "0.png,,same,train")
    assert "gone.png" in with_line(1, "gone.png,a red square,same,train")
    assert "never in train" in with_line(1, "0.png,a red square,novel,test")
    assert not (tmp_path / "run" / "method.safetensors").exists()


def test_pictures_and_texts_that_cannot_be_read(run: Run, trained: Path, toy: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes((toy.parent / "0.png").read_bytes()[:40])
    assert "cut.png" in said(run, "predict", trained, "--image", cut, "--text", "a red square")
    assert "missing.png" in said(run, "predict", trained, "--image", tmp_path / "missing.png", "--text", "x")
    assert "empty" in said(run, "predict", trained, "--image", toy.parent / "0.png", "--text", " ")


def test_a_place_that_cannot_be_written(run: Run, toy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "file" in said(
        run, "train", "--data", toy, "--method", "text_probe", "--out", tmp_path / "file" / "run"
    )
    assert "file" in said(run, "data", "show", toy, "--out", tmp_path / "file" / "sheet.png")


def _command(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def failing() -> Result:
        """Fail."""
        raise error

    monkeypatch.setattr(Command, "load", lambda self: failing)


def test_an_interrupt_ends_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _command(monkeypatch, KeyboardInterrupt())
    done = run("methods")
    assert done.code == 130
    assert done.err == "interplay: interrupted\n"


def test_a_full_disk_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _command(monkeypatch, OSError(28, "No space left on device", "metrics.jsonl"))
    assert said(run, "methods") == "interplay: No space left on device: metrics.jsonl"


def test_a_defect_of_the_program_is_not_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _command(monkeypatch, ZeroDivisionError("a defect"))
    with pytest.raises(ZeroDivisionError):
        cli.main(["methods"])
