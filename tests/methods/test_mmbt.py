"""MMBT on CLIP: pooled patches, the sequence that the text tower reads, and what is fine-tuned."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.mmbt import Mmbt
from interplay.methods.registry import choose
from interplay.parts.own_towers import tower_count
from interplay.towers.backbone import Backbone
from interplay.towers.presets import PRESETS
from interplay.towers.tokens import Tokens
from interplay.towers.walk import encode, encode_pair, front


def method_of(backbone: Backbone, **settings: Any) -> Mmbt:
    torch.manual_seed(2)
    method = choose("mmbt").build(backbone.shape, settings).eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.normal_(0, 0.5)
    method.start_from(backbone)
    assert isinstance(method, Mmbt)
    return method


def layer_by_hand(block: Any, x: Tensor, mask: Tensor) -> Tensor:
    """One layer on the rows of one sample; `mask` is True where a row may look."""
    q, k, v = block.qkv(block.norm1(x)).chunk(3, dim=-1)
    heads = []
    for head in range(block.heads):
        part = slice(8 * head, 8 * head + 8)
        scores = (q[:, part] @ k[:, part].T / 8**0.5).masked_fill(~mask, float("-inf"))
        heads.append(scores.softmax(dim=-1) @ v[:, part])
    x = x + block.out(torch.cat(heads, dim=-1))
    return x + block.fc2(block.activation(block.fc1(block.norm2(x))))


def strips(patches: Tensor, count: int) -> Tensor:
    """(4·4, width) → (count, width): the mean of the patches of each strip, by loops."""
    rows = []
    for at in range(count):
        top, bottom = math.floor(at * 4 / count), math.ceil((at + 1) * 4 / count)
        cells = [patches[4 * y + x] for y in range(top, bottom) for x in range(4)]
        rows.append(sum(cells, torch.zeros(patches.shape[1])) / len(cells))
    return torch.stack(rows)


def by_hand(backbone: Backbone, method: Method, pixels: Tensor, ids: Tensor, count: int, see: str) -> Tensor:
    """The text vector of one sample."""
    p, tower, image = method.state_dict(), backbone.text, backbone.image
    patches = front(image, pixels, 5).tokens.x[0, 1:]
    pictures = strips(image.norm_out(patches), count) @ p["to_text.weight"].T + p["to_text.bias"]
    pictures = pictures + tower.positions[1 : 1 + count] + p["segments"][0]
    words = tower.words(ids[0]) + tower.positions[: ids.shape[1]] + p["segments"][1]
    x = torch.cat([words[:1], pictures, words[1:]])
    mask = torch.ones(len(x), len(x), dtype=torch.bool).tril()
    if see == "full":
        mask[1 : 1 + count] = True
    for block in tower.blocks:
        x = layer_by_hand(block, x, mask)
    return tower.projection(tower.norm_out(x[-1]))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("tune", ["none", "text", "image", "both"])
def test_the_text_tower_reads_pooled_patches(
    count: int, tune: str, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    see = "full" if count % 2 else "causal"
    method = method_of(backbone, pictures=count, tune=tune, visibility=see)
    with torch.no_grad():
        found = encode_pair(backbone, pixels, backbone.tokenize(texts), method)
        for row in range(0, len(texts), 2):
            ids = backbone.tokenize(texts[row : row + 1])
            expected = by_hand(backbone, method, pixels[row : row + 1], ids, count, see)
            torch.testing.assert_close(found.text[row], expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.image, encode(backbone.image, "image", pixels))


def test_each_strip_of_the_picture_is_a_token_of_its_own(backbone: Backbone) -> None:
    """With one token a row of patches, a change in one row of patches changes one token."""
    method = method_of(backbone, pictures=4)
    x = torch.randn(1, 17, 24, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[0, 1 + 4 * 2] += torch.linspace(-1, 1, 24)  # the third row of patches
    with torch.no_grad():
        one, other = method._pictures(backbone, Tokens(x)), method._pictures(backbone, Tokens(changed))
    assert [torch.equal(one[0, at], other[0, at]) for at in range(4)] == [True, True, False, True]


@pytest.mark.parametrize("tune", ["none", "text", "image", "both"])
def test_what_is_fine_tuned(tune: str, backbone: Backbone, pixels: Tensor, texts: list[str]) -> None:
    method, ids = method_of(backbone, tune=tune), backbone.tokenize(texts)
    before = copy.deepcopy(backbone.state_dict())
    found = encode_pair(backbone, pixels, ids, method)
    (found.image.sum() + found.text.square().sum()).backward()
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0, name
    optimizer.step()
    moved = encode_pair(backbone, pixels, ids, method)
    assert torch.equal(moved.image, found.image) == (tune in ("none", "text"))
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    settings = choose("mmbt").settings({"tune": tune})
    own = sum(parameter.numel() for parameter in method.parameters())
    assert own == choose("mmbt").method.parameter_count(backbone.shape, settings)
    assert method.first_layer("image") == (5 if tune in ("none", "text") else 0)
    assert method.first_layer("text") == 0


def test_its_size() -> None:
    choice, shape = choose("mmbt-frozen"), PRESETS["clip-vit-base-patch32"]
    frozen = choice.method.parameter_count(shape, choice.settings())
    assert frozen == 769 * 512 + 2 * 512
    tuned = choice.method.parameter_count(shape, choose("mmbt").settings())
    assert tuned == frozen + tower_count(shape.text)


def test_more_tokens_than_rows_of_patches_are_refused(backbone: Backbone) -> None:
    with pytest.raises(InterplayError, match="cannot pool 4 rows of patches to 5"):
        choose("mmbt").build(backbone.shape, {"pictures": 5})
    with pytest.raises(InterplayError, match="pictures >= 1"):
        choose("mmbt").settings({"pictures": 0})
