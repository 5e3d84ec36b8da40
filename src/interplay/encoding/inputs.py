"""From what users bring to what a backbone reads: tables, pairs, and pictures or texts alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interplay.data.image_cache import ImageCache
from interplay.data.images import decode, source_name
from interplay.data.picture_sources import Images, ImageSource, Readable, Words, picture_list, text_list
from interplay.data.readers import Source, is_table, load
from interplay.data.schema import PairTable
from interplay.encoding.batches import EncodedTable, Pixels
from interplay.errors import InterplayError
from interplay.towers.backbone import Backbone
from interplay.towers.preprocessing import to_square
from interplay.towers.tokens import SIDES, Side

_log = logging.getLogger(__name__)

_UNREAD = "picture"
"""What stands in the place of texts that nothing reads."""


def encode_table(table: PairTable, backbone: Backbone, *, reserve: int = 0) -> EncodedTable:
    """The pairs of a table as a backbone reads them, pictures through the image cache; says how many texts were cut."""
    before = backbone.truncated
    encoded = EncodedTable.from_table(table, backbone, ImageCache(square=backbone.square), reserve=reserve)
    if cut := backbone.truncated - before:
        room = backbone.text.shape.positions - reserve
        _log.warning("%s: %d of %d texts were cut to %d tokens.", table.name, cut, len(table), room)
    return encoded


@dataclass(frozen=True)
class Pairs:
    """N pairs to be predicted, or one side of them.

    Attributes:
        images: sources of pictures, or None.
        texts: or None.
        names: what messages call the pictures.
        ids: of the rows of a table, else their numbers from 0.
    """

    images: Sequence[ImageSource] | None
    texts: Sequence[str] | None
    names: Sequence[str]
    ids: Sequence[Any]

    def encode(self, backbone: Backbone, *, reserve: int = 0) -> EncodedTable:
        """The pairs as a backbone reads them; for a side that is not there something that stands in its place.

        Raises:
            InterplayError: an image that cannot be read.
        """
        texts = [_UNREAD] * len(self.ids) if self.texts is None else self.texts
        pixels = self.pixels(backbone)
        return EncodedTable.from_arrays(backbone, pixels, texts, kind="pairs", name="input", reserve=reserve)

    def pixels(self, backbone: Backbone) -> Pixels:
        """The pictures as a backbone reads them, (N, 3, size, size); black ones where there are none.

        Raises:
            InterplayError: an image that cannot be read.
        """
        shape = (len(self.ids), 3, backbone.image_size, backbone.image_size)
        if self.images is None:
            return np.broadcast_to(np.zeros((1, *shape[1:]), dtype=np.uint8), shape)
        pixels = np.empty(shape, dtype=np.uint8)
        for at, source in enumerate(self.images):
            pixels[at] = to_square(decode(source, self.names[at]), backbone.square)
        return pixels


def pairs_of(
    images: Images | Source | None, texts: Words | None, reads: Sequence[Side] = SIDES, method: str = ""
) -> Pairs:
    """What is to be predicted, from any kind of pictures and texts or from data in rows.

    Args:
        images: one picture or several; or, without texts, data in rows as `interplay.data.load` takes them, whose
            labels and splits are not read.
        texts: one or several.
        reads: the sides of a pair that are needed.
        method: what needs them, for the message.

    Raises:
        InterplayError: a side that is needed is missing, there are not as many images as texts, something is neither a
            picture nor a text nor data, or a row of the data cannot be used.
    """
    if isinstance(images, Iterator) and not isinstance(images, Readable):
        images = list(images)  # looked at first, and then read
    rows_given = images is not None and is_table(images)
    if rows_given and texts is not None and not isinstance(images, (str, os.PathLike)):
        raise InterplayError("images holds pairs in rows, texts among them: leave texts out.")
    if rows_given and texts is None:
        table = load(images, labelled=False)
        rows = range(len(table))
        names = [table.where(row) for row in rows]
        return Pairs(table.sources(rows), table.texts(), names, table.ids())
    pictures = None if images is None else picture_list(images, "images")  # type: ignore[arg-type]
    words = None if texts is None else text_list(texts, "texts")
    found = {"image": pictures, "text": words}
    if missing := [side for side in reads if found[side] is None]:
        reading = " and the ".join(reads)
        raise InterplayError(
            f"The method '{method}' with this head reads the {reading} of a pair: give {missing[0]}s too."
        )
    if pictures is not None and words is not None and len(pictures) != len(words):
        raise InterplayError(
            f"Every pair needs an image and a text: got {len(pictures)} images, {len(words)} texts."
        )
    count = len(pictures if pictures is not None else words or ())
    names = [source_name(one, at + 1) for at, one in enumerate(pictures or ())]
    return Pairs(pictures, words, names, range(count))
