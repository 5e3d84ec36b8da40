"""Adding to a gallery: what is new is encoded and written batch by batch, what is there stays as it is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from interplay.errors import InterplayError
from interplay.gallery.entry import Entry
from interplay.gallery.items import (
    Encodes,
    Item,
    Unusable,
    array,
    batches,
    can_be_kept,
    check_size,
    fault_of,
    holds,
    read_item,
)
from interplay.gallery.metadata import check_metadata, check_names
from interplay.gallery.store import Known, Store
from interplay.towers.tokens import Side

OnBad: TypeAlias = Literal["raise", "skip"]


@dataclass(frozen=True)
class Skipped:
    """An item that was left out, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class AddReport:
    """What one call of `add_images` or `add_texts` did.

    Attributes:
        added: items that were encoded and are in the gallery now.
        present: items that were there before, or twice in the call.
        moved: pictures that were there, from a file that no longer holds them; the gallery knows the new file.
        updated: items that were there, and have the metadata that the call gave.
        replaced: entries that gave way because their file, or their id, holds something else now.
        skipped: items that cannot be used.
        seconds: how long it took.
    """

    added: int
    present: int
    moved: int
    updated: int
    replaced: int
    skipped: tuple[Skipped, ...]
    seconds: float


@dataclass(frozen=True)
class Given:
    """One item as the user gave it."""

    source: str
    name: str
    metadata: Mapping[str, Any]


def add(
    retriever: Encodes,
    store: Store,
    side: Side,
    sources: Sequence[str],
    metadata: Sequence[Mapping[str, Any]] | None,
    ids: Sequence[str] | None,
    *,
    batch_size: int,
    on_bad: OnBad,
    progress: bool,
) -> AddReport:
    """Add items of one side; see `Gallery.add_images`.

    Args:
        retriever: what encodes.
        store: where to.
        side: of all items.
        sources: absolute paths of pictures, or texts.
        metadata, ids: of each.
        batch_size: how many are written at a time.
        on_bad: `raise` at an item that cannot be used, or `skip` it.
        progress: show a bar.
    """
    from datasets.utils import tqdm

    check_size(batch_size)
    if on_bad not in ("raise", "skip"):
        raise InterplayError(f"on_bad must be raise or skip, not '{on_bad}'.")
    notes, names = check_metadata(metadata, len(sources)), check_names(ids, len(sources))
    given = [Given(*one) for one in zip(sources, names, notes, strict=True)]
    began = time.monotonic()
    earlier = store.find_images([name for name in sources if can_be_kept(name)]) if side == "image" else {}
    work = _Adding(retriever, store, side, earlier, on_bad)
    with tqdm(
        total=len(sources), desc=f"Adding {side}s", disable=None if progress else True, leave=False
    ) as bar:
        for batch in batches(given, batch_size):
            work.add(batch)
            bar.update(len(batch))
    if work.moved or work.updated or work.replaced:
        store.compact()
    elif work.added:
        store.settle()
    return AddReport(
        added=work.added,
        present=len(sources) - work.added - work.moved - work.updated - len(work.skipped),
        moved=work.moved,
        updated=work.updated,
        replaced=work.replaced,
        skipped=tuple(work.skipped),
        seconds=time.monotonic() - began,
    )


@dataclass
class _Adding:
    """One call: what it works with, and what it has done so far.

    Attributes:
        earlier: the entries that the call found for each path.
        seen: the entries that the call has met or made: their files are where the gallery says.
        marked: the version that `_mark` has dealt with.
    """

    retriever: Encodes
    store: Store
    side: Side
    earlier: Mapping[str, Sequence[Known]]
    on_bad: OnBad
    added: int = 0
    moved: int = 0
    updated: int = 0
    replaced: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    marked: str = ""

    def add(self, batch: Sequence[Given]) -> None:
        """Write what is new of a batch, then delete the entries whose files hold something else now."""
        read = self._read(batch)
        there = self.store.get(sorted({item.hash for item in read} | {item.id for item in read}))
        items: dict[str, Item] = {}
        homes: list[Item] = []
        for item in (self._told_apart(item, items, there) for item in read):
            if item.id not in items or (item.metadata and not items[item.id].metadata):
                items[item.id] = item
            homes.append(item)
        there |= self.store.get([name for name in items if name not in there])
        present = {name: there[name] for name, item in items.items() if self._is_there(item, there)}
        entries, bad = self._encode([item for item in items.values() if item.id not in present])
        for item in homes:
            if item.id in bad:
                self._refuse(item.source, bad[item.id])
        changed = self._changed(items, present)
        self._mark(bool(entries))
        self.store.upsert([*entries, *changed])
        self._mark(bool(entries))  # where readers were switched to another version meanwhile
        self.added += len(entries)
        self.replaced += sum(entry.id in there for entry in entries)
        self.seen.update(present, (entry.id for entry in entries))
        self._replace(homes)

    def _read(self, batch: Sequence[Given]) -> list[Item]:
        """The items that can be read; one that is there already goes by the id that it has there."""
        read = []
        for one in batch:
            try:
                item = read_item(self.side, one.source, one.metadata, one.name)
            except Unusable as problem:
                self._refuse(one.source, str(problem))
                continue
            if not item.name:
                known = [old for old in self.earlier.get(item.source, ()) if old.content == item.hash]
                item = replace(item, name=known[0].name) if known else item
            read.append(item)
        return read

    def _told_apart(self, item: Item, items: Mapping[str, Item], there: Mapping[str, Entry]) -> Item:
        """A copy of another picture, with metadata of its own, is an entry of its own: its path is its id.

        Raises:
            InterplayError: one text or path is there twice in the call, with different metadata.
        """
        if item.name or not item.metadata:
            return item
        other: Item | Entry | None = items.get(item.hash) or there.get(item.hash)
        if other is None or other.metadata == item.metadata:
            return item
        if other.source == item.source:
            if other.metadata and item.hash in items:
                raise InterplayError(
                    f"{item.source[:60]!r} is there twice with different metadata: give each an id of its own."
                )
            return item
        return replace(item, name=item.source) if holds(other.source, item.hash) else item

    @staticmethod
    def _is_there(item: Item, there: Mapping[str, Entry]) -> bool:
        """Whether the gallery has this content under this primary key."""
        return item.id in there and there[item.id].content == item.hash

    def _changed(self, items: Mapping[str, Item], present: Mapping[str, Entry]) -> list[Entry]:
        """Entries with their new paths, where their own no longer hold the picture, and with new metadata."""
        changed = []
        for name, entry in present.items():
            item, found = items[name], entry
            if entry.source != item.source and not holds(entry.source, entry.content):
                found = replace(found, source=item.source)
                self.moved += 1
            if item.metadata and item.metadata != entry.metadata:
                found = replace(found, metadata=item.metadata)
                self.updated += found.source == entry.source
            if found is not entry:
                changed.append(found)
        return changed

    def _mark(self, writing: bool) -> None:
        """Write down, before the first new entry of a version, that entries of another state are beside it."""
        if writing and self.marked != self.store.version:
            state, kept = self.retriever.state(), self.store.state
            if kept != state:
                self.store.mark("" if self.store.count() else state)
            self.marked = self.store.version

    def _replace(self, homes: Sequence[Item]) -> None:
        """Delete the entries of these paths that hold another picture now, unless it was met elsewhere.

        So do those without an id where the same picture is there under one now.
        """
        gone = {
            old.id
            for item in homes
            if item.id in self.seen
            for old in self.earlier.get(item.source, ())
            if old.id not in self.seen and (old.content != item.hash or (item.name and not old.name))
        }
        self.store.delete(sorted(gone))
        self.replaced += len(gone)

    def _encode(self, items: Sequence[Item]) -> tuple[list[Entry], dict[str, str]]:
        """The entries of new items, and why others cannot be decoded: looked for only after a batch failed."""
        if not items:
            return [], {}
        try:
            keys = self.retriever.keys(self.side, [item.content for item in items], apart=True)
        except InterplayError:
            faults = {item.id: fault_of(item) for item in items}
            bad = {identity: reason for identity, reason in faults.items() if reason is not None}
            if not bad:
                raise
            return self._encode([item for item in items if item.id not in bad])[0], bad
        routes = self.retriever.routes(self.side, keys)
        versions = {route: self.retriever.version_of(route) for route in set(routes)}
        embeddings = self.retriever.encode(self.side, [item.content for item in items], routes, apart=True)
        rows = zip(items, routes, array(keys), array(embeddings), strict=True)
        entries = [
            Entry(
                id=item.id,
                side=self.side,
                source=item.source,
                route=route,
                version=versions[route],
                key=key,
                embedding=embedding,
                metadata=item.metadata,
                name=item.name,
                content=item.hash,
            )
            for item, route, key, embedding in rows
        ]
        return entries, {}

    def _refuse(self, source: str, reason: str) -> None:
        """List a bad item, or raise."""
        if self.on_bad == "raise":
            name = source if self.side == "image" else repr(source[:60])
            raise InterplayError(
                f"{name}: {reason}. Replace it, leave it out, or skip what is bad (on_bad='skip')."
            )
        self.skipped.append(Skipped(source, reason))
