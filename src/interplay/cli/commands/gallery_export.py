"""`interplay gallery export`: a gallery as Parquet files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from interplay.cli.open_gallery import open_gallery, place_of
from interplay.cli.options import Further
from interplay.cli.result import Result
from interplay.gallery.address import ServerSettings

GROUP = "Gallery"


def gallery_export(
    run: str,
    *,
    out: str,
    gallery: str | None = None,
    collection: str = "interplay",
    backbone: str | None = None,
    settings: Annotated[Mapping[str, Any] | None, Further(ServerSettings, "Server")] = None,
) -> Result:
    """Write a gallery into Parquet files, to keep or to move it: embeddings, keys, metadata and ids, bit for bit.

    Example: interplay gallery export runs/lpi --out backup/

    'interplay gallery import' reads them, into a folder or onto a server, whichever they came from.

    Args:
        run: the folder that 'interplay continual --out' wrote.
        out: a new folder.
        gallery: as in 'interplay index'; by default gallery.db in RUN.
        collection: the gallery's name in that folder or on that server.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
    """
    with open_gallery(run, gallery, collection, backbone, settings) as found:
        count = found.export(Path(out))
    return Result(
        {"run": run, "out": out, "entries": count},
        f"{count:,} entries of {place_of(run, gallery)} are in {out}.",
    )
