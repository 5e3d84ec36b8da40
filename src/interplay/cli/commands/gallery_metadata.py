"""`interplay gallery metadata`: other metadata for entries that are there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from interplay.cli.item_metadata import read_notes
from interplay.cli.open_gallery import open_gallery
from interplay.cli.options import Further
from interplay.cli.result import Result, note
from interplay.errors import InterplayError
from interplay.gallery.address import ServerSettings

GROUP = "Gallery"


def gallery_metadata(
    run: str,
    file: str,
    *,
    gallery: str | None = None,
    collection: str = "interplay",
    backbone: str | None = None,
    settings: Annotated[Mapping[str, Any] | None, Further(ServerSettings, "Server")] = None,
) -> Result:
    """Change the metadata of entries: what the file says takes the place, other columns of an entry stay.

    Example: interplay gallery metadata runs/lpi prices.csv

    Nothing is encoded, and no picture is read.

    Args:
        run: the folder that 'interplay continual --out' wrote.
        file: a CSV file as for 'interplay index --metadata': a column `image` (a path relative to the file) or `text`
            says whose they are, or `id` beside it.
        gallery: as in 'interplay index'; by default gallery.db in RUN.
        collection: the gallery's name in that folder or on that server.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
    """
    notes = read_notes(Path(file))
    for remark in notes.remarks:
        note(remark)
    about = {**notes.image, **notes.text}
    if not about:
        raise InterplayError(f"{file} describes no pictures and no texts.")
    metadata = [{name: value for name, value in one.items() if name != "id"} for one in about.values()]
    ids = [str(one.get("id", "")) for one in about.values()]
    with open_gallery(run, gallery, collection, backbone, settings) as found:
        changed = found.change_metadata(list(about), metadata, ids=ids)
    return Result({"run": run, "changed": changed}, f"The metadata of {changed:,} entries were changed.")
