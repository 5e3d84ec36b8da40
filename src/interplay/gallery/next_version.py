"""The next version of a gallery: written beside the current one, then switched to in one step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from interplay.gallery.entry import Entry
from interplay.gallery.items import Encodes, array, batches, content_of
from interplay.gallery.stale import Stale
from interplay.gallery.store import Store
from interplay.towers.tokens import SIDES, Side

_COPIED = 512  # entries in one write


@dataclass
class NextVersion:
    """One refresh of a gallery that holds stale entries.

    Another client of a server may write meanwhile. Before the switch it writes to the current version, which is
    compared with what was copied after the switch; from the switch on a writer sees that readers see another version
    and writes there, too (`Store._write`). So nothing of it is lost.

    Attributes:
        retriever: what encodes.
        store: the rows that readers see.
        stale: finds what is to be encoded again.
        batch_size: how many entries are encoded and written at a time.
        reencoded: entries that were encoded again.
        lost: sources of those that should have been, and whose file is gone or holds something else now.
    """

    retriever: Encodes
    store: Store
    stale: Stale
    batch_size: int
    reencoded: int = 0
    lost: list[str] = field(default_factory=list)
    _copied: dict[int, int] = field(default_factory=dict)

    def write(self, state: str, told: Callable[[int], object]) -> None:
        """Write it, and have readers see it.

        What a refresh that was killed has encoded is taken over.

        Args:
            state: of the retriever.
            told: is given the number of entries that were dealt with.
        """
        versions = self.store.versions
        before = versions.current()
        name, begun = versions.begin(before)
        current, following = self.store.at(before), self.store.at(name)
        for block in current.scan(metadata=True, embeddings=True):
            routes = {entry.id: route for entry, route in self.stale.among(block)}
            for batch in batches([entry for entry in block if entry.id not in routes], _COPIED):
                self._put(following, batch, self._there(following, batch) if begun else {})
            for side in SIDES:
                mine = [entry for entry in block if entry.id in routes and entry.side == side]
                for batch in batches(mine, self.batch_size):
                    there = self._there(following, batch) if begun else {}
                    self._put(following, self._encoded(side, batch, routes, there), there)
            told(len(block))
        if begun:
            self._drop(following, lambda entry: hash(entry.id) not in self._copied)
        if not self.lost:
            following.mark(state)
        following.settle()
        following.show()
        versions.switch(name)
        self._catch_up(current, self.store)
        versions.drop_others(name)

    def _there(self, following: Store, batch: Sequence[Entry]) -> Mapping[str, Entry]:
        return following.get([entry.id for entry in batch])

    def _put(self, following: Store, entries: Sequence[Entry], there: Mapping[str, Entry]) -> None:
        """Write those that are not there already."""
        following.upsert(
            [entry for entry in entries if entry.id not in there or not _same(entry, there[entry.id])]
        )
        self._copied.update((hash(entry.id), _fingerprint(entry)) for entry in entries)

    def _encoded(
        self, side: Side, batch: Sequence[Entry], routes: Mapping[str, str], there: Mapping[str, Entry]
    ) -> list[Entry]:
        """Entries of one side by their new routes; those whose content is gone as they are."""
        kept, fresh, contents = [], [], []
        for entry in batch:
            route = routes[entry.id]
            wanted = replace(entry, route=route, version=self.stale.versions[route])
            begun = there.get(entry.id)
            if begun is not None and _same(wanted, begun):
                kept.append(begun)
                continue
            content = content_of(entry)
            if content is None:
                kept.append(entry)
                self.lost.append(entry.source)
            else:
                fresh.append(wanted)
                contents.append(content)
        if fresh:
            vectors = array(
                self.retriever.encode(side, contents, [entry.route for entry in fresh], apart=True)
            )
            kept += [replace(entry, embedding=row) for entry, row in zip(fresh, vectors, strict=True)]
            self.reencoded += len(fresh)
        return kept

    def _catch_up(self, before: Store, now: Store) -> None:
        """Bring over what other clients wrote to the version before while it was being copied."""
        late: list[Entry] = []
        for block in before.scan(metadata=True):
            late += [
                entry for entry in block if self._copied.pop(hash(entry.id), None) != _fingerprint(entry)
            ]
        for batch in batches(late, _COPIED):
            self._bring(batch, before, now)
        if self._copied:  # what was deleted
            self._drop(now, lambda entry: self._copied.get(hash(entry.id)) == _fingerprint(entry))

    def _bring(self, batch: Sequence[Entry], before: Store, now: Store) -> None:
        """Entries that were added or changed, unless a writer has written them to the version of now already."""
        names = [entry.id for entry in batch]
        theirs, there = before.get(names), now.get(names)
        entries = []
        for name, entry in theirs.items():
            old = there.get(name)
            if old is None or old.content != entry.content:
                entries.append(entry)
            elif _fingerprint(old) != _fingerprint(entry):
                entries.append(replace(old, source=entry.source, metadata=entry.metadata))
        if self.stale.among(entries):
            now.mark("")
        now.upsert(entries)

    def _drop(self, store: Store, gone: Callable[[Entry], bool]) -> None:
        """Delete the entries of a version for which this holds."""
        store.delete([entry.id for block in store.scan(metadata=True) for entry in block if gone(entry)])


def _same(one: Entry, other: Entry) -> bool:
    """Whether two entries are the same, made by the same prompts."""
    return (one.route, one.version, _fingerprint(one)) == (other.route, other.version, _fingerprint(other))


def _fingerprint(entry: Entry) -> int:
    """Differs where an entry was changed by anything but a refresh; within this process."""
    return hash((entry.source, entry.name, entry.content, json.dumps(entry.metadata, sort_keys=True)))
