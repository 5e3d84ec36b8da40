"""PromptFuse and BlindPrompt: the sequence that the text tower reads, who sees whom, and what is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.registry import choose
from interplay.towers.backbone import Backbone
from interplay.towers.presets import PRESETS
from interplay.towers.tokens import Tokens, Tower
from interplay.towers.walk import encode, encode_pair, front

NAMES = ("prompt_fuse", "blind_prompt")
N = 3


def method_of(name: str, backbone: Backbone, **settings: Any) -> Method:
    torch.manual_seed(2)
    method = choose(name).build(backbone.shape, {"length": N, **settings}).eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.normal_(0, 0.5)
    return method


def allowed(length: int, *, blind: bool) -> Tensor:
    """Who may attend to whom in [start, N prompts, picture, text], (row, column), for a text without padding."""
    mask = torch.zeros(length, length, dtype=torch.bool)
    for row in range(length):
        for column in range(length):
            if 1 <= row <= N:
                mask[row, column] = 1 <= column <= N if blind else True
            elif row == N + 1:
                mask[row, column] = True
            else:
                mask[row, column] = column <= row
    return mask


def by_hand(backbone: Backbone, method: Method, pixels: Tensor, ids: Tensor, *, blind: bool) -> Tensor:
    """The text vector of one sample, with torch's plain operations."""
    tower, state = backbone.text, method.state_dict()
    picture = encode(backbone.image, "image", pixels)
    if "input.projection.weight" in state:
        picture = picture @ state["input.projection.weight"].T + state["input.projection.bias"]
    words = tower.words(ids[0]) + tower.positions[: ids.shape[1]]
    x = torch.cat([words[:1], state["input.prompts"], picture, words[1:]])
    hidden = ~allowed(len(x), blind=blind)
    for block in tower.blocks:
        q, k, v = block.qkv(block.norm1(x)).chunk(3, dim=-1)
        heads = []
        for head in range(block.heads):
            part = slice(8 * head, 8 * head + 8)
            scores = (q[:, part] @ k[:, part].T / 8**0.5).masked_fill(hidden, float("-inf"))
            heads.append(scores.softmax(dim=-1) @ v[:, part])
        x = x + block.out(torch.cat(heads, dim=-1))
        x = x + block.fc2(block.activation(block.fc1(block.norm2(x))))
    return tower.projection(tower.norm_out(x[-1]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("projection", ["auto", "always"])
def test_the_text_tower_reads_prompts_picture_and_text(
    name: str, projection: str, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    method = method_of(name, backbone, projection=projection)
    with torch.no_grad():
        found = encode_pair(backbone, pixels, backbone.tokenize(texts), method)
        for row, text in enumerate(texts):
            ids = backbone.tokenize([text])
            expected = by_hand(backbone, method, pixels[row : row + 1], ids, blind=name == "blind_prompt")
            torch.testing.assert_close(found.text[row], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.image, encode(backbone.image, "image", pixels))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("changed", ["picture", "word"])
def test_only_blind_prompts_never_hear_of_the_input(
    name: str, changed: str, backbone: Backbone, pixels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, slots, inputs = method_of(name, backbone), [], []
    layer = type(backbone.text).layer

    def watched(self: Tower, i: int, tokens: Tokens, **more: Any) -> Tokens:
        out = layer(self, i, tokens.for_next(pooled_only=False), **more)  # type: ignore[arg-type]
        slots.append(out.slots[0, :N])
        inputs.append(out.x[0, 1 + N :])
        return out

    monkeypatch.setattr(type(backbone.text), "layer", watched)
    for other in (False, True):
        picture = 255 - pixels[:1] if other and changed == "picture" else pixels[:1]
        word = "the sun" if other and changed == "word" else "the cat"
        with torch.no_grad():
            encode_pair(backbone, picture, backbone.tokenize([word]), method)
    assert len(slots) == 8
    for before, after in zip(slots[:4], slots[4:], strict=True):
        assert torch.equal(before, after) == (name == "blind_prompt")
    for before, after in zip(inputs[:4], inputs[4:], strict=True):
        assert not torch.equal(before, after)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_attend_to_the_prompts(
    name: str, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    method, ids = method_of(name, backbone), backbone.tokenize(texts)
    one = encode_pair(backbone, pixels, ids, method).text
    with torch.no_grad():
        method.get_parameter("input.prompts").mul_(-1)
    assert (encode_pair(backbone, pixels, ids, method).text - one).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_what_is_trained_is_what_the_paper_counts(name: str, backbone: Backbone) -> None:
    choice = choose(name)
    count, large = choice.method.parameter_count, PRESETS["clip-vit-large-patch14"]
    assert count(large, choice.settings()) == 15_360
    assert count(large, choice.settings({"projection": "always"})) == 15_360 + 769 * 768
    wide = replace(backbone.shape, text=replace(backbone.shape.text, width=20))
    assert count(wide, choice.settings()) == 20 * 20 + 17 * 20
    with pytest.raises(InterplayError, match="length"):
        choice.settings({"length": 0})


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_image_tower_can_be_kept(
    name: str, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    method, ids = method_of(name, backbone), backbone.tokenize(texts)
    assert (method.first_layer("image"), method.first_layer("text")) == (5, 0)
    behind = encode_pair(backbone, front(backbone.image, pixels, 5), ids, method)
    torch.testing.assert_close(behind.text, encode_pair(backbone, pixels, ids, method).text)
