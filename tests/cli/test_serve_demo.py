"""`interplay serve --demo`, and what the demo says of it; nothing is trained or served."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from interplay.artifacts import WEIGHTS
from interplay.cli.commands import demo, serve
from interplay.errors import InterplayError
from interplay.service import run


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[run.Place]:
    """The places that would be served, from a folder without a demo."""
    found: list[run.Place] = []
    monkeypatch.setattr(run, "serve", lambda place, *others: found.append(place))
    monkeypatch.chdir(tmp_path)
    return found


def made(*places: str) -> None:
    """Files and folders that a demo leaves."""
    for place in places:
        path = Path("demo-out", place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix == ".safetensors" else path.mkdir()


def test_without_a_demo_it_names_the_commands_that_make_one(served: list[run.Place]) -> None:
    with pytest.raises(
        InterplayError, match=r"'interplay demo'.*'interplay demo retrieval --out demo-out/retrieval'"
    ):
        serve.serve(demo=True)
    assert not served


def test_it_serves_what_the_demo_made_and_the_gallery_of_that_of_retrieval(served: list[run.Place]) -> None:
    made(f"mitp/{WEIGHTS}")
    serve.serve(demo=True)
    assert served[-1].models == Path("demo-out")
    assert served[-1].galleries == {}
    made("retrieval/gallery.db")
    serve.serve(demo=True, gallery=("other=elsewhere",), page=False, root_path="/shop")
    assert served[-1].galleries == {"other": "elsewhere", "retrieval/run": "demo-out/retrieval/gallery.db"}
    assert (served[-1].page, served[-1].root_path) == (False, "/shop")
    shutil.rmtree("demo-out")


@pytest.mark.parametrize(("models", "shown"), [(None, False), ("runs", True)])
def test_it_takes_either_a_folder_or_the_demo(
    models: str | None, shown: bool, served: list[run.Place]
) -> None:
    with pytest.raises(InterplayError, match="--models, or --demo"):
        serve.serve(models=models, demo=shown)


@pytest.mark.parametrize("prefix", ["shop", "/shop/", "/"])
def test_a_prefix_that_is_none_is_refused(prefix: str, served: list[run.Place]) -> None:
    with pytest.raises(InterplayError, match="--root-path begins with a slash"):
        serve.serve(models="runs", root_path=prefix)


@pytest.mark.parametrize(("folder", "words"), [("demo-out", "--demo"), ("mine", "--models mine")])
def test_the_demo_ends_by_saying_how_to_open_it(folder: str, words: str) -> None:
    files = {name: f"{folder}/{name}" for name in ("picture", "predictions", "results")}
    said = demo._where(files | {"trained": f"{folder}/mitp"})
    assert f"interplay serve {words} " in said
    assert "http://127.0.0.1:8000/ui" in said
