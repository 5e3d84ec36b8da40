"""A gallery written to Parquet files, and filled from them or from what `interplay embed` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from interplay.embeddings import MANIFEST, Embeddings, Part, read_embeddings
from interplay.errors import InterplayError
from interplay.files import read_json, write_atomically, write_text
from interplay.gallery.entry import Entry, Vector
from interplay.gallery.metadata import check_metadata
from interplay.gallery.store import Store
from interplay.gallery.versions import check
from interplay.towers.tokens import Side

if TYPE_CHECKING:
    import pyarrow

CARD = "gallery.json"
"""Written last: what the gallery was made with, its retriever's state and the number of entries."""

_WRITTEN = 512  # entries in one write
_TEXTS = ("id", "side", "source", "route", "version", "name", "content", "metadata")
_VECTORS = ("key", "embedding")


def export_gallery(store: Store, folder: Path) -> int:
    """Write every entry of a gallery into Parquet files, vectors bit for bit.

    Args:
        store: the gallery.
        folder: a new or an empty one.

    Returns:
        The number of entries.

    Raises:
        InterplayError: the folder holds something, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InterplayError(f"{folder} holds something already: choose a new folder for the export.")
    state, version = store.state, store.versions.current()
    count = 0
    for number, block in enumerate(store.at(version).scan(metadata=True, embeddings=True)):
        table = _table(block)
        write_atomically(folder / f"entries_{number}.parquet", partial(_write, table))
        count += len(block)
    about = {**asdict(store.versions.card), "state": state, "entries": count}
    write_text(folder / CARD, json.dumps(about, indent=2) + "\n")
    return count


def import_folder(store: Store, folder: Path) -> int:
    """Take over what `export_gallery` or `interplay embed` wrote; an entry with the same id gives way.

    Items that 'interplay embed' could not read are left out.

    Returns:
        The number of entries.

    Raises:
        InterplayError: the folder is neither, is not whole, or was made with another retriever.
    """
    if (folder / MANIFEST).is_file():
        return _import_embeddings(store, read_embeddings(folder))
    if not (folder / CARD).is_file():
        raise InterplayError(
            f"{folder} is neither a whole export of a gallery nor what 'interplay embed' wrote: there is no {CARD} and "
            f"no {MANIFEST} in it."
        )
    about = read_json(folder / CARD)
    check(json.dumps(about), store.versions.card, str(folder))
    written = _written(store, _exported(folder), str(about.get("state", "")))
    if written != about.get("entries"):
        raise InterplayError(
            f"{folder} is damaged: it holds {written:,} entries of {about.get('entries')}: export the gallery again."
        )
    return written


def _import_embeddings(store: Store, embeddings: Embeddings) -> int:
    made, card = embeddings.manifest, store.versions.card
    if (made.backbone_digest, made.retriever, made.joint) != (card.backbone, card.retriever, card.joint):
        raise InterplayError(
            f"{embeddings.folder} was not encoded by this retriever: repeat 'interplay embed' with its run."
        )
    if not made.keys or made.dtype != "float32":
        raise InterplayError(
            f"{embeddings.folder} has no keys, or vectors of half precision: repeat 'interplay embed' with keys and "
            "float32."
        )
    blocks = (list(_of_part(part, side)) for part in embeddings.parts() for side in made.sides)
    return _written(store, blocks, made.adapter)


def _written(store: Store, blocks: Iterator[list[Entry]], state: str) -> int:
    """Write blocks of entries; the retriever's state with which all were encoded is kept where it is one."""
    mark = state if not store.count() or store.state == state else ""
    count = 0
    for block in blocks:
        for start in range(0, len(block), _WRITTEN):
            store.upsert(block[start : start + _WRITTEN])
        count += len(block)
    if store.state != mark:
        store.mark(mark)
    store.settle()
    return count


def _table(block: list[Entry]) -> pyarrow.Table:
    import pyarrow

    columns: dict[str, Any] = {
        name: [getattr(entry, name) for entry in block] for name in _TEXTS if name != "metadata"
    }
    columns["metadata"] = [json.dumps(entry.metadata, ensure_ascii=False) for entry in block]
    for name in _VECTORS:
        rows = np.stack([getattr(entry, name) for entry in block]).astype(np.float32)
        flat = pyarrow.array(rows.reshape(-1), pyarrow.float32())
        columns[name] = pyarrow.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    return pyarrow.table(columns)


def _write(table: pyarrow.Table, path: Path) -> None:
    from pyarrow import parquet

    parquet.write_table(table, path, compression="zstd")


def _exported(folder: Path) -> Iterator[list[Entry]]:
    """The entries of an export, file by file."""
    from pyarrow import ArrowException, parquet

    for path in sorted(folder.glob("entries_*.parquet")):
        try:
            table = parquet.read_table(path, columns=[*_TEXTS, *_VECTORS])
            texts = {name: table[name].to_pylist() for name in _TEXTS}
            vectors = {name: _rows(table, name) for name in _VECTORS}
        except (ArrowException, OSError, KeyError) as problem:
            raise InterplayError(f"{path} is damaged ({problem}): export the gallery again.") from None
        yield [
            Entry(
                **{name: values[at] for name, values in texts.items() if name != "metadata"},
                **{name: rows[at] for name, rows in vectors.items()},
                metadata=json.loads(texts["metadata"][at]),
            )
            for at in range(len(table))
        ]


def _rows(table: pyarrow.Table, name: str) -> Vector:
    """A column of vectors, (rows, joint)."""
    column = table[name].combine_chunks()
    rows: Vector = column.flatten().to_numpy().reshape(len(table), -1)
    return rows


def _of_part(part: Part, side: Side) -> Iterator[Entry]:
    """The entries of one side of a partition."""
    names = ["image_path" if side == "image" else "caption", "metadata"]
    names += [f"{side}_{name}" for name in ("error", "sha256", "route", "version")]
    columns: Mapping[str, list[Any]] = {name: part.rows[name].to_pylist() for name in names}
    notes = [json.loads(text) if text else {} for text in columns["metadata"]]
    metadata = check_metadata(notes, len(notes))
    for at, source in enumerate(columns[names[0]]):
        if columns[f"{side}_error"][at] is None and source is not None:
            yield Entry(
                id=columns[f"{side}_sha256"][at],
                side=side,
                source=source,
                route=columns[f"{side}_route"][at] or "",
                version=columns[f"{side}_version"][at] or "",
                key=np.asarray(part.keys[side][at], dtype=np.float32),
                embedding=np.asarray(part.vectors[side][at], dtype=np.float32),
                metadata=metadata[at],
            )
