"""Bringing a gallery up to date with a retriever that has learned or forgotten, and telling how far behind it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from interplay.gallery.entry import Entry
from interplay.gallery.items import Encodes, check_size, is_gone
from interplay.gallery.next_version import NextVersion
from interplay.gallery.stale import Stale
from interplay.gallery.store import Store


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

    The next version of the gallery is written beside the current one: what is stale encoded again, everything else
    copied. Then readers are switched to it, in one step.

    Args:
        batch_size: how many are written at a time.
        progress: show a bar.
    """
    from datasets.utils import tqdm

    check_size(batch_size)
    began = time.monotonic()
    with store.versions.refreshing:
        state, stale = retriever.state(), Stale(retriever)
        scanned = rerouted = waiting = left = 0
        missing: set[str] = set()
        for block in store.scan():
            gone = {entry.id for entry in block if is_gone(entry)}
            missing.update(entry.source for entry in block if entry.id in gone)
            found = stale.among(block)
            rerouted += sum(entry.route != route for entry, route in found)
            left += sum(entry.id in gone for entry, _ in found)
            waiting += sum(entry.id not in gone for entry, _ in found)
            scanned += len(block)
        work = NextVersion(retriever, store, stale, batch_size)
        if waiting:
            with tqdm(
                total=scanned, desc="Refreshing", disable=None if progress else True, leave=False
            ) as bar:
                work.write(state, bar.update)
        elif not left and store.state != state:
            store.mark(state)
    store.compact()
    missing.update(work.lost)
    return RefreshReport(scanned, rerouted, work.reencoded, tuple(sorted(missing)), time.monotonic() - began)


def waiting(retriever: Encodes, store: Store) -> int:
    """How many entries `refresh` would encode again: 0 at once where nothing was learned or forgotten since."""
    if store.state == retriever.state():
        return 0
    work = Stale(retriever)
    return sum(not is_gone(entry) for block in store.scan() for entry, _ in work.among(block))


def stale(retriever: Encodes, entries: Sequence[Entry]) -> set[str]:
    """The primary keys of the entries that `refresh` would encode again."""
    return {entry.id for entry, _ in Stale(retriever).among(entries)}
