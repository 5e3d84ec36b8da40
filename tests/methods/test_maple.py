"""MaPLe in its published form against a plain walk over `transformers`' own layers, in double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel

from interplay.classification.model import PairClassifier
from interplay.encoding.trainable import PairBatch
from interplay.errors import InterplayError
from interplay.methods.maple import Maple
from interplay.methods.registry import choose
from interplay.parts.heads import Head, HeadSettings
from interplay.towers.backbone import Backbone, from_clip
from tests.conftest import END, LetterTokenizer, random_clip, small_shape
from tests.methods.toy import CLASSES

J, N = 3, 2


def towers() -> tuple[CLIPModel, Backbone]:
    """The same weights twice, in double precision."""
    model = random_clip(small_shape()).double()
    return model, from_clip(model, LetterTokenizer(), "small").double()


def released(backbone: Backbone, **settings: Any) -> Maple:
    torch.manual_seed(0)
    method = choose("maple-released").build(
        backbone.shape, {"depth": J, "length": N, "profile": "released", "sessions": "shared", **settings}
    )
    assert isinstance(method, Maple)
    return method.double()


def image_by_hand(clip: CLIPModel, pixels: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Prompts at the end of the sequence: part of the input, then overwritten on layers 1 to J - 1."""
    prompts = [p[f"text.{i}"] @ p[f"maps.{i}.weight"].T + p[f"maps.{i}.bias"] for i in range(J)]
    vision = clip.vision_model
    x = vision.embeddings(pixels)
    x = vision.pre_layrnorm(torch.cat([x, prompts[0].expand(len(x), -1, -1)], dim=1))
    for i, layer in enumerate(vision.encoder.layers):
        if 0 < i < J:
            x = torch.cat([x[:, :-N], prompts[i].expand(len(x), -1, -1)], dim=1)
        x = plain(layer(x, None))
    return clip.visual_projection(vision.post_layernorm(x[:, 0]))


def text_by_hand(clip: CLIPModel, ids: Tensor, p: dict[str, Tensor]) -> Tensor:
    """`ids` have N placeholders after the start token, which P_0 replaces before the positions are added."""
    text = clip.text_model
    words = text.embeddings.token_embedding(ids)
    x = torch.cat([words[:, :1], p["text.0"].expand(len(ids), -1, -1), words[:, 1 + N :]], dim=1)
    x = x + text.embeddings.position_embedding.weight[: x.shape[1]]
    causal = torch.full((x.shape[1],) * 2, -torch.inf, dtype=x.dtype).triu(1)[None, None]
    for i, layer in enumerate(text.encoder.layers):
        if 0 < i < J:
            x = torch.cat([x[:, :1], p[f"text.{i}"].expand(len(ids), -1, -1), x[:, 1 + N :]], dim=1)
        x = plain(layer(x, causal))
    end = (ids == END).int().argmax(dim=1)
    return clip.text_projection(text.final_layer_norm(x[torch.arange(len(ids)), end]))


def plain(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def parts(method: Maple) -> dict[str, Tensor]:
    state = {key.removeprefix("bank.sets.0."): value for key, value in method.state_dict().items()}
    return state | {f"text.{i}": state["text"][i] for i in range(J)}


def test_the_released_form_is_the_released_model(pixels: Tensor, texts: list[str]) -> None:
    clip, backbone = towers()
    method = released(backbone)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.normal_(0, 0.5)
    head = HeadSettings(class_text="prompted", query="image", template="of a {}.")
    model = PairClassifier(method, Head(head, backbone.shape.joint, len(CLASSES), backbone.scale)).eval()
    model.prepare(backbone, CLASSES)
    normal = backbone.image.normalised(pixels)
    with torch.no_grad():
        found = model(backbone, PairBatch(pixels, backbone.tokenize(texts, reserve=N)))
        images = F.normalize(image_by_hand(clip, normal, parts(method)), dim=1)
        rows = []
        for name in CLASSES:
            letters = LetterTokenizer()([f"of a {name}."])["input_ids"][0]
            ids = torch.tensor([[letters[0], *[1] * N, *letters[1:]]])  # "X X of a NAME."
            rows.append(F.normalize(text_by_hand(clip, ids, parts(method))[0], dim=0))
        expected = clip.logit_scale.exp() * images @ torch.stack(rows).T
    assert (found - expected).abs().max() < 1e-6
    other = PairClassifier(
        choose("maple").build(backbone.shape, {"depth": J, "length": N, "sessions": "shared"}).double(),
        Head(head, backbone.shape.joint, len(CLASSES), backbone.scale),
    ).eval()
    other.method.load_state_dict(method.state_dict())
    other.prepare(backbone, CLASSES)
    with torch.no_grad():
        assert (other(backbone, PairBatch(pixels, backbone.tokenize(texts))) - expected).abs().max() > 0.1


@pytest.mark.parametrize(("length", "words"), [(2, True), (4, True), (5, False)])
def test_the_first_prompts_start_at_words_where_they_are_short(
    length: int, words: bool, backbone: Backbone
) -> None:
    torch.manual_seed(0)
    settings = {"depth": J, "length": length}
    method = choose("maple-released").build(backbone.shape, settings)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    method.start_from(backbone)
    expected = backbone.text.words(backbone.tokenize(["a photo of a"])[0, 1 : 1 + length])
    text = method.state_dict()["bank.sets.0.text"]
    assert torch.equal(text[0], expected) == words
    assert torch.equal(text[1:], before["bank.sets.0.text"][1:])
    assert all(parameter.requires_grad for parameter in method.parameters())


def test_the_maps_of_the_deeper_layers_start_alike_as_released(backbone: Backbone) -> None:
    state = released(backbone, depth=4).state_dict()
    maps = [state[f"bank.sets.0.maps.{i}.weight"] for i in range(4)]
    assert not torch.equal(maps[0], maps[1])
    assert torch.equal(maps[1], maps[2])
    assert torch.equal(maps[1], maps[3])


def test_the_released_form_knows_no_sessions() -> None:
    with pytest.raises(InterplayError, match="knows no sessions"):
        choose("maple").settings({"profile": "released"})
    assert choose("maple-released").settings().sessions == "shared"
