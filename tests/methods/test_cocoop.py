"""CoCoOp against a loop over images and classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay import Classifier, InterplayError, Retriever, TrainSettings
from interplay.classification import class_prompts
from interplay.encoding.predict import predict
from interplay.encoding.trainable import PairBatch, keys_of
from interplay.methods.registry import choose
from interplay.towers.backbone import Backbone
from interplay.towers.presets import PRESETS
from interplay.towers.walk import Routes, encode, encode_pair
from tests.methods.toy import CLASSES, prompted
from tests.test_estimators import colour_table, some_pairs
from tests.train.toy import toy_table

B16 = PRESETS["clip-vit-base-patch16"]


def slow_text(backbone: Backbone, method: Any, text: str, key: Tensor) -> Tensor:
    """One text with the context of one image, layer by layer."""
    tower: Any = backbone.text
    narrow, _, widen = method.meta_net
    shift = widen.weight @ (narrow.weight @ key + narrow.bias).clamp(min=0) + widen.bias
    context = torch.stack([token + shift for token in method.prompts])
    words = tower.words(backbone.tokenize([text])[0])
    x = torch.cat([words[:1], context, words[1:]])
    x = (x + tower.positions[: len(x)])[None]
    past = torch.ones(x.shape[1], x.shape[1]).tril().bool()[None, None]
    for block in tower.blocks:
        x = block(x, past)[0]
    vector: Tensor = tower.projection(tower.norm_out(x[0, -1]))
    return vector


def slow_logits(backbone: Backbone, model: Any, pixels: Tensor) -> Tensor:
    rows = []
    for picture in pixels:
        image = encode(backbone.image, "image", picture[None])[0]
        key = F.normalize(image, dim=0)
        texts = [slow_text(backbone, model.method, f"{name}.", key) for name in CLASSES]
        rows.append(
            torch.stack([backbone.scale * torch.cosine_similarity(image, text, dim=0) for text in texts])
        )
    return torch.stack(rows)


@pytest.mark.parametrize("chunk", [512, 4])
def test_every_image_reads_every_class_anew(
    chunk: int, backbone: Backbone, pixels: Tensor, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks, and whole; with the gradient, and without."""
    monkeypatch.setattr(class_prompts, "CHUNK", chunk)
    model = prompted(backbone, "cocoop")
    batch = PairBatch(pixels, backbone.tokenize(texts), torch.arange(7) % 3)
    expected = slow_logits(backbone, model, pixels)
    with torch.no_grad():
        torch.testing.assert_close(model(backbone, batch), expected, atol=1e-4, rtol=1e-4)
    slow_loss = F.cross_entropy(expected, batch.targets)  # type: ignore[arg-type]
    slow = torch.autograd.grad(slow_loss, list(model.method.parameters()))
    found = torch.autograd.grad(model.training_loss(backbone, batch), list(model.method.parameters()))
    for ours, theirs in zip(found, slow, strict=True):
        assert ours.abs().max() > 0
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_the_sample_s_own_text_reads_its_image(backbone: Backbone, pixels: Tensor, texts: list[str]) -> None:
    model = prompted(backbone, "cocoop", head={"query": "image+text"})
    batch = PairBatch(pixels, backbone.tokenize(texts))
    keys = keys_of(backbone, batch).image
    logits = model(backbone, batch)
    for row, text in enumerate(texts):
        own = slow_text(backbone, model.method, text, keys[row])
        query = F.normalize(keys[row] + F.normalize(own, dim=0), dim=0)
        for at, name in enumerate(CLASSES):
            of_class = slow_text(backbone, model.method, f"{name}.", keys[row])
            expected = backbone.scale * torch.cosine_similarity(query, of_class, dim=0)
            torch.testing.assert_close(logits[row, at], expected, atol=1e-4, rtol=1e-4)


def test_predictions_do_not_depend_on_batch_mates(backbone: Backbone) -> None:
    table, model = toy_table(backbone, 7, seed=1), prompted(backbone, "cocoop")
    together = predict(model, backbone, table, batch_size=7)
    for size in (1, 3):
        torch.testing.assert_close(predict(model, backbone, table, size), together, atol=1e-4, rtol=1e-4)


def test_a_text_needs_its_image(backbone: Backbone, pixels: Tensor, texts: list[str]) -> None:
    method = prompted(backbone, "cocoop").method
    ids = backbone.tokenize(texts)
    with pytest.raises(InterplayError, match="needs pairs"):
        encode(backbone.text, "text", ids, method)
    with pytest.raises(ValueError, match="depends on the image"):
        encode_pair(backbone, pixels, ids, method)
    keys = keys_of(backbone, PairBatch(pixels, ids)).image
    pair = encode_pair(backbone, pixels, ids, method, routes=Routes(text=keys))
    torch.testing.assert_close(encode(backbone.text, "text", ids, method, route=keys), pair.text)
    torch.testing.assert_close(encode(backbone.image, "image", pixels, method, route=keys), pair.image)
    with pytest.raises(InterplayError, match="Choose a method that is not coupled"):
        Retriever(backbone, "cocoop")


def test_counts_are_the_published_ones() -> None:
    choice = choose("cocoop")
    assert choice.method.parameter_count(B16, choice.settings()) == 35_360
    for wrong in ({"length": 0}, {"reduction": 0}):
        with pytest.raises(InterplayError, match="length and reduction >= 1"):
            choice.settings(wrong)


def test_it_trains_and_loads_through_the_api(tmp_path: Any) -> None:
    head = {"class_text": "prompted", "query": "image"}
    classifier = Classifier("tiny", "cocoop", head=head)
    table = colour_table()
    settings = TrainSettings(epochs=1, batch_size=9, learning_rate=3e-3, progress=False)
    classifier.fit(table, settings=settings, run=tmp_path / "run")
    again = Classifier.from_pretrained(str(tmp_path / "run"), backbone=classifier.backbone)
    assert torch.equal(again.predict_proba(*some_pairs()), classifier.predict_proba(*some_pairs()))
    assert again.evaluate(table) == classifier.evaluate(table)
