"""Metadata and ids of the user's own, checked before anything is encoded."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from interplay.errors import InterplayError, wrong_type
from interplay.gallery.entry import COLUMNS, LONGEST
from interplay.typed import expect


def check_metadata(metadata: Sequence[Mapping[str, Any]] | None, count: int) -> list[Mapping[str, Any]]:
    """Metadata as Milvus keeps them: one mapping an item, with plain values."""
    if metadata is None:
        return [{}] * count
    if len(metadata) != count:
        raise InterplayError(
            f"Every item needs its metadata: got {count} items, {len(metadata)} sets of metadata."
        )
    plain: list[Mapping[str, Any]] = []
    for at, notes in enumerate(metadata):
        expect(f"metadata of item {at + 1}", notes, Mapping)
        for name in notes:
            if not isinstance(name, str) or not name.isidentifier() or name[0] == "_" or not name.isascii():
                raise InterplayError(
                    f"Item {at + 1}: '{name}' cannot name a metadata column: use letters, digits and underscores, "
                    "a letter first."
                )
            if name in COLUMNS:
                raise InterplayError(
                    f"Item {at + 1}: the gallery has a column '{name}' of its own; give the metadata another name."
                )
        plain.append(_plain(at, notes))
    return plain


def _plain(at: int, notes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata of one item, as JSON gives them back."""
    for name, value in notes.items():
        if any(not _kept(one) for one in _leaves(value)):
            raise InterplayError(
                f"Item {at + 1}: the value of '{name}' cannot be kept: Milvus takes whole numbers of 64 bits, finite "
                "numbers and Unicode; give it as a text."
            )
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in notes.items()}
    try:
        text = json.dumps(values, allow_nan=False)
        if len(text) > LONGEST:
            raise InterplayError(f"Item {at + 1}: its metadata are longer than {LONGEST:,} characters.")
        plain: Mapping[str, Any] = json.loads(text)
    except (TypeError, ValueError, RecursionError) as problem:
        reason = str(problem)[:120]
        raise InterplayError(f"Item {at + 1}: its metadata cannot be kept ({reason}).") from None
    return plain


def _leaves(value: Any, depth: int = 0) -> Iterator[Any]:
    """The plain values in lists and mappings, keys too; what is deeper than 50 is left to the JSON writer."""
    if isinstance(value, Mapping) and depth < 50:
        for name, inner in value.items():
            yield name
            yield from _leaves(inner, depth + 1)
    elif isinstance(value, list | tuple) and depth < 50:
        for inner in value:
            yield from _leaves(inner, depth + 1)
    else:
        yield value


def _kept(value: Any) -> bool:
    """Whether Milvus keeps a plain value as it is."""
    if isinstance(value, str):
        return is_unicode(value)
    if isinstance(value, int | np.integer):
        return -(2**63) <= int(value) < 2**63
    return not isinstance(value, float | np.floating) or math.isfinite(value)


def check_names(names: Sequence[str] | None, count: int) -> list[str]:
    """Ids of the user's own, one an item; empty ones where there are none.

    Raises:
        InterplayError: not as many as items, not a text, too long, or one twice.
    """
    if names is None:
        return [""] * count
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise wrong_type("ids", "a list of texts", names)
    if len(names) != count:
        raise InterplayError(f"Every item needs its id: got {count} items, {len(names)} ids.")
    seen: dict[str, int] = {}
    for at, name in enumerate(names):
        if not isinstance(name, str) or len(name) > 1024 or not is_unicode(name):
            raise InterplayError(f"Item {at + 1}: an id must be a text of at most 1,024 characters.")
        if name and seen.setdefault(name, at) != at:
            raise InterplayError(f"Item {at + 1}: the id '{name}' is that of item {seen[name] + 1} already.")
    return list(names)


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: it holds no half of a pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
