"""The frozen layers in front of a method's first one: run in fixed blocks, or run once and then read from disk.

What leaves those layers for a given picture or text never changes. `run_front` computes it in blocks of one fixed
shape, whatever the batch, and training takes this way with and without the cache: so on one machine and number
of threads both give the same weights, bit for bit.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import filelock
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.data.paths import cache_folder
from interplay.encoding.batches import EncodedTable, Integers
from interplay.encoding.trainable import PairBatch, Trainable
from interplay.errors import InterplayError
from interplay.towers.backbone import Backbone
from interplay.towers.clip import ImageTower, TextTower
from interplay.towers.tokens import SIDES, Side, Tokens
from interplay.towers.walk import Start, front

_LAYOUT = "v2"  # counts up when the files, the blocks or the last bits of the layers change
_ROWS = 8  # inputs in a block
_POSITIONS = 8  # the texts of a block are padded to a multiple of this
_SHARD = 2**30  # a shard that has so many bytes is full
_CHUNK = 64  # inputs between two flushes to disk
_RECORD = struct.Struct("<32sIQII")  # key of the input, shard, first row, rows, CRC-32 of the rows
_log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]


def run_front(tower: ImageTower | TextTower, inputs: Tensor, layers: int) -> Tokens:
    """Raw inputs through the first `layers` frozen layers, without a gradient.

    On the CPU it runs in blocks of 8 inputs (texts: of about one length), filled up where inputs are missing: the
    kernels that are chosen, and so the last bits of the result, do not depend on the batch.

    Args:
        inputs: pixels (batch, 3, size, size) uint8, or ids (batch, length).

    Returns:
        Tokens as the walk has them in front of layer `layers`; padding holds zeros.
    """
    if isinstance(tower, ImageTower):
        return Tokens(_blocks(tower, inputs, layers))
    lengths = tower.lengths(inputs)
    x = torch.zeros(*inputs.shape, tower.shape.width, device=inputs.device)
    padded = (-(-lengths // _POSITIONS) * _POSITIONS).clamp(max=tower.shape.positions)
    for length in sorted(set(padded.tolist())):
        rows = (padded == length).nonzero().squeeze(1)
        ids = F.pad(inputs[rows], (0, max(0, length - inputs.shape[1])), value=tower.shape.end_token)
        shown = min(length, inputs.shape[1])
        x[rows, :shown] = _blocks(tower, ids[:, :length], layers)[:, :shown]
    real = torch.arange(inputs.shape[1], device=inputs.device) < lengths[:, None]
    return Tokens(x * real[:, :, None], lengths=lengths)


def _blocks(tower: ImageTower | TextTower, inputs: Tensor, layers: int) -> Tensor:
    """(n, length, width) behind the front, block by block; on an accelerator in one block."""
    if inputs.device.type != "cpu":
        return front(tower, inputs, layers).tokens.x.float()
    done = []
    for start in range(0, len(inputs), _ROWS):
        block = inputs[start : start + _ROWS]
        filled = torch.cat([block, block[-1:].expand(_ROWS - len(block), *block.shape[1:])])
        done.append(front(tower, filled, layers).tokens.x[: len(block)].float())
    return torch.cat(done)


def behind_front(model: Trainable, backbone: Backbone, batch: PairBatch) -> PairBatch:
    """The same batch with its raw inputs taken through the front; what waits there already stays as it is."""
    layers = model.front_layers()
    images, texts = batch.images, batch.texts
    if isinstance(images, Tensor) and layers["image"]:
        images = Start(run_front(backbone.image, images, layers["image"]), layers["image"])
    if isinstance(texts, Tensor) and layers["text"]:
        texts = Start(run_front(backbone.text, texts, layers["text"]), layers["text"])
    return replace(batch, images=images, texts=texts)


class PrefixCache:
    """Tokens that wait behind frozen front layers, on disk, for every later epoch, seed, method and process.

    Content-addressed by the backbone's weights and geometry, the side, the layer and the preprocessed input.
    Tokens (fp32) are appended to shards and flushed to disk before the record that points to them is written, and
    both carry checksums, so a process that is killed at any moment leaves at worst some unused space. Read
    through memory maps; several processes may read and write at once.

    Args:
        folder: where it lies; by default `prefix/` in the program's cache folder.
        max_bytes: bound on the tokens kept, all backbones and layers together; default 20 GB. What goes beyond is
            not kept but computed again whenever it is needed, which is said once.
    """

    def __init__(self, folder: str | Path | None = None, max_bytes: int = 20 * 10**9) -> None:
        self.folder = Path(folder) if folder else cache_folder() / "prefix"
        self.max_bytes = max_bytes
        self._said_full = False

    def open(
        self,
        table: EncodedTable,
        model: Trainable,
        backbone: Backbone,
        *,
        fill: bool,
        progress: bool = True,
    ) -> PrefixedTable:
        """A table whose batches start behind the front layers.

        Args:
            fill: compute and keep what is missing first; the backbone may be on an accelerator for it.
            progress: show a bar.

        Raises:
            InterplayError: the method leaves no front layer alone, or the cache cannot be written or read.
        """
        layers = model.front_layers()
        if not any(layers.values()):
            raise InterplayError(
                f"A prefix cache is of no use to the method '{model.method.name}' with these settings: it is at work "
                "from the first layer on, so no layer in front of it could be kept. Leave out cache_prefix."
            )
        try:
            sides = {
                side: self._side(table, backbone, side, layers[side], fill, progress)
                for side in SIDES
                if layers[side]
            }
        except OSError as problem:
            raise self._broken(problem) from None
        return PrefixedTable(table, backbone, sides.get("image"), sides.get("text"))

    def _side(
        self, table: EncodedTable, backbone: Backbone, side: Side, layer: int, fill: bool, progress: bool
    ) -> _PrefixedSide:
        from datasets.utils import tqdm

        self.folder.mkdir(parents=True, exist_ok=True)
        shelf = _Shelf(self.folder / f"{_identity(backbone, side)}-{layer}", backbone.shape.side(side).width)
        keys: list[bytes] = []
        title = f"{'Filling' if fill else 'Opening'} the prefix cache ({table.name}, {side})"
        bar = tqdm(total=len(table), desc=title, disable=None if progress else True, leave=False)
        with bar:
            for start in range(0, len(table), _CHUNK):
                rows = range(start, min(start + _CHUNK, len(table)))
                chunk = _keys(table, side, rows)
                keys += chunk
                if fill:
                    self._keep(shelf, backbone, layer, side, table, dict(zip(chunk, rows, strict=True)))
                bar.update(len(rows))
        return _PrefixedSide(layer, shelf, keys)

    def _keep(
        self,
        shelf: _Shelf,
        backbone: Backbone,
        layer: int,
        side: Side,
        table: EncodedTable,
        rows: dict[bytes, int],
    ) -> None:
        """Compute and append those of some inputs that are missing, as long as there is room."""
        missing = {key: row for key, row in rows.items() if key not in shelf}
        if not missing or self._full():
            return
        tokens = _run(table, backbone, side, layer, list(missing.values()))
        with filelock.FileLock(self.folder / "lock"):
            shelf.refresh()
            room = self.max_bytes - self._used()
            kept: dict[bytes, Floats] = {}
            for key, x in zip(missing, tokens, strict=True):
                room -= x.nbytes
                if room < 0:
                    self._say_full()
                    break
                kept[key] = x
            shelf.append(kept)

    def _used(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*/*.tokens"))

    def _full(self) -> bool:
        """Whether the bound was met before."""
        return self._said_full

    def _say_full(self) -> None:
        if not self._said_full:
            _log.warning(
                "The prefix cache in %s has reached its %.1f GB: what is not in it is computed again each time. "
                "Delete the folder if it holds what you no longer need, or raise the bound.",
                self.folder,
                self.max_bytes / 10**9,
            )
        self._said_full = True

    def _broken(self, problem: OSError) -> InterplayError:
        return InterplayError(
            f"The prefix cache in {self.folder} cannot be used ({problem.strerror or problem}). Free some space, set "
            "INTERPLAY_CACHE to a folder on another disk, or leave out cache_prefix."
        )


def _identity(backbone: Backbone, side: Side) -> str:
    """Name of everything that tokens depend on besides the input and the layer."""
    state = hashlib.blake2b(digest_size=16)
    state.update(
        f"{_LAYOUT} {backbone.digest} {side} {backbone.device.type} {backbone.shape.side(side)!r}".encode()
    )
    return f"{side}-{state.hexdigest()}"


def _keys(table: EncodedTable, side: Side, rows: Sequence[int]) -> list[bytes]:
    """Digests of the preprocessed inputs of some rows."""
    inputs = table.pixels(rows) if side == "image" else [table.texts.row(row) for row in rows]
    return [hashlib.blake2b(np.ascontiguousarray(x).tobytes(), digest_size=32).digest() for x in inputs]


def _run(table: EncodedTable, backbone: Backbone, side: Side, layer: int, rows: list[int]) -> list[Floats]:
    """The real tokens of some rows behind the front: (length of the row, width) each."""
    inputs = torch.from_numpy(table.pixels(rows)) if side == "image" else table.texts.batch(rows)
    x = run_front(backbone.tower(side), inputs.to(backbone.device), layer).x.cpu().numpy()
    if side == "image":
        return list(x)
    return [tokens[:length] for tokens, length in zip(x, table.text_lengths[rows], strict=True)]


@dataclass(frozen=True)
class _PrefixedSide:
    """One side of a table behind its front: the layer, where tokens are kept, and the key of each row."""

    layer: int
    shelf: _Shelf
    keys: list[bytes]


@dataclass(frozen=True, eq=False)
class PrefixedTable:
    """An encoded table whose batches start behind the front layers of one or both sides."""

    table: EncodedTable
    backbone: Backbone
    image: _PrefixedSide | None
    text: _PrefixedSide | None

    def __len__(self) -> int:
        return len(self.table)

    @property
    def text_lengths(self) -> Integers:
        """(N,) tokens of each text."""
        return self.table.text_lengths

    @property
    def targets(self) -> Tensor | None:
        """See `EncodedTable.targets`."""
        return self.table.targets

    def collate(self, rows: Sequence[int]) -> PairBatch:
        """Some rows as a batch; tokens are on the CPU, whatever was not kept has been computed."""
        table = self.table
        images: Tensor | Start
        texts: Tensor | Start
        if self.image is None:
            images = torch.from_numpy(table.pixels(rows))
        else:
            images = Start(Tokens(torch.from_numpy(np.stack(self._tokens("image", rows)))), self.image.layer)
        if self.text is None:
            texts = table.texts.batch(rows)
        else:
            lengths = table.text_lengths[list(rows)]
            x = np.zeros((len(rows), lengths.max(), self.backbone.shape.text.width), dtype=np.float32)
            for at, tokens in enumerate(self._tokens("text", rows)):
                x[at, : len(tokens)] = tokens
            texts = Start(Tokens(torch.from_numpy(x), lengths=torch.from_numpy(lengths)), self.text.layer)
        targets = None if table.targets is None else table.targets[list(rows)]
        return PairBatch(images, texts, targets, table.keys_of(rows))

    def _tokens(self, side: Side, rows: Sequence[int]) -> list[Floats]:
        behind = self.image if side == "image" else self.text
        assert behind is not None
        found = [behind.shelf.get(behind.keys[row]) for row in rows]
        missing = [row for row, tokens in zip(rows, found, strict=True) if tokens is None]
        computed: Iterator[Floats] = iter(())
        if missing:
            computed = iter(_run(self.table, self.backbone, side, behind.layer, missing))
        return [next(computed) if tokens is None else tokens for tokens in found]


class _Shelf:
    """Token arrays (rows, width) of one side and layer, by key: append-only shards and an index."""

    def __init__(self, folder: Path, width: int) -> None:
        self._folder = folder
        self._row = 4 * width
        self._width = width
        self._place: dict[bytes, tuple[int, int, int, int]] = {}
        self._maps: dict[int, Floats] = {}
        self._seen = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.refresh()

    def __contains__(self, key: bytes) -> bool:
        return key in self._place

    def get(self, key: bytes) -> Floats | None:
        """Tokens (rows, width), not copied; None when they are not kept, or damaged."""
        if key not in self._place:
            return None
        shard, first, rows, checksum = self._place[key]
        kept = self._maps.get(shard)
        if kept is None or len(kept) < first + rows:
            shape = self._size(shard) // self._row, self._width
            kept = self._maps[shard] = np.memmap(self._shard(shard), dtype=np.float32, mode="r", shape=shape)
        tokens = kept[first : first + rows]
        if zlib.crc32(tokens.data) == checksum:
            return tokens
        del self._place[key]
        return None

    def refresh(self) -> None:
        """Take in the records that were written since the last time; torn and damaged ones are passed over."""
        index = self._folder / "index"
        if not index.exists():
            return
        with open(index, "rb") as file:
            file.seek(self._seen)
            data = file.read()
        size = _RECORD.size + 4
        whole = len(data) // size * size
        self._seen += whole
        for start in range(0, whole, size):
            body, check = data[start : start + _RECORD.size], data[start + _RECORD.size : start + size]
            if zlib.crc32(body) == int.from_bytes(check, "little"):
                key, shard, first, rows, checksum = _RECORD.unpack(body)
                if self._size(shard) >= (first + rows) * self._row:
                    self._place[key] = (shard, first, rows, checksum)

    def append(self, arrays: dict[bytes, Floats]) -> None:
        """Keep arrays (rows, width), those that are there already left out. The caller holds the writers' lock."""
        fresh = {
            key: np.ascontiguousarray(x, np.float32) for key, x in arrays.items() if key not in self._place
        }
        if not fresh:
            return
        shard = max((int(path.stem) for path in self._folder.glob("*.tokens")), default=0)
        shard += self._size(shard) >= _SHARD
        data = b"".join(x.tobytes() for x in fresh.values())
        first = _append(self._shard(shard), data, self._row) // self._row
        records = b""
        for key, x in fresh.items():
            body = _RECORD.pack(key, shard, first, len(x), zlib.crc32(x.data))
            records += body + zlib.crc32(body).to_bytes(4, "little")
            first += len(x)
        _append(self._folder / "index", records, _RECORD.size + 4)
        self.refresh()

    def _shard(self, number: int) -> Path:
        return self._folder / f"{number:06d}.tokens"

    def _size(self, number: int) -> int:
        path = self._shard(number)
        return path.stat().st_size if path.exists() else 0


def _append(path: Path, data: bytes, record: int) -> int:
    """Write `data` behind the last whole record of a file and wait until the disk has it; returns where."""
    with open(path, "r+b" if path.exists() else "w+b") as file:
        start = file.seek(0, os.SEEK_END) // record * record
        file.seek(start)
        file.write(data)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    return start
