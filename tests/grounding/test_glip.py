"""The whole detector against the separate oracle pieces, its published sizes, and prompts in its towers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interplay.grounding.glip import TINY, Glip, GlipShape
from tests.grounding import oracles
from tests.grounding.oracles import numbers
from tests.grounding.toy import SHAPE, library_bert, library_swin, phrases, shaken

SMALL = GlipShape(SHAPE, channels=32, blocks=2)


@pytest.fixture(scope="module")
def glip() -> Glip:
    torch.manual_seed(0)
    built = Glip(SMALL)
    shaken(built)
    return built


def test_the_whole_detector_equals_its_pieces() -> None:
    torch.manual_seed(0)
    own = Glip(SMALL)
    shaken(own, deviation=0.05)
    swin, image = library_swin(SHAPE.image)
    bert, text = library_bert(SHAPE.text)
    own.image, own.text = image, text
    pixels, ids = torch.randn(2, 3, 96, 128), phrases([5, 9])
    found = own(pixels, ids)
    assert found.sizes == ((12, 16), (6, 8), (3, 4), (2, 2), (1, 1))
    real = (ids != 0).long()
    with torch.no_grad():
        maps = swin(pixels).feature_maps[1:]
        words = bert(ids, attention_mask=real).last_hidden_state * real[..., None]
    for sample in range(2):
        levels = oracles.pyramid([numbers(x[sample]) for x in maps], own.pyramid)
        for block in own.tower.blocks:
            levels = oracles.dynamic_block(levels, block)
        wanted = oracles.head(levels, numbers(words[sample]), own.head)
        for ours, theirs in zip((found.deltas, found.centred, found.logits), wanted, strict=True):
            assert np.abs(theirs).max() > 0.1
            np.testing.assert_allclose(numbers(ours[sample]), theirs, atol=1e-5, rtol=1e-5)


def test_a_longer_padding_changes_nothing(glip: Glip) -> None:
    pixels, ids = torch.randn(1, 3, 64, 96), phrases([7])
    found = glip(pixels, ids)
    longer = glip(pixels, torch.cat([ids, ids.new_zeros(1, 20)], dim=1))
    torch.testing.assert_close(longer.logits[..., :7], found.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(longer.deltas, found.deltas)


def test_glip_tiny_has_its_published_parameters() -> None:
    with torch.device("meta"):
        own = Glip(TINY)
    counts = {
        name: sum(parameter.numel() for parameter in part.parameters()) for name, part in own.named_children()
    }
    assert counts == {
        "image": 27_520_506,
        "text": 108_891_648,
        "pyramid": 3_295_232,
        "tower": 11_503_656,
        "head": 219_484,
    }
    assert sum(counts.values()) == 151_430_526
    assert not any(parameter.requires_grad for parameter in own.parameters())
    assert own.shape.image.depth == own.shape.text.depth == 12
