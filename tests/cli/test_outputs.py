"""What commands write: nothing of the user's is replaced unasked, nothing refused is left behind."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from interplay.errors import InterplayError
from interplay.files import write_atomically, write_text

from .conftest import Run


def test_predictions_replace_no_file_unasked(
    run: Run, trained: Path, unlabelled: Path, tmp_path: Path
) -> None:
    shutil.copytree(unlabelled.parent, tmp_path / "data")
    table, other = tmp_path / "data" / "pairs.csv", tmp_path / "other.csv"
    before = table.read_bytes()
    other.write_text("mine")
    for words in (
        ("--out", other),
        ("--out", table),
        ("--out", table, "--overwrite"),
        ("--out", table.parent / ".." / "data" / "pairs.csv", "--overwrite"),
    ):
        assert run("predict", trained, "--table", table, *words).code == 2
    assert (table.read_bytes(), other.read_text()) == (before, "mine")
    assert run("predict", trained, "--table", table, "--out", other, "--overwrite").code == 0
    assert other.read_text().startswith("id,text,prediction")


def test_pictures_replace_no_file_unasked(run: Run, toy: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    sheet.write_text("mine")
    assert "there already" in run("data", "show", toy, "--out", sheet).err
    assert sheet.read_text() == "mine"
    assert run("data", "show", toy, "--out", sheet, "--overwrite").code == 0
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_the_numbers_beside_a_picture_replace_nothing_either(run: Run, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_text("mine")
    done = run("evaluate", trained, "--risk-coverage", tmp_path / "pairs.png")
    assert done.code == 2
    assert "pairs.json" in done.err
    assert (tmp_path / "pairs.json").read_text() == "mine"


def test_a_sheet_that_cannot_be_written_leaves_the_old_one(
    run: Run, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    def full(self: Figure, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    sheet = tmp_path / "sheet.png"
    sheet.write_text("the old one")
    done = run("data", "show", toy, "--out", sheet, "--overwrite")
    assert done.code == 2
    assert "No space left" in done.err
    assert sheet.read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--data", "DATA"),
        ("tune", "--data", "DATA", "--minutes", 1),
        ("continual", "--data", "DATA"),
        ("compare", "--methods", "zero_shot", "--data", "DATA"),
        ("experiment", "ablation"),
        ("reproduce", "table1"),
        ("demo",),
        ("demo", "retrieval"),
        ("export", "RUN"),
        ("plots", "RUN"),
    ],
)
def test_a_folder_needs_a_name(
    words: tuple[object, ...],
    run: Run,
    toy: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = [{"DATA": toy, "RUN": trained}.get(str(word), word) for word in words]
    for out, told in (("", "--out is empty"), (" ", "--out is empty"), (toy, "is no folder")):
        done = run(*typed, "--out", out)
        assert done.code == 2
        assert told in done.err
    assert not list(tmp_path.iterdir())


def test_what_is_refused_leaves_nothing(
    run: Run, toy: Path, unlabelled: Path, stream: Path, tmp_path: Path
) -> None:
    for words in (
        ("train", "--data", unlabelled),
        ("train", "--data", toy, "--monitor", "bleu"),
        ("train", "--data", toy, "--head", "kind=pair", "--accelerator", "tpu"),
        ("train", "--data", toy, "--preset", "fast", "--accelerator", "tpu"),
        ("train", "--data", toy, "--method", "zero_shot", "--accelerator", "tpu"),
        ("continual", "--data", stream, "--accelerator", "tpu"),
        ("continual", "--data", toy),
        ("continual", "--method", "lpi-p", "--data", stream, "--batch-size", 1),
    ):
        done = run(*words, "--out", tmp_path / "deep" / "run", "--no-progress")
        assert done.code == 2, words
        assert not list(tmp_path.iterdir()), words


def test_a_depth_that_the_towers_lack_is_told(run: Run, stream: Path, tmp_path: Path) -> None:
    words = ("--data", stream, "--out", tmp_path / "run", "--epochs", 1, "--no-progress", "--set", "rank=2")
    done = run("continual", "--method", "lpi-p", *words, "depth=99")
    assert done.code == 0, done.err
    assert "depth = 99 stands for " in done.err


def test_a_folder_of_the_users_is_no_run_folder(run: Run, toy: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    done = run("train", "--method", "text_probe", "--data", toy, "--out", tmp_path)
    assert done.code == 2
    assert "README.md" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_all_files_of_a_run_follow_the_umask(mask: int, run: Run, toy: Path, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        assert run("train", "--method", "text_probe", "--data", toy, "--out", tmp_path / "run").code == 0
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").iterdir()}
    assert modes == dict.fromkeys(modes, 0o666 & ~mask)
    assert "method.safetensors" in modes


def test_what_fails_while_it_is_written_leaves_no_part(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")

    def fails(path: Path) -> None:
        path.write_text("half")
        raise ValueError("a defect of ours")

    with pytest.raises(ValueError, match="a defect of ours"):
        write_atomically(tmp_path / "a.txt", fails)
    with pytest.raises(InterplayError, match="no UTF-8"):
        write_text(tmp_path / "a.txt", "\udcff")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"
