"""Which partitions there are to make: what is finished stays, what is damaged or changed is made anew.

Nothing is written down beforehand. The plan follows from the input and from the partitions that are finished, so every
process of a job that shares the work comes to the same one, and so does one that goes on where another was killed.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from interplay.bulk.items import Item, Listing, stamp_of
from interplay.bulk.tars import samples
from interplay.embeddings import METADATA, Embeddings, Record, damaged, file_of, finished, read_record
from interplay.errors import InterplayError
from interplay.files import crc32


@dataclass(frozen=True)
class Partition:
    """Items that are made into one set of files.

    Attributes:
        number: in the names of the files.
        items: its items; None: the samples of the tar `input`.
        input: its name.
    """

    number: int
    input: str
    items: tuple[Item, ...] | None = None

    def read(self) -> Sequence[Item]:
        """Its items, in their order."""
        return samples(self.input) if self.items is None else self.items


@dataclass(frozen=True)
class Share:
    """Which part of all partitions a process makes: every `of`-th, from the `number`-th on (both from 1).

    Raises:
        InterplayError: there is no such part.
    """

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise InterplayError(
                f"There is no part {self.number} of {self.of}: --partition counts from 1, as 1/{max(self.of, 1)}."
            )

    def holds(self, partition: int) -> bool:
        """Whether a partition belongs to it."""
        return partition % self.of == self.number - 1


def tar_partitions(tars: Sequence[str], there: Embeddings, share: Share) -> Iterator[Partition]:
    """The partitions of tars, one a tar, that are missing, damaged or made of a tar that has changed."""
    known: dict[str, Record] = {}
    for record in _records(there.folder):
        known.setdefault(record.input, record)
    taken = {record.number for record in known.values()}
    free = (number for number in itertools.count() if number not in taken)
    for tar in tars:
        made = known.get(tar)
        number = next(free) if made is None else made.number
        if share.holds(number) and (made is None or not _holds_tar(there, made)):
            yield Partition(number, tar)


def _holds_tar(there: Embeddings, record: Record) -> bool:
    """Whether a finished partition is whole, and of the tar as it is now."""
    if damaged(there.folder, record) is not None:
        return False
    stamps = there.rows(record, ["stamp"])["stamp"].to_pylist()
    return all(stamp == stamp_of([record.input]) for stamp in stamps[:1])


def listed_partitions(listing: Listing, there: Embeddings, size: int, share: Share) -> Iterator[Partition]:
    """The partitions of a folder or table: those that are damaged or changed, then `size` new items at a time."""
    known: set[bytes] = set()
    taken: set[int] = set()
    for record in _records(there.folder):
        rows = _rows(there, record)
        if rows is None:
            continue
        taken.add(record.number)
        known.update(map(_brief, rows))
        if share.holds(record.number):
            items = listing.pick([*rows])
            if _changed(items, rows) or damaged(there.folder, record) is not None:
                yield Partition(record.number, record.input, tuple(items))
    new = (item for item in listing.items() if _brief(item.key) not in known)
    free = (number for number in itertools.count() if number not in taken)
    while block := tuple(itertools.islice(new, size)):
        number = next(free)
        if share.holds(number):
            yield Partition(number, f"{block[0].key} … {block[-1].key}", block)


def _records(folder: Path) -> Iterator[Record]:
    """The records that can be read; without one a partition does not count."""
    for number in finished(folder):
        try:
            yield read_record(folder, number)
        except InterplayError:
            continue


def _rows(there: Embeddings, record: Record) -> Mapping[str, str] | None:
    """Stamps by key of a finished partition; None where its table is damaged."""
    name = file_of(METADATA, record.number)
    try:
        if crc32(there.folder / name) != record.files.get(name):
            return None
    except OSError:
        return None
    rows = there.rows(record, ["key", "stamp"])
    return dict(zip(rows["key"].to_pylist(), rows["stamp"].to_pylist(), strict=True))


def _changed(items: Sequence[Item], stamps: Mapping[str, str]) -> bool:
    """Whether an item was made of something else than there is now; one that is gone stays as it was."""
    return any(item.stamp and item.stamp != stamps[item.key] for item in items)


def _brief(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()
