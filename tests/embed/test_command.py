"""`interplay embed`: what is typed reaches `embed`, and mistakes are told before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interplay import read_embeddings
from interplay.cli import main

from .toy import contents, make_folder, make_shards


def call(*words: object) -> int:
    return main(["embed", *map(str, words)])


def test_two_parts_of_the_work_make_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, rest = make_folder(tmp_path / "photos", 5), ["--partition-size", 2, "--workers", 0, "--json"]
    assert call(photos, "--out", tmp_path / "one", *rest) == 0
    assert json.loads(capsys.readouterr().out)["partitions"] == 3
    for part in ("1/2", "2/2"):
        assert call(photos, "--out", tmp_path / "two", "--partition", part, *rest) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_run_lends_its_prompts(tmp_path: Path) -> None:
    from interplay import Retriever

    Retriever("tiny").save_pretrained(tmp_path / "run")
    pattern = make_shards(tmp_path, 1, 3)
    assert call(pattern, "--out", tmp_path / "out", "--run", tmp_path / "run", "--workers", 0) == 0
    assert read_embeddings(tmp_path / "out").manifest.retriever


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--partition", "0/2"], "There is no part 0 of 2"),
        (["--partition", "two"], "as 3/8"),
        (["--gpus", 1], "belong to --ray"),
        (["--ray", "auto", "--cpus", 0], "at least 1 processor"),
        (["--run", "somewhere", "--random-weights"], "for --backbone alone"),
        (["--workers", 1000], "from 0 to 256"),
    ],
)
def test_a_mistake_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[object], told: str
) -> None:
    assert call(make_folder(tmp_path / "photos", 1), "--out", tmp_path / "out", *words) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
