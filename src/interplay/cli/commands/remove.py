"""`interplay remove`: pictures and texts out of a gallery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from interplay.cli.open_gallery import open_gallery, place_of
from interplay.cli.options import Further
from interplay.cli.result import Result
from interplay.errors import InterplayError
from interplay.gallery.address import ServerSettings

if TYPE_CHECKING:
    pass

GROUP = "Gallery"


def remove(
    run: str,
    sources: tuple[str, ...] = (),
    *,
    ids: tuple[str, ...] = (),
    gallery: str | None = None,
    collection: str = "interplay",
    backbone: str | None = None,
    settings: Annotated[Mapping[str, Any] | None, Further(ServerSettings, "Server")] = None,
) -> Result:
    """Take pictures and texts out of a gallery.

    Examples:

      interplay remove runs/lpi photos/shoe.png "a red apple"
      interplay remove runs/lpi --ids sku-17 sku-18

    Afterwards they are in no file of the gallery's folder.

    Args:
        run: the folder that 'interplay continual --out' wrote.
        sources: paths of pictures, and texts, as they were indexed.
        ids: ids of your own, as they were indexed.
        gallery: as in 'interplay index'; by default gallery.db in RUN.
        collection: the gallery's name in that folder or on that server.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
    """
    if not sources and not ids:
        raise InterplayError("interplay remove needs paths of pictures, texts, or --ids.")
    with open_gallery(run, gallery, collection, backbone, settings) as found:
        removed = found.remove(sources, ids=ids)
        entries = found.count()
    if not removed:
        raise InterplayError(f"Nothing was removed: none of them is in {place_of(run, gallery)}.")
    return Result(
        {"run": run, "removed": removed, "entries": entries},
        f"{removed:,} entries were removed, {entries:,} are left.",
    )
