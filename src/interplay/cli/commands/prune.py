"""`interplay prune`: pictures out of a gallery whose files are gone or changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from interplay.cli.open_gallery import open_gallery
from interplay.cli.options import Further
from interplay.cli.result import Result
from interplay.gallery.address import ServerSettings

if TYPE_CHECKING:
    pass

GROUP = "Gallery"


def prune(
    run: str,
    *,
    gallery: str | None = None,
    collection: str = "interplay",
    backbone: str | None = None,
    settings: Annotated[Mapping[str, Any] | None, Further(ServerSettings, "Server")] = None,
) -> Result:
    """Take pictures out of a gallery whose files are gone or hold something else now.

    Example: interplay prune runs/lpi

    Every picture file is read for it. A file that holds another picture now can be indexed again.

    Args:
        run: the folder that 'interplay continual --out' wrote.
        gallery: as in 'interplay index'; by default gallery.db in RUN.
        collection: the gallery's name in that folder or on that server.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
    """
    with open_gallery(run, gallery, collection, backbone, settings) as found:
        gone = found.prune()
        entries = found.count()
    text = f"{len(gone):,} entries were removed, {entries:,} are left."
    text += "".join(f"\nRemoved: {source}" for source in gone)
    return Result({"run": run, "removed": list(gone), "entries": entries}, text)
