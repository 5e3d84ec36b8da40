"""What MkDocs calls while it builds the site: pages made from the code are added, and links out of `docs/` are led.

`README.md`, `CONTRIBUTING.md` and `CHANGELOG.md` are pages of the site too. A link from a page to any other file of the
repository, as a result's JSON, takes that file along, so that the site works without the repository.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parents[2]))

from scripts.site import api, commands, methods

ROOT = Path(__file__).parents[2]
FRONT = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
TAKEN_ALONG = "repository"
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that are made here into the navigation."""
    sections: dict[str, list[Any]] = {
        "Methods": [{name: f"methods/{name}.md"} for name in methods.names()],
        "Commands": ["commands/index.md", *({name: commands.uri(name)} for name in commands.names())],
        "API": ["api/index.md", *({name: f"api/{name}.md"} for name in api.packages())],
    }
    for entry in config.nav or []:
        for title, pages in entry.items():
            if title in sections:
                pages.extend(sections[title])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, the front documents, and every file that a page links to."""
    made = {site: (ROOT / source).read_text("utf-8") for source, site in FRONT.items()}
    made |= commands.pages() | api.pages()
    for name, page in methods.pages().items():
        by_hand = files.get_file_from_path(f"methods/{name}.md")
        if by_hand is not None:
            files.remove(by_hand)
            page += _one_level_down(by_hand.content_string)
        made[f"methods/{name}.md"] = page
    overview = files.get_file_from_path("methods/index.md")
    if overview is not None:
        files.remove(overview)
        made["methods/index.md"] = overview.content_string + methods.overview()
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    for page in list(files.documentation_pages()):
        for target, _ in _LINK.findall(page.content_string):
            wanted = _source(page.src_uri, target)
            if (
                _leads_out(wanted)
                and (ROOT / wanted).is_file()
                and not files.get_file_from_path(_site(wanted))
            ):
                files.append(File.generated(config, _site(wanted), abs_src_path=str(ROOT / wanted)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to where their files are in the site; those that lead nowhere stay, and MkDocs complains."""

    def led(match: re.Match[str]) -> str:
        wanted = _source(page.file.src_uri, match[1])
        if page.file.src_uri not in FRONT.values() and not _leads_out(wanted):
            return match[0]
        return relpath(_site(wanted), dirname(page.file.src_uri) or ".") + (match[2] or "")

    return _LINK.sub(led, markdown)


def _source(page: str, target: str) -> str:
    """The file in the repository that a page's link means."""
    front = page in FRONT.values()
    return normpath(target if front else f"docs/{dirname(page)}/{target}")


def _leads_out(source: str) -> bool:
    """Whether a file of the repository is outside `docs/`."""
    return not source.startswith("docs/")


def _site(source: str) -> str:
    """Where a file of the repository is in the site."""
    if source in FRONT:
        return FRONT[source]
    return f"{TAKEN_ALONG}/{source}" if _leads_out(source) else source.removeprefix("docs/")


def _one_level_down(page: str) -> str:
    """A page as a part of another one: its headings a level lower, code left alone."""
    parts = re.split(r"(^```.*?^```$)", page, flags=re.MULTILINE | re.DOTALL)
    return "\n" + "".join(
        part if part.startswith("```") else re.sub(r"^#", "##", part, flags=re.MULTILINE) for part in parts
    )
