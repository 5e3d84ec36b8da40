"""Documents and docstrings are written in plain English: phrases that kept coming back stay away.

The patterns are narrow: "behind gates that start closed" and "nothing is left behind" are fine.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SOURCES = sorted(
    path for folder in ("src", "tests", "benchmarks", "scripts") for path in ROOT.glob(f"{folder}/**/*.py")
)

PHRASES = {
    r"\bone behind the other\b": "one after the other",
    r"\b(stands?|joins?|enters?|starts?|called|layers?|norm|begins|tokens) behind\b(?! (\w+ )?gates?)": "after",
    r"\bbehind (every|each|the (last|first|end|start|front|sum|towers?)|layer)\b(?! gates?)": "after",
    r"\bstands? in front\b": "precedes",
    r"\b(for|of|in|to|than|over|from|after|before|by|[Kk]ill) so many\b(?! that)|^So many\b": "the number",
    r"\bstands? fast\b": "is fixed",
    r"\b(does|do|did|doing) away with\b": "removes",
    r"\bsets? [\w' ]{1,40} (beside|next to) each other\b": "compares",
    r"\bof before\b": "former, earlier",
    r"\blets go of\b": "releases",
    r"(^|[.:] )Of what\b": "a sentence with its subject first",
}
"""What is not written, and what is instead."""


def found(text: str) -> list[str]:
    """The phrases in a text, each with what to write."""
    return [
        f"'{hit[0]}': write {better}"
        for bad, better in PHRASES.items()
        for hit in re.finditer(bad, text, re.MULTILINE)
    ]


def docstrings(path: Path) -> Iterator[str]:
    """Of a module, its classes, functions and attributes."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_document_is_in_plain_english(document: Path) -> None:
    text = document.read_text("utf-8")
    assert not found(text)
    prose = re.sub(r"```.*?```|`[^`]*`|^#.*?$", "", text, flags=re.MULTILINE | re.DOTALL)
    begins = re.findall(r"(?:^|[.:] )(What is [^.?]*\.)", prose, re.MULTILINE)
    assert not begins, "a sentence that begins with 'What is' hides its subject"


def test_docstrings_are_in_plain_english() -> None:
    hits = {path.relative_to(ROOT).as_posix(): found("\n\n".join(docstrings(path))) for path in SOURCES}
    assert not {path: phrases for path, phrases in hits.items() if phrases}


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("The norm stands behind the sum.", 2),
        ("A gallery of so many entries.", 1),
        ("Training again does away with it.", 1),
        ("Artefacts of before open.", 1),
        ("Prompts stand behind gates that start closed; nothing is left behind.", 0),
        ("There are so many that it takes an hour.", 0),
    ],
)
def test_what_is_looked_for_is_found(text: str, hits: int) -> None:
    assert len(found(text)) == hits
