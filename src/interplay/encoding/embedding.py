"""From many images or texts to vectors: bare ones (keys), or by the prompts that each item's route names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.data.images import decode, source_name
from interplay.data.picture_sources import Images, Words, picture_list, text_list
from interplay.encoding.batches import EncodedTable, Integers, OrderedSampler, Texts, moved
from interplay.methods.base import Method
from interplay.towers.backbone import Backbone
from interplay.towers.preprocessing import to_square
from interplay.towers.tokens import Side
from interplay.towers.walk import Start, encode

BATCH = 64


@dataclass(frozen=True)
class SideInputs:
    """N images or N texts as a tower reads them.

    Attributes:
        side: which.
        read: from n row numbers to what the tower reads, or to tokens after front layers that are left alone.
        lengths: (N,) tokens of each text; zeros for images.
    """

    side: Side
    read: Callable[[Sequence[int]], Tensor | Start]
    lengths: Integers

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, rows: Sequence[int]) -> SideInputs:
        """Some of them, by number."""
        picked = np.asarray(rows, dtype=np.int64)
        return SideInputs(
            self.side, lambda some: self.read(picked[list(some)].tolist()), self.lengths[picked]
        )


def image_inputs(images: Images, backbone: Backbone) -> SideInputs:
    """One picture or several, from paths, bytes or memory, decoded when a batch asks for them.

    Raises:
        InterplayError: no pictures; (in `read`) a picture that cannot be read.
    """
    size, sources = backbone.image_size, picture_list(images, "images")

    def read(rows: Sequence[int]) -> Tensor:
        pixels = np.empty((len(rows), 3, size, size), dtype=np.uint8)
        for at, row in enumerate(rows):
            pixels[at] = to_square(decode(sources[row], source_name(sources[row], row + 1)), backbone.square)
        return torch.from_numpy(pixels)

    return SideInputs("image", read, np.zeros(len(sources), dtype=np.int64))


def text_inputs(texts: Words, backbone: Backbone, *, reserve: int = 0) -> SideInputs:
    """Texts, tokenised.

    Args:
        reserve: positions to leave free for a method's prompts.

    Raises:
        InterplayError: no texts, or an empty one.
    """
    encoded = Texts.tokenized(backbone, text_list(texts, "texts"), reserve=reserve)
    return SideInputs("text", encoded.batch, encoded.lengths)


def table_inputs(table: EncodedTable, side: Side) -> SideInputs:
    """One side of an encoded table."""
    if side == "text":
        return SideInputs("text", table.texts.batch, table.texts.lengths)
    return SideInputs(
        "image",
        lambda rows: torch.from_numpy(table.pixels(rows)),
        np.zeros(len(table), dtype=np.int64),
    )


def embed(
    inputs: SideInputs,
    backbone: Backbone,
    method: Method | None = None,
    route: Tensor | None = None,
    *,
    apart: bool = False,
) -> Tensor:
    """Vectors of many inputs, on the CPU: (N, joint), normalised to length 1. No gradient.

    In an open session of a method that reads features (`SessionPolicy.reads_features`) they are those, and so as wide.

    In batches a vector depends on what else is in the call by its last bits (some 1e-7): the length that texts are
    padded to and the size of the batch decide which kernels run, and with some kernels the row of the batch does
    too, so that batches of one fixed shape would not do either.

    Args:
        method: None for the bare tower, whose vectors are the keys.
        route: (N, …) which of the method's prompts each input takes; None: the newest ones.
        apart: one input at a time, so that a vector has the same bits whatever else is in the call, on one machine
            and number of threads. It takes 1.7 times as long for pictures and 4 times for texts on a CPU; on an
            accelerator, where it would take far longer, batches stay batches.
    """
    side = inputs.side
    vectors = torch.zeros(len(inputs), backbone.shape.joint)
    size = 1 if apart and backbone.device.type == "cpu" else BATCH
    with torch.no_grad():
        for rows in OrderedSampler(inputs.lengths, size):
            batch = moved(inputs.read(rows), backbone.device)
            picked = None if route is None else route[rows].to(backbone.device)
            found = encode(backbone.tower(side), side, batch, method, route=picked)
            if found.shape[1] != vectors.shape[1]:
                vectors = vectors.new_zeros(len(inputs), found.shape[1])
            vectors[rows] = F.normalize(found, dim=-1).float().cpu()
    return vectors
