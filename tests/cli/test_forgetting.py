"""After `forget`, a search through the bytes of the run's folder finds nothing of the task."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from interplay import artifacts, files
from interplay.errors import InterplayError
from interplay.retrieval.retriever import Retriever
from tests.cli.conftest import SMALL, Run, write_stream
from tests.cli.test_bad_input import said

GONE = "circles"


def needles(run: Path, place: int) -> dict[str, bytes]:
    """All that is kept of the task at a place: its tensors, its name, a caption."""
    found = {
        name: value.contiguous().numpy().tobytes()
        for name, value in load_file(run / "method.safetensors").items()
        if name.split(".")[2:3] == [str(place)] or name.split(".")[3:4] == [str(place)]
    }
    assert {name.split(".")[1] for name in found} == {"sets", "keys"}
    assert all(len(value) >= 16 for value in found.values())
    return {**found, "its name": GONE.encode(), "a caption": b"red circles 0"}


def holders(run: Path, sought: dict[str, bytes]) -> set[tuple[str, str]]:
    """Which files hold what."""
    found = set()
    for path in sorted(run.rglob("*")):
        relative = str(path.relative_to(run))
        content = relative.encode() + (b"" if path.is_dir() else path.read_bytes())
        found |= {(relative, what) for what, value in sought.items() if value in content}
    return found


@pytest.fixture
def whole(run: Run, stream: Path, tmp_path: Path) -> Path:
    """A run with all that was ever left behind in one: checkpoints, a session that was killed, half-written files."""
    folder = tmp_path / "run"
    words = ["continual", "--method", "lpi-p", "--data", stream, "--out", folder, *SMALL]
    assert run(*words, "--order", "squares,circles,stripes").code == 0
    weights = load_file(folder / "method.safetensors")
    for place in ("sessions/02", "sessions/03", "learned/01"):  # of older versions, which kept checkpoints
        (folder / place).mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": weights}, folder / place / "best.ckpt")
        torch.save({"state_dict": weights}, folder / place / "last.ckpt")
    (folder / "learned" / "02").mkdir()
    (folder / "learned" / "02" / "task.json").write_text(json.dumps({"task": "killed"}))
    torch.save({"state_dict": weights}, folder / "learned" / "02" / ".last.ckpt.17.tmp")
    shutil.copy(folder / "method.safetensors", folder / ".method.safetensors.17.tmp")
    return folder


def test_nothing_of_a_forgotten_task_is_left(run: Run, whole: Path) -> None:
    sought = needles(whole, 1)
    before = holders(whole, sought)
    prompts = {name for name in sought if name.startswith("bank.sets")}
    for path in (
        "method.safetensors",
        ".method.safetensors.17.tmp",
        "sessions/03/last.ckpt",
        "learned/02/.last.ckpt.17.tmp",
    ):
        assert {what for where, what in before if where == path} >= prompts
    for path in (
        "matrix.json",
        "bare.json",
        "summary.json",
        "config.yaml",
        "README.md",
        "sessions/02/task.json",
    ):
        assert (path, "its name") in before
    assert run("forget", whole, "--task", GONE).code == 0
    assert holders(whole, sought) == set()
    assert not (whole / "learned" / "02").exists()
    assert (whole / "sessions" / "03" / "metrics.jsonl").exists()  # of a task that is still there
    matrix, summary = (json.loads((whole / name).read_text()) for name in ("matrix.json", "summary.json"))
    assert matrix["tasks"] == summary["order"] == ["squares", "(forgotten 2)", "stripes"]
    assert "order: squares,stripes" in (whole / "config.yaml").read_text()
    assert run("plots", whole).code == 0


def test_a_record_that_cannot_be_read_stops_forgetting_before_anything_is_lost(run: Run, whole: Path) -> None:
    before = (whole / "method.safetensors").read_bytes()
    for damaged in ("{", "[" * 100_000, "[1]"):
        (whole / "matrix.json").write_text(damaged)
        assert "matrix.json is damaged" in said(run, "forget", whole, "--task", GONE)
    assert (whole / "method.safetensors").read_bytes() == before
    (whole / "matrix.json").unlink()
    assert run("forget", whole, "--task", GONE).code == 0


def test_forgetting_that_was_stopped_anywhere_is_made_again(
    run: Run, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sought, write = needles(copied, 1), files.write_atomically
    for stop in range(1, 7):  # three records, the model card, the configuration, the retriever itself
        folder = Path(shutil.copytree(copied, tmp_path / str(stop)))
        written: list[Path] = []

        def stopped(path: Path, content: Callable[[Path], None], stop: int, written: list[Path]) -> None:
            written.append(path)
            if len(written) == stop:
                raise KeyboardInterrupt
            write(path, content)

        with monkeypatch.context() as patch:
            for module in (files, artifacts):
                patch.setattr(module, "write_atomically", partial(stopped, stop=stop, written=written))
            assert run("forget", folder, "--task", GONE).code == 130
        assert len(written) == stop
        assert run("forget", folder, "--task", GONE).code == 0, stop
        assert holders(folder, sought) == set(), stop


def test_a_session_keeps_no_checkpoint_once_it_is_saved(
    run: Run, learned: Path, copied: Path, stream: Path
) -> None:
    assert not list(learned.rglob("*.ckpt"))
    assert json.loads((learned / "sessions" / "02" / "task.json").read_text()) == {"task": "circles"}
    assert run("forget", copied, "--task", GONE).code == 0
    assert {path.name for path in (copied / "sessions").iterdir()} == {"01", "03"}
    assert run("learn", copied, "--task", GONE, "--data", stream, "--no-progress").code == 0
    assert not list(copied.rglob("*.ckpt"))


def test_what_a_killed_or_failed_learn_leaves_goes_with_the_next_one(
    run: Run, copied: Path, tmp_path: Path
) -> None:
    orphan = copied / "learned" / "01"
    orphan.mkdir(parents=True)
    (orphan / "task.json").write_text(json.dumps({"task": "dots"}))
    (orphan / "last.ckpt").write_bytes(b"killed")
    data = write_stream(tmp_path / "more", ["dots"])
    words = ["learn", copied, "--task", "dots", "--data", data, "--no-progress"]
    assert "Lower learning_rate" in said(run, *words, "--learning-rate", "1e30", "--epochs", 2)
    assert not list((copied / "learned").iterdir())
    assert run(*words).code == 0
    assert {path.name for path in (copied / "learned").iterdir()} == {"01"}


def test_the_python_api_forgets_as_wholly(whole: Path) -> None:
    sought = needles(whole, 1)
    retriever = Retriever.from_pretrained(whole)
    retriever.forget(GONE)
    assert holders(whole, sought)
    retriever.save_pretrained(whole)
    assert holders(whole, sought) == set()
    with pytest.raises(InterplayError, match="was not learned"):
        retriever.forget(GONE)


def test_nothing_is_left_in_the_gallery_of_the_run_once_it_is_refreshed(
    run: Run, copied: Path, stream: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, picture in enumerate(sorted(stream.parent.glob("*.png"))):
        shutil.copy(picture, photos / f"{number}.png")
    assert run("index", copied, "--images", photos, "--no-progress").code == 0
    sought = needles(copied, 1)
    assert {what for _, what in holders(copied / "gallery.db", sought)} == {"its name"}
    assert run("forget", copied, "--task", GONE).code == 0
    assert run("refresh", copied, "--no-progress").code == 0
    assert holders(copied, sought) == set()
