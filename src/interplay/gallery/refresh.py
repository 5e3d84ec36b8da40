"""Bringing a gallery up to date with a retriever that has learned or forgotten, and telling how far behind it is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from interplay.gallery.entry import Entry
from interplay.gallery.items import Encodes, array, batches, check_size, content_of, is_gone
from interplay.gallery.store import Store
from interplay.towers.tokens import SIDES, Side


@dataclass(frozen=True)
class RefreshReport:
    """What one call of `refresh` did.

    Attributes:
        scanned: entries that were looked at.
        rerouted: those that take another route than before.
        reencoded: those that were encoded again, for another route or for new prompts of the same.
        missing: pictures that are no longer on the disk, or that should have been encoded again and hold something
            else now. Their entries stay, as they were encoded last.
        seconds: how long it took.
    """

    scanned: int
    rerouted: int
    reencoded: int
    missing: tuple[str, ...]
    seconds: float


def refresh(retriever: Encodes, store: Store, *, batch_size: int, progress: bool) -> RefreshReport:
    """Encode again what is stale; see `Gallery.refresh`.

    Args:
        batch_size: how many are written at a time.
        progress: show a bar.
    """
    from datasets.utils import tqdm

    check_size(batch_size)
    began = time.monotonic()
    state, work = retriever.state(), _Stale(retriever)
    scanned = rerouted = reencoded = 0
    missing: set[str] = set()
    left = 0
    with tqdm(total=store.count(), desc="Refreshing", disable=None if progress else True, leave=False) as bar:
        for block in store.scan():
            missing.update(entry.source for entry in block if is_gone(entry))
            stale = work.among(block)
            rerouted += sum(entry.route != route for entry, route in stale)
            for side in SIDES:
                for batch in batches([one for one in stale if one[0].side == side], batch_size):
                    lost = _reencode(retriever, store, side, batch, work.versions)
                    reencoded += len(batch) - len(lost)
                    left += len(lost)
                    missing.update(lost)
            scanned += len(block)
            bar.update(len(block))
    if not left and store.state != state:
        store.mark(state)
    store.compact()
    return RefreshReport(scanned, rerouted, reencoded, tuple(sorted(missing)), time.monotonic() - began)


def waiting(retriever: Encodes, store: Store) -> int:
    """How many entries `refresh` would encode again: 0 at once where nothing was learned or forgotten since."""
    if store.state == retriever.state():
        return 0
    work = _Stale(retriever)
    return sum(not is_gone(entry) for block in store.scan() for entry, _ in work.among(block))


def stale(retriever: Encodes, entries: Sequence[Entry]) -> set[str]:
    """The primary keys of the entries that `refresh` would encode again."""
    return {entry.id for entry, _ in _Stale(retriever).among(entries)}


@dataclass
class _Stale:
    """Finds entries that a retriever would encode otherwise now.

    Attributes:
        versions: of the routes that were met, as the retriever has them now.
    """

    retriever: Encodes
    versions: dict[str, str] = field(default_factory=dict)

    def among(self, entries: Sequence[Entry]) -> list[tuple[Entry, str]]:
        """Stale entries, each with the route that it takes now."""
        return [found for side in SIDES for found in self._of(side, [e for e in entries if e.side == side])]

    def _of(self, side: Side, entries: Sequence[Entry]) -> Iterator[tuple[Entry, str]]:
        if not entries:
            return
        keys = torch.from_numpy(np.stack([entry.key for entry in entries]))
        for entry, route in zip(entries, self.retriever.routes(side, keys), strict=True):
            if route not in self.versions:
                self.versions[route] = self.retriever.version_of(route)
            if (entry.route, entry.version) != (route, self.versions[route]):
                yield entry, route


def _reencode(
    retriever: Encodes,
    store: Store,
    side: Side,
    batch: Sequence[tuple[Entry, str]],
    versions: Mapping[str, str],
) -> list[str]:
    """Encode entries of one side again by their new routes, in one write; the sources of those that are gone."""
    stored = store.get([entry.id for entry, _ in batch])
    entries, contents, lost = [], [], []
    for entry, route in batch:
        content = content_of(entry)
        if content is None:
            lost.append(entry.source)
        else:
            entries.append(replace(stored[entry.id], route=route, version=versions[route]))
            contents.append(content)
    if entries:
        encoded = retriever.encode(side, contents, [entry.route for entry in entries], apart=True)
        rows = zip(entries, array(encoded), strict=True)
        store.upsert([replace(entry, embedding=row) for entry, row in rows])
    return lost
