"""Check that a built site works without a network: `python -m scripts.site.offline site`.

What a page loads (scripts, styles, fonts, pictures) is in the site; links that a reader follows may lead elsewhere.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_ADDRESS = r"[\"']?(https?:[^\"'\s>]+)"
_SOURCE = re.compile(rf"<(?:script|img|iframe)\b[^>]*\bsrc={_ADDRESS}")
_IMPORT = re.compile(r"@import url\((https?:[^)]+)\)")
_LINK = re.compile(r"<link\b[^>]*>")
_RELATION = re.compile(r"rel=[\"']?(?:stylesheet|icon|preload|preconnect)\b")
_TARGET = re.compile(rf"href={_ADDRESS}")


def loaded_from_elsewhere(page: str) -> list[str]:
    """Addresses on other machines that a page needs to be shown."""
    links = [link for link in _LINK.findall(page) if _RELATION.search(link)]
    return [
        *_SOURCE.findall(page),
        *_IMPORT.findall(page),
        *(one for link in links for one in _TARGET.findall(link)),
    ]


def main(folder: Path) -> int:
    """Print every page that loads something from elsewhere; 1 if there is one, or no page at all."""
    pages = sorted(folder.rglob("*.html"))
    wrong = {page: found for page in pages if (found := loaded_from_elsewhere(page.read_text("utf-8")))}
    for page, found in wrong.items():
        print(f"{page} loads {', '.join(found)}")
    print(f"{len(pages)} pages, {len(wrong)} that need a network")
    return 1 if wrong or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
