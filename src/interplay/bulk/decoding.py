"""What worker processes do: read items, decode their pictures, and hand the squares over in shared memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from interplay.bulk.items import Item, Piece
from interplay.data.images import decoded
from interplay.data.picture_sources import Unusable, encodable, regular_file
from interplay.gallery.items import identity_of
from interplay.towers.preprocessing import Square, to_square
from interplay.towers.tokens import Side

_CAPTIONS = ("caption", "text")
_AHEAD = 2
"""Jobs that each worker does in advance."""


@dataclass(frozen=True)
class Job:
    """Items of one partition that are decoded together.

    Attributes:
        number: of the partition.
        first: the row of the first item.
    """

    number: int
    first: int
    items: Sequence[Item]


@dataclass
class Words:
    """The text of an item, or why there is none; what else is known of it.

    Attributes:
        text: as it is; None where there is none.
        error: why it cannot be encoded.
        metadata: a JSON object.
    """

    text: str | None = None
    error: str | None = None
    metadata: str | None = None


@dataclass(frozen=True)
class Decoded:
    """What came of a job of n items.

    Attributes:
        pixels: uint8, (n, 3, size, size), zeros where a picture cannot be read; no rows where none are asked for.
        errors: why a picture cannot be read; None where it can.
        contents: of each picture, `identity_of` its bytes.
        words: of each item.
    """

    job: Job
    pixels: Tensor
    errors: list[str | None] = field(default_factory=list)
    contents: list[str | None] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)

    def pin_memory(self) -> Decoded:
        """The same with pixels in page-locked memory, from where an accelerator copies faster; for PyTorch's loader."""
        return replace(self, pixels=self.pixels.pin_memory())


class Decoder(Dataset[Decoded]):
    """Decodes jobs.

    Args:
        square: how pictures are cut.
        sides: what is to be encoded; of other sides only the texts are read.
    """

    def __init__(self, square: Square, sides: Sequence[Side]) -> None:
        self._square, self._sides = square, sides

    def __getitem__(self, job: Job) -> Decoded:
        wanted = "image" in self._sides
        size = self._square.size
        done = Decoded(job, torch.zeros(len(job.items) if wanted else 0, 3, size, size, dtype=torch.uint8))
        for at, item in enumerate(job.items):
            error, content = item.fault or None, None
            if wanted and error is None:
                try:
                    data = _bytes(item.image, "there is no picture")
                    content = identity_of("image", data)
                    done.pixels[at] = torch.from_numpy(to_square(decoded(data), self._square))
                except Unusable as problem:
                    error = str(problem)
            done.errors.append(error)
            done.contents.append(content)
            done.words.append(_words(item, wanted="text" in self._sides))
        return done


def decode_all(jobs: Iterable[Job], decoder: Decoder, workers: int, *, pinned: bool) -> Iterator[Decoded]:
    """Jobs, decoded in their order by worker processes while the caller does something else.

    Args:
        jobs: taken one after the other as workers come to them.
        workers: processes; 0: none, decoding happens here in between.
        pinned: whether pixels are to lie in page-locked memory.
    """
    loader: Any = DataLoader(
        decoder,
        batch_size=None,
        sampler=jobs,  # indices of a map-style data set may be anything
        num_workers=workers,
        collate_fn=_as_it_is,
        multiprocessing_context="spawn" if workers else None,  # nothing of this process's threads or device
        prefetch_factor=_AHEAD if workers else None,
        pin_memory=pinned,
    )
    yield from loader


def _as_it_is(done: Any) -> Any:
    return done


def _bytes(place: Piece | bytes | None, otherwise: str) -> bytes:
    """What lies somewhere; raises `Unusable` where there is nothing or it cannot be read."""
    if place is None:
        raise Unusable(otherwise)
    if isinstance(place, bytes):
        return place
    try:
        with regular_file(place.path).open("rb") as file:
            file.seek(place.offset)
            data = file.read() if place.size is None else file.read(place.size)
    except OSError as problem:
        raise Unusable(f"the file '{place.path}' cannot be read ({problem.strerror or problem})") from None
    if place.size is not None and len(data) < place.size:
        raise Unusable(f"the file '{place.path}' is cut off")
    return data


def _words(item: Item, *, wanted: bool) -> Words:
    """The text and the metadata of an item."""
    found = Words()
    if item.fault:
        found.error = item.fault if wanted else None
        return found
    try:
        found.metadata = _text(item.metadata)
    except Unusable as problem:
        found.error = str(problem)
    if item.text is None or (isinstance(item.text, Piece) and item.text == item.metadata):
        found.text = _caption(found.metadata)
    else:
        try:
            found.text = _text(item.text)
        except Unusable as problem:
            found.error = str(problem)
    if found.text is not None and not found.text.strip():
        found.text, found.error = None, "the text is empty"
    if found.text is None and found.error is None:
        found.error = "there is no text"
    if not wanted:
        found.error = None
    return found


def _text(place: Piece | str | None) -> str | None:
    """A text from where it lies; raises `Unusable` where it is no Unicode."""
    if place is None:
        return None
    if isinstance(place, str):
        if not encodable(place):
            raise Unusable("the text holds half of a character (a lone surrogate)")
        return place
    try:
        return _bytes(place, "").decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise Unusable(f"the text in '{place.path}' is no UTF-8") from None


def _caption(metadata: str | None) -> str | None:
    """The text in a sample's JSON."""
    try:
        about = json.loads(metadata or "{}")
    except (ValueError, RecursionError):
        return None
    texts = (about.get(name) for name in _CAPTIONS) if isinstance(about, dict) else ()
    return next((text for text in texts if isinstance(text, str) and encodable(text)), None)
