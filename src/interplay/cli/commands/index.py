"""`interplay index`: pictures and texts into the gallery of a retriever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from interplay.cli.item_metadata import Notes, read_notes
from interplay.cli.open_gallery import open_gallery, place_of, texts_of
from interplay.cli.options import Further
from interplay.cli.result import Result, columns, note
from interplay.errors import InterplayError
from interplay.gallery.address import ServerSettings

if TYPE_CHECKING:
    from interplay.gallery.add import AddReport

GROUP = "Gallery"


def index(
    run: str,
    *,
    images: tuple[str, ...] = (),
    texts: str | None = None,
    metadata: str | None = None,
    gallery: str | None = None,
    collection: str = "interplay",
    on_bad: Literal["error", "skip"] = "error",
    batch_size: int = 64,
    backbone: str | None = None,
    progress: bool = True,
    settings: Annotated[Mapping[str, Any] | None, Further(ServerSettings, "Server")] = None,
) -> Result:
    """Add pictures and texts to the gallery of a retriever, ready to be searched.

    Examples:

      interplay index runs/lpi --images photos/
      interplay index runs/lpi --images cat.png dog.jpg --texts captions.txt --metadata prices.csv
      interplay index runs/lpi --images photos/ --gallery http://localhost:19530

    What is there already is not encoded again, so a call that was stopped is simply made again. Where --metadata says
    something of it, that takes the place of the metadata that it had.

    Args:
        run: the folder that 'interplay continual --out' wrote.
        images: picture files, and folders whose pictures are all taken, those of their folders included.
        texts: a UTF-8 file with one text a line; empty lines are passed over.
        metadata: a CSV file with a column `image` (a path relative to the file) or `text` that says whose they are;
            a column `id` holds ids of your own, by which 'interplay remove --ids' finds an entry; the others are kept
            beside the entries, to filter by in 'interplay search --where'.
        gallery: a folder for Milvus Lite, or the address of a Milvus server such as http://localhost:19530, whose
            token, if any, is read from INTERPLAY_GALLERY_TOKEN; by default gallery.db in RUN.
        collection: the gallery's name in that folder or on that server.
        on_bad: what to do with a picture or text that cannot be used: `error` stops and names it, `skip` leaves it
            out and lists it.
        batch_size: how many are written at a time.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
        progress: show progress bars.
    """
    if not images and texts is None:
        raise InterplayError("interplay index needs --images, --texts, or both.")
    files, lines = pictures_in(images), texts_of(texts)
    notes = Notes() if metadata is None else read_notes(Path(metadata))
    picked = notes.of("image", files), notes.of("text", lines)
    ids = notes.ids("image", files), notes.ids("text", lines)
    for sentence in (*notes.remarks, *notes.left_over(files, lines)):
        note(sentence)
    reports: dict[str, AddReport] = {}
    with open_gallery(run, gallery, collection, backbone, settings, create=True) as found:
        how: dict[str, Any] = {
            "batch_size": batch_size,
            "on_bad": "raise" if on_bad == "error" else "skip",
            "progress": progress,
        }
        if files:
            reports["images"] = found.add_images(files, picked[0], ids=ids[0], **how)
        if lines:
            reports["texts"] = found.add_texts(lines, picked[1], ids=ids[1], **how)
        entries = found.count()
    rows = [
        (name, one.added, one.present, one.moved, one.updated, one.replaced, len(one.skipped))
        for name, one in reports.items()
    ]
    text = columns(("", "added", "there already", "moved", "updated", "replaced", "left out"), rows)
    left_out = [f"{one.source}: {one.reason}" for report in reports.values() for one in report.skipped]
    text += "".join(f"\nLeft out: {sentence}." for sentence in left_out)
    place = place_of(run, gallery)
    text += f"\n\n{entries:,} entries are in {place}."
    data = {
        "run": run,
        "gallery": place,
        "entries": entries,
        **{name: asdict(report) for name, report in reports.items()},
    }
    return Result(data, text)


def pictures_in(places: Sequence[str]) -> list[str]:
    """Picture files from files and folders, in order, folders sorted by name; links to folders are followed.

    Raises:
        InterplayError: there is no such file or folder, or no picture in a folder.
    """
    from interplay.data.class_folders import PICTURES, pictures_below

    found: list[str] = []
    for place in map(Path, places):
        if place.is_dir():
            inside = [str(file) for file in pictures_below(place)]
            if not inside:
                raise InterplayError(
                    f"There are no pictures in the folder '{place}' ({', '.join(PICTURES)})."
                )
            found += inside
        elif place.exists():
            found.append(str(place))
        else:
            raise InterplayError(f"There is no picture and no folder '{place}'.")
    return found
