"""The picture collections the backbone is pre-trained on, and how often each is drawn.

OpenMoji and Debian's `tuxpaint-stamps-default` are held out and must never be added to this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_CACHE = Path("~/.cache/interplay/pretrain").expanduser()
RENDER_SIZE = 88
VALIDATION_SOURCE = "streamline-emojis"


@dataclass(frozen=True)
class Source:
    """One collection; `weight` is how often it is drawn among the sources of its group that show a concept."""

    name: str
    group: str
    weight: float
    title: str
    author: str
    licence: str

    @property
    def package(self) -> str:
        """The npm or Debian package that carries the pictures."""
        return "openclipart-svg" if self.name == "openclipart" else f"@iconify-json/{self.name}"


SOURCES = (
    Source("noto", "emoji", 1.0, "Noto Emoji", "Google", "Apache-2.0"),
    Source("noto-v1", "emoji", 0.8, "Noto Emoji 1", "Google", "Apache-2.0"),
    Source("twemoji", "emoji", 1.0, "Twemoji", "Twitter and contributors", "CC BY 4.0"),
    Source("fluent-emoji", "emoji", 0.9, "Fluent Emoji", "Microsoft", "MIT"),
    Source("fluent-emoji-flat", "emoji", 1.0, "Fluent Emoji, flat", "Microsoft", "MIT"),
    Source("fluent-emoji-high-contrast", "emoji", 0.4, "Fluent Emoji, high contrast", "Microsoft", "MIT"),
    Source("emojione", "emoji", 0.9, "EmojiOne 2", "Emoji One", "CC BY 4.0"),
    Source("emojione-v1", "emoji", 0.7, "EmojiOne 1", "Emoji One", "CC BY-SA 4.0"),
    Source("emojione-monotone", "emoji", 0.4, "EmojiOne 2, monotone", "Emoji One", "CC BY 4.0"),
    Source("fxemoji", "emoji", 0.5, "Firefox OS Emoji", "Mozilla", "Apache-2.0"),
    Source("streamline-emojis", "emoji", 0.0, "Streamline Emojis", "Streamline", "CC BY 4.0"),
    Source("openclipart", "clipart", 1.0, "Open Clip Art", "its many contributors", "public domain"),
    Source("flat-color-icons", "icons", 1.0, "Flat Color Icons", "Icons8", "MIT"),
    Source("icon-park", "icons", 1.0, "IconPark", "ByteDance", "Apache-2.0"),
    Source("game-icons", "icons", 1.0, "Game Icons", "the authors of game-icons", "CC BY 3.0"),
    Source("meteocons", "icons", 1.0, "Meteocons", "Bas Milius", "MIT"),
    Source("circle-flags", "icons", 1.0, "Circle Flags", "HatScripts", "MIT"),
    Source("flag", "icons", 1.0, "Flag Icons", "Panayiotis Lipiridis", "MIT"),
    Source("flagpack", "icons", 1.0, "Flagpack", "Yummygum", "MIT"),
)

GROUP_SHARES = {"emoji": 0.72, "clipart": 0.17, "icons": 0.11}
"""Share of a batch that each group of sources fills."""
