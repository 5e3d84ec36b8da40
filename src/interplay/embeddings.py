"""Embeddings of many items in a folder: the layout that users of clip-retrieval know, and what makes it safe to go on.

    manifest.json                      what encoded them (`Manifest`)
    img_emb/img_emb_0.npy              (rows, joint), one row an item, normalised to length 1
    text_emb/text_emb_0.npy            the same of the texts, where there are any
    img_key/…, text_key/…              the bare towers' vectors, where an adapter made others of them
    metadata/metadata_0.parquet        one row an item, in the same order (`COLUMNS`)
    partitions/partition_0.json        written last: what the partition was made of, and checksums of its files

Row i of every array is row i of the table. An item that could not be read has its row too: zeros, and the reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from interplay.errors import InterplayError
from interplay.files import crc32, delete, leftovers, read_json, write_atomically, write_text
from interplay.settings import make_settings
from interplay.towers.tokens import Side

if TYPE_CHECKING:
    import pyarrow

Dtype = Literal["float32", "float16"]
Array = npt.NDArray[Any]

FORMAT = 1  # counts up when the files or what they mean change
MANIFEST = "manifest.json"
METADATA = "metadata"
PARTITIONS = "partitions"
VECTORS: Mapping[Side, str] = {"image": "img_emb", "text": "text_emb"}
KEYS: Mapping[Side, str] = {"image": "img_key", "text": "text_key"}
COLUMNS = {
    "key": "string",  # names the item in its input
    "image_path": "string",  # absolute path of the file; of a tar's member the tar's path, '/' and its name
    "caption": "string",  # the text
    "metadata": "string",  # what else is known of the item, a JSON object
    "image_error": "string",  # why the picture cannot be read; its vectors are zeros
    "text_error": "string",
    "image_sha256": "string",  # SHA-256 over 'image', a zero byte and the file's bytes: the id of a gallery's entry
    "text_sha256": "string",
    "image_route": "string",  # whose prompts encoded it (`Retriever.routes`); empty: the bare tower
    "text_route": "string",
    "image_version": "string",  # fingerprint of what encoded that route (`Retriever.version_of`)
    "text_version": "string",
    "stamp": "string",  # changes with what the item is made of: sizes and times of change of its files, its text
}
"""Columns of the metadata, each with its type in Arrow; what there is nothing to say of is null."""


@dataclass(frozen=True)
class Manifest:
    """What encoded a folder of embeddings; a folder takes those of one encoder alone.

    Attributes:
        backbone: its name.
        backbone_digest: of its weights and pixel statistics (`Backbone.digest`).
        pixels: digest of how pictures are cut to the square and normalised.
        joint: width of the vectors.
        sides: which sides were encoded.
        retriever: identity of the retriever whose prompts were used; empty for the bare towers.
        adapter: fingerprint of everything that routes or encodes in it (`Retriever.state`).
        sessions: the tasks that it knew.
        sessions_digest: of their names, in their order.
        keys: whether the bare towers' vectors were kept beside those of an adapter.
        dtype: of the arrays.
        precision: of the computation.
        format: number of the layout.
    """

    backbone: str
    backbone_digest: str
    pixels: str
    joint: int
    sides: tuple[Side, ...]
    retriever: str = ""
    adapter: str = ""
    sessions: tuple[str, ...] = ()
    sessions_digest: str = ""
    keys: bool = True
    dtype: Dtype = "float32"
    precision: str = "float32"
    format: int = FORMAT

    @property
    def bare(self) -> bool:
        """Whether the bare towers encoded alone, so that vectors and keys are the same."""
        return not self.retriever

    @property
    def kept(self) -> tuple[str, ...]:
        """The folders of arrays."""
        keys = self.keys and not self.bare
        return (*(VECTORS[side] for side in self.sides), *(KEYS[side] for side in self.sides if keys))

    def write(self, folder: Path) -> None:
        """Write it into a folder.

        Raises:
            InterplayError: it cannot be written.
        """
        write_text(folder / MANIFEST, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Record:
    """What a partition was made of, and what it was made into.

    Attributes:
        number: of the partition, in the names of its files.
        input: its name: a tar's path, or the first and the last item.
        rows: items.
        unreadable: items of which something could not be read.
        files: path in the folder to CRC-32, for each of its files.
    """

    number: int
    input: str
    rows: int
    unreadable: int
    files: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """One partition, read.

    Attributes:
        record: what it was made of.
        rows: its metadata (`COLUMNS`).
        vectors: (rows, joint) by side, memory-mapped; zeros where the error column of that side is not null.
        keys: (rows, joint) by side, the bare towers' vectors; empty where they were not kept.
    """

    record: Record
    rows: pyarrow.Table
    vectors: Mapping[Side, Array]
    keys: Mapping[Side, Array]


class Embeddings:
    """A folder of embeddings, read partition by partition: `read_embeddings` opens it.

    Attributes:
        folder: where it is.
        manifest: what encoded it.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    def __len__(self) -> int:
        """The number of items, unreadable ones included."""
        return sum(record.rows for record in self.records)

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """Those of all finished partitions, by number.

        Raises:
            InterplayError: one is damaged.
        """
        return tuple(read_record(self.folder, number) for number in finished(self.folder))

    def parts(self) -> Iterator[Part]:
        """The partitions, one after the other; their arrays are memory-mapped.

        Raises:
            InterplayError: one is damaged.
        """
        for record in self.records:
            if (file := damaged(self.folder, record)) is not None:
                raise InterplayError(
                    f"{self.folder / file} is damaged or gone: repeat 'interplay embed', which makes it anew."
                )
            yield Part(record, self.rows(record), self._arrays(record, VECTORS), self._keys(record))

    def rows(self, record: Record, columns: Sequence[str] | None = None) -> pyarrow.Table:
        """The metadata of a partition.

        Args:
            columns: those to read; by default all.
        """
        import pyarrow.parquet

        path = self.folder / file_of(METADATA, record.number)
        return pyarrow.parquet.read_table(path, columns=None if columns is None else list(columns))

    def _keys(self, record: Record) -> Mapping[Side, Array]:
        if not self.manifest.keys:
            return {}
        return self._arrays(record, VECTORS if self.manifest.bare else KEYS)

    def _arrays(self, record: Record, names: Mapping[Side, str]) -> Mapping[Side, Array]:
        return {
            side: np.load(self.folder / file_of(names[side], record.number), mmap_mode="r")
            for side in self.manifest.sides
        }


def read_embeddings(folder: str | Path) -> Embeddings:
    """Open what `interplay embed` wrote.

    Raises:
        InterplayError: the folder holds no embeddings, or those of a newer format.
    """
    place = Path(folder)
    if not (place / MANIFEST).is_file():
        raise InterplayError(f"{place} holds no embeddings: there is no {MANIFEST} in it.")
    values = read_json(place / MANIFEST)
    if not isinstance(values, dict):
        raise InterplayError(f"{place / MANIFEST} is damaged: delete it, and repeat the command.")
    number = values.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise InterplayError(f"{place} was written by a newer interplay (format {number}): update it.")
    try:
        manifest: Manifest = make_settings(Manifest, values, f"{place / MANIFEST}")
    except TypeError:  # a field is missing
        raise InterplayError(f"{place / MANIFEST} is damaged: delete it, and repeat the command.") from None
    return Embeddings(place, manifest)


def file_of(kind: str, number: int) -> str:
    """The file of a partition in one of the folders, relative to the folder of all."""
    suffix = {METADATA: "parquet", PARTITIONS: "json"}.get(kind, "npy")
    name = "partition" if kind == PARTITIONS else kind
    return f"{kind}/{name}_{number}.{suffix}"


def finished(folder: Path) -> list[int]:
    """The numbers of the partitions that have a record."""
    names = (path.stem.removeprefix("partition_") for path in (folder / PARTITIONS).glob("partition_*.json"))
    return sorted(int(name) for name in names if name.isdecimal())


def read_record(folder: Path, number: int) -> Record:
    """The record of a partition.

    Raises:
        InterplayError: it is damaged.
    """
    path = folder / file_of(PARTITIONS, number)
    values = read_json(path)
    try:
        record: Record = make_settings(Record, values["record"], str(path))
        if values["digest"] == digest_of(values["record"]) and record.number == number:
            return record
    except (KeyError, TypeError):
        pass
    raise InterplayError(f"{path} is damaged: repeat 'interplay embed', which makes the partition anew.")


def damaged(folder: Path, record: Record) -> str | None:
    """The first file of a partition that is gone or does not hold what was written; None where all do."""
    for name, found in record.files.items():
        try:
            if crc32(folder / name) != found:
                return name
        except OSError:
            return name
    return None


def write_partition(
    folder: Path,
    record: Record,
    columns: Mapping[str, Sequence[Any]],
    arrays: Mapping[str, Array],
) -> Record:
    """Write a partition: its arrays, its metadata, and at the end the record, without which the others do not count.

    Args:
        record: without its files.
        columns: of the metadata; those of `COLUMNS` that are missing are null.
        arrays: (rows, joint) by the name of their folder (`Manifest.kept`).

    Raises:
        InterplayError: something cannot be written (a full disk).
    """
    number = record.number
    delete(folder / file_of(PARTITIONS, number))  # what is being replaced no longer counts
    writers: dict[str, Callable[[Path], None]] = {
        file_of(kind, number): _array_writer(array) for kind, array in arrays.items()
    }
    writers[file_of(METADATA, number)] = _table_writer(columns, record.rows)
    for name, write in writers.items():
        path = folder / name
        for half in leftovers(path.parent, [path.name]):
            delete(half)
        write_atomically(path, write)
    done = replace(record, files={name: crc32(folder / name) for name in writers})
    about = asdict(done)
    text = json.dumps({"record": about, "digest": digest_of(about)}, indent=1, ensure_ascii=False)
    write_text(folder / file_of(PARTITIONS, number), text + "\n")
    return done


def digest_of(*parts: object) -> str:
    """32 hexadecimal digits over plain values."""
    text = json.dumps(parts, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _array_writer(array: Array) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:  # np.save would add a suffix to the name
            np.save(file, array, allow_pickle=False)

    return write


def _table_writer(columns: Mapping[str, Sequence[Any]], rows: int) -> Callable[[Path], None]:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    table = pyarrow.table(
        {
            name: pyarrow.array(columns.get(name) or [None] * rows, schema.field(name).type)
            for name in COLUMNS
        },
        schema=schema,
    )

    def write(path: Path) -> None:
        pyarrow.parquet.write_table(table, path, compression="zstd")

    return write
