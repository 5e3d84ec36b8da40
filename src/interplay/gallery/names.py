"""The names of a gallery's versions."""

from __future__ import annotations

import re
from collections.abc import Sequence

_VERSION = re.compile(r"(.+)__v(\d+)")


def gallery_of(collection: str) -> str:
    """The gallery that a collection is a version of; a collection of another kind is itself."""
    found = _VERSION.fullmatch(collection)
    return found[1] if found else collection


def number_of(collection: str) -> int:
    """The number of a version; 0 for the collection of a gallery that is older than versions."""
    found = _VERSION.fullmatch(collection)
    return int(found[2]) if found else 0


def versions_among(collections: Sequence[str], name: str) -> list[str]:
    """The versions of a gallery among collections, the oldest first."""
    return sorted((one for one in collections if gallery_of(one) == name), key=number_of)
