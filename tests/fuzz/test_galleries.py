"""Galleries whose files were damaged."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from .conftest import World
from .judge import Tally


@pytest.mark.parametrize("times", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_files_of_a_gallery(times: int, world: World, tmp_path: Path, tally: Tally) -> None:
    whole = world.retriever / "gallery.db"
    names = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]
    draw = random.Random(0)
    for at in range(times):
        gallery = tmp_path / str(at)
        shutil.copytree(whole, gallery)
        path = gallery / names[at % len(names)]
        content = bytearray(path.read_bytes())
        match at // len(names) % 4:
            case 0 if content:
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            case 1:
                content = content[: len(content) // 2]
            case 2:
                content = bytearray(draw.randbytes(len(content)))
            case _:
                content = bytearray()
        path.write_bytes(content)
        tally.command(["search", world.retriever, "red", "--gallery", gallery])
        tally.command(
            ["index", world.retriever, "--images", world.picture, "--gallery", gallery, "--no-progress"]
        )
        shutil.rmtree(gallery)
    tally.check()
