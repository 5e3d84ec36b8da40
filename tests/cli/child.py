"""The command line in processes of its own, for tests that kill it or let two of them meet.

    python -m tests.cli.child

reads the words of a call in each line, the first of them a file for what it says.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import milvus_lite.adapter.grpc.server  # noqa: F401  (before the first fork)
import pymilvus  # noqa: F401

import interplay.cli.commands.continual
import interplay.cli.commands.forget
import interplay.cli.commands.index
import interplay.cli.commands.learn
import interplay.cli.commands.refresh
import interplay.cli.commands.train
import interplay.gallery.gallery
import interplay.retrieval.continual  # noqa: F401
from interplay.cli import main
from tests.forking import serve


def call(report: Path, *words: Path) -> None:
    """One call; exit code and output go into the report."""
    with (
        report.with_suffix(".out").open("w") as out,
        report.with_suffix(".err").open("w") as err,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main([str(word) for word in words])
    report.write_text(json.dumps({"code": code}))


if __name__ == "__main__":
    serve(call)
