"""The trained methods below a folder: found by name, loaded when they are asked for, unloaded when they are not."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interplay.artifacts import WEIGHTS, Task, mark, read_header
from interplay.errors import InterplayError, listed
from interplay.service.faults import NoSuch

if TYPE_CHECKING:
    from interplay.classification.classifier import Classifier
    from interplay.retrieval.retriever import Retriever
    from interplay.towers.backbone import Backbone

_DEEPEST = 4
"""Folders below the models' own that are looked into."""


@dataclass(frozen=True)
class Found:
    """A run that is there, loaded or not.

    Attributes:
        name: its folder, as seen from that of the models.
        folder: where it is.
        task: what it was made for.
        header: its card as it was written.
    """

    name: str
    folder: Path
    task: Task
    header: dict[str, Any]


@dataclass
class Loaded:
    """A run in memory.

    Attributes:
        run: which.
        model: ready to be asked.
        mark: of the artefact that was read.
        pinned: never unloaded for being idle.
        used: when it was asked last, as `time.monotonic` counts.
    """

    run: Found
    model: Classifier | Retriever
    mark: str
    pinned: bool = False
    used: float = field(default_factory=time.monotonic)


def find_runs(folder: Path) -> dict[str, Found]:
    """The runs below a folder by their names; a folder that is a run itself is the only one.

    Links are not followed, and what cannot be read is left out.

    Raises:
        InterplayError: there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise InterplayError(f"There is no folder '{folder}' of models: give the one that your runs are in.")
    found = {}
    for place in _places(folder):
        name = place.relative_to(folder).as_posix() if place != folder else folder.resolve().name
        header = read_header(place)
        found[name] = Found(name, place, header.get("task", "classification"), header)
    if not found:
        raise InterplayError(
            f"There is no run in '{folder}': train one with 'interplay train --out {folder}/NAME'."
        )
    return found


def _places(folder: Path) -> Iterator[Path]:
    for place, inside, files in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        if WEIGHTS in files:
            yield Path(place)
        if WEIGHTS in files or depth >= _DEEPEST:
            inside.clear()
        inside.sort()


class Models:
    """The runs of one folder, and those of them that are in memory; every call may come from any thread.

    Args:
        folder: with runs below it.
        open_backbone: loads a backbone by the name that runs say.
    """

    def __init__(self, folder: Path, open_backbone: Callable[[str], Backbone]) -> None:
        self._folder = folder
        self._open_backbone = open_backbone
        self._runs = find_runs(folder)
        self._loaded: dict[str, Loaded] = {}
        self._backbones: dict[str, Backbone] = {}
        self._lock = threading.RLock()

    @property
    def names(self) -> list[str]:
        """Of all runs."""
        return list(self._runs)

    def rescan(self) -> None:
        """Look for runs again."""
        with self._lock:
            self._runs = find_runs(self._folder)

    def run(self, name: str) -> Found:
        """A run by its name.

        Raises:
            NoSuch: there is none.
        """
        if name not in self._runs:
            raise NoSuch(f"There is no model '{name}'.", "model")
        return self._runs[name]

    def loaded(self, name: str) -> Loaded | None:
        """A run that is in memory, or None."""
        return self._loaded.get(name)

    def touch(self, name: str) -> Loaded | None:
        """A run that is in memory, as asked for now, or None.

        Raises:
            NoSuch: there is none of that name.
        """
        self.run(name)
        there = self._loaded.get(name)
        if there is not None:
            there.used = time.monotonic()
        return there

    def in_memory(self) -> list[Loaded]:
        """All runs that are."""
        with self._lock:
            return list(self._loaded.values())

    def load(self, name: str, *, pinned: bool = False) -> Loaded:
        """A run in memory, read from its folder where it is not there yet or has changed since.

        Raises:
            NoSuch: there is none.
            InterplayError: it cannot be read, or its backbone cannot.
        """
        with self._lock:
            run, there = self.run(name), self._loaded.get(name)
            if there is None or there.mark != mark(run.folder):
                kept = pinned or (there is not None and there.pinned)
                there = Loaded(run, self._read(run), mark(run.folder), kept)
                self._loaded[name] = there
            there.used = time.monotonic()
            there.pinned = there.pinned or pinned
            return there

    def unload(self, name: str) -> bool:
        """Let a run go; whether it was in memory. Requests in flight keep theirs."""
        with self._lock:
            gone = self._loaded.pop(name, None) is not None
            used = {one.model.backbone.digest for one in self._loaded.values()}
            self._backbones = {digest: one for digest, one in self._backbones.items() if digest in used}
            return gone

    def unload_idle(self, seconds: float) -> list[str]:
        """Let those go that nobody has asked for so long, but for the one that was asked last; their names."""
        with self._lock:
            before = time.monotonic() - seconds
            latest = max((one.used for one in self._loaded.values()), default=0.0)
            idle = [
                name
                for name, one in self._loaded.items()
                if not one.pinned and one.used < min(before, latest)
            ]
            return [name for name in idle if self.unload(name)]

    def _read(self, run: Found) -> Classifier | Retriever:
        backbone = self._backbone(run)
        if run.task == "retrieval":
            from interplay.retrieval.retriever import Retriever

            return Retriever.from_pretrained(run.folder, backbone=backbone)
        from interplay.classification.classifier import Classifier

        return Classifier.from_pretrained(run.folder, backbone=backbone)

    def _backbone(self, run: Found) -> Backbone:
        digest, name = str(run.header.get("backbone_digest")), str(run.header.get("backbone"))
        if digest not in self._backbones:
            backbone = self._open_backbone(name)
            self._backbones[backbone.digest] = backbone
            return backbone
        return self._backbones[digest]

    def check_known(self, names: tuple[str, ...], what: str) -> None:
        """Refuse names of runs that are not there.

        Raises:
            InterplayError: one is not.
        """
        for name in names:
            if name not in self._runs:
                raise InterplayError(f"{what}: there is no run '{name}'; known: {listed(self.names)}.")
