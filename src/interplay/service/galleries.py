"""The galleries of a service's retrievers: opened together, searched while they grow and are refreshed."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from interplay.errors import InterplayError
from interplay.files import write_atomically
from interplay.service.faults import Conflict, NoSuch, Unusable
from interplay.service.models import Found as Run
from interplay.service.models import Models
from interplay.service.requests import Found, Growth, Search
from interplay.towers.tokens import Side

if TYPE_CHECKING:
    from interplay.gallery.gallery import Gallery, Hit
    from interplay.gallery.refresh import RefreshReport
    from interplay.retrieval.found import FoundCalibration
    from interplay.retrieval.retriever import Retriever

GALLERY = "gallery.db"
"""The folder in a run where 'interplay index' puts its gallery."""
PICTURES = "pictures"
"""The folder in a run where the files of pictures are that a service was given."""


@dataclass(frozen=True)
class View:
    """What a search sees: a state of the gallery, and the retriever that its entries were encoded with."""

    state: str
    retriever: Retriever


class Served:
    """One gallery, searched by many while one changes it.

    A query has to be encoded by the retriever that the entries were. While the gallery is refreshed there are two of
    them: each search takes the one that belongs to the state that it sees, and is made again where the state has
    changed before its hits were there. So hits are the former ones or the new ones, never a mixture.

    Args:
        run: of the retriever.
        gallery: open.
        retriever: as it was when the gallery was opened.
    """

    def __init__(self, run: Run, gallery: Gallery, retriever: Retriever) -> None:
        self.run, self.gallery = run, gallery
        self.entries = gallery.count()
        self._take(gallery, retriever)
        self._changing = threading.Lock()

    def _take(self, gallery: Gallery, retriever: Retriever) -> None:
        from interplay.retrieval.found import read_found

        self.gallery, self.retriever = gallery, retriever
        self._states = {retriever.state(): retriever}
        self._calibration: FoundCalibration | None = read_found(self.run.folder, retriever)

    @property
    def calibrated(self) -> bool:
        """Whether it is known how probably a hit is right."""
        return self._calibration is not None

    def view(self) -> View:
        """What a search that begins now sees."""
        state = self.gallery.state
        return View(state, self._states.get(state, self.retriever))

    def search(self, view: View, asked: Sequence[tuple[Search, Tensor]]) -> list[Found] | None:
        """What each of several searches finds; None where the gallery is another one than it was in the view.

        Args:
            asked: searches, each with its query's vector by the retriever of the view.

        Raises:
            Unusable: a filter that cannot be used.
        """
        found = [self._found(one, vector) for one, vector in asked]
        return found if self.gallery.state == view.state else None

    def _found(self, one: Search, vector: Tensor) -> Found:
        try:
            hits = self.gallery.near(vector.numpy(), one.k, find=one.find, where=one.where)
        except InterplayError as problem:
            if one.where is None:
                raise
            raise Unusable(str(problem), "where") from None
        by: Side = "image" if one.query.image is not None else "text"
        curve = None
        if self._calibration is not None and not (one.query.image is not None and one.query.text is not None):
            curve = self._calibration.curve(by, one.find)
        if curve is None:
            return Found(hits, [None] * len(hits))
        rated: list[tuple[Hit, float]] = [(hit, curve.probability(hit.score)) for hit in hits]
        kept = [(hit, probability) for hit, probability in rated if probability >= one.least]
        return Found([hit for hit, _ in kept], [probability for _, probability in kept])

    def refresh(self, retriever: Retriever) -> RefreshReport:
        """Bring the gallery up to date with a retriever that has learned or forgotten.

        Raises:
            Conflict: it is being changed already.
            InterplayError: as `Gallery.refresh`.
        """
        with _alone(self._changing, self.run.name):
            following = self.gallery.beside(retriever)
            self._states = {**self._states, retriever.state(): retriever}
            report = following.refresh(progress=False)
            self._take(following, retriever)
            self.entries = following.count()
        return report

    def grow(self, items: Sequence[Growth]) -> dict[str, int]:
        """Add texts and pictures, whose files are kept in the run's folder; what is there already is not encoded again.

        Raises:
            Conflict: it is being changed already.
            InterplayError: as `Gallery.add_images`.
        """
        with _alone(self._changing, self.run.name):
            counts = {"added": 0, "present": 0, "updated": 0, "replaced": 0}
            texts = [one for one in items if isinstance(one.content, str)]
            images = [one for one in items if isinstance(one.content, bytes)]
            for some, add in ((images, self.gallery.add_images), (texts, self.gallery.add_texts)):
                if not some:
                    continue
                report = add(
                    [self._kept(one.content) for one in some],
                    [one.metadata for one in some],
                    ids=[one.id for one in some],
                    progress=False,
                )
                for name in counts:
                    counts[name] += getattr(report, name)
            self.entries = self.gallery.count()
        return counts

    def _kept(self, content: str | bytes) -> str:
        """A text as it is; the path of the file that a picture is kept in, named by what it holds."""
        if isinstance(content, str):
            return content
        path = self.run.folder / PICTURES / hashlib.sha256(content).hexdigest()
        if not path.is_file():
            write_atomically(path, lambda temporary: _write(temporary, content))
        return str(path)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@contextlib.contextmanager
def _alone(lock: threading.Lock, name: str) -> Iterator[None]:
    """Hold a lock; it is not waited for."""
    if not lock.acquire(blocking=False):
        raise Conflict(f"The gallery of '{name}' is being changed: ask again when it is done.", "model")
    try:
        yield
    finally:
        lock.release()


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
            if name not in self._places and (run.task != "retrieval" or not Path(place).is_dir()):
                continue
            retriever = models.load(name, pinned=True).model
            if not isinstance(retriever, Retriever):
                raise InterplayError(f"--gallery: '{name}' is no retriever.")
            gallery = Gallery.open(retriever, place, token=self._token, create=False)
            self._served[name] = Served(run, gallery, retriever)

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
