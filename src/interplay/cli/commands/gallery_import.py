"""`interplay gallery import`: what was exported, or embedded in bulk, into a gallery."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from interplay.cli.open_gallery import open_gallery, place_of
from interplay.cli.options import Further
from interplay.cli.result import Result
from interplay.gallery.address import ServerSettings

GROUP = "Gallery"


def gallery_import(
    run: str,
    folder: str,
    *,
    gallery: str | None = None,
    collection: str = "interplay",
    backbone: str | None = None,
    settings: Annotated[Mapping[str, Any] | None, Further(ServerSettings, "Server")] = None,
) -> Result:
    """Take into a gallery what 'interplay gallery export' or 'interplay embed' wrote; nothing is encoded.

    Examples:

      interplay gallery import runs/lpi backup/ --gallery http://localhost:19530
      interplay gallery import runs/lpi embeddings/

    The gallery is made where there is none; an entry with the same id gives way. A call that was stopped is simply
    made again.

    Args:
        run: the folder of the retriever that encoded them.
        folder: that an export or 'interplay embed --run' wrote.
        gallery: as in 'interplay index'; by default gallery.db in RUN.
        collection: the gallery's name in that folder or on that server.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
    """
    with open_gallery(run, gallery, collection, backbone, settings, create=True) as found:
        imported, entries = found.take_over(Path(folder)), found.count()
    return Result(
        {"run": run, "imported": imported, "entries": entries},
        f"{imported:,} entries were taken over; {entries:,} are in {place_of(run, gallery)}.",
    )
