"""Commands around a gallery: index, search, refresh."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interplay.commands.output import Result, columns, note
from interplay.commands.runs import open_retriever
from interplay.commands.tables import Notes, read_notes
from interplay.errors import InterplayError

if TYPE_CHECKING:
    from interplay.gallery.add import AddReport
    from interplay.gallery.gallery import Gallery, Hit
    from interplay.retrieval.retriever import Retriever

GALLERY = "gallery.db"
"""Where a run's gallery is when no other place is named."""
TOKEN = "INTERPLAY_GALLERY_TOKEN"
"""Environment variable with the token of a Milvus server that wants one; never an option, which others could see."""


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
) -> Result:
    """Add pictures and texts to the gallery of a retriever, ready to be searched.

    Examples:

      interplay index runs/lpi --images photos/
      interplay index runs/lpi --images cat.png dog.jpg --texts captions.txt --metadata prices.csv
      interplay index runs/lpi --images photos/ --gallery http://localhost:19530

    What is there already is neither encoded nor written again, so a call that was stopped is simply made again. It
    keeps its metadata too.

    Args:
        run: the folder that 'interplay continual --out' wrote.
        images: picture files, and folders whose pictures are all taken, those of their folders included.
        texts: a UTF-8 file with one text a line; empty lines are passed over.
        metadata: a CSV file with a column `image` (a path relative to the file) or `text` that says whose they are;
            its other columns are kept beside the entries, to filter by in 'interplay search --where'.
        gallery: a folder for Milvus Lite, or the address of a Milvus server such as http://localhost:19530, whose
            token, if any, is read from INTERPLAY_GALLERY_TOKEN; by default gallery.db in RUN.
        collection: the gallery's name in that folder or on that server.
        on_bad: what to do with a picture or text that cannot be used: `error` stops and names it, `skip` leaves it
            out and lists it.
        batch_size: how many are encoded and written at a time.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
        progress: show progress bars.
    """
    if not images and texts is None:
        raise InterplayError("interplay index needs --images, --texts, or both.")
    files, lines = pictures_in(images), _lines(texts)
    notes = Notes() if metadata is None else read_notes(Path(metadata))
    picked = notes.of("image", files), notes.of("text", lines)
    for sentence in notes.left_over(files, lines):
        note(sentence)
    reports: dict[str, AddReport] = {}
    with _opened(open_retriever(run, backbone), run, gallery, collection) as found:
        how: dict[str, Any] = {
            "batch_size": batch_size,
            "on_bad": "raise" if on_bad == "error" else "skip",
            "progress": progress,
        }
        if files:
            reports["images"] = found.add_images(files, picked[0], **how)
        if lines:
            reports["texts"] = found.add_texts(lines, picked[1], **how)
        entries = found.count()
    rows = [
        (name, report.added, report.present, report.moved, report.replaced, len(report.skipped))
        for name, report in reports.items()
    ]
    text = columns(("", "added", "there already", "moved", "replaced", "left out"), rows)
    left_out = [f"{one.source}: {one.reason}" for report in reports.values() for one in report.skipped]
    text += "".join(f"\nLeft out: {sentence}." for sentence in left_out)
    if metadata is not None and any(report.present for report in reports.values()):
        note("What was there already keeps the metadata that it had.")
    place = gallery or str(Path(run) / GALLERY)
    text += f"\n\n{entries:,} entries are in {place}."
    data = {
        "run": run,
        "gallery": place,
        "entries": entries,
        **{name: asdict(report) for name, report in reports.items()},
    }
    return Result(data, text)


def search(
    run: str,
    query: str = "",
    *,
    image: str | None = None,
    gallery: str | None = None,
    collection: str = "interplay",
    k: int = 10,
    find: Literal["image", "text"] = "image",
    where: str | None = None,
    backbone: str | None = None,
) -> Result:
    """Find the pictures or texts of a gallery that are most similar to a text or a picture.

    Examples:

      interplay search runs/lpi "a red apple"
      interplay search runs/lpi --image apple.png --find text -k 3
      interplay search runs/lpi "running shoes" --where "price < 80 and brand == 'x'" --json

    The score is the cosine of the angle between query and entry. Run 'interplay refresh' first where the retriever has
    learned or forgotten since.

    Args:
        run: the folder that 'interplay continual --out' wrote.
        query: a text to search by.
        image: a picture file to search by instead.
        gallery: as in 'interplay index'; by default gallery.db in RUN.
        collection: the gallery's name in that folder or on that server.
        k: how many to show; all where there are fewer.
        find: what to find.
        where: a Milvus filter over the metadata.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
    """
    if bool(query) == (image is not None):
        raise InterplayError(
            "interplay search needs a text, as in 'interplay search RUN \"a red apple\"', or --image."
        )
    if image is not None and not Path(image).is_file():
        raise InterplayError(f"There is no picture '{image}'.")
    retriever = open_retriever(run, backbone)
    with _opened(retriever, run, gallery, collection, create=False) as found:
        by: Literal["image", "text"] = "text" if image is None else "image"
        hits = found.search(query if image is None else image, k, by=by, find=find, where=where)
        entries = found.count()
    few = len(hits) < k
    data = {
        "query": query if image is None else image,
        "by": by,
        "find": find,
        "entries": entries,
        "all_shown": few,
        "hits": [asdict(hit) for hit in hits],
    }
    return Result(data, _listed(hits, k, find, where))


def _listed(hits: Sequence[Hit], k: int, find: str, where: str | None) -> str:
    """The hits line by line, and what there is to say of them."""
    rows = [
        (
            rank,
            hit.score,
            hit.source + (" (no longer there)" if hit.missing else ""),
            hit.route,
            ", ".join(f"{key}={value}" for key, value in hit.metadata.items()),
        )
        for rank, hit in enumerate(hits, start=1)
    ]
    header = ("", "score", find, "encoded as", "metadata")
    shown = (
        columns(header, rows)
        if any(row[-1] for row in rows)
        else columns(header[:-1], [r[:-1] for r in rows])
    )
    if not hits:
        return f"No {find} passes the filter."
    kept = " that pass the filter" if where else ""
    if len(hits) < k:
        shown += f"\n\nThese are all {len(hits):,} {find}s{kept}: there are no {k:,}."
    gone = sum(hit.missing for hit in hits)
    if gone:
        shown += f"\n\n{gone:,} of them {'is' if gone == 1 else 'are'} no longer on the disk."
    return shown


def refresh(
    run: str,
    *,
    gallery: str | None = None,
    collection: str = "interplay",
    batch_size: int = 64,
    backbone: str | None = None,
    progress: bool = True,
) -> Result:
    """Bring a gallery up to date with a retriever that has learned or forgotten a task.

    Example: interplay refresh runs/lpi

    Only entries that belong to another task now, or whose task's prompts changed, are encoded again. A picture that is
    no longer on the disk keeps its entry and is named.

    Args:
        run: the folder that 'interplay continual --out' wrote.
        gallery: as in 'interplay index'; by default gallery.db in RUN.
        collection: the gallery's name in that folder or on that server.
        batch_size: how many are encoded and written at a time.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
        progress: show progress bars.
    """
    retriever = open_retriever(run, backbone)
    with _opened(retriever, run, gallery, collection, create=False) as found:
        report = found.refresh(batch_size=batch_size, progress=progress)
    text = (
        f"{report.scanned:,} entries looked at in {report.seconds:.1f} s: {report.rerouted:,} belong to another task "
        f"now, {report.reencoded:,} were encoded again."
    )
    text += "".join(f"\nNo longer on the disk: {source}" for source in report.missing)
    return Result({"run": run, **asdict(report)}, text)


def _opened(
    retriever: Retriever, run: str, gallery: str | None, collection: str, *, create: bool = True
) -> Gallery:
    """The gallery that a command means.

    Raises:
        InterplayError: the method cannot index, there is no gallery, or as `Gallery.open`.
    """
    from interplay.gallery.gallery import Gallery

    if retriever.method.coupled:
        raise InterplayError(
            f"The retriever of {run} lets image and text talk while they are encoded: a gallery needs each side "
            "encoded alone, as lpi-m and lpi-p do."
        )
    place = gallery or str(Path(run) / GALLERY)
    if not create and "://" not in place and not Path(place).exists():
        raise InterplayError(
            f"There is no gallery '{place}': make it by 'interplay index {run} --images FOLDER'."
        )
    return Gallery.open(retriever, place, collection, os.environ.get(TOKEN))


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


def _lines(texts: str | None) -> list[str]:
    """The texts of a file.

    Raises:
        InterplayError: it cannot be read, or holds none.
    """
    if texts is None:
        return []
    try:
        lines = Path(texts).read_text(encoding="utf-8-sig").splitlines()
    except OSError as problem:
        raise InterplayError(f"The texts '{texts}' cannot be read ({problem.strerror or problem}).") from None
    except UnicodeDecodeError:
        raise InterplayError(f"The texts '{texts}' are no UTF-8: save the file as UTF-8.") from None
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise InterplayError(f"The file of texts '{texts}' is empty.")
    return found
