"""The hooks that a method may use: what pools its tokens, the order of the towers, its first values, blind prompts."""

from __future__ import annotations

from dataclasses import replace

import datasets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.classification.artifact import build
from interplay.classification.classifier import Classifier
from interplay.data.schema import PairTable
from interplay.methods.base import Method
from interplay.methods.registry import choose
from interplay.methods.settings import NoSettings
from interplay.methods.traits import Traits
from interplay.methods.zero_shot import ZeroShot
from interplay.retrieval.retriever import Retriever
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Side, Tokens, Tower
from interplay.towers.walk import Pair, Step, encode, encode_pair, front, steps
from tests.conftest import small_shape


class Doubled(Method):
    """A side's vector is twice the tower's; the order of the steps is written down."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone.shape, NoSettings())
        self.taken: list[Step] = []

    def pair_layer(self, step: Step, backbone: Backbone, pair: Pair) -> Pair:
        self.taken.append(step)
        return super().pair_layer(step, backbone, pair)

    def vector(self, side: Side, tower: Tower, tokens: Tokens) -> Tensor:
        return 2 * tower.pool(tokens)


def test_a_method_pools_one_side_and_the_pair(backbone: Backbone, pixels: Tensor, texts: list[str]) -> None:
    method, ids = Doubled(backbone), backbone.tokenize(texts)
    bare = encode_pair(backbone, pixels, ids)
    both = encode_pair(backbone, pixels, ids, method)
    torch.testing.assert_close(both.image, 2 * bare.image)
    torch.testing.assert_close(both.text, 2 * bare.text)
    assert torch.equal(both.image, encode(backbone.image, "image", pixels, method))


def test_the_image_tower_may_run_first(backbone: Backbone, pixels: Tensor, texts: list[str]) -> None:
    method, ids = Doubled(backbone), backbone.tokenize(texts)
    plain = encode_pair(backbone, pixels, ids, method)
    method.taken.clear()
    method.traits = Traits(order="image_first")
    first = encode_pair(backbone, pixels, ids, method)
    assert method.taken == [Step(i, None) for i in range(5)] + [Step(None, i) for i in range(4)]
    assert torch.equal(plain.image, first.image)
    assert torch.equal(plain.text, first.text)
    method.taken.clear()
    behind = encode_pair(backbone, front(backbone.image, pixels, 5), ids, method)
    assert method.taken == [Step(None, i) for i in range(4)]
    torch.testing.assert_close(behind.image, first.image)


@pytest.mark.parametrize(("image", "text"), [(5, 4), (4, 5), (8, 3), (4, 4)])
def test_layers_counted_from_the_end(image: int, text: int) -> None:
    taken = steps(small_shape(image, text), "end")
    assert [step.image for step in taken if step.image is not None] == list(range(image))
    assert [step.text for step in taken if step.text is not None] == list(range(text))
    for back in range(1, min(image, text) + 1):
        assert taken[-back] == Step(image - back, text - back)


def test_first_values_are_asked_for_once_and_not_for_an_artefact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Backbone] = []
    monkeypatch.setattr(ZeroShot, "start_from", lambda self, backbone: asked.append(backbone))
    rows = datasets.Dataset.from_dict({"image": ["a.png"], "text": ["a"], "label": ["x"]})
    table = PairTable("toy", "single", ("x",), rows)
    classifier = Classifier("tiny", "zero_shot")
    classifier._begin(table)
    assert asked == [classifier.backbone]
    Retriever(classifier.backbone, "zero_shot")
    assert asked == [classifier.backbone] * 2
    assert classifier.card is not None
    build(classifier.card, classifier.backbone)
    assert len(asked) == 2


def attention_by_loops(tokens: Tokens, real: list[int]) -> Tensor:
    """Which row may attend to which, (batch, length, length), row by row."""
    batch, length, _ = tokens.x.shape
    allowed = torch.zeros(batch, length, length, dtype=torch.bool)
    for sample in range(batch):
        for row in range(length):
            for column in range(length):
                slot = 1 <= row <= tokens.prompts
                if 1 <= row <= tokens.blind:
                    may = 1 <= column <= tokens.blind
                elif slot and tokens.prompts_see_all:
                    may = column < real[sample] + tokens.prompts or column <= row
                else:
                    may = column <= row
                allowed[sample, row, column] = may
    return allowed


@pytest.mark.parametrize(("see_all", "blind"), [(True, 0), (True, 3), (False, 3), (True, 4)])
def test_what_each_row_may_attend_to(see_all: bool, blind: int, backbone: Backbone, texts: list[str]) -> None:
    tower = backbone.text
    torch.manual_seed(0)
    tokens = tower.embed(backbone.tokenize(texts))
    tokens = replace(tower.put(tokens, torch.randn(4, 16), see_all=see_all), blind=blind)
    allowed = attention_by_loops(tokens, [len(text) + 2 for text in texts])
    block = tower.blocks[1]
    q, k, v = (
        part.unflatten(-1, (2, 8)).transpose(1, 2)
        for part in block.qkv(block.norm1(tokens.x)).chunk(3, dim=-1)
    )
    scores = (q @ k.transpose(-1, -2) * 8**-0.5).masked_fill(~allowed[:, None], float("-inf"))
    x = tokens.x + block.out((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))
    expected = x + block.fc2(block.activation(block.fc1(block.norm2(x))))
    torch.testing.assert_close(tower.layer(1, tokens).x, expected)


def test_prompts_are_blind_only_where_a_method_says_so(backbone: Backbone, texts: list[str]) -> None:
    tokens = backbone.text.embed(backbone.tokenize(texts))
    blind = replace(backbone.text.put(tokens, torch.zeros(2, 16)), blind=2)
    assert backbone.text.put(blind, torch.zeros(2, 16)).blind == 0
    assert backbone.text.drop(blind).blind == 0
    assert F.mse_loss(backbone.text.drop(blind).x, tokens.x) == 0
    assert choose("zero_shot").method.traits.own_embedding is False
