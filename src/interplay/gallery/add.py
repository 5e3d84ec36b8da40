"""Adding to a gallery: what is new is encoded and written batch by batch, what is there stays as it is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from datasets.utils import tqdm

from interplay.errors import InterplayError
from interplay.gallery.items import (
    Encodes,
    Item,
    Unusable,
    array,
    batches,
    can_be_kept,
    check_metadata,
    check_size,
    fault_of,
    holds,
    read_item,
)
from interplay.gallery.store import Entry, Store
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
        replaced: entries that gave way because their file holds another picture now.
        skipped: items that cannot be used.
        seconds: how long it took.
    """

    added: int
    present: int
    moved: int
    replaced: int
    skipped: tuple[Skipped, ...]
    seconds: float


def add(
    retriever: Encodes,
    store: Store,
    side: Side,
    sources: Sequence[str],
    metadata: Sequence[Mapping[str, Any]] | None,
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
        metadata: of each.
        batch_size: how many are encoded and written at a time.
        on_bad: `raise` at an item that cannot be used, or `skip` it.
        progress: show a bar.
    """
    check_size(batch_size)
    if on_bad not in ("raise", "skip"):
        raise InterplayError(f"on_bad must be raise or skip, not '{on_bad}'.")
    notes = check_metadata(metadata, len(sources))
    began = time.monotonic()
    earlier = store.find_images([name for name in sources if can_be_kept(name)]) if side == "image" else {}
    work = _Adding(retriever, store, side, earlier, on_bad)
    with tqdm(total=len(sources), desc=f"Adding {side}s", disable=not progress, leave=False) as bar:
        for batch in batches(list(zip(sources, notes, strict=True)), batch_size):
            work.add(batch)
            bar.update(len(batch))
    if work.added or work.moved:
        store.settle()
    return AddReport(
        added=work.added,
        present=len(sources) - work.added - work.moved - len(work.skipped),
        moved=work.moved,
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
    """

    retriever: Encodes
    store: Store
    side: Side
    earlier: Mapping[str, set[str]]
    on_bad: OnBad
    added: int = 0
    moved: int = 0
    replaced: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def add(self, batch: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Write what is new of a batch, then delete the entries whose files hold something else now."""
        items: dict[str, Item] = {}
        homes: list[tuple[str, str]] = []
        for source, metadata in batch:
            try:
                item = read_item(self.side, source, metadata)
            except Unusable as problem:
                self._refuse(source, str(problem))
                continue
            items.setdefault(item.id, item)
            homes.append((source, item.id))
        there = self.store.sources(list(items))
        entries, bad = self._encode([item for item in items.values() if item.id not in there])
        for source, home in homes:
            if home in bad:
                self._refuse(source, bad[home])
        moved = self._moved(items, there)
        self.store.upsert([*entries, *moved])
        self.added += len(entries)
        self.moved += len(moved)
        self.seen.update(there, (entry.id for entry in entries))
        self._replace(homes)

    def _moved(self, items: Mapping[str, Item], there: Mapping[str, str]) -> list[Entry]:
        """Entries with their new paths, where the gallery's own path no longer holds the picture."""
        lost = [
            identity
            for identity, source in there.items()
            if source != items[identity].source and not holds(source, identity)
        ]
        return [replace(entry, source=items[entry.id].source) for entry in self.store.get(lost).values()]

    def _replace(self, homes: Sequence[tuple[str, str]]) -> None:
        """Delete the entries of these paths that hold another picture now, unless it was met elsewhere."""
        gone = {
            old
            for source, home in homes
            if home in self.seen
            for old in self.earlier.get(source, ())
            if old not in self.seen
        }
        self.store.delete(sorted(gone))
        self.replaced += len(gone)

    def _encode(self, items: Sequence[Item]) -> tuple[list[Entry], dict[str, str]]:
        """The entries of new items, and why others cannot be decoded: looked for only after a batch failed."""
        if not items:
            return [], {}
        try:
            keys = self.retriever.keys(self.side, [item.content for item in items])
        except InterplayError:
            faults = {item.id: fault_of(item) for item in items}
            bad = {identity: reason for identity, reason in faults.items() if reason is not None}
            if not bad:
                raise
            return self._encode([item for item in items if item.id not in bad])[0], bad
        routes = self.retriever.routes(self.side, keys)
        versions = {route: self.retriever.version_of(route) for route in set(routes)}
        embeddings = self.retriever.encode(self.side, [item.content for item in items], routes)
        rows = zip(items, routes, array(keys), array(embeddings), strict=True)
        entries = [
            Entry(item.id, self.side, item.source, route, versions[route], key, embedding, item.metadata)
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
