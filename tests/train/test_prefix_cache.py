"""The prefix cache: exact, shared, bounded, and unharmed by torn files."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import interplay.encoding.prefix_cache as module
from interplay.encoding.predict import predict
from interplay.encoding.prefix_cache import PrefixCache, PrefixedTable, behind_front, run_front
from interplay.encoding.trainable import PairBatch
from interplay.errors import InterplayError
from interplay.parts.heads import HeadSettings
from interplay.towers.backbone import Backbone, from_clip
from interplay.towers.preprocessing import Normalisation
from interplay.towers.walk import Start, front
from interplay.training.settings import TrainSettings
from interplay.training.train import fit
from tests.conftest import LetterTokenizer, random_clip, small_shape
from tests.kernels import KernelsByShape
from tests.train.toy import toy_backbone, toy_model, toy_table

ROWS = [5, 17, 2, 2, 30, 11, 8, 39, 21, 3]


@pytest.fixture(scope="module")
def towers() -> Backbone:
    return toy_backbone()


def tokens(inputs: Tensor | Start) -> Tensor:
    assert isinstance(inputs, Start)
    return inputs.tokens.x


def opened(towers: Backbone, folder: Path, *, fill: bool = True, max_bytes: int = 10**9) -> PrefixedTable:
    cache = PrefixCache(folder, max_bytes)
    return cache.open(toy_table(towers, 40, 1), toy_model(towers), towers, fill=fill, progress=False)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that went through the front since."""
    sizes: list[int] = []

    def counting(tower: Any, inputs: Tensor, layers: int) -> Any:
        sizes.append(len(inputs))
        return run_front(tower, inputs, layers)

    monkeypatch.setattr(module, "run_front", counting)
    return sizes


def same(one: PairBatch, other: PairBatch) -> None:
    assert torch.equal(tokens(one.images), tokens(other.images))
    assert torch.equal(tokens(one.texts), tokens(other.texts))


@pytest.mark.parametrize("layers", [1, 3])
def test_front_in_blocks_equals_the_walk(layers: int, towers: Backbone) -> None:
    batch = toy_table(towers, 40, 1).collate(ROWS)
    assert isinstance(batch.images, Tensor)
    assert isinstance(batch.texts, Tensor)
    whole = front(towers.image, batch.images, layers).tokens.x
    torch.testing.assert_close(run_front(towers.image, batch.images, layers).x, whole, atol=1e-5, rtol=0)
    text = front(towers.text, batch.texts, layers).tokens
    assert text.lengths is not None
    real = torch.arange(text.x.shape[1]) < text.lengths[:, None]
    found = run_front(towers.text, batch.texts, layers)
    torch.testing.assert_close(found.x[real], text.x[real], atol=1e-5, rtol=0)
    assert found.x[~real].eq(0).all()
    assert found.lengths is not None
    assert torch.equal(found.lengths, text.lengths)


@pytest.mark.bitwise
def test_what_is_kept_equals_what_would_be_computed_bit_for_bit(towers: Backbone, tmp_path: Path) -> None:
    table, model = toy_table(towers, 40, 1), toy_model(towers)
    with KernelsByShape():
        kept = opened(towers, tmp_path)
        for rows in (ROWS, [7], list(range(40))):
            same(kept.collate(rows), behind_front(model, towers, table.collate(rows)))
        assert torch.equal(predict(model, towers, kept), predict(model, towers, table))
    plain = torch.cat([model(towers, table.collate([row])) for row in range(40)])
    torch.testing.assert_close(predict(model, towers, table), plain, atol=1e-4, rtol=1e-5)


@pytest.mark.bitwise
@pytest.mark.parametrize("head", [HeadSettings(), HeadSettings(query="image", class_text="joint")])
def test_training_gives_the_same_weights_with_and_without(
    head: HeadSettings, towers: Backbone, tmp_path: Path
) -> None:
    found = []
    for i, cached in enumerate((False, True, True)):
        model = toy_model(towers, head=head)
        settings = TrainSettings(
            epochs=2, batch_size=7, accelerator="cpu", cache_prefix=cached, progress=False, monitor="loss"
        )
        data = toy_table(towers, 40, 1), toy_table(towers, 16, 2)
        fit(model, towers, *data, settings, tmp_path / str(i), cache=PrefixCache(tmp_path / "cache"))
        found.append(model.state_dict())
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name
        assert torch.equal(value, found[2][name]), name


def test_filled_once_for_everyone(towers: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(towers, tmp_path)
    reader = opened(towers, tmp_path, fill=False)
    sizes = counted(monkeypatch)
    again = opened(towers, tmp_path)
    same(again.collate(ROWS), first.collate(ROWS))
    same(reader.collate(ROWS), first.collate(ROWS))
    assert sizes == []


def test_another_backbone_shares_nothing(
    towers: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(towers, tmp_path)
    other = toy_backbone()
    with torch.no_grad():
        other.image.first.add_(1e-3)
        other.text.positions.add_(1e-3)
    sizes = counted(monkeypatch)
    opened(other, tmp_path)
    assert sizes


def test_other_pixel_statistics_share_nothing(towers: Backbone, tmp_path: Path) -> None:
    opened(towers, tmp_path)
    other = from_clip(
        random_clip(small_shape()), LetterTokenizer(), "toy", Normalisation((0.5,) * 3, (0.5,) * 3)
    )
    opened(other, tmp_path)
    assert len(list(tmp_path.glob("image-*"))) == 2


@pytest.mark.parametrize("name", ["000000.index", "000000.tokens"])
@pytest.mark.parametrize("damage", ["torn", "flipped"])
def test_torn_and_damaged_files_are_mended(name: str, damage: str, towers: Backbone, tmp_path: Path) -> None:
    expected = opened(towers, tmp_path).collate(ROWS)
    for path in tmp_path.glob(f"*/{name}"):
        data = bytearray(path.read_bytes())
        if damage == "torn":
            data = data[: len(data) // 2 + 3]
        else:
            data[len(data) // 2] ^= 255
        path.write_bytes(data)
    same(opened(towers, tmp_path, fill=False).collate(ROWS), expected)
    same(opened(towers, tmp_path).collate(ROWS), expected)
    same(opened(towers, tmp_path, fill=False).collate(ROWS), expected)


def test_a_cache_from_before_there_was_a_storage_is_filled_again(towers: Backbone, tmp_path: Path) -> None:
    """It had one index for all shards."""
    expected = opened(towers, tmp_path).collate(ROWS)
    for path in tmp_path.glob("*/000000.index"):
        path.rename(path.with_name("index"))
    again = opened(towers, tmp_path)
    same(again.collate(ROWS), expected)
    assert all(side is not None and len(side.storage) for side in (again.image, again.text))


def test_the_bound_is_kept_and_said_once(
    towers: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = opened(towers, tmp_path / "large").collate(ROWS)
    with caplog.at_level(logging.WARNING):
        small = opened(towers, tmp_path / "small", max_bytes=20_000)
    assert [record.message for record in caplog.records if "has reached its" in record.message] == [
        caplog.records[0].message
    ]
    assert sum(path.stat().st_size for path in (tmp_path / "small").glob("*/*.tokens")) <= 20_000
    sizes = counted(monkeypatch)
    same(small.collate(ROWS), expected)
    assert sizes


def test_useless_cache_is_refused(towers: Backbone, tmp_path: Path) -> None:
    model = toy_model(towers, "p_clip")
    with pytest.raises(InterplayError, match=r"of no use to the method 'p_clip'"):
        PrefixCache(tmp_path).open(toy_table(towers, 4, 1), model, towers, fill=True)


def test_full_disk_is_said(towers: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InterplayError, match="No space left"):
        opened(towers, tmp_path)
