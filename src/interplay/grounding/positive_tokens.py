"""Which tokens of a phrase name what is looked for (MDETR; Kamath et al., ICCV 2021)."""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[int, int]
"""The first character, and the one after the last."""


def positive_tokens(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """For each token whether it belongs to one of the spans.

    A span reaches from the token that holds its first character to the one that holds its last. Where that character
    is in no token (a blank), the next two are tried, or the two before the last. A span of which no token is left,
    since the phrase was cut, is left out.

    Args:
        offsets: the characters of each token; those of special tokens are empty.
        spans: of characters; MDETR's files hold the noun phrase that an expression is about.
    """
    found = [False] * len(offsets)
    for begin, end in spans:
        first = _token(offsets, (begin, begin + 1, begin + 2))
        last = _token(offsets, (end - 1, end - 2, end - 3))
        if first is not None and last is not None:
            for at in range(first, last + 1):
                found[at] = True
    return found


def _token(offsets: Sequence[Span], characters: Sequence[int]) -> int | None:
    """The token that holds the first of some characters that is in any."""
    for character in characters:
        for at, (begin, end) in enumerate(offsets):
            if begin <= character < end:
                return at
    return None
