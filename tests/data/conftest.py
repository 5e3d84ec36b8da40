"""Small pictures and tables, and a cache folder that is nobody's."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from interplay.data import openmoji


def picture(seed: int = 0, size: tuple[int, int] = (20, 14), mode: str = "RGB") -> Image.Image:
    """Noise: no two seeds give the same picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERPLAY_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes `0.png`, `1.png`, … and a file with the given text; returns that file."""

    def write(text: str, name: str = "pairs.csv", pictures: int = 4) -> Path:
        for number in range(pictures):
            (tmp_path / f"{number}.png").write_bytes(encoded(picture(number)))
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


@pytest.fixture
def fake_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMoji without the seconds that rendering takes: every code has the same picture."""
    png = encoded(picture())
    monkeypatch.setattr(openmoji, "openmoji_pictures", lambda codes: dict.fromkeys(codes, png))
