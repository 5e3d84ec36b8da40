"""What the core is asked and what it answers, whatever the protocol around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from interplay.towers.tokens import Side

if TYPE_CHECKING:
    from interplay.gallery.gallery import Hit


@dataclass(frozen=True)
class Pair:
    """A pair to be classified; a side that the model does not read can be left out.

    Attributes:
        image: base64, a data URI, an address where addresses are fetched, or the bytes of a file.
        text: beside it.
    """

    image: str | bytes | None = None
    text: str | None = None


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of a pair.

    Attributes:
        labels: the most probable class, or for several labels all above one half; none where it abstained.
        probabilities: of every class, calibrated where the classifier is.
        abstained: whether even the highest probability was below what was asked for.
    """

    labels: tuple[str, ...]
    probabilities: Mapping[str, float]
    abstained: bool


@dataclass(frozen=True)
class Item:
    """Something to be embedded or searched by: a picture, a text, or both in one.

    Attributes:
        image: as of a `Pair`.
        text: likewise.
    """

    image: str | bytes | None = None
    text: str | None = None


@dataclass(frozen=True)
class Embedded:
    """A vector, and how many tokens its text took.

    Attributes:
        vector: (joint,), normalised.
        words: of its text, 0 without one.
    """

    vector: Tensor
    words: int


@dataclass(frozen=True)
class Search:
    """What to look for in a gallery.

    Attributes:
        query: a text, a picture, or both.
        k: hits, best first.
        find: `image` or `text`.
        where: a Milvus filter over metadata.
        least: hits that are less probably right are left out, where the retriever is calibrated.
    """

    query: Item
    k: int = 10
    find: Side = "image"
    where: str | None = None
    least: float = 0.5


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        hits: best first; none where nothing is near enough.
        probabilities: that each of them is a right one; None where the retriever is not calibrated for such a search.
    """

    hits: Sequence[Hit]
    probabilities: Sequence[float | None]


@dataclass(frozen=True)
class Growth:
    """Something that is to be in a gallery.

    Attributes:
        content: a text, or the bytes of a picture's file.
        id: your own, or empty.
        metadata: to filter by.
    """

    content: str | bytes
    id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelState:
    """What is known of a run.

    Attributes:
        name: its folder below that of the models.
        task: `classification` or `retrieval`.
        method, backbone: what it is.
        loaded: whether it is in memory.
        labels: its classes.
        kind: `single` or `multi`; empty for a retriever.
        reads: the sides of a pair that it needs, where that is known.
        sessions: the tasks that a retriever has learned.
        metrics: of its training.
        entries: of its gallery; None without one.
        waiting: items in the queue, for whatever model.
    """

    name: str
    task: str
    method: str
    backbone: str
    loaded: bool
    labels: tuple[str, ...] = ()
    kind: str = ""
    reads: tuple[Side, ...] = ()
    sessions: tuple[str, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    entries: int | None = None
    waiting: int = 0
