"""Nothing of these tests lands in the user's cache."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image cache for each test."""
    monkeypatch.setenv("INTERPLAY_CACHE", str(tmp_path / "cache"))
