"""Search a gallery by a text, a picture, or many of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from interplay.cli.open_gallery import open_gallery, texts_of
from interplay.cli.options import Further
from interplay.cli.result import Result, columns, note
from interplay.errors import InterplayError
from interplay.gallery.address import ServerSettings

if TYPE_CHECKING:
    from interplay.gallery.gallery import Hit

GROUP = "Gallery"


def search(
    run: str,
    query: str = "",
    *,
    image: tuple[str, ...] = (),
    queries: str | None = None,
    gallery: str | None = None,
    collection: str = "interplay",
    k: int = 10,
    find: Literal["image", "text"] = "image",
    where: str | None = None,
    backbone: str | None = None,
    settings: Annotated[Mapping[str, Any] | None, Further(ServerSettings, "Server")] = None,
) -> Result:
    """Find the pictures or texts of a gallery that are most similar to a text or a picture.

    Examples:

      interplay search runs/lpi "a red apple"
      interplay search runs/lpi --image apple.png --find text -k 3
      interplay search runs/lpi "running shoes" --where "price < 80 and brand == 'x'" --json
      interplay search runs/lpi --queries questions.txt --json

    The score is the cosine of the angle between query and entry. Where the retriever has learned or forgotten since,
    it is said how many entries wait for 'interplay refresh'.

    Args:
        run: the folder that 'interplay continual --out' wrote.
        query: a text to search by.
        image: a picture file to search by instead, or several.
        queries: a UTF-8 file with one text to search by a line.
        gallery: as in 'interplay index'; by default gallery.db in RUN.
        collection: the gallery's name in that folder or on that server.
        k: how many to show for each; all where there are fewer.
        find: what to find.
        where: a Milvus filter over the metadata; `_id` are the ids of your own.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
    """
    if (bool(query.strip()), bool(image), queries is not None).count(True) != 1:
        raise InterplayError(
            "interplay search needs a text, as in 'interplay search RUN \"a red apple\"', or --image, or --queries."
        )
    for file in image:
        if not Path(file).is_file():
            raise InterplayError(f"There is no picture '{file}'.")
    asked = list(image) or texts_of(queries) or [query]
    by: Literal["image", "text"] = "image" if image else "text"
    with open_gallery(run, gallery, collection, backbone, settings) as found:
        hits = found.search_many(asked, k, by=by, find=find, where=where)
        waiting, entries = found.waiting(), found.count()
    if waiting:
        note(
            f"{waiting:,} of {entries:,} entries wait: the retriever has learned or forgotten since they were encoded. "
            f"Run 'interplay refresh {run}'."
        )
    searches: list[dict[str, Any]] = [
        {"query": one, "by": by, "all_shown": len(some) < k, "hits": [asdict(hit) for hit in some]}
        for one, some in zip(asked, hits, strict=True)
    ]
    data: dict[str, Any] = {"find": find, "entries": entries, "waiting": waiting}
    data |= searches[0] if queries is None and len(asked) == 1 else {"searches": searches}
    shown = [_listed(some, k, find, where) for some in hits]
    if len(asked) > 1:
        shown = [f"{one}\n\n{text}" for one, text in zip(asked, shown, strict=True)]
    return Result(data, "\n\n\n".join(shown))


def _listed(hits: Sequence[Hit], k: int, find: str, where: str | None) -> str:
    """The hits line by line, and what there is to say of them."""
    if not hits:
        return f"No {find} passes the filter."
    rows = [
        (
            rank,
            hit.score,
            hit.source + _remark(hit),
            hit.route + (" (stale)" if hit.stale else ""),
            hit.id,
            ", ".join(f"{key}={value}" for key, value in hit.metadata.items()),
        )
        for rank, hit in enumerate(hits, start=1)
    ]
    header = ("", "score", find, "encoded as", "id", "metadata")
    used = [at for at in range(len(header)) if at < 4 or any(row[at] for row in rows)]
    shown = columns([header[at] for at in used], [[row[at] for at in used] for row in rows])
    kept = " that pass the filter" if where else ""
    if len(hits) < k:
        shown += f"\n\nThese are all {len(hits):,} {find}s{kept}: there are no {k:,}."
    for count, what in (
        (sum(hit.missing for hit in hits), "no longer on the disk"),
        (sum(hit.changed for hit in hits), "found by what the file no longer shows"),
    ):
        if count:
            shown += f"\n\n{count:,} of them {'is' if count == 1 else 'are'} {what}: see 'interplay prune'."
    return shown


def _remark(hit: Hit) -> str:
    """What is to be said of a hit's file."""
    return " (no longer there)" if hit.missing else " (changed since)" if hit.changed else ""
