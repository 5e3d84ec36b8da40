"""The galleries of a service's retrievers: opened together, searched while they change."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from interplay.errors import InterplayError
from interplay.service.faults import NoSuch
from interplay.service.models import Models
from interplay.service.requests import Search

if TYPE_CHECKING:
    from interplay.gallery.gallery import Gallery, Hit

GALLERY = "gallery.db"
"""The folder in a run where 'interplay index' puts its gallery."""


class Served:
    """One gallery, and who may do what at the same time.

    Args:
        gallery: open.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self.entries = gallery.count()
        self._lock = threading.Lock()

    def search(self, asked: Sequence[tuple[Search, Tensor]]) -> list[list[Hit]]:
        """Hits for each of several searches with their queries' vectors."""
        with self._lock:
            return [
                self.gallery.near(vector.numpy(), one.k, find=one.find, where=one.where)
                for one, vector in asked
            ]


class Galleries:
    """The galleries of a service by the names of their retrievers.

    Args:
        places: of galleries that are elsewhere than in their run's folder: folders or addresses of servers.
        token: for servers that want one.
        served: whether there are any; a service without them leaves those in the runs to others.
    """

    def __init__(
        self, places: Mapping[str, str] | None = None, token: str | None = None, *, served: bool = True
    ) -> None:
        self._places, self._token, self._any = dict(places or {}), token, served
        self._served: dict[str, Served] = {}

    def open(self, models: Models) -> None:
        """Open all of them; their retrievers stay loaded.

        Raises:
            InterplayError: one is open in another process, damaged, or not there.
        """
        from interplay.gallery.gallery import Gallery
        from interplay.retrieval.retriever import Retriever

        models.check_known(tuple(self._places), "--gallery")
        for name in models.names if self._any else ():
            run = models.run(name)
            place = self._places.get(name, str(run.folder / GALLERY))
            if run.task != "retrieval" or (name not in self._places and not Path(place).is_dir()):
                continue
            retriever = models.load(name, pinned=True).model
            if not isinstance(retriever, Retriever):
                raise InterplayError(f"--gallery: '{name}' is no retriever.")
            self._served[name] = Served(Gallery.open(retriever, place, token=self._token, create=False))

    def close(self) -> None:
        """Let go of their folders and connections."""
        for served in self._served.values():
            served.gallery.close()
        self._served.clear()

    def of(self, name: str) -> Served:
        """The gallery of a retriever.

        Raises:
            NoSuch: it has none.
        """
        if name not in self._served:
            raise NoSuch(f"'{name}' has no gallery: make it by 'interplay index', and start again.", "model")
        return self._served[name]

    def entries(self, name: str) -> int | None:
        """How many entries the gallery of a retriever has; None without a gallery."""
        return self._served[name].entries if name in self._served else None
