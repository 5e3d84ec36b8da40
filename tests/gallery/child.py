"""Fills and refreshes a gallery, for the tests that kill it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import milvus_lite.adapter.grpc.servicer  # noqa: F401  (before the first fork)
import pymilvus  # noqa: F401
from torch import Tensor

from interplay.gallery.gallery import Gallery
from interplay.towers.tokens import Side
from tests.forking import serve
from tests.gallery.fake import Fake

PAUSE = 0.002
PICTURES = 40
TEXTS = [f"text number {number}" for number in range(40)]


class Slow(Fake):
    """Takes time to encode, so that a kill can fall between two writes."""

    def encode(
        self, side: Side, items: Sequence[Any], routes: Sequence[str], *, apart: bool = False
    ) -> Tensor:
        time.sleep(PAUSE * len(items))
        return super().encode(side, items, routes, apart=apart)


def ingest(place: Path, pictures: Path, report: Path) -> None:
    """Add everything in steps, writing down what each report says; then learn, and refresh."""
    retriever = Slow()
    with Gallery.open(retriever, place) as gallery, report.open("a") as reports:
        paths = [pictures / f"p{number}.png" for number in range(PICTURES)]
        for start in range(0, PICTURES, 10):
            part = slice(start, start + 10)
            gallery.add_images(
                paths[part],
                [{"number": at} for at in range(start, start + 10)],
                batch_size=4,
                progress=False,
            )
            gallery.add_texts(TEXTS[part], batch_size=4, progress=False)
            reports.write(f"{start + 10}\n")
            reports.flush()
        retriever.prompts["odd"] = "2"
        retriever.routing = 1
        gallery.refresh(batch_size=4, progress=False)


if __name__ == "__main__":
    serve(ingest)
