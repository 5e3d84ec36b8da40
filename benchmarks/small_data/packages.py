"""Icon sets with categories or tags, from npm packages that are fetched once, by name and version, into the cache.

| package | licence | what its metadata has |
|---|---|---|
| `@iconify-json/streamline-emojis` | CC BY 4.0 | categories; the style that `tiny` never saw |
| `@iconify-json/streamline-ultimate-color` | CC BY 4.0 | categories |
| `@iconify-json/ri` (Remix Icon) | Apache-2.0 | categories |
| `@iconify-json/healthicons` | MIT | categories |
| `@tabler/icons` | MIT | categories, tags |
| `@phosphor-icons/core` | MIT | several categories an icon, tags |
| `@fortawesome/fontawesome-free` | icons CC BY 4.0 | categories, search terms |
| `devicon` | MIT | tags |

None of them is a source of `scripts/pretrain`, but for the validation style `streamline-emojis`.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from interplay.data.paths import cache_folder
from interplay.errors import InterplayError
from interplay.files import read_json, read_text, read_yaml, write_text

PACKAGES = {
    "@iconify-json/streamline-emojis": "1.2.4",
    "@iconify-json/streamline-ultimate-color": "1.2.2",
    "@iconify-json/ri": "1.2.10",
    "@iconify-json/healthicons": "1.2.13",
    "@tabler/icons": "3.51.0",
    "@phosphor-icons/core": "2.1.1",
    "@fortawesome/fontawesome-free": "7.3.1",
    "devicon": "2.17.0",
}


@dataclass(frozen=True)
class Icon:
    """One icon: its key in the set, its name in words, what the set says of it, and its drawing."""

    key: str
    name: str
    categories: tuple[str, ...]
    tags: tuple[str, ...]
    svg: str


def package(name: str) -> Path:
    """The folder of a package, fetched by npm on the first call.

    Raises:
        InterplayError: npm is not there, or does not get it.
    """
    root = cache_folder() / "own_data" / "npm" / name.replace("/", "+")
    folder = root / "node_modules" / name
    root.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(root / ".lock"):
        if not (root / "fetched").exists():
            write_text(root / "package.json", '{"private": true}\n')
            options = ["--no-audit", "--no-fund", "--ignore-scripts"]
            command = ["npm", "install", *options, f"{name}@{PACKAGES[name]}"]
            try:
                done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
            except FileNotFoundError:
                raise InterplayError(f"The icons of {name} are fetched by npm: install Node.js.") from None
            if done.returncode:
                raise InterplayError(f"npm did not get {name}: {done.stderr.strip()[-200:]}")
            write_text(root / "fetched", PACKAGES[name] + "\n")
    return folder


def words(name: str) -> str:
    """An icon's name as words: `arrow-up-2` is `arrow up`."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("-", " ").replace("_", " "))
    return re.sub(r"( \d+)+$", "", spaced).lower().strip()


def iconify(name: str, variant: str = "") -> list[Icon]:
    """The icons of an Iconify package in one variant, each with its one category.

    Args:
        variant: the ending that the variant's keys have; empty for those without any of the set's endings.
    """
    folder = package(f"@iconify-json/{name}")
    data, metadata = read_json(folder / "icons.json"), read_json(folder / "metadata.json")
    endings = tuple(f"-{ending}" for ending in metadata.get("suffixes", {}) if ending)
    return [
        Icon(key, words(key.removesuffix(f"-{variant}")), (words(category),), (), _svg(data, key))
        for category, members in metadata["categories"].items()
        for key in members
        if key in data["icons"]
        and (key.endswith(f"-{variant}") if variant else not key.endswith(endings))
        and re.search("[a-z]{2}", words(key))
    ]


def tabler() -> list[Icon]:
    """Outline icons, each with one category and its tags."""
    folder = package("@tabler/icons")
    return [
        Icon(
            entry["name"],
            words(entry["name"]),
            (entry["category"].lower(),),
            tuple(str(tag) for tag in entry["tags"]),
            read_text(folder / "icons" / "outline" / f"{entry['name']}.svg"),
        )
        for entry in read_json(folder / "icons.json").values()
        if "outline" in entry["styles"] and entry["category"]
    ]


def phosphor() -> list[Icon]:
    """Two-tone icons, each with one category or several, and tags."""
    folder = package("@phosphor-icons/core")
    catalogue = read_text(folder / "dist" / "index.mjs")
    titles = catalogue.split("/* @__PURE__ */")[2]  # of the categories: `i.MAP = "maps & travel"`
    title_of = dict(re.findall(r'i\.(\w+) = "([^"]+)"', titles))
    entries = re.findall(
        r'name: "([^"]+)",\s+pascal_name: "[^"]+",\s+categories: \[([^\]]*)\],.*?tags: \[([^\]]*)\]',
        catalogue,
        re.DOTALL,
    )
    return [
        Icon(
            name,
            words(name),
            tuple(title_of[category] for category in re.findall(r"e\.(\w+)", categories)),
            tuple(tag for tag in re.findall(r'"([^"]+)"', tags) if tag != "*new*"),
            read_text(folder / "assets" / "duotone" / f"{name}-duotone.svg"),
        )
        for name, categories, tags in entries
    ]


def font_awesome() -> list[Icon]:
    """Solid icons, each with one category or several, and the terms that it is searched by."""
    folder = package("@fortawesome/fontawesome-free")
    categories_of: dict[str, list[str]] = {}
    for category in read_yaml(folder / "metadata" / "categories.yml").values():
        for key in category["icons"]:
            categories_of.setdefault(key, []).append(category["label"].lower())
    return [
        Icon(
            key,
            entry["label"].lower(),
            tuple(categories_of[key]),
            tuple(str(term) for term in entry["search"]["terms"] or ()),
            read_text(folder / "svgs" / "solid" / f"{key}.svg"),
        )
        for key, entry in read_yaml(folder / "metadata" / "icons.yml").items()
        if "solid" in entry["styles"] and key in categories_of
    ]


def devicon() -> list[Icon]:
    """Logos of programming tools in their own colours, with tags."""
    folder = package("devicon")
    return [
        Icon(
            entry["name"],
            words(entry["name"]),
            (),
            tuple(entry["tags"]),
            read_text(folder / "icons" / entry["name"] / f"{entry['name']}-original.svg"),
        )
        for entry in read_json(folder / "devicon.json")
        if "original" in entry["versions"]["svg"]
    ]


def _svg(data: dict[str, Any], key: str) -> str:
    icon = data["icons"][key]
    left, top = icon.get("left", data.get("left", 0)), icon.get("top", data.get("top", 0))
    width, height = icon.get("width", data.get("width", 16)), icon.get("height", data.get("height", 16))
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'{head} viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
