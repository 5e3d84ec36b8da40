"""What LPI is compared with: parameter counts, and the rules that released code breaks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from interplay.methods.base import Keys, choose
from interplay.methods.l2p import L2p
from interplay.methods.maple import CoupledPrompts
from interplay.tasks.trainable import PairBatch, keys_of
from interplay.towers.backbone import Backbone
from interplay.towers.presets import PRESETS
from interplay.towers.tokens import Shape
from interplay.towers.walk import encode
from tests.lpi.test_lpi import GLIP

B16 = PRESETS["clip-vit-base-patch16"]


@pytest.mark.parametrize(
    ("shape", "name", "settings", "count"),
    [
        (GLIP, "l2p", {}, 5_760),
        (GLIP, "s_prompts", {}, 165_888 // 12),
        (GLIP, "maple", {"length": 16}, 9_300_096 // 12),
        (B16, "maple", {}, 3_555_072),
        (B16, "s_prompts", {"image_length": 10}, 15_872),
    ],
)
def test_published_parameter_counts(shape: Shape, name: str, settings: dict[str, Any], count: int) -> None:
    choice = choose(name)
    assert choice.method.parameter_count(shape, choice.settings(settings)) == count


def l2p(backbone: Backbone) -> L2p:
    torch.manual_seed(0)
    method = choose("l2p").build(backbone.shape, {"pool": 6, "length": 2, "picked": 2})
    assert isinstance(method, L2p)
    return method.eval()


def test_l2p_lets_every_image_pick_for_itself(backbone: Backbone, pixels: Tensor) -> None:
    method = l2p(backbone)
    keys = keys_of(backbone, PairBatch(pixels, backbone.tokenize(["x"]))).image
    route = method.route("image", keys)
    assert route is not None
    assert len({tuple(row) for row in route.tolist()}) > 1
    together = encode(backbone.image, "image", pixels, method, route=route)
    for row in range(len(pixels)):
        near = [float(torch.cosine_similarity(keys[row], key, dim=0)) for key in method.pool_keys.detach()]
        best = sorted(range(6), key=lambda at: -near[at])[:2]
        assert route[row].tolist() == best
        tokens = backbone.image.embed(pixels[row : row + 1]).put(method.pool[best].flatten(0, 1))
        for i in range(5):
            tokens = backbone.image.layer(i, tokens)
        torch.testing.assert_close(backbone.image.pool(tokens)[0], together[row], atol=2e-5, rtol=1e-4)


def test_l2p_pulls_the_picked_keys_to_the_images(backbone: Backbone) -> None:
    method = l2p(backbone)
    torch.manual_seed(1)
    queries = torch.nn.functional.normalize(torch.randn(3, 16), dim=1)
    found = method.objective(torch.tensor(2.0), Keys(queries, queries))
    slow = 0.0
    for query in queries:
        near = sorted(float(torch.cosine_similarity(query, key, dim=0)) for key in method.pool_keys.detach())
        slow += sum(near[-2:]) / 2
    assert found.item() == pytest.approx(2 - 0.1 * slow / 3, rel=1e-5)


def test_maple_s_image_prompts_are_maps_of_the_text_prompts(backbone: Backbone) -> None:
    torch.manual_seed(2)
    prompts = CoupledPrompts(backbone.shape, 3, 2)
    image = prompts("image")
    for i in range(3):
        layer: Any = prompts.maps[i]
        torch.testing.assert_close(image[i], prompts.text[i] @ layer.weight.T + layer.bias)
        torch.testing.assert_close(prompts("image", slice(i, i + 1))[0], image[i])


def test_s_prompts_enter_in_front_of_the_norm_and_of_the_positions(
    backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    torch.manual_seed(3)
    method = choose("s_prompts").build(backbone.shape, {"image_length": 3, "text_length": 2}).eval()
    assert method.reserve == 2
    state = method.state_dict()
    tower = backbone.image
    x = tower.patches((pixels / 255 - tower.mean) / tower.deviation).flatten(2).transpose(1, 2)
    x = torch.cat([tower.first.expand(len(x), 1, -1), x], dim=1) + tower.positions
    x = torch.cat([x[:, :1], state["bank.sets.0.image"].expand(len(x), -1, -1), x[:, 1:]], dim=1)
    torch.testing.assert_close(method.embed("image", tower, pixels, None).x, tower.norm_in(x))
    ids = backbone.tokenize(texts, reserve=2)
    words = backbone.text.words(ids)
    context = state["bank.sets.0.text"].expand(len(ids), -1, -1)
    x = torch.cat([words[:, :1], context, words[:, 1:]], dim=1)
    x = x + backbone.text.positions[: x.shape[1]]
    torch.testing.assert_close(method.embed("text", backbone.text, ids, None).x, x)


@pytest.mark.parametrize("name", ["lpi-m", "lpi-p", "s_prompts", "maple"])
def test_a_mixed_batch_is_each_sample_alone(
    name: str, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    torch.manual_seed(4)
    choice = choose(name)
    method = choice.build(backbone.shape, {**choice.method.tiny(), **choice.preset})
    for session in range(4):
        method.begin_session(str(session), torch.zeros(16))
    route = torch.tensor([3, 0, 1, 1, 2, 3, 0])
    inputs: dict[Any, Tensor] = {"image": pixels, "text": backbone.tokenize(texts)}
    for side, raw in inputs.items():
        tower = backbone.tower(side)
        mixed = encode(tower, side, raw, method, route=route)
        for row in range(len(route)):
            alone = encode(tower, side, raw[row : row + 1], method, route=route[row : row + 1])
            torch.testing.assert_close(mixed[row], alone[0], atol=2e-5, rtol=1e-4)
