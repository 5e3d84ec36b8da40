"""From decoded pictures and texts to vectors: those of the bare towers, and those of an adapter by its routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from interplay.embeddings import Array, Dtype, Manifest, digest_of
from interplay.encoding.batches import OrderedSampler
from interplay.encoding.embedding import BATCH, SideInputs
from interplay.errors import InterplayError
from interplay.retrieval.retriever import BARE, SHARED, Retriever
from interplay.towers.tokens import Side
from interplay.towers.walk import front

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Encoded:
    """N items of one side.

    Attributes:
        vectors: (N, joint) float32, normalised.
        keys: the same of the bare towers; `vectors` itself where they are the same; None where they were not wanted.
        routes: whose prompts encoded each of them.
    """

    vectors: Array
    keys: Array | None
    routes: list[str]


@dataclass(frozen=True)
class Encoder:
    """A retriever, and how it is used.

    Attributes:
        retriever: what encodes; where it knows no task, the bare towers do.
        adapted: whether its prompts are to be used.
        keys: whether the vectors of the bare towers are wanted beside those of an adapter.
        precision: of the computation.
        dtype: of the arrays that are kept.
    """

    retriever: Retriever
    adapted: bool
    keys: bool = True
    precision: Precision = "float32"
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        if self.adapted and self.retriever.method.traits.coupled:
            raise InterplayError(
                f"The method '{self.retriever.method_name}' lets image and text talk while they are encoded: to embed "
                "each side alone takes another one, as lpi-m or linear_map."
            )

    def manifest(self, sides: tuple[Side, ...]) -> Manifest:
        """What a folder of its embeddings says of it."""
        retriever, backbone = self.retriever, self.retriever.backbone
        normalisation = backbone.image.normalisation
        pixels = digest_of(
            backbone.square.label, normalisation.mean, normalisation.deviation, normalisation.divisor
        )
        sessions = retriever.sessions if self.adapted else ()
        return Manifest(
            backbone=backbone.name,
            backbone_digest=backbone.digest,
            pixels=pixels,
            joint=retriever.joint,
            sides=sides,
            retriever=retriever.identity if self.adapted else "",
            adapter=retriever.state() if self.adapted else "",
            sessions=sessions,
            sessions_digest=digest_of(*sessions) if self.adapted else "",
            keys=self.keys,
            dtype=self.dtype,
            precision=self.precision,
        )

    def images(self, pixels: Tensor) -> Encoded:
        """Pictures: uint8 (N, 3, size, size)."""
        inputs = SideInputs("image", lambda rows: pixels[list(rows)], np.zeros(len(pixels), dtype=np.int64))
        return self._encode(inputs)

    def texts(self, texts: Sequence[str]) -> Encoded:
        """Texts, which are encoded in batches of about one length."""
        return self._encode(self.retriever.prepare("text", texts))

    def _encode(self, inputs: SideInputs) -> Encoded:
        vectors = np.zeros((len(inputs), self.retriever.joint), dtype=np.float32)
        keys = np.zeros_like(vectors) if self.adapted and self.keys else None
        routes = [BARE] * len(inputs)
        device = self.retriever.backbone.device.type
        reduced = self.precision != "float32"
        with torch.autocast(device, torch.bfloat16, enabled=reduced):
            for rows in OrderedSampler(inputs.lengths, BATCH):
                found = self._batch(inputs.rows(rows))
                vectors[rows] = found.vectors
                if keys is not None and found.keys is not None:
                    keys[rows] = found.keys
                for row, route in zip(rows, found.routes, strict=True):
                    routes[row] = route
        return Encoded(vectors, keys if self.adapted else vectors, routes)

    def _batch(self, batch: SideInputs) -> Encoded:
        """One batch; front layers that the method leaves alone run once for keys and vectors."""
        retriever, side = self.retriever, batch.side
        if not self.adapted:
            vectors = retriever.keys(side, batch).numpy()
            return Encoded(vectors, vectors, [BARE] * len(batch))
        if not self.keys and not self._chooses(side):
            routes = retriever.routes(side, torch.zeros(len(batch), retriever.joint))
            return Encoded(retriever.encode(side, batch, routes).numpy(), None, routes)
        waiting = self._after_front(batch)
        keys = retriever.keys(side, waiting)
        routes = retriever.routes(side, keys)
        vectors = keys.numpy() if {*routes} == {BARE} else retriever.encode(side, waiting, routes).numpy()
        return Encoded(vectors, keys.numpy(), routes)

    def _chooses(self, side: Side) -> bool:
        """Whether prompts are chosen by keys."""
        retriever = self.retriever
        if retriever.method.sessions.routes_tasks:
            return True
        return retriever.routes(side, torch.zeros(1, retriever.joint)) != [SHARED]

    def _after_front(self, batch: SideInputs) -> SideInputs:
        """A batch taken through the layers that bare towers and method have in common, but for the last layer.

        The last layer computes the pooled token alone, in a walk that goes to its end.
        """
        backbone, side = self.retriever.backbone, batch.side
        tower = backbone.tower(side)
        layers = min(self.retriever.method.first_layer(side), tower.shape.depth - 1)
        if layers < 1:
            return batch
        read = batch.read(range(len(batch)))
        if not isinstance(read, Tensor):
            return batch
        start = front(tower, read.to(backbone.device), layers)
        return SideInputs(side, lambda rows: start.rows(torch.as_tensor(rows)), batch.lengths)
