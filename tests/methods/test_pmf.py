"""PMF: its two stages against a plain loop, the prompts that released code leaves dead, and its size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.registry import choose
from interplay.towers.backbone import Backbone
from interplay.towers.presets import PRESETS
from interplay.towers.walk import encode, encode_pair, front

L = 3


def method_of(backbone: Backbone, **settings: Any) -> Method:
    torch.manual_seed(2)
    method = choose("pmf").build(backbone.shape, {"length": L, **settings}).eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.normal_(0, 0.5)
    return method


def layer_by_hand(block: Any, x: Tensor, mask: Tensor) -> Tensor:
    """One frozen layer on the rows of one sample; `mask` is True where a row may look."""
    q, k, v = block.qkv(block.norm1(x)).chunk(3, dim=-1)
    heads = []
    for head in range(block.heads):
        part = slice(8 * head, 8 * head + 8)
        scores = (q[:, part] @ k[:, part].T / 8**0.5).masked_fill(~mask, float("-inf"))
        heads.append(scores.softmax(dim=-1) @ v[:, part])
    x = x + block.out(torch.cat(heads, dim=-1))
    return x + block.fc2(block.activation(block.fc1(block.norm2(x))))


def with_extra(block: Any, x: Tensor, extra: Tensor, side: str, visibility: str) -> tuple[Tensor, Tensor]:
    """The layer on [first; extra; rest] → (tokens, extra rows)."""
    rows, length = len(extra), len(x) + len(extra)
    mask = torch.ones(length, length, dtype=torch.bool)
    if side == "text":
        mask = mask.tril()
        if visibility == "full":
            mask[1 : 1 + rows] = True
    out = layer_by_hand(block, torch.cat([x[:1], extra, x[1:]]), mask)
    return torch.cat([out[:1], out[1 + rows :]]), out[1 : 1 + rows]


def by_hand(
    backbone: Backbone, method: Method, pixels: Tensor, ids: Tensor, fusing: int, visibility: str
) -> tuple[Tensor, Tensor]:
    """Both vectors of one sample."""
    p = method.state_dict()
    x = {"image": backbone.image.embed(pixels).x[0], "text": backbone.text.embed(ids).x[0]}
    sides: list[Any] = ["image", "text"]
    for side in sides:
        for block in backbone.tower(side).blocks[:-fusing]:
            x[side] = with_extra(block, x[side], x[side][:0], side, visibility)[0]
    for at in range(fusing):
        blocks = {
            side: backbone.tower(side).blocks[len(backbone.tower(side).blocks) - fusing + at]
            for side in sides
        }
        told = {}
        for side in sides:
            extra = torch.cat([p[f"{side}_query_context_prompts"][at], p[f"{side}_query_prompts"][at]])
            answer = with_extra(blocks[side], x[side], extra, side, visibility)[1][-L:]
            weights = [p[f"maps.{side}.{at}.{key}"] for key in ("0.weight", "0.bias", "2.weight", "2.bias")]
            told[side] = (answer @ weights[0].T + weights[1]).relu() @ weights[2].T + weights[3]
        for side, across in (("image", "text"), ("text", "image")):
            extra = torch.cat([p[f"{side}_fusion_context_prompts"][at], told[across]])
            x[side] = with_extra(blocks[side], x[side], extra, side, visibility)[0]
    image, text = backbone.image, backbone.text
    return image.projection(image.norm_out(x["image"][0])), text.projection(text.norm_out(x["text"][-1]))


@pytest.mark.parametrize("fusing", [1, 2, 4])
@pytest.mark.parametrize("visibility", ["full", "causal"])
@pytest.mark.parametrize("depths", [(5, 4), (4, 6)])
@pytest.mark.parametrize("hidden", ["own", "wider"])
def test_two_stages_on_the_last_layers(
    fusing: int,
    visibility: str,
    hidden: str,
    depths: tuple[int, int],
    make_backbone: Any,
    pixels: Tensor,
    texts: list[str],
) -> None:
    backbone = make_backbone(*depths)
    method = method_of(backbone, fusion_layers=fusing, visibility=visibility, hidden=hidden)
    with torch.no_grad():
        found = encode_pair(backbone, pixels, backbone.tokenize(texts), method)
        for row in range(0, len(texts), 2):
            ids = backbone.tokenize(texts[row : row + 1])
            image, text = by_hand(backbone, method, pixels[row : row + 1], ids, fusing, visibility)
            torch.testing.assert_close(found.image[row], image, atol=2e-4, rtol=1e-3)
            torch.testing.assert_close(found.text[row], text, atol=2e-4, rtol=1e-3)


def test_fusion_context_prompts_are_trained_and_act(
    backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    """In the released code they stay at their first values for ever."""
    method, ids = method_of(backbone), backbone.tokenize(texts)
    vectors = encode_pair(backbone, pixels, ids, method)
    F.cosine_similarity(vectors.image, vectors.text).sum().backward()
    prompts = {name: p for name, p in method.named_parameters() if name.endswith("prompts")}
    assert len(prompts) == 6
    for name, prompt in prompts.items():
        assert prompt.grad is not None, name
        assert (prompt.grad.abs().amax(dim=(1, 2)) > 0).all(), name
        for layer in range(2):
            kept = prompt.detach()[layer].clone()
            with torch.no_grad():
                prompt[layer] = 0
                changed = encode_pair(backbone, pixels, ids, method)
                prompt[layer] = kept
            assert not torch.equal(changed.image, vectors.image) or not torch.equal(
                changed.text, vectors.text
            )


def test_only_the_last_layers_keep_activations(backbone: Backbone, pixels: Tensor, texts: list[str]) -> None:
    method, ids = method_of(backbone), backbone.tokenize(texts)
    assert (method.first_layer("image"), method.first_layer("text")) == (3, 2)
    starts = front(backbone.image, pixels, 3), front(backbone.text, ids, 2)
    behind, whole = encode_pair(backbone, *starts, method), encode_pair(backbone, pixels, ids, method)
    assert torch.equal(behind.image, whole.image)
    assert torch.equal(behind.text, whole.text)


def test_without_the_other_side_a_tower_is_not_itself(
    backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    method, ids = method_of(backbone), backbone.tokenize(texts)
    one, turned = (encode_pair(backbone, pixels, which, method).image for which in (ids, ids.roll(1, dims=0)))
    assert (one - turned).abs().max() > 1e-3
    assert (one - encode(backbone.image, "image", pixels)).abs().max() > 1e-3


def test_the_size_of_the_released_model() -> None:
    """ViT-B/16 and BERT-base (both 768 wide, 12 deep) with its two heads on 101 classes: 2.56 M."""
    count, settings = choose("pmf").method.parameter_count, choose("pmf").settings()
    shape = PRESETS["clip-vit-base-patch16"]
    wide = replace(shape, text=replace(shape.text, width=768, hidden=3072, heads=12))
    assert count(wide, settings) == 2_400_768
    assert count(wide, settings) + 2 * 769 * 101 == 2_556_106


def test_the_released_perceptrons_are_half_as_wide_as_the_wider_side(backbone: Backbone) -> None:
    """Released: one width for both directions, the larger of the two halves."""
    assert backbone.shape.image.width > backbone.shape.text.width
    choice = choose("pmf")
    for hidden, widths in (("own", (12, 8)), ("wider", (12, 12))):
        method = method_of(backbone, hidden=hidden)
        found = [method.get_parameter(f"maps.{side}.0.0.weight").shape[0] for side in ("image", "text")]
        assert tuple(found) == widths
        settings = choice.settings({"length": L, "hidden": hidden})
        counted = sum(parameter.numel() for parameter in method.parameters())
        assert counted == choice.method.parameter_count(backbone.shape, settings)


def test_more_fusion_layers_than_layers_are_refused(backbone: Backbone) -> None:
    with pytest.raises(InterplayError, match="shallower tower has 4"):
        choose("pmf").build(backbone.shape, {"fusion_layers": 5})
    with pytest.raises(InterplayError, match="length >= 1"):
        choose("pmf").settings({"length": 0})
