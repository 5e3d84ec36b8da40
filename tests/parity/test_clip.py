"""Without a method, features equal `transformers.CLIPModel` on the same weights."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPModel

from interplay.towers.backbone import clip_config, from_clip
from interplay.towers.presets import PRESETS
from interplay.towers.tokens import Shape
from interplay.towers.walk import encode, encode_pair
from tests.conftest import LetterTokenizer, random_clip, small_shape


def compare(model: CLIPModel, shape: Shape, batch: int, lengths: list[int], positions: int) -> None:
    backbone = from_clip(model, LetterTokenizer(), "reference")
    size, end = shape.image.image_size, shape.text.end_token
    pictures = torch.randn(batch, 3, size, size)
    ids = torch.randint(0, end - 1, (batch, positions))
    for row, length in enumerate(lengths):
        ids[row, length - 1 :] = end
    keep = (torch.arange(positions) < torch.tensor(lengths)[:, None]).long()
    with torch.no_grad():
        image = model.get_image_features(pictures).pooler_output
        text = model.get_text_features(ids, keep).pooler_output
        torch.testing.assert_close(encode(backbone.image, "image", pictures), image, atol=1e-5, rtol=0)
        torch.testing.assert_close(encode(backbone.text, "text", ids), text, atol=1e-5, rtol=0)
        cut = ids[:, : max(lengths)]
        torch.testing.assert_close(encode(backbone.text, "text", cut), text, atol=1e-5, rtol=0)
        pair = encode_pair(backbone, pictures, cut)
        torch.testing.assert_close(pair.image, image, atol=1e-5, rtol=0)
        torch.testing.assert_close(pair.text, text, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_preset_geometries(name: str) -> None:
    shape = PRESETS[name]
    torch.manual_seed(0)
    compare(CLIPModel(clip_config(shape)).eval(), shape, 2, [5, 12], 77)


def test_small_towers_with_large_weights() -> None:
    shape = small_shape()
    compare(random_clip(shape).double().float(), shape, 6, [2, 3, 7, 12, 20, 40], 40)


def test_checkpoints_that_say_end_token_two_mean_the_highest_id() -> None:
    config = clip_config(small_shape())
    config.text_config.eos_token_id = 2
    backbone = from_clip(CLIPModel(config), LetterTokenizer(), "old")
    assert backbone.text.shape.end_token == 99


def test_uint8_pixels_are_normalised_as_the_processor_does() -> None:
    backbone = from_clip(random_clip(small_shape()), LetterTokenizer(), "x")
    raw = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    ready = (raw.float() * (1 / 255) - mean) / deviation
    torch.testing.assert_close(
        encode(backbone.image, "image", raw), encode(backbone.image, "image", ready), atol=1e-5, rtol=1e-5
    )
