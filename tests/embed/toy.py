"""Pictures, texts and tars that take no time, and folders compared byte by byte."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from interplay.bulk.embed import EmbedReport, embed


def picture(number: int) -> bytes:
    """A PNG of noise."""
    random = np.random.default_rng(number)
    buffer = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def make_folder(folder: Path, count: int, first: int = 0, *, texts: bool = True) -> Path:
    """A folder of pictures, with a text beside each."""
    folder.mkdir(exist_ok=True)
    for number in range(first, first + count):
        (folder / f"{number:04}.png").write_bytes(picture(number))
        if texts:
            (folder / f"{number:04}.txt").write_text(f"picture number {number}", "utf-8")
    return folder


def make_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """A tar with some members, in their order."""
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def make_shards(folder: Path, shards: int, samples: int) -> str:
    """Tars as WebDataset writes them; returns their pattern."""
    for shard in range(shards):
        members: dict[str, bytes] = {}
        for number in range(shard * samples, (shard + 1) * samples):
            members[f"{number:06}.png"] = picture(number)
            members[f"{number:06}.txt"] = f"picture number {number}".encode()
            members[f"{number:06}.json"] = json.dumps({"number": number}).encode()
        make_tar(folder / f"{shard:03}.tar", members)
    return str(folder / f"{{000..{shards - 1:03}}}.tar")


def run(data: Any, out: Path, **options: Any) -> EmbedReport:
    """`embed` on `tiny` in this process, without a bar."""
    return embed(data, out, **{"workers": 0, "progress": False} | options)


def contents(out: Path) -> dict[str, bytes]:
    """What a folder of embeddings holds, by path; locks are passed over."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def flip(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
