"""What cells that run one after the other share: the backbone and the data sets are loaded once."""

from __future__ import annotations

from collections.abc import Callable

from interplay.data import load
from interplay.data.checks import OnBadRow
from interplay.data.schema import PairTable
from interplay.towers.backbone import Backbone, load_backbone

Tell = Callable[[str], None]
_TABLES = 2
"""Data sets that are kept at once."""


class Loader:
    """Loads a backbone and data sets, and keeps those of the last cells.

    Args:
        tell: is given what the reader of a data set decided and left out, a sentence each, when it is loaded.
    """

    def __init__(self, tell: Tell | None = None) -> None:
        self._tell = tell
        self._backbones: dict[tuple[str, bool], Backbone] = {}
        self._tables: dict[tuple[str, OnBadRow], PairTable] = {}

    def backbone(self, name: str, *, random_weights: bool = False) -> Backbone:
        """A backbone, as `load_backbone` takes it.

        Raises:
            InterplayError: it cannot be loaded.
        """
        key = name, random_weights
        if key not in self._backbones:
            self._backbones.clear()  # before the next one is there
            self._backbones[key] = load_backbone(name, random_weights=random_weights)
        return self._backbones[key]

    def table(self, data: str, on_bad_row: OnBadRow = "error") -> PairTable:
        """A data set, as `interplay.data.load` takes it.

        Raises:
            InterplayError: it cannot be read.
        """
        key = data, on_bad_row
        if key not in self._tables:
            while len(self._tables) >= _TABLES:
                del self._tables[next(iter(self._tables))]
            self._tables[key] = table = load(data, on_bad_row=on_bad_row)
            if self._tell is not None:
                for sentence in table.remarks():
                    self._tell(sentence)
        return self._tables[key]
