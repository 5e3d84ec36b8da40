"""The column of pictures of a table: undecoded files, made from whatever a source holds as a picture."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from interplay.data.images import decode
from interplay.data.picture_sources import Unusable, encodable, plain
from interplay.errors import InterplayError

if TYPE_CHECKING:
    import datasets


def stored(value: Any, folder: Path) -> dict[str, Any] | None:
    """A picture of a row as an image column holds it, undecoded where it is a file; None where there is none.

    Raises:
        Unusable: it is none.
    """
    if is_missing(value) or (isinstance(value, str) and not value):
        return None
    source = plain(value)
    if isinstance(source, bytes):
        return {"path": None, "bytes": source}
    if isinstance(source, Image.Image):
        return {"path": None, "bytes": _as_png(source)}
    name = str(source)
    if not encodable(name):
        raise Unusable("the path of the image holds half of a character (a lone surrogate)")
    return {"path": str(folder.absolute() / name), "bytes": None}


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, or pandas' own ways to say so."""
    import pandas

    return bool(pandas.api.types.is_scalar(value) and pandas.isna(value))


def _as_png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    try:
        decode(picture, "").save(file, "PNG", compress_level=1)
    except InterplayError as problem:
        raise Unusable(str(problem).removeprefix(": ")) from None
    return file.getvalue()


def image_column(pictures: Sequence[dict[str, Any] | None]) -> datasets.Dataset:
    import datasets

    features = datasets.Features({"image": datasets.Image(decode=False)})
    return datasets.Dataset.from_dict({"image": pictures}, features=features)


def group(picture: dict[str, Any] | None, name: str) -> str:
    """What must not straddle a split: the picture's path, or its content."""
    if picture is None or picture["bytes"] is None:
        return name
    return hashlib.sha256(picture["bytes"]).hexdigest()


def holds_files(feature: Any) -> bool:
    """Whether a column holds the bytes of pictures, alone or beside their paths."""
    import datasets

    if isinstance(feature, datasets.Value):
        return feature.dtype in ("binary", "large_binary")
    if isinstance(feature, dict):
        return {"bytes"} <= feature.keys() <= {"bytes", "path"} and holds_files(feature["bytes"])
    return isinstance(feature, datasets.Image)


def values_of(rows: datasets.Dataset, column: str, source: str) -> Iterator[Any]:
    """Paths, or arrays of pixels, of a column of a data set.

    Raises:
        InterplayError: it holds neither.
    """
    import datasets

    feature = rows.features[column]
    if isinstance(feature, datasets.Value):
        if feature.dtype not in ("string", "large_string", "null"):
            raise InterplayError(
                f"{source}: the column '{column}' holds values of the type {feature.dtype}, no pictures: it takes "
                "paths, bytes or arrays of pixels."
            )
        return iter(rows[column])
    return (_pixels(value) for value in rows[column])


def _pixels(value: Any) -> Any:
    """Nested lists as an array; what is no array stays, and is refused as a picture."""
    try:
        return np.array(value) if isinstance(value, list) else value
    except ValueError:  # rows of unequal length
        return value
