"""Samplers and encoded tables."""

from __future__ import annotations

import pickle
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interplay.data.image_cache import ImageCache
from interplay.encoding.batches import EncodedTable, EpochSampler, OrderedSampler, Texts, TrainingLoader
from interplay.errors import InterplayError
from tests.lpi.toy import pairs
from tests.train.toy import toy_backbone, toy_table


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 9), st.integers(0, 5), st.integers(0, 3), st.integers(1, 3))
def test_every_row_comes_once_in_every_epoch(rows: int, size: int, seed: int, epoch: int, world: int) -> None:
    lengths = np.random.default_rng(rows).integers(3, 20, rows)
    parts = []
    for rank in range(world):
        sampler = EpochSampler(lengths, size, seed, rank=rank, world_size=world)
        sampler.set_epoch(epoch)
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler)
        assert parts[-1] == list(sampler)
        assert max(map(len, parts[-1])) <= size
    alone = EpochSampler(lengths, size * world, seed)
    alone.set_epoch(epoch)
    together = [list(chain(*step)) for step in zip(*parts, strict=True)]
    assert together == list(alone)
    assert sorted(chain(*together)) == list(range(rows))
    ordered = [OrderedSampler(lengths, size, rank=rank, world_size=world) for rank in range(world)]
    assert sorted(row for part in ordered for batch in part for row in batch) == list(range(rows))


def test_a_process_without_a_pair_has_one_that_stands_in() -> None:
    backbone = toy_backbone()
    table = toy_table(backbone, 5, 1)
    for rank in range(2):
        loader = TrainingLoader(table, EpochSampler(table.text_lengths, 2, 0, rank=rank, world_size=2))
        found = list(loader)
        assert sorted(batch.counts for batch in found) == [(1, 0), (2, 2)]
        assert len(found) == len(loader)
        for batch in found:
            assert len(batch.rows) == batch.counts[rank]
            assert batch.pairs.targets is not None
            assert len(batch.pairs.targets) == max(1, batch.counts[rank])


def test_epochs_and_seeds_differ_and_texts_of_a_batch_are_alike() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 1024)

    def batches(seed: int, epoch: int) -> list[list[int]]:
        sampler = EpochSampler(lengths, 8, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert batches(0, 0) == batches(0, 0)
    assert batches(0, 0) != batches(0, 1)
    assert batches(0, 0) != batches(1, 0)
    paid = sum(len(batch) * lengths[batch].max() for batch in batches(0, 0))
    assert paid < 1.15 * lengths.sum()


def test_texts_are_cut_to_the_longest_of_the_batch() -> None:
    backbone = toy_backbone()
    words = ["a", "longer", "the longest one"]
    texts = Texts.tokenized(backbone, words)
    assert torch.equal(texts.batch([1, 0]), backbone.tokenize(["longer", "a"]))
    assert torch.equal(texts.batch([0, 1, 2]), backbone.tokenize(words))
    assert texts.lengths.tolist() == [3, 8, 17]


@pytest.mark.parametrize("in_memory", [0, 2**29])
def test_a_table_can_be_sent_to_another_process(
    in_memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interplay.encoding.batches.IN_MEMORY", in_memory)
    backbone = toy_backbone()
    table = pairs(0).split("train")
    encoded = EncodedTable.from_table(table, backbone, ImageCache(tmp_path, backbone.square))
    there = pickle.loads(pickle.dumps(encoded))
    rows = [4, 0, 2]
    assert torch.equal(there.collate(rows).images, encoded.collate(rows).images)
    assert torch.equal(there.collate(rows).texts, encoded.collate(rows).texts)


def test_what_does_not_belong_together_is_refused() -> None:
    backbone = toy_backbone()
    with pytest.raises(InterplayError, match="reads uint8 pixels"):
        EncodedTable.from_arrays(backbone, np.zeros((1, 3, 16, 16), np.uint8), ["a"])
    with pytest.raises(InterplayError, match="1 pairs, but 2 targets"):
        EncodedTable.from_arrays(backbone, np.zeros((1, 3, 32, 32), np.uint8), ["a"], torch.tensor([0, 1]))


@pytest.mark.parametrize("rows", [2, 3, 5, 7, 8, 40])
@pytest.mark.parametrize("devices", [1, 2, 3])
def test_every_device_gets_rows_to_validate_on_and_each_comes_once(rows: int, devices: int) -> None:
    lengths = np.arange(rows)
    shares = [list(OrderedSampler(lengths, 8, rank=at, world_size=devices)) for at in range(devices)]
    assert sorted(row for share in shares for batch in share for row in batch) == list(range(rows))
    assert sum(map(bool, shares)) == min(rows, devices)
    assert max(len(batch) for share in shares for batch in share) <= 8
