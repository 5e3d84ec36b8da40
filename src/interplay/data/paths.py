"""Where this program keeps what it can compute again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The cache folder: `$INTERPLAY_CACHE`, or else `~/.cache/interplay`. It need not exist yet."""
    chosen = os.environ.get("INTERPLAY_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "interplay"
