"""Other metadata for entries that are there: nothing is read or encoded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from interplay.gallery.items import batches, can_be_kept, identity_of, key_of
from interplay.gallery.metadata import check_metadata, check_names
from interplay.gallery.store import Store
from interplay.towers.tokens import SIDES

_BATCH = 512


def change_metadata(
    store: Store, sources: Sequence[str], metadata: Sequence[Mapping[str, Any]], ids: Sequence[str] | None
) -> int:
    """See `Gallery.change_metadata`."""
    names = check_names(ids, len(sources))
    kept = [{name: value for name, value in one.items() if value is not None} for one in metadata]
    values = check_metadata(kept, len(sources))
    gone = [{name for name, value in one.items() if value is None} for one in metadata]
    changed = 0
    for batch in batches(list(zip(sources, names, values, gone, strict=True)), _BATCH):
        paths = [os.path.abspath(source) for source, name, _, _ in batch if not name and can_be_kept(source)]
        images = store.find_images(paths)
        wanted: dict[str, tuple[Mapping[str, Any], set[str]]] = {}
        for source, name, new, without in batch:
            keys = [key_of(side, name) for side in SIDES] if name else [identity_of("text", source)]
            if not name:
                keys += [known.id for known in images.get(os.path.abspath(source), ())]
            wanted |= dict.fromkeys(keys, (new, without))
        entries = []
        for key, entry in store.get(sorted(wanted)).items():
            new, without = wanted[key]
            old = {name: value for name, value in entry.metadata.items() if name not in without}
            entries.append(replace(entry, metadata={**old, **new}))
        store.upsert(entries)
        changed += len(entries)
    if changed:
        store.compact()
    return changed
