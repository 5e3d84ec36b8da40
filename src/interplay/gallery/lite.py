"""Milvus Lite in this process: a folder that is looked at before it is opened, and given back afterwards.

What a kill at any moment leaves in such a folder, as of Milvus Lite 3.2 (read in its source, and tried): every write
is one record of a write-ahead log, half records are passed over when the log is read; data files and the manifest are
written beside the old ones and change places with them in one step; the lock is the operating system's and ends with
the process. Three things remain, and are dealt with:

- A log whose entries are in a data file already, when the kill fell between writing the one and deleting the other.
  Milvus Lite would read both, and count and find every such entry twice: the log is deleted here, as Milvus Lite was
  about to do.
- A folder without a schema, when a collection was being created. Milvus Lite would neither open nor create it: it is
  removed here.
- Half an index file, for those are written in place: the gallery has none (`interplay.gallery.store`).

What Milvus Lite does with a folder that was damaged otherwise (copied in part, say): it opens it, leaves out what
is missing, and tidies up. So the manifest is checked here before Milvus Lite reads it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interplay.errors import InterplayError
from interplay.gallery.checksums import Checksums
from interplay.gallery.inside import Inside
from interplay.gallery.names import number_of, versions_among

_SCHEMA = "schema.json"
_MANIFEST = "manifest.json"
_COLLECTIONS = "collections"
_ALIASES = "aliases.json"


@dataclass(frozen=True)
class Lite:
    """A running Milvus Lite, and the channel by which this process reaches it: nothing listens."""

    channel: Inside
    database: Any
    folder: Path
    gallery: str
    checksums: Mapping[str, Checksums]

    def stop(self) -> None:
        """Write everything down and let go of the folder."""
        from milvus_lite.exceptions import MilvusLiteError

        # A full disk, a damaged file, or the end of the program, when no thread can be started: what is not in the
        # files is in the log, and the next opening has no checksums to compare.
        with contextlib.suppress(OSError, InterplayError, MilvusLiteError, RuntimeError):
            for name in versions_among(self.database.list_collections(), self.gallery):
                self.database.get_collection(name).close()
                place = self.folder / _COLLECTIONS / name
                self.checksums.get(name, Checksums(place)).leave()
        self.database.close()

    def compact(self, name: str) -> None:
        """Rewrite the collection's files without what was deleted or overwritten, where they hold such.

        Milvus Lite by itself merges files only where it has four of about one size, and until then keeps deleted and
        overwritten entries in them; its `compact` does nothing. What is done here is its own merging, of all files.
        A kill leaves the files before or the files after, and of the others the next opening rids itself.
        """
        collection = self.database.get_collection(name)
        collection.flush()
        collection._wait_for_bg()
        manifest, deleted = collection._manifest, collection._delta_index
        with collection._maintenance_lock:
            for partition in manifest.list_partitions():
                folder = Path(collection.data_dir) / "partitions" / partition
                files, gone = manifest.get_data_files(partition), manifest.get_delta_files(partition)
                written = sum(_rows(folder / file) for file in files)
                if not gone and written == collection.partition_num_entities(partition):
                    continue
                collection._compaction_mgr._compact_files(partition, str(folder), files, manifest, deleted)
                manifest.remove_delta_files(partition, gone)
                manifest.save()
                for file in gone:
                    (folder / file).unlink(missing_ok=True)
            deleted.gc_below(sys.maxsize)
            collection._refresh_segment_cache()


def start_lite(folder: Path, gallery: str) -> Lite:
    """Run Milvus Lite on a folder, which is created where there is none.

    The folder belongs to one open gallery at a time. `pymilvus` itself would share it within the process and keep
    it until the end of the program.

    Raises:
        InterplayError: it is no Milvus Lite folder, damaged, in use, or cannot be written.
    """
    from milvus_lite.adapter.grpc.servicer import MilvusServicer
    from milvus_lite.db import MilvusLite
    from milvus_lite.exceptions import DataDirLockedError

    try:
        if folder.exists() and not folder.is_dir():
            raise InterplayError(
                f"{folder} is a file, no Milvus Lite gallery (which is a folder): choose another place."
            )
        if folder.is_dir() and any(folder.iterdir()) and not (folder / _COLLECTIONS).is_dir():
            raise InterplayError(
                f"{folder} is a folder of something else: choose another place for the gallery."
            )
        database = MilvusLite(str(folder.absolute()))
    except DataDirLockedError:
        raise InterplayError(
            f"The gallery {folder} is open already, in this program or in another: close it there first."
        ) from None
    except OSError as problem:
        raise InterplayError(
            f"The gallery {folder} cannot be opened ({problem.strerror or problem}): choose another place."
        ) from None
    checksums: dict[str, Checksums] = {}
    try:
        for version in _tidied(folder, gallery):
            checksums[version.name] = Checksums(version)
            _inspect(version, folder, checksums[version.name])
    except BaseException:
        database.close()
        raise
    return Lite(Inside(MilvusServicer(database)), database, folder, gallery, checksums)


def _tidied(folder: Path, gallery: str) -> list[Path]:
    """The version that readers see, and the next one where a refresh was killed; those before it are deleted here.

    So is a next one that is not whole. The lock is held.
    """
    places = [path for path in (folder / _COLLECTIONS).glob("*") if path.is_dir()]
    names = versions_among([path.name for path in places], gallery)
    try:
        seen = json.loads((folder / _ALIASES).read_text(encoding="utf-8")).get(gallery)
    except (OSError, ValueError, AttributeError):
        seen = None
    current = seen if seen in names else next(iter(names), "")
    kept = []
    for name in names:
        place = folder / _COLLECTIONS / name
        inside = {path.name for path in place.iterdir()}
        before = number_of(name) < number_of(current)
        if before or (name != current and _fault(place, inside) is not None):
            shutil.rmtree(place)
        else:
            kept.append(place)
    return kept


def _inspect(collection: Path, gallery: Path, checksums: Checksums) -> None:
    """Refuses a damaged collection, and finishes what a kill left half done. The lock is held."""
    if not collection.is_dir():
        return
    names = {path.name for path in collection.iterdir()}
    if names <= {f"{_SCHEMA}.tmp"}:
        shutil.rmtree(collection)
        return
    fault = _fault(collection, names)
    if fault is None:
        changed = checksums.take()
        problem = changed and f"{changed} is not what was written"
    else:
        problem = f"{fault} is missing or cut off"
    if problem:
        raise InterplayError(
            f"The gallery {gallery} is damaged ({problem}): copy it again, or delete the folder and index anew."
        )
    if _MANIFEST in names:
        _delete_written_logs(collection)


def _delete_written_logs(collection: Path) -> None:
    """Delete the logs before the one that the manifest names: their entries are in its data files."""
    active = json.loads((collection / _MANIFEST).read_text(encoding="utf-8")).get("active_wal_number")
    for path in (collection / "wal").glob("wal_*.arrow"):
        number = path.stem.rpartition("_")[2]
        if isinstance(active, int) and number.isdecimal() and int(number) < active:
            path.unlink()


def _fault(collection: Path, names: set[str]) -> str | None:
    """The first file of a collection that is not there whole."""
    # there is no manifest before the first data file, and no copy of the one before until the second
    for name in (_SCHEMA, _MANIFEST):
        if name == _MANIFEST and not names & {_MANIFEST, f"{_MANIFEST}.prev"}:
            return None
        try:
            content = json.loads((collection / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return name
    try:
        partitions = [
            (collection / "partitions" / name, files) for name, files in content["partitions"].items()
        ]
        paths = [
            folder / name
            for folder, files in partitions
            for name in (*files["data_files"], *files["delta_files"])
        ]
    except (KeyError, TypeError, AttributeError):
        return _MANIFEST
    return next((path.name for path in paths if not path.is_file() or not _ends_whole(path)), None)


def _ends_whole(path: Path) -> bool:
    """Whether a Parquet file has its mark at both ends."""
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(-min(4, path.stat().st_size), 2)
        return start == file.read(4) == b"PAR1"


def _rows(path: Path) -> int:
    """The number of rows of a Parquet file, deleted and overwritten ones included."""
    from pyarrow import parquet

    return int(parquet.ParquetFile(path).metadata.num_rows)
