"""The frozen layers before a method's first one: run in fixed blocks, or run once and then read from disk.

What leaves those layers for a given picture or text never changes. `run_front` computes it in blocks of one fixed
shape, whatever the batch, and training takes this way with and without the cache: so on one machine and number
of threads both give the same weights, bit for bit.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.data.paths import cache_folder
from interplay.encoding.batches import EncodedTable, Integers
from interplay.encoding.trainable import PairBatch, Trainable
from interplay.errors import InterplayError
from interplay.storage import Storage
from interplay.towers.backbone import Backbone
from interplay.towers.clip import ImageTower, TextTower
from interplay.towers.tokens import SIDES, Side, Tokens
from interplay.towers.walk import Start, front

_LAYOUT = "v3"  # counts up when the files, the blocks or the last bits of the layers change
_ROWS = 8  # inputs in a block
_POSITIONS = 8  # the texts of a block are padded to a multiple of this
_SHARD = 2**30  # bytes after which a shard is full
_CHUNK = 64  # inputs between two flushes to disk
_log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]


def run_front(tower: ImageTower | TextTower, inputs: Tensor, layers: int) -> Tokens:
    """Raw inputs through the first `layers` frozen layers, without a gradient.

    On the CPU it runs in blocks of 8 inputs (texts: of about one length), filled up where inputs are missing: the
    kernels that are chosen, and so the last bits of the result, do not depend on the batch.

    Args:
        inputs: pixels (batch, 3, size, size) uint8, or ids (batch, length).

    Returns:
        Tokens as the walk has them before layer `layers`; padding holds zeros.
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
    """(n, length, width) after the front, block by block; on an accelerator in one block."""
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
    """Tokens that wait after frozen front layers, on disk, for every later epoch, seed, method and process.

    Content-addressed by the backbone's weights and geometry, the side, the layer and the preprocessed input. Tokens
    (fp32) lie in a `Storage` for each backbone, side and layer; several processes may read and write at once.

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
        """A table whose batches start after the front layers.

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

        width = backbone.shape.side(side).width
        folder, lock = self.folder / f"{_identity(backbone, side)}-{layer}", self.folder / "lock"
        storage = Storage(folder, "tokens", unit=4 * width, shard_bytes=_SHARD, lock=lock)
        keys: list[bytes] = []
        title = f"{'Filling' if fill else 'Opening'} the prefix cache ({table.name}, {side})"
        with tqdm(total=len(table), desc=title, disable=None if progress else True, leave=False) as bar:
            for start in range(0, len(table), _CHUNK):
                rows = range(start, min(start + _CHUNK, len(table)))
                chunk = _keys(table, side, rows)
                keys += chunk
                if fill:
                    self._keep(storage, backbone, layer, side, table, dict(zip(chunk, rows, strict=True)))
                bar.update(len(rows))
        return _PrefixedSide(layer, width, storage, keys)

    def _keep(
        self,
        storage: Storage,
        backbone: Backbone,
        layer: int,
        side: Side,
        table: EncodedTable,
        rows: dict[bytes, int],
    ) -> None:
        """Compute and append those of some inputs that are missing, as long as there is room."""
        missing = {key: row for key, row in rows.items() if key not in storage}
        if not missing or self._said_full:
            return
        tokens = _run(table, backbone, side, layer, list(missing.values()))
        with storage.writing():
            room = self.max_bytes - self._used()
            kept: dict[bytes, bytes] = {}
            for key, x in zip(missing, tokens, strict=True):
                room -= x.nbytes
                if room < 0:
                    self._say_full()
                    break
                kept[key] = x.tobytes()
            storage.append(kept)

    def _used(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*/*.tokens"))

    def _say_full(self) -> None:
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
    """The real tokens of some rows after the front: (length of the row, width) each."""
    inputs = torch.from_numpy(table.pixels(rows)) if side == "image" else table.texts.batch(rows)
    x = run_front(backbone.tower(side), inputs.to(backbone.device), layer).x.cpu().numpy()
    if side == "image":
        return list(x)
    return [tokens[:length] for tokens, length in zip(x, table.text_lengths[rows], strict=True)]


@dataclass(frozen=True)
class _PrefixedSide:
    """One side of a table after its front: layer and width, where tokens are kept, and the key of each row."""

    layer: int
    width: int
    storage: Storage
    keys: list[bytes]

    def tokens(self, row: int) -> Floats | None:
        """(length, width), not copied; None when they are not kept, or damaged."""
        kept = self.storage.get(self.keys[row])
        return None if kept is None else np.frombuffer(kept, np.float32).reshape(-1, self.width)


@dataclass(frozen=True, eq=False)
class PrefixedTable:
    """An encoded table whose batches start after the front layers of one or both sides."""

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
        found = [behind.tokens(row) for row in rows]
        missing = [row for row, tokens in zip(rows, found, strict=True) if tokens is None]
        computed: Iterator[Floats] = iter(())
        if missing:
            computed = iter(_run(self.table, self.backbone, side, behind.layer, missing))
        return [next(computed) if tokens is None else tokens for tokens in found]
