"""Which entries a retriever would encode otherwise now, having learned or forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from interplay.gallery.entry import Entry
from interplay.gallery.items import Encodes
from interplay.towers.tokens import SIDES, Side


@dataclass
class Stale:
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
