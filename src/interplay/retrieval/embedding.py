"""From many images or texts to vectors: bare ones (keys), or by the prompts that each item's route names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.data.batches import EncodedTable, Integers, OrderedSampler, Texts
from interplay.data.images import ImageSource, decode
from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.towers.backbone import Backbone
from interplay.towers.preprocessing import to_square
from interplay.towers.tokens import Side
from interplay.towers.walk import encode

BATCH = 64


@dataclass(frozen=True)
class SideInputs:
    """N images or N texts as a tower reads them.

    Attributes:
        side: which.
        read: from n row numbers to what the tower reads.
        lengths: (N,) tokens of each text; zeros for images.
    """

    side: Side
    read: Callable[[Sequence[int]], Tensor]
    lengths: Integers

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, rows: Sequence[int]) -> SideInputs:
        """Some of them, by number."""
        picked = np.asarray(rows, dtype=np.int64)
        return SideInputs(
            self.side, lambda some: self.read(picked[list(some)].tolist()), self.lengths[picked]
        )


def image_inputs(sources: Sequence[ImageSource], backbone: Backbone) -> SideInputs:
    """Pictures from paths, bytes or memory, decoded when a batch asks for them.

    Raises:
        InterplayError: (in `read`) a picture that cannot be read.
    """
    size = backbone.image_size

    def read(rows: Sequence[int]) -> Tensor:
        pixels = np.empty((len(rows), 3, size, size), dtype=np.uint8)
        for at, row in enumerate(rows):
            source = sources[row]
            name = str(source) if isinstance(source, (str, Path)) else f"image {row + 1}"
            pixels[at] = to_square(decode(source, name), backbone.square)
        return torch.from_numpy(pixels)

    return SideInputs("image", read, np.zeros(len(sources), dtype=np.int64))


def text_inputs(texts: Sequence[str], backbone: Backbone, *, reserve: int = 0) -> SideInputs:
    """Texts, tokenised.

    Args:
        reserve: positions to leave free for a method's prompts.

    Raises:
        InterplayError: an empty text.
    """
    for at, text in enumerate(texts):
        if not text.strip():
            raise InterplayError(f"Text {at + 1} is empty.")
    encoded = Texts.tokenized(backbone, texts, reserve=reserve)
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
    inputs: SideInputs, backbone: Backbone, method: Method | None = None, route: Tensor | None = None
) -> Tensor:
    """Vectors of many inputs, on the CPU: (N, joint), normalised to length 1. No gradient.

    Args:
        method: None for the bare tower, whose vectors are the keys.
        route: (N, …) which of the method's prompts each input takes; None: the newest ones.
    """
    side = inputs.side
    vectors = torch.zeros(len(inputs), backbone.shape.joint)
    with torch.no_grad():
        for rows in OrderedSampler(inputs.lengths, BATCH):
            batch = inputs.read(rows).to(backbone.device)
            picked = None if route is None else route[rows].to(backbone.device)
            found = encode(backbone.tower(side), side, batch, method, route=picked)
            vectors[rows] = F.normalize(found, dim=-1).float().cpu()
    return vectors
