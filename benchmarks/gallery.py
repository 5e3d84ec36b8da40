"""Refreshing a gallery after a task that moves 5 % of it, beside indexing it anew; Milvus Lite, backbone `tiny`.

    python benchmarks/gallery.py

The pictures are OpenMoji's, the retriever is LPI-M with two untrained sessions (speed does not depend on their
values); which entries move is chosen at random, so that they are exactly 5 %.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interplay import load
from interplay.gallery.gallery import Gallery
from interplay.retrieval.retriever import Retriever
from interplay.towers.tokens import Side

MOVED = 0.05


class Moving(Retriever):
    """A retriever whose keys send a chosen share of images to the second task once `moved` is set."""

    moved = False

    def routes(self, side: Side, keys: Tensor) -> list[str]:
        """The first task, but for 5 % that are told by a hash of their key."""
        hashed = (keys.double().sum(dim=1) * 1e6).long() % 1000
        far = hashed < 1000 * MOVED
        return ["b" if self.moved and there else "a" for there in far.tolist()]


def retriever() -> Moving:
    """Two sessions without training."""
    made = Moving("tiny", "lpi-m")
    for name in ("a", "b"):
        made.method.sessions.begin(name, torch.zeros(made.joint))
    return made


def pictures(folder: Path) -> list[Path]:
    """All pictures of the stream as files."""
    table = load("openmoji/continual")
    files = []
    for row, source in enumerate(table.sources(range(len(table)))):
        files.append(folder / f"{row}.png")
        files[-1].write_bytes(source["bytes"] or Path(source["path"]).read_bytes())
    return files


def once(files: Sequence[Path], uri: Path) -> dict[str, Any]:
    """Seconds of indexing and of refreshing."""
    moving = retriever()
    with Gallery.open(moving, uri) as gallery:
        start = time.perf_counter()
        added = gallery.add_images(files, progress=False).added
        indexed = time.perf_counter() - start
        moving.moved = True
        report = gallery.refresh(progress=False)
    return {
        "entries": added,
        "moved": report.reencoded,
        "index_s": indexed,
        "refresh_s": report.seconds,
        "ratio": report.seconds / indexed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        files = pictures(Path(scratch))
        rows = [once(files, Path(scratch) / f"{n}.db") for n in range(rounds)]
    print(json.dumps({**rows[-1], "ratio": statistics.median(r["ratio"] for r in rows), "target": 0.1}))


if __name__ == "__main__":
    main()
