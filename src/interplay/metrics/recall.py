"""Recall@k of retrieval between images and texts: vectors and owners in, ranks and shares out, without sorting.

Rank of a query = 1 + the number of items of others that score better than its best own item, or the same: ties
count against the method. Its other own items (the other captions of an image) never count against it. So
image→text asks whether any caption of the image is among the first k, and text→image asks, for each caption,
whether its image is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from interplay.errors import InterplayError

Direction = Literal["image_to_text", "text_to_image"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

Recall = dict[Direction, dict[int, float]]
"""Recall@k as a share in [0, 1], by direction and k."""

KS = (1, 5, 10)

_BLOCK = 2**23  # scores at a time: 32 MB
_WHOLE = 2**27  # scores that are kept to count in both directions: 512 MB


def ranks(queries: Tensor, gallery: Tensor, query_owner: Tensor, gallery_owner: Tensor) -> Tensor:
    """Rank of the best own item of each query, from 1.

    rank(q) = 1 + #{items g of another owner: q·g ≥ max over q's own items h of q·h}

    An item is the query's own where their owners are equal. Both sides of the comparison come from one matrix
    product, and gallery items with equal vectors share one score (a product may differ in its last bit from column
    to column), so equal vectors always tie. Memory beyond the inputs: about 50 MB, one row of scores, and a copy of
    the gallery.

    Args:
        queries: (N, d) vectors; computed with in float32 on the CPU. Cosine similarity: L2-normalised.
        gallery: (M, d) vectors.
        query_owner: (N,) integers.
        gallery_owner: (M,) integers.

    Returns:
        (N,) int64, in [1, M].

    Raises:
        ValueError: the shapes do not belong together, or a query has no own item in the gallery.
        InterplayError: a vector is not finite.
    """
    queries, gallery = _vectors(queries, "query"), _vectors(gallery, "gallery")
    query_owner, gallery_owner = query_owner.cpu().long(), gallery_owner.cpu().long()
    _check_owners(queries, gallery, query_owner, gallery_owner)
    own = _own_items(query_owner, gallery_owner)
    twins, firsts = _twins(gallery)
    result = torch.empty(len(queries), dtype=torch.int64)
    for block in _blocks(len(queries), len(gallery)):
        scores = queries[block] @ gallery.T
        scores[:, twins] = scores[:, firsts]
        result[block] = _count(scores, own, block)
    return result


@dataclass(frozen=True, eq=False)
class RetrievalRanks:
    """The ranks of one gallery of N images and M texts, from which recall is taken of all of it or of a part.

    Args:
        image_to_text: (N,) rank of the best caption of each image among the M texts.
        text_to_image: (M,) rank of the image of each caption among the N images.
        owner: (M,) index of the image of each caption.
    """

    image_to_text: Tensor
    text_to_image: Tensor
    owner: Tensor

    def recall(self, ks: Sequence[int] = KS, images: Tensor | None = None) -> Recall:
        """Share of queries with a rank of at most k.

        Args:
            ks: each at least 1.
            images: (N,) bool, which images ask, and with them their captions; by default all. The gallery stays
                whole: this is how the recall of one task in the gallery of all tasks is taken.

        Raises:
            ValueError: `images` is no (N,) bool, or nothing asks.
        """
        asks = torch.ones(len(self.image_to_text), dtype=torch.bool) if images is None else images.cpu()
        if asks.shape != self.image_to_text.shape or asks.dtype != torch.bool or not asks.any():
            raise ValueError(f"`images` must be ({len(self.image_to_text)},) bool with at least one True")
        found = (self.image_to_text[asks], self.text_to_image[asks[self.owner]])
        return {
            direction: {k: (rank <= k).double().mean().item() for k in ks}
            for direction, rank in zip(DIRECTIONS, found, strict=True)
        }


def retrieval_ranks(images: Tensor, texts: Tensor, owner: Tensor) -> RetrievalRanks:
    """Ranks in both directions, between images and their captions, as `ranks` counts them.

    Up to 2²⁷ scores (512 MB) are computed once for both directions; more are computed in blocks, for each direction.

    Args:
        images: (N, d) vectors.
        texts: (M, d) vectors.
        owner: (M,) index of the image that each text belongs to; every image has at least one.

    Raises:
        ValueError: the shapes do not belong together, or an image has no text.
        InterplayError: a vector is not finite.
    """
    each, owner = torch.arange(len(images)), owner.cpu().long()
    images, texts = _vectors(images, "image"), _vectors(texts, "text")
    _check_owners(images, texts, each, owner)
    if len(images) * len(texts) > _WHOLE:
        return RetrievalRanks(ranks(images, texts, each, owner), ranks(texts, images, owner, each), owner)
    scores = images @ texts.T
    for side, vectors in ((scores.T, texts), (scores, images)):
        twins, firsts = _twins(vectors)
        side[twins] = side[firsts]
    found = []
    for side, own in ((scores, _own_items(each, owner)), (scores.T, _own_items(owner, each))):
        blocks = _blocks(*side.shape)
        found.append(torch.cat([_count(side[block], own, block) for block in blocks] or [owner[:0]]))
    return RetrievalRanks(found[0], found[1], owner)


def retrieval_recall(images: Tensor, texts: Tensor, owner: Tensor, ks: Sequence[int] = KS) -> Recall:
    """Recall@k of image→text and text→image, as shares in [0, 1].

    Args:
        images: (N, d) vectors.
        texts: (M, d) vectors.
        owner: (M,) index of the image that each text belongs to; every image has at least one.
        ks: each at least 1.

    Returns:
        `{"image_to_text": {1: …, 5: …, 10: …}, "text_to_image": {…}}`.

    Raises:
        ValueError: the shapes do not belong together, an image has no text, or there is nothing.
        InterplayError: a vector is not finite.
    """
    return retrieval_ranks(images, texts, owner).recall(ks)


def _vectors(vectors: Tensor, what: str) -> Tensor:
    vectors = vectors.detach().float().cpu().contiguous()
    if vectors.dim() != 2:
        raise ValueError(f"{what} vectors of shape {tuple(vectors.shape)}, not (number, d)")
    broken = int((~vectors.isfinite().all(dim=1)).sum())
    if broken:
        raise InterplayError(
            f"{broken} of {len(vectors)} {what} vectors hold values that are not finite, so nothing can be ranked: "
            "the training has diverged; take a smaller learning rate."
        )
    return vectors


def _check_owners(queries: Tensor, gallery: Tensor, query_owner: Tensor, gallery_owner: Tensor) -> None:
    owners = query_owner.shape, gallery_owner.shape
    if owners != (queries.shape[:1], gallery.shape[:1]) or queries.shape[1:] != gallery.shape[1:]:
        raise ValueError(
            f"queries {tuple(queries.shape)} and gallery {tuple(gallery.shape)} do not go with owners of shapes "
            f"{tuple(query_owner.shape)} and {tuple(gallery_owner.shape)}"
        )


def _blocks(queries: int, gallery: int) -> list[slice]:
    """Rows of a matrix of scores in parts of bounded size."""
    rows = max(1, _BLOCK // max(1, gallery))
    return [slice(begin, min(begin + rows, queries)) for begin in range(0, queries, rows)]


def _count(scores: Tensor, own: _OwnItems, block: slice) -> Tensor:
    """Ranks of a block of B queries, given their (B, M) scores."""
    count = own.count[block]
    row = torch.arange(len(count)).repeat_interleave(count)
    place = torch.arange(len(row)) - (count.cumsum(0) - count)[row]
    of_own = scores[row, own.order[own.start[block][row] + place]]
    best = torch.full((len(count),), float("-inf")).scatter_reduce(0, row, of_own, "amax")
    tied = torch.zeros(len(count), dtype=torch.int64).index_add(0, row, (of_own == best[row]).long())
    reached = scores.numpy() >= best.numpy()[:, None]
    at_least = np.count_nonzero(reached, axis=1)  # several times faster than torch's sum over bool
    return 1 + torch.from_numpy(at_least) - tied


@dataclass(frozen=True, eq=False)
class _OwnItems:
    """The gallery's items sorted by owner, and where those of each query begin in that order and how many there are."""

    order: Tensor
    start: Tensor
    count: Tensor


def _own_items(query_owner: Tensor, gallery_owner: Tensor) -> _OwnItems:
    sorted_owner, order = gallery_owner.sort(stable=True)
    start = torch.searchsorted(sorted_owner, query_owner)
    count = torch.searchsorted(sorted_owner, query_owner, right=True) - start
    if (count == 0).any():
        query = int((count == 0).nonzero()[0])
        raise ValueError(f"query {query} (owner {int(query_owner[query])}) has no own item in the gallery")
    return _OwnItems(order, start, count)


def _twins(gallery: Tensor) -> tuple[Tensor, Tensor]:
    """The items whose vector an earlier item has too, and those earlier items."""
    if gallery.numel() == 0:
        return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    plain = (gallery + 0.0).numpy()  # turns -0 into 0
    whole_rows = plain.view(np.dtype((np.void, plain.dtype.itemsize * plain.shape[1]))).ravel()
    _, first, group = np.unique(whole_rows, return_index=True, return_inverse=True)
    earliest = torch.from_numpy(first[group])
    twins = (earliest != torch.arange(len(gallery))).nonzero().ravel()
    return twins, earliest[twins]
