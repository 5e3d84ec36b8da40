"""Embeds a folder, for the tests that kill it."""

from __future__ import annotations

from pathlib import Path

import datasets.utils  # noqa: F401  (before the first fork, as the next two)
import pyarrow.parquet  # noqa: F401

import interplay.towers.backbone  # noqa: F401
from tests.embed.toy import run
from tests.forking import serve

SIZE = 5


def work(photos: Path, out: Path) -> None:
    """The whole folder, decoded in the process itself."""
    run(photos, out, partition_size=SIZE)


def work_with_a_worker(photos: Path, out: Path) -> None:
    """The whole folder, decoded by another process."""
    run(photos, out, partition_size=SIZE, workers=1)


if __name__ == "__main__":
    serve(work)
