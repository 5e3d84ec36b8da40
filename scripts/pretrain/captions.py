"""Names, tags and other captions of emoji (from the npm package `emojibase-data`) and of clip art."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import asdict, dataclass, field
from pathlib import Path
from xml.etree import ElementTree

SHORTCODE_SETS = ("github", "iamcal", "emojibase", "joypixels")
SKIN_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
DC = "{http://purl.org/dc/elements/1.1/}"
RDF_ITEM = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"
GENERIC_KEYWORDS = {
    "clip art",
    "clipart",
    "media",
    "image",
    "svg",
    "png",
    "externalsource",
    "unsorted",
    "other",
}


@dataclass
class Entry:
    """What can be said about one concept: a label, other full names, and keywords."""

    concept: str
    label: str
    alternatives: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """The entry as plain JSON data."""
        return asdict(self)


def compact(text: str) -> str:
    """Lower-case letters and digits only, so that slugs, labels and shortcodes can be compared."""
    folded = unicodedata.normalize("NFKD", text.lower())
    return re.sub(r"[^a-z0-9]", "", folded)


def normalise_hexcode(code: str) -> str:
    """A code-point sequence in upper case without the variation selector."""
    return "-".join(part for part in code.upper().split("-") if part != "FE0F")


def has_skin_tone(code: str) -> bool:
    """Whether a code-point sequence holds a skin-tone modifier next to something else."""
    return "-" in code and not SKIN_TONES.isdisjoint(code.upper().split("-"))


def _unicode_name(code: str) -> str:
    """Lower-cased Unicode name of a sequence that is one code point, else an empty string."""
    if "-" in code:
        return ""
    return unicodedata.name(chr(int(code, 16)), "").lower()


def _names_of_label(label: str) -> list[str]:
    """Other ways to say a CLDR label with a colon (`flag: iraq`, `keycap: 1`, `family: man, boy`)."""
    if ": " not in label:
        return []
    kind, rest = label.split(": ", 1)
    names = [f"{kind} {rest}".replace(",", "")]
    if kind == "flag":
        names += [f"{rest} flag", f"{rest} flag", f"flag of {rest}", rest]
    return names


def load_emoji(data_dir: Path) -> dict[str, Entry]:
    """Read every emoji without skin tone from `emojibase-data`, keyed by normalised hex code."""
    records = json.loads((data_dir / "en" / "data.json").read_text("utf-8"))
    shortcodes = [
        json.loads((data_dir / "en" / "shortcodes" / f"{name}.json").read_text("utf-8"))
        for name in SHORTCODE_SETS
    ]
    entries = {}
    for record in records:
        code = normalise_hexcode(record["hexcode"])
        label = record["label"].lower()
        alternatives = [name for name in (_unicode_name(code), *_names_of_label(label)) if name]
        for table in shortcodes:
            found = table.get(record["hexcode"], [])
            for name in [found] if isinstance(found, str) else found:
                words = re.sub(r"[_-]+", " ", name).strip()
                if words and words != label and words not in alternatives:
                    alternatives.append(words)
        tags = [tag.lower() for tag in record.get("tags", [])]
        entries[code] = Entry(f"emoji:{code}", label, alternatives, tags)
    return entries


def name_index(entries: dict[str, Entry]) -> dict[str, str]:
    """Map the compact form of every full name of an emoji to its hex code; labels win over other names."""
    index: dict[str, str] = {}
    for code, entry in entries.items():
        index.setdefault(compact(entry.label), code)
        if entry.label.startswith("flag: "):
            index.setdefault(compact("flag for " + entry.label), code)
            index.setdefault(compact("flag for " + entry.label[6:]), code)
    for code, entry in entries.items():
        for name in entry.alternatives:
            index.setdefault(compact(name), code)
    index.pop("", None)
    return index


def flag_code(country: str) -> str:
    """Hex code of the flag emoji of a two-letter country code."""
    return "-".join(f"{0x1F1E6 + ord(letter) - ord('a'):X}" for letter in country.lower())


def clean_words(text: str) -> str:
    """A clip-art title or keyword as plain lower-case words; empty when nothing readable is left."""
    text = re.sub(r"^clipart (?=by )", "", re.sub(r"[_/\\+-]+", " ", text.strip().lower()))
    text = re.sub(r"\.svg$|\b(clip ?art|hash)\b|\b0x\w+|^by nicu buculei\b", "", text)
    text = re.sub(r"[\s#]*\d+$", "", text)
    text = re.sub(r"\s+", " ", text).strip(" .,;:()")
    readable = text.isascii() and len(re.findall(r"[a-z]", text)) >= 2 and len(text) <= 60
    return text if readable else ""


def clipart_entry(path: Path, root: Path) -> Entry | None:
    """Title and keywords from the metadata of an Open Clip Art file, or None when it has neither."""
    try:
        tree = ElementTree.parse(path)
    except (ElementTree.ParseError, ValueError, LookupError):
        return None
    title = next((clean_words(node.text or "") for node in tree.iter(f"{DC}title")), "")
    words = [
        clean_words(item.text or "") for node in tree.iter(f"{DC}subject") for item in node.iter(RDF_ITEM)
    ]
    words += [clean_words(part) for part in path.relative_to(root).parent.parts]
    tags = list(
        dict.fromkeys(word for word in words if word and word not in GENERIC_KEYWORDS and word != title)
    )
    if not title:
        if len(tags) < 2:
            return None
        title = " ".join(tags[:2])
    return Entry(f"text:{compact(title)}", title, [], tags)
