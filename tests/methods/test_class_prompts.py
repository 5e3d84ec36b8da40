"""Class texts that go through the method: against one text at a time, never stale, and never computed twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.classification.model import PairClassifier
from interplay.encoding.trainable import PairBatch
from interplay.errors import InterplayError
from interplay.methods.registry import choose
from interplay.parts.heads import Head, HeadSettings
from interplay.towers.backbone import Backbone
from interplay.towers.presets import PRESETS
from interplay.towers.tokens import Tokens
from interplay.towers.walk import encode
from tests.methods.toy import CLASSES, prompted
from tests.train.toy import toy_table

B16 = PRESETS["clip-vit-base-patch16"]
BEHIND_A_FRONT = {"general_layers": (2,), "expert_layers": (3,)}


def slow_logits(backbone: Backbone, model: PairClassifier, pixels: Tensor, texts: list[str]) -> Tensor:
    """Each class text and each sample alone with the method, cosine, temperature."""
    asked = model.head.settings.query
    rows = []
    for picture, text in zip(pixels, texts, strict=True):
        image = F.normalize(encode(backbone.image, "image", picture[None], model.method)[0], dim=0)
        own = F.normalize(encode(backbone.text, "text", backbone.tokenize([text]), model.method)[0], dim=0)
        query = {"image": image, "text": own, "image+text": image + own}[asked]
        row = []
        for name in CLASSES:
            vector = encode(backbone.text, "text", backbone.tokenize([f"{name}."]), model.method)[0]
            row.append(backbone.scale * torch.cosine_similarity(query, vector, dim=0))
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("asked", ["image", "text", "image+text"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("p_clip", {}),
        ("p_clip", {"sides": "text"}),
        ("maple", {}),
        ("dcp", {}),
        ("coop", {}),
        ("lora", {}),
        ("dual-prompt-both", BEHIND_A_FRONT),
    ],
)
def test_logits_are_those_of_one_text_at_a_time(
    name: str, settings: dict[str, Any], asked: str, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    model = prompted(backbone, name, settings, {"query": asked})
    batch = PairBatch(pixels, backbone.tokenize(texts), torch.arange(7) % 3)
    expected = slow_logits(backbone, model, pixels, texts)
    for _ in range(2):  # computed, and held
        with torch.no_grad():
            torch.testing.assert_close(model(backbone, batch), expected, atol=1e-4, rtol=1e-4)
    parameters = [p for p in model.method.parameters() if p.requires_grad]
    loss = F.cross_entropy(expected, batch.targets)  # type: ignore[arg-type]
    slow = torch.autograd.grad(loss, parameters, allow_unused=True)
    found = torch.autograd.grad(
        F.cross_entropy(model(backbone, batch), batch.targets),  # type: ignore[arg-type]
        parameters,
        allow_unused=True,
    )
    assert any(gradient is not None for gradient in found)
    for ours, theirs in zip(found, slow, strict=True):
        if theirs is None:
            assert ours is None or not ours.any()
        else:
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["zero_shot", "p-clip-vpt", "l2p", "dual_prompt"])
def test_what_leaves_the_texts_alone_makes_it_separate(
    name: str, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    batch = PairBatch(pixels, backbone.tokenize(texts))
    for asked in ("image", "image+text"):
        models = [
            prompted(backbone, name, head={"query": asked, "class_text": kind})
            for kind in ("prompted", "separate")
        ]
        found, separate = (model(backbone, batch) for model in models)
        torch.testing.assert_close(found, separate, atol=1e-4, rtol=1e-4)


class Rows:
    """Counts the rows and the longest text that enter a text tower's first layer."""

    def __init__(self, backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered: list[tuple[int, int]] = []
        inner = backbone.text.layer

        def layer(i: int, tokens: Tokens, **options: Any) -> Tokens:
            if i == 0:
                self.entered.append(tuple(tokens.x.shape[:2]))  # type: ignore[arg-type]
            return inner(i, tokens, **options)

        monkeypatch.setattr(backbone.text, "layer", layer)


def test_a_step_encodes_every_class_once_and_no_text_that_is_not_asked_for(
    backbone: Backbone, pixels: Tensor, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = prompted(backbone, "coop").train()
    rows = Rows(backbone, monkeypatch)
    batch = PairBatch(pixels, backbone.tokenize(texts), torch.arange(7) % 3)
    longest = max(len(f"{name}.") for name in CLASSES) + 2 + 3
    for step in range(2):
        model.training_loss(backbone, batch).backward()
        assert rows.entered == [(3, longest)] * (step + 1)
    rows.entered.clear()
    model.eval()
    with torch.no_grad():
        for _ in range(3):
            model(backbone, batch)
    assert rows.entered == [(3, longest)]


@pytest.mark.parametrize("inference", [False, True])
def test_held_class_vectors_are_never_stale(
    inference: bool, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    model = prompted(backbone, "coop")
    batch = PairBatch(pixels, backbone.tokenize(texts), torch.arange(7) % 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    state = {key: value.clone() for key, value in model.state_dict().items()}

    def shown() -> Tensor:
        with torch.inference_mode(inference), torch.no_grad():
            found: Tensor = model(backbone, batch)
        torch.testing.assert_close(
            found, slow_logits(backbone, model, pixels, texts).detach(), atol=1e-4, rtol=1e-4
        )
        return found.clone()

    first = shown()
    for _ in range(2):  # trained in evaluation mode, which says nothing of what was held
        model.training_loss(backbone, batch).backward()
        optimizer.step()
        assert not torch.equal(shown(), first)
    model.load_state_dict(state)
    assert torch.equal(shown(), first)
    another = torch.nn.Parameter(torch.randn(3, 16))
    with torch.no_grad():
        while another._version < next(model.method.parameters())._version:
            another.mul_(1)
    model.method.prompts = another  # changed as often as the one in whose place it is
    assert not torch.equal(shown(), first)


def test_nothing_of_the_class_names_is_saved_and_they_move_with_the_model(backbone: Backbone) -> None:
    model = prompted(backbone, "dual-prompt-both", BEHIND_A_FRONT)
    assert model.class_prompts is not None
    assert all(key.startswith("method.") for key in model.state_dict())
    assert {name for name, _ in model.class_prompts.named_buffers()} == {"ids", "waiting", "keys"}
    assert model.output_width == 3


def test_layers_in_front_of_a_side_that_is_not_encoded_are_not_run(backbone: Backbone) -> None:
    for asked, front in (
        ("image", {"image": 0, "text": 0}),
        ("image+text", {"image": 0, "text": 4}),
        ("text", {"image": 0, "text": 4}),
    ):
        assert prompted(backbone, "p-clip-vpt", head={"query": asked}).front_layers() == front


@pytest.mark.parametrize(
    ("name", "settings"), [("mitp", {}), ("epic", {}), ("lpi", {"fusion": "pair", "depth": 3})]
)
def test_methods_whose_towers_talk_are_refused(
    name: str, settings: dict[str, Any], backbone: Backbone
) -> None:
    with pytest.raises(InterplayError, match="choose class_text = separate or joint"):
        prompted(backbone, name, settings)


def test_contradictions_are_named(backbone: Backbone, pixels: Tensor, texts: list[str]) -> None:
    with pytest.raises(InterplayError, match=r"class_text = prompted needs head\.kind = class_text"):
        HeadSettings(kind="pair", class_text="prompted")
    model = prompted(backbone, "p-clip-vpt", head={"query": "text"})
    batch = PairBatch(pixels, backbone.tokenize(texts), torch.arange(7) % 3)
    with pytest.raises(InterplayError, match="Nothing that the method 'p_clip' trains reaches the logits"):
        model.training_loss(backbone, batch)


def test_several_labels_have_a_bias_each(backbone: Backbone) -> None:
    table = toy_table(backbone, 6, seed=2, kind="multi")
    method = prompted(backbone, "maple").method
    head = Head(HeadSettings(class_text="prompted"), backbone.shape.joint, 2, backbone.scale, bias=True)
    model = PairClassifier(method, head, "multi")
    model.prepare(backbone, CLASSES[:2])
    model.training_loss(backbone, table.collate(range(6))).backward()
    assert head.bias is not None
    assert head.bias.grad is not None
    assert head.bias.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("name", "settings", "count"),
    [("p_clip", {"length": 2}, 30_720), ("p-clip-vpt", {}, 73_728), ("maple", {}, 3_555_072)],
)
def test_counts_of_the_published_forms(name: str, settings: dict[str, Any], count: int) -> None:
    choice = choose(name)
    assert choice.method.parameter_count(B16, choice.settings(settings)) == count
