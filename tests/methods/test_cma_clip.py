"""CMA-CLIP: both attentions against plain loops, padding, and towers that need not run at all."""

from __future__ import annotations

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
from interplay.towers.tokens import SIDES
from interplay.towers.walk import encode_pair, front

SMALL = {"width": 8, "layers": 2, "heads": 2, "hidden": 16}


def method_of(backbone: Backbone, **settings: Any) -> Method:
    torch.manual_seed(2)
    method = choose("cma_clip").build(backbone.shape, {**SMALL, **settings}).eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.normal_(0, 0.5)
    return method


def by_hand(backbone: Backbone, method: Method, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Both vectors of one sample, whose text has no padding."""
    p = method.state_dict()
    image, text = backbone.image, backbone.text
    patches, words = front(image, pixels, 5).tokens, front(text, ids, 4).tokens
    z = torch.cat(
        [
            image.norm_out(patches.x[0]) @ p["patches.weight"].T + p["patches.bias"],
            text.norm_out(words.x[0]) @ p["words.weight"].T + p["words.bias"],
        ]
    )
    for i in range(2):
        w = {key.removeprefix(f"encoder.{i}."): value for key, value in p.items()}
        normed = F.layer_norm(z, (8,), w["norm1.weight"], w["norm1.bias"])
        q, k, v = (normed @ w["self_attn.in_proj_weight"].T + w["self_attn.in_proj_bias"]).chunk(3, dim=-1)
        heads = []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            heads.append((q[:, part] @ k[:, part].T / 2).softmax(dim=-1) @ v[:, part])
        z = z + torch.cat(heads, dim=-1) @ w["self_attn.out_proj.weight"].T + w["self_attn.out_proj.bias"]
        normed = F.layer_norm(z, (8,), w["norm2.weight"], w["norm2.bias"])
        inner = F.gelu(normed @ w["linear1.weight"].T + w["linear1.bias"])
        z = z + inner @ w["linear2.weight"].T + w["linear2.bias"]
    z = F.layer_norm(z, (8,), p["norm.weight"], p["norm.bias"])
    g_image, g_text = z[0], z[-1]
    scores = p["modalities.weight"] @ torch.cat([g_image, g_text]) + p["modalities.bias"]
    a_image, a_text = (scores.exp() / scores.exp().sum()).tolist()
    fused = a_image * g_image + a_text * g_text
    return (
        image.pool(patches)[0] + p["to_image.weight"] @ fused + p["to_image.bias"],
        text.pool(words)[0] + p["to_text.weight"] @ fused + p["to_text.bias"],
    )


@pytest.mark.parametrize("gradient", [True, False])
def test_attention_over_the_sequence_and_over_modalities(
    gradient: bool, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    """Without a gradient torch takes its fused kernels, so both ways are held against the loop."""
    method = method_of(backbone)
    with torch.set_grad_enabled(gradient):
        found = encode_pair(backbone, pixels, backbone.tokenize(texts), method)
    for row, text in enumerate(texts):
        image, words = by_hand(backbone, method, pixels[row : row + 1], backbone.tokenize([text]))
        torch.testing.assert_close(found.image[row], image, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(found.text[row], words, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("gradient", [True, False])
def test_padding_is_never_read(gradient: bool, backbone: Backbone, pixels: Tensor, texts: list[str]) -> None:
    method, ids = method_of(backbone), backbone.tokenize(texts)
    with torch.set_grad_enabled(gradient):
        one = encode_pair(backbone, pixels, ids, method)
        padded = F.pad(ids, (0, 11), value=3)  # words, not end tokens, after the end
        other = encode_pair(backbone, pixels, padded, method)
    torch.testing.assert_close(one.image, other.image, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(one.text, other.text, atol=2e-5, rtol=1e-4)


def test_every_word_and_patch_reaches_both_vectors(
    backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    method, ids = method_of(backbone), backbone.tokenize(texts)
    starts = front(backbone.image, pixels, 5), front(backbone.text, ids, 4)
    for start in starts:
        start.tokens.x.requires_grad_(True)
    found = encode_pair(backbone, *starts, method)
    for vectors in (found.image, found.text):
        gradients = torch.autograd.grad(
            vectors.square().sum(), [start.tokens.x for start in starts], retain_graph=True
        )
        real = torch.arange(ids.shape[1]) < torch.tensor([len(text) + 2 for text in texts])[:, None]
        assert (gradients[0].abs().amax(dim=-1) > 0).all()
        assert torch.equal(gradients[1].abs().amax(dim=-1) > 0, real)


def test_a_fresh_method_is_the_backbone_and_its_gate_learns(
    backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    torch.manual_seed(0)
    method, ids = choose("cma_clip").build(backbone.shape, SMALL), backbone.tokenize(texts)
    bare, found = encode_pair(backbone, pixels, ids), encode_pair(backbone, pixels, ids, method)
    torch.testing.assert_close(found.image, bare.image)
    torch.testing.assert_close(found.text, bare.text)
    trained = method_of(backbone)
    vectors = encode_pair(backbone, pixels, ids, trained)
    F.cosine_similarity(vectors.image, vectors.text).sum().backward()
    gate = trained.get_parameter("modalities.weight").grad
    assert gate is not None
    assert gate.abs().max() > 1e-4


def test_the_towers_can_be_kept_whole(backbone: Backbone, pixels: Tensor, texts: list[str]) -> None:
    method, ids = method_of(backbone), backbone.tokenize(texts)
    assert [method.first_layer(side) for side in SIDES] == [5, 4]
    starts = front(backbone.image, pixels, 5), front(backbone.text, ids, 4)
    behind, whole = encode_pair(backbone, *starts, method), encode_pair(backbone, pixels, ids, method)
    assert torch.equal(behind.image, whole.image)
    assert torch.equal(behind.text, whole.text)


def test_its_size() -> None:
    choice, shape = choose("cma_clip"), PRESETS["clip-vit-base-patch16"]
    one_layer = sum(p.numel() for p in torch.nn.TransformerEncoderLayer(256, 4, 1024).parameters())
    own = (769 + 513) * 256 + 2 * one_layer + 512 + 513 * 2 + 2 * 257 * 512
    assert choice.method.parameter_count(shape, choice.settings()) == own == 2_172_418


def test_settings_that_cannot_be(backbone: Backbone) -> None:
    with pytest.raises(InterplayError, match="10 is no multiple of 4"):
        choose("cma_clip").settings({"width": 10})
    with pytest.raises(InterplayError, match="layers"):
        choose("cma_clip").settings({"layers": 0})
