"""Pre-training shows nothing that `scenes/*` keep for test, and a start from other weights keeps their meaning."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from interplay.data.scenes.objects import COLOURS, split_of_colour, things

SCRIPTS = Path(__file__).parents[1] / "scripts" / "pretrain"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])


def test_a_resized_kernel_says_of_a_smaller_patch_what_it_said_of_the_patch() -> None:
    from geometry import resized_kernel

    kernel = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    large = F.interpolate(smooth, size=8, mode="bilinear", antialias=True)
    small = F.interpolate(large, size=6, mode="bilinear", antialias=True)
    back = resized_kernel(resized_kernel(kernel, 6), 6)
    torch.testing.assert_close(back, resized_kernel(kernel, 6))
    full = kernel.flatten(1) @ large.flatten(1).T
    said = resized_kernel(kernel, 6).flatten(1) @ small.flatten(1).T - full
    assert said.abs().mean() < 0.2 * full.abs().mean()


def test_positions_of_the_same_count_stay_and_others_keep_their_corners_in_order() -> None:
    from geometry import resized_positions

    positions = torch.arange(17.0).unsqueeze(1)
    assert torch.equal(resized_positions(positions, 17), positions)
    grid = resized_positions(positions, 65)[1:].view(8, 8)
    assert (grid.diff(dim=0) > -0.2).all()
    assert (grid.diff(dim=1) > -0.2).all()
    assert resized_positions(positions, 65)[0] == positions[0]


def test_every_colour_that_scenes_keep_for_other_splits_is_held_out_and_no_other() -> None:
    from scenes import allowed_colours, is_held_out

    for thing in things():
        train = [colour for colour in COLOURS if split_of_colour(thing, colour) == "train"]
        if len(thing.name.split()) == 1:
            assert allowed_colours(thing.name) == train
        for colour in COLOURS:
            if colour not in train:
                assert is_held_out(f"{colour} {thing.name}")
