"""Full fine-tuning: it starts as the backbone, owns what it trains, and is as large as the towers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel

from interplay.classification.model import PairClassifier
from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.registry import choose
from interplay.parts.heads import Head, HeadSettings
from interplay.profiling.costs import empty_backbone
from interplay.towers.backbone import Backbone, clip_config, from_clip
from interplay.towers.preprocessing import Normalisation
from interplay.towers.presets import PRESETS
from interplay.towers.tokens import SIDES
from interplay.towers.walk import encode, encode_pair
from tests.conftest import LetterTokenizer, random_clip, small_shape


def method_of(backbone: Backbone, **settings: Any) -> Method:
    torch.manual_seed(1)
    method = choose("full").build(backbone.shape, settings).eval()
    method.start_from(backbone)
    return method


@pytest.mark.parametrize("sides", ["both", "image", "text"])
def test_a_fresh_method_is_the_backbone(
    sides: str, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    method, ids = method_of(backbone, sides=sides), backbone.tokenize(texts)
    bare, found = encode_pair(backbone, pixels, ids), encode_pair(backbone, pixels, ids, method)
    assert torch.equal(found.image, bare.image)
    assert torch.equal(found.text, bare.text)
    for side in SIDES:
        tuned = sides in ("both", side)
        assert method.first_layer(side) == (0 if tuned else backbone.shape.side(side).depth)
        assert found.image.requires_grad == (sides in ("both", "image"))


def test_every_weight_that_clip_has_is_trained_as_clip_would(
    backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    """Gradients against those of `transformers.CLIPModel` on the same weights."""
    clip, method = random_clip(small_shape()), method_of(backbone)
    ids = backbone.tokenize(texts)
    found = encode_pair(backbone, pixels, ids, method)
    F.cosine_similarity(found.image, found.text).sum().backward()
    reference: CLIPModel = clip.requires_grad_(True)
    lengths = torch.tensor([len(text) + 2 for text in texts])
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    out = reference(pixel_values=backbone.image.normalised(pixels), input_ids=ids, attention_mask=mask.long())
    F.cosine_similarity(out.image_embeds, out.text_embeds).sum().backward()
    own = dict(method.named_parameters())
    for ours, theirs in {
        "image.first": "vision_model.embeddings.class_embedding",
        "image.patches.weight": "vision_model.embeddings.patch_embedding.weight",
        "image.norm_in.bias": "vision_model.pre_layrnorm.bias",
        "image.blocks.2.fc1.weight": "vision_model.encoder.layers.2.mlp.fc1.weight",
        "image.projection.weight": "visual_projection.weight",
        "text.words.weight": "text_model.embeddings.token_embedding.weight",
        "text.blocks.0.out.weight": "text_model.encoder.layers.0.self_attn.out_proj.weight",
        "text.norm_out.weight": "text_model.final_layer_norm.weight",
        "text.projection.weight": "text_projection.weight",
    }.items():
        torch.testing.assert_close(
            own[f"towers.{ours}"].grad, reference.get_parameter(theirs).grad, atol=1e-4, rtol=1e-3
        )


def test_it_never_shares_memory_with_the_backbone(backbone: Backbone, pixels: Tensor) -> None:
    method = method_of(backbone)
    before = copy.deepcopy(backbone.state_dict())
    theirs = {parameter.data_ptr() for parameter in backbone.parameters()}
    with torch.no_grad():
        for parameter in method.parameters():
            assert parameter.data_ptr() not in theirs
            parameter.add_(0.1)
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    own = sum(tensor.numel() for tensor in method.state_dict().values())
    assert own == sum(parameter.numel() for parameter in backbone.parameters())
    assert not torch.equal(
        encode(backbone.image, "image", pixels, method), encode(backbone.image, "image", pixels)
    )


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_it_counts_every_parameter_of_the_towers(name: str) -> None:
    shape, choice = PRESETS[name], choose("full")
    empty = empty_backbone(shape)
    count = {
        sides: choice.method.parameter_count(shape, choice.settings({"sides": sides}))
        for sides in ("both", *SIDES)
    }
    for side in SIDES:
        assert count[side] == sum(parameter.numel() for parameter in empty.tower(side).parameters())
    assert count["both"] == count["image"] + count["text"]
    with torch.device("meta"):
        clip = CLIPModel(clip_config(shape))
    assert count["both"] == sum(parameter.numel() for parameter in clip.parameters()) - 1  # logit_scale


def test_pixels_are_read_as_the_backbone_says_also_behind_an_artefact(pixels: Tensor) -> None:
    normalisation = Normalisation((0.1, 0.2, 0.3), (0.7, 0.8, 0.9))
    backbone = from_clip(random_clip(small_shape()), LetterTokenizer(), "other pixels", normalisation)
    loaded = choose("full").build(backbone.shape).eval()
    loaded.load_state_dict(method_of(backbone).state_dict())
    assert torch.equal(
        encode(backbone.image, "image", pixels, loaded), encode(backbone.image, "image", pixels)
    )


@pytest.mark.parametrize("sides", ["both", "image", "text"])
def test_class_texts_that_continue_a_text_need_the_frozen_embedding(sides: str, backbone: Backbone) -> None:
    head = Head(HeadSettings(class_text="joint", query="image"), backbone.shape.joint, 2, backbone.scale)
    model = PairClassifier(method_of(backbone, sides=sides), head)
    if sides == "image":
        model.prepare(backbone, ["one", "two"])
        return
    with pytest.raises(InterplayError, match="embeds texts with weights of its own"):
        model.prepare(backbone, ["one", "two"])
