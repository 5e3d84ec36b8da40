"""DualPrompt: whose prefix a sample takes in training and afterwards, and prefixes in the causal text tower."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.classification.model import class_suffixes
from interplay.encoding.trainable import PairBatch, keys_of
from interplay.errors import InterplayError
from interplay.methods.dual_prompt import DualPrompt
from interplay.methods.registry import choose
from interplay.retrieval.model import PairRetriever
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES, Side
from interplay.towers.walk import Keys, encode, encode_pair

SMALL = {"general_layers": (1,), "expert_layers": (2, 4), "length": 3}


def method_of(backbone: Backbone, sessions: int = 3, **settings: Any) -> DualPrompt:
    torch.manual_seed(1)
    method = choose("dual_prompt").build(backbone.shape, {**SMALL, **settings})
    for session in range(sessions):
        method.sessions.begin(f"task {session}", torch.zeros(16))
    assert isinstance(method, DualPrompt)
    return method.eval()


def session_keys(method: DualPrompt, side: str) -> list[Tensor]:
    return [expert.keys[side].detach() for expert in method.bank.sets]  # type: ignore[index,union-attr]


def queries(seed: int = 2, count: int = 9) -> Tensor:
    torch.manual_seed(seed)
    return F.normalize(torch.randn(count, 16), dim=1)


def test_a_sample_takes_the_expert_of_the_nearest_session_key(backbone: Backbone) -> None:
    method, asked = method_of(backbone, sides="both"), queries()
    for side in SIDES:
        route, margin = method.sessions.route(side, asked), method.sessions.margin(side, asked)
        assert route is not None
        assert margin is not None
        for row, query in enumerate(asked):
            near = [float(torch.cosine_similarity(query, key, dim=0)) for key in session_keys(method, side)]
            assert route[row] == near.index(max(near))
            first, second = sorted(near, reverse=True)[:2]
            assert float(margin[row]) == pytest.approx(first - second, abs=1e-6)
        assert not margin.requires_grad
    assert not torch.equal(method.sessions.route("image", asked), method.sessions.route("text", asked))  # type: ignore[arg-type]


def test_one_session_leaves_no_choice_and_none_leaves_nothing_to_choose(backbone: Backbone) -> None:
    single, none = method_of(backbone, 1), method_of(backbone, 0)
    assert torch.isinf(single.sessions.margin("image", queries())).all()  # type: ignore[arg-type]
    assert none.sessions.route("image", queries()) is None
    assert none.sessions.margin("image", queries()) is None
    assert single.sessions.route("text", queries()) is None  # the text tower is left alone


@pytest.mark.parametrize("sides", ["image", "both"])
def test_the_newest_key_is_pulled_to_the_samples_of_its_side(sides: str, backbone: Backbone) -> None:
    method = method_of(backbone, sides=sides, pull=0.7)
    keys = Keys(queries(3), queries(4))
    found = method.objective(torch.tensor(2.0), keys)
    slow = 2.0
    for side in SIDES if sides == "both" else ("image",):
        own = session_keys(method, side)[-1]
        apart = [1 - float(torch.cosine_similarity(query, own, dim=0)) for query in keys.side(side)]
        slow += 0.7 * sum(apart) / len(apart)
    assert found.item() == pytest.approx(slow, rel=1e-5)
    found.backward()
    pulled = {key for key, parameter in method.named_parameters() if parameter.grad is not None}
    assert pulled == {f"bank.sets.2.keys.{side}" for side in (SIDES if sides == "both" else ("image",))}


def test_training_takes_the_session_s_own_expert_whatever_key_is_nearest(
    backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    method = method_of(backbone, sides="both")
    batch = PairBatch(pixels, backbone.tokenize(texts), torch.arange(7))
    keys = keys_of(backbone, batch)
    with torch.no_grad():  # every sample is nearest to the first session
        for side in SIDES:
            session_keys(method, side)[0].copy_(keys.side(side).mean(dim=0))
    assert all(method.sessions.route(side, keys.side(side)).unique().tolist() == [0] for side in SIDES)  # type: ignore[union-attr]
    trained = PairRetriever(method, 16, 10.0).vectors(backbone, batch)
    inputs: dict[Side, Any] = {"image": batch.images, "text": batch.texts}
    for side, found in (("image", trained.image), ("text", trained.text)):
        by = [
            F.normalize(
                encode(backbone.tower(side), side, inputs[side], method, route=torch.full((7,), route)),
                dim=-1,
            )
            for route in (0, 2)
        ]
        torch.testing.assert_close(found, by[1])
        assert not torch.allclose(found, by[0], atol=1e-4)


def slow_text(method: DualPrompt, backbone: Backbone, ids: Tensor, session: int) -> Tensor:
    """One text without padding, all rows of all layers: the vector of its last token."""
    tower: Any = backbone.text
    expert: Any = method.bank.sets[session]
    x = tower.words(ids) + tower.positions[: len(ids)]
    for i, block in enumerate(tower.blocks):
        q, k, v = block.qkv(block.norm1(x)).chunk(3, dim=-1)
        whole = None
        if i + 1 in SMALL["general_layers"]:  # type: ignore[operator]
            whole = method.general["text"][SMALL["general_layers"].index(i + 1)]  # type: ignore[attr-defined]
        elif i + 1 in SMALL["expert_layers"]:  # type: ignore[operator]
            whole = expert.text[SMALL["expert_layers"].index(i + 1)]  # type: ignore[attr-defined]
        front = 0
        if whole is not None:
            front = len(whole) // 2
            k, v = torch.cat([whole[:front], k]), torch.cat([whole[front:], v])
        rows = []
        for row in range(len(x)):
            heads = []
            for q1, k1, v1 in zip(q[row].chunk(2), k.chunk(2, -1), v.chunk(2, -1), strict=True):
                seen = front + row + 1  # the prefix, the past and itself
                heads.append((k1[:seen] @ q1 / len(q1) ** 0.5).softmax(dim=0) @ v1[:seen])
            rows.append(torch.cat(heads))
        x = x + block.out(torch.stack(rows))
        x = x + block.fc2(block.activation(block.fc1(block.norm2(x))))
    pooled: Tensor = tower.projection(tower.norm_out(x[-1]))
    return pooled


def test_texts_with_prefixes_also_on_the_last_layer(backbone: Backbone, texts: list[str]) -> None:
    method = method_of(backbone, sides="both")
    route = torch.tensor([2, 0, 1, 1, 0, 2, 0])
    found = encode(backbone.text, "text", backbone.tokenize(texts), method, route=route)
    for row, text in enumerate(texts):
        slow = slow_text(method, backbone, backbone.tokenize([text])[0], int(route[row]))
        torch.testing.assert_close(found[row], slow, atol=2e-5, rtol=1e-4)


def test_class_texts_that_continue_a_text_see_its_prefixes(
    backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    method, classes = method_of(backbone, sides="both"), ["ant", "bee"]
    suffix = class_suffixes(backbone, classes)
    found = encode_pair(backbone, pixels, backbone.tokenize(texts), method, suffix=suffix).classes
    assert found is not None
    for row, text in enumerate(texts):
        for at, name in enumerate(classes):
            front = backbone.tokenize([text])[0][:-1]
            ids = torch.cat([front, backbone.tokenize([name])[0][1:]])
            torch.testing.assert_close(
                found[row, at], slow_text(method, backbone, ids, 2), atol=2e-5, rtol=1e-4
            )


def test_the_shared_prefix_is_trained_in_every_session(backbone: Backbone) -> None:
    method = method_of(backbone)
    assert not method.sessions.isolates
    assert method.general["image"].requires_grad
    trained = [all(p.requires_grad for p in expert.parameters()) for expert in method.bank.sets]
    assert trained == [False, False, True]
    with pytest.raises(InterplayError, match="cannot forget 'task 1' alone"):
        method.sessions.forget("task 1")


def test_contradictions_are_refused(backbone: Backbone) -> None:
    for wrong in (
        {"length": 0},
        {"expert_layers": ()},
        {"general_layers": (0,)},
        {"general_layers": (1, 2), "expert_layers": (2, 3)},
    ):
        with pytest.raises(InterplayError, match="DualPrompt needs"):
            choose("dual_prompt").settings(wrong)
    method_of(backbone, expert_layers=(5,))
    with pytest.raises(InterplayError, match="layer 5 does not exist: the text tower has 4"):
        method_of(backbone, expert_layers=(5,), sides="both")
