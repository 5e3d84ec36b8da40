"""GLIP-T(A)'s published file: its 541 tensors, and what is said of files that are others."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interplay.errors import InterplayError
from interplay.grounding.checkpoint import differences, glip_names, load_grounder
from interplay.grounding.glip import TINY, Glip
from interplay.towers.swin import pair_index
from tests.grounding.test_glip import SMALL
from tests.grounding.toy import phrases, shaken

KEYS = Path(__file__).with_name("glip_a_tiny_o365.keys.txt")
"""The tensors of the published file with their shapes, as a released log prints them."""


def published() -> dict[str, tuple[int, ...]]:
    rows = (line.split(" ", 1) for line in KEYS.read_text("utf-8").splitlines())
    return {name: ast.literal_eval(shape) for name, shape in rows}


def released(glip: Glip) -> dict[str, Tensor]:
    """A small detector's weights as the released code would have saved them."""
    state, found = glip.state_dict(), {}
    for ours, theirs in glip_names(SMALL).items():
        for name, part in zip(theirs, state[ours].chunk(len(theirs)), strict=True):
            found[name] = part.clone()
    proj = "backbone.body.patch_embed.proj.weight"
    found[proj] = found[proj].flip(1)
    for level, stride in enumerate((8, 16, 32, 64, 128)):
        low, high = -3.5 * stride, 4.5 * stride - 1
        found[f"rpn.anchor_generator.cell_anchors.{level}"] = torch.tensor([[low, low, high, high]])
    for stage in range(4):
        for i in range(2):
            name = f"backbone.body.layers.{stage}.blocks.{i}.attn.relative_position_index"
            found[name] = pair_index(7)
    return found


@pytest.fixture(scope="module")
def glip() -> Glip:
    torch.manual_seed(3)
    built = Glip(SMALL)
    shaken(built)
    return built


def test_all_541_tensors_of_the_published_file_have_a_place_of_their_shape() -> None:
    shapes = published()
    assert len(shapes) == 541
    tables = {"relative_position_index": pair_index(7)}
    weights = {
        name: tables.get(name.rsplit(".", 1)[-1], torch.empty(shape, device="meta"))
        for name, shape in shapes.items()
    }
    for level, stride in enumerate((8, 16, 32, 64, 128)):
        low, high = -3.5 * stride, 4.5 * stride - 1
        weights[f"rpn.anchor_generator.cell_anchors.{level}"] = torch.tensor([[low, low, high, high]])
    found = differences(weights, TINY)
    assert not found, str(found)
    parameters = {name for names in glip_names(TINY).values() for name in names}
    assert len(parameters) == 541 - 12 - 5
    assert sum(weights[name].numel() for name in parameters) == 151_430_526
    with torch.device("meta"):
        assert set(glip_names(TINY)) == set(Glip(TINY).state_dict())


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_gives_the_detector_that_was_saved(glip: Glip, tmp_path: Path, wrapped: bool) -> None:
    weights: dict[str, Any] = released(glip)
    weights["language_backbone.body.model.embeddings.position_ids"] = torch.arange(32)[None]
    weights["language_backbone.body.model.pooler.dense.weight"] = torch.zeros(2, 2)
    if wrapped:
        weights = {"model": {f"module.{name}": tensor for name, tensor in weights.items()}, "iteration": 3}
    torch.save(weights, tmp_path / "glip.pth")
    found = load_grounder(tmp_path / "glip.pth", SMALL)
    for name, tensor in glip.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    assert not any(parameter.requires_grad for parameter in found.parameters())
    pixels, ids = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8), phrases([6])
    assert torch.equal(found(pixels, ids).logits, glip(pixels, ids).logits)


def test_bytes_are_read_as_the_released_code_reads_them(glip: Glip, tmp_path: Path) -> None:
    torch.save(released(glip), tmp_path / "glip.pth")
    found = load_grounder(tmp_path / "glip.pth", SMALL)
    pixels = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    bgr = pixels.flip(1).float()
    mean, deviation = torch.tensor([103.53, 116.28, 123.675]), torch.tensor([57.375, 57.12, 58.395])
    normalised = (bgr - mean[:, None, None]) / deviation[:, None, None]
    proj = released(glip)["backbone.body.patch_embed.proj.weight"]
    wanted = torch.conv2d(normalised, proj, glip.image.patches.bias, stride=4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found.image.embed(pixels).x, glip.image.norm_in(wanted), atol=1e-5, rtol=0)


def test_every_tensor_that_does_not_fit_is_named(glip: Glip, tmp_path: Path) -> None:
    weights = released(glip)
    del weights["rpn.head.bias0"], weights["backbone.body.norm2.bias"]
    weights["rpn.head.token_logit.weight"] = torch.zeros(1)
    weights["rpn.head.bias_lang"] = torch.zeros(7)
    weights["rpn.anchor_generator.cell_anchors.2"] = torch.zeros(1, 4)
    found = differences(weights, SMALL)
    assert found.missing == ("backbone.body.norm2.bias", "rpn.head.bias0")
    assert found.unexpected == ("rpn.head.token_logit.weight",)
    assert found.misshaped == ("rpn.head.bias_lang (7,) for (64,)",)
    assert found.altered == ("rpn.anchor_generator.cell_anchors.2",)
    torch.save(weights, tmp_path / "glip.pth")
    said = re.escape("2 missing: backbone.body.norm2.bias, rpn.head.bias0; 1 unexpected")
    with pytest.raises(InterplayError, match=said):
        load_grounder(tmp_path / "glip.pth", SMALL)


class Stranger:
    """What a pickle could smuggle in."""


def test_files_that_hold_no_detector_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InterplayError, match="There is no file"):
        load_grounder(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no checkpoint", "utf-8")
    torch.save({"model": Stranger()}, tmp_path / "stranger.pth")
    for name in ("text.pth", "stranger.pth"):
        with pytest.raises(InterplayError, match="no tensors that can be read safely"):
            load_grounder(tmp_path / name)
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(InterplayError, match="no tensors by name"):
        load_grounder(tmp_path / "list.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(InterplayError, match="no tensors that can be read safely"):
        load_grounder(tmp_path / "empty.pth")
