"""Several devices: two processes with batches of 32 train as one with batches of 64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.train.ranks import BY_GRADIENT, compare_all, on_two

ALIKE = ["mitp", "l2p", "lpi-p"]
"""A method whose objective is the task's loss, one that draws keys to the batch, one that compares prompts."""


def test_two_times_32_have_the_loss_and_gradient_of_64(tmp_path: Path) -> None:
    on_two(compare_all, tmp_path, ALIKE, [64], torch.float32)


def test_in_short_batches_every_pair_weighs_the_same(tmp_path: Path) -> None:
    on_two(compare_all, tmp_path, ["mitp", "l2p"], [1, 5], torch.float64)


@pytest.mark.slow
def test_so_it_is_with_every_method(tmp_path: Path) -> None:
    on_two(compare_all, tmp_path, BY_GRADIENT, [5, 64], torch.float64)
