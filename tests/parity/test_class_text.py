"""Class texts that continue the sample's own text: the shared front equals running each class on its own."""

from __future__ import annotations

import pytest
import torch

from interplay.classification.model import PairClassifier, class_suffixes
from interplay.encoding.trainable import PairBatch
from interplay.errors import InterplayError
from interplay.methods.registry import choose
from interplay.parts.heads import Head, HeadSettings
from interplay.towers.backbone import Backbone
from interplay.towers.clip import Block, TextTower
from interplay.towers.walk import encode, encode_pair

CLASSES = ["ant", "a bee", "crow bar"]


def whole_sequences(backbone: Backbone, text: str, classes: list[str]) -> torch.Tensor:
    """[start, text, class prompt, end], one row a class: what the frozen tower would read."""
    front = backbone.tokenize([text])[0, :-1].tolist()
    rows = [front + backbone.tokenize([name])[0, 1:].tolist() for name in classes]
    longest = max(map(len, rows))
    return torch.tensor([row + [backbone.text.shape.end_token] * (longest - len(row)) for row in rows])


def test_without_a_method_it_is_the_frozen_tower_on_the_joined_text(
    backbone: Backbone, pixels: torch.Tensor, texts: list[str]
) -> None:
    suffix = class_suffixes(backbone, CLASSES)
    vectors = encode_pair(backbone, pixels, backbone.tokenize(texts), None, suffix=suffix)
    assert vectors.classes is not None
    for row, text in enumerate(texts):
        expected = encode(backbone.text, "text", whole_sequences(backbone, text, CLASSES))
        torch.testing.assert_close(vectors.classes[row], expected, atol=2e-5, rtol=1e-4)


def slow_layer(tower: TextTower, i: int, x: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    block = tower.blocks[i]
    assert isinstance(block, Block)
    return block(x, allowed[None, None])[0]


@pytest.mark.parametrize("visibility", ["full", "causal"])
def test_with_temporal_prompts_it_is_the_prompted_tower_on_the_joined_text(
    visibility: str, backbone: Backbone, pixels: torch.Tensor, texts: list[str]
) -> None:
    """Prompts see the front alone (the sample's text): that is what makes the front shareable."""
    torch.manual_seed(0)
    layers = (2, 3)
    settings = {"layers": layers, "length": 3, "interaction": "none", "visibility": visibility}
    method = choose("mitp").build(backbone.shape, settings)
    prompts = method.text_prompts
    tower = backbone.text
    suffix = class_suffixes(backbone, CLASSES)
    with torch.no_grad():
        prompts.mul_(30)
        vectors = encode_pair(backbone, pixels, backbone.tokenize(texts), method, suffix=suffix)
        assert vectors.classes is not None
        for row, text in enumerate(texts):
            front = len(backbone.tokenize([text])[0]) - 1
            for at, name in enumerate(CLASSES):
                ids = whole_sequences(backbone, text, [name])
                x = tower.words(ids) + tower.positions[: ids.shape[1]]
                for i in range(tower.shape.depth):
                    length = x.shape[1]
                    if i + 1 not in layers:
                        x = slow_layer(tower, i, x, torch.ones(length, length).tril().bool())
                        continue
                    x = torch.cat([x[:, :1], prompts[layers.index(i + 1)][None], x[:, 1:]], dim=1)
                    allowed = torch.ones(length + 3, length + 3).tril().bool()
                    if visibility == "full":
                        allowed[1:4, : front + 3] = True
                    x = slow_layer(tower, i, x, allowed)
                    x = torch.cat([x[:, :1], x[:, 4:]], dim=1)
                expected = tower.projection(tower.norm_out(x[:, -1]))
                torch.testing.assert_close(vectors.classes[row, at], expected[0], atol=2e-5, rtol=1e-4)


def test_the_joint_head_scores_pairs_and_trains(
    backbone: Backbone, pixels: torch.Tensor, texts: list[str]
) -> None:
    method = choose("mitp").build(backbone.shape, {"layers": (2, 3), "length": 4, "hidden": 8})
    head = Head(
        HeadSettings(kind="class_text", class_text="joint", query="image"),
        backbone.shape.joint,
        3,
        backbone.scale,
    )
    model = PairClassifier(method, head)
    model.prepare(backbone, ["cat", "dog", "cow"])
    logits = model(backbone, PairBatch(pixels, backbone.tokenize(texts, reserve=22)))
    assert logits.shape == (7, 3)
    model.loss(logits, torch.zeros(7, dtype=torch.long)).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_joint_class_texts_need_the_image_as_query_and_room(backbone: Backbone) -> None:
    with pytest.raises(InterplayError, match="query must be 'image'"):
        HeadSettings(class_text="joint")
    with pytest.raises(InterplayError, match="shorten the class names"):
        class_suffixes(backbone, ["a" * 30])


def test_what_prompts_see_in_the_causal_text_tower(
    backbone: Backbone, pixels: torch.Tensor, texts: list[str]
) -> None:
    """Open point d: only where prompt rows may look ahead does the paired text reach the image side."""
    for visibility, reaches in (("full", True), ("causal", False)):
        torch.manual_seed(0)
        method = choose("mitp").build(
            backbone.shape, {"layers": (2, 3), "length": 4, "hidden": 8, "visibility": visibility}
        )
        with torch.no_grad():
            for parameter in method.parameters():
                parameter.mul_(5)
        ids = backbone.tokenize(texts)
        one = encode_pair(backbone, pixels, ids, method).image
        other = encode_pair(backbone, pixels, ids.roll(1, dims=0), method).image
        assert (not torch.equal(one, other)) == reaches


@pytest.mark.parametrize(("name", "settings"), [("s_prompts", {}), ("lpi-m", {"text_positions": True})])
def test_prompts_in_front_of_the_text_are_refused_rather_than_left_out(
    name: str, settings: dict[str, bool], backbone: Backbone
) -> None:
    choice = choose(name)
    method = choice.build(backbone.shape, {**choice.method.tiny(), **settings})
    head = Head(HeadSettings(class_text="joint", query="image"), backbone.shape.joint, 3, backbone.scale)
    with pytest.raises(InterplayError, match="choose class_text = separate"):
        PairClassifier(method, head).prepare(backbone, CLASSES)
