"""Filters that a user writes: closed in themselves, so that what is put around them holds."""

from __future__ import annotations

import re
from collections.abc import Iterator

from interplay.errors import InterplayError
from interplay.gallery.entry import COLUMNS
from interplay.typed import expect

_TOKEN = re.compile(
    r"""
    (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<word>\$?[^\W\d]\w*)
    | (?P<space>\s+)
    | (?P<other>.)
    """,
    re.DOTALL | re.VERBOSE,
)
_PARTNERS = {")": "(", "]": "[", "}": "{"}
_LONGEST = 16_384  # characters; Milvus Lite reads filters recursively
_DEEPEST = 50
_KEYWORD = re.compile(
    "and|or|not|in|like|is|null|exists|true|false|iso|interval|between|contains", re.IGNORECASE
)


def closed(where: str) -> str:
    """A filter that stays what it is between parentheses.

    Milvus binds values apart from an expression, but not one expression apart from another. So the filter is read
    here word by word: every parenthesis and quotation mark has its partner inside it, and none has its partner in
    what is put around it.

    Raises:
        InterplayError: it is empty, too long, or has a parenthesis or quotation mark without a partner.
    """

    def wrong(what: str) -> InterplayError:
        return InterplayError(
            f"The filter '{shown(where)}' {what}; write one such as \"price < 20 and brand == 'x'\"."
        )

    expect("where", where, str)
    if not where.strip():
        raise wrong("is empty")
    if len(where) > _LONGEST:
        raise wrong(f"is longer than {_LONGEST:,} characters")
    if where != where.encode("utf-8", "replace").decode() or "\0" in where:
        raise wrong("is no plain text")
    open_: list[str] = []
    before = ""
    for kind, token in _tokens(where):
        if kind == "string" and before == "word":
            raise wrong("has a word right before a quotation mark")
        if token in _PARTNERS.values():
            open_.append(token)
        elif token in _PARTNERS and (not open_ or open_.pop() != _PARTNERS[token]):
            raise wrong(f"has a '{token}' without its '{_PARTNERS[token]}'")
        elif kind == "other" and token in "\"'\\":
            raise wrong(f"has a {token} without its partner")
        if len(open_) > _DEEPEST:
            raise wrong(f"has more than {_DEEPEST} parentheses inside each other")
        before = kind
    if open_:
        raise wrong(f"has a '{open_[-1]}' that is not closed")
    return where


def shown(where: str) -> str:
    """The beginning of a filter, in one line."""
    line = where if len(where) <= 80 else where[:79] + "…"
    return "".join(character if character.isprintable() else "�" for character in line)


def columns_of(where: str) -> list[str]:
    """The metadata columns that a filter names."""
    tokens = [(kind, token) for kind, token in _tokens(where) if kind != "space"]
    following = [token for _, token in tokens[1:]] + [""]
    names = [
        token
        for (kind, token), after in zip(tokens, following, strict=True)
        if kind == "word" and after != "(" and not _KEYWORD.fullmatch(token) and token[0] not in "$_"
    ]
    return [name for name in dict.fromkeys(names) if name not in COLUMNS]


def _tokens(where: str) -> Iterator[tuple[str, str]]:
    for found in _TOKEN.finditer(where):
        yield found.lastgroup or "", found.group()
