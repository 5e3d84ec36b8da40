"""The methods of this folder as they are used: from data to an artefact and back, and with every kind of head."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from interplay import Classifier
from interplay.classification.model import PairClassifier
from interplay.encoding.prefix_cache import PrefixCache
from interplay.encoding.trainable import PairBatch
from interplay.methods.registry import choose
from interplay.parts.heads import Head, HeadSettings
from interplay.towers.backbone import Backbone
from interplay.towers.walk import encode_pair
from interplay.training.settings import TrainSettings
from interplay.training.train import fit
from tests.test_estimators import QUICK, colour_table, some_pairs
from tests.train.toy import toy_backbone, toy_model, toy_table

COUPLED = ("prompt_fuse", "blind_prompt", "pmf", "cma_clip", "mmbt", "mmbt-frozen", "late_fusion")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERPLAY_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", [*COUPLED, "full", "lora"])
def test_a_classifier_comes_back_from_its_folder(name: str, tmp_path: Path) -> None:
    towers = toy_backbone()
    before = copy.deepcopy(towers.state_dict())
    method = choose(name).method
    one = Classifier(towers, name, settings=method.tiny(), head={"kind": "pair"})
    one.fit(colour_table(), settings=QUICK, run=tmp_path / "run")
    again = Classifier.from_pretrained(tmp_path / "run", backbone=towers)
    assert torch.equal(one.predict_proba(*some_pairs()), again.predict_proba(*some_pairs()))
    assert all(torch.equal(before[key], value) for key, value in towers.state_dict().items())


@pytest.mark.parametrize("name", ["late_fusion", "cma_clip", "prompt_fuse", "pmf", "mmbt"])
def test_a_prefix_cache_trains_the_same_weights(name: str, tmp_path: Path) -> None:
    """Both towers of late fusion and CMA-CLIP are read from disk whole."""
    towers, weights = toy_backbone(), []
    train, validation = toy_table(towers, 24, seed=0), toy_table(towers, 8, seed=1)
    for at, cache in enumerate((None, PrefixCache(tmp_path / "prefix"))):
        model = toy_model(towers, name, HeadSettings(kind="pair"))
        model.method.start_from(towers)
        settings = TrainSettings(
            epochs=2, batch_size=8, progress=False, loggers=(), cache_prefix=cache is not None
        )
        fit(model, towers, train, validation, settings, tmp_path / str(at), cache=cache)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][key], value) for key, value in weights[1].items())
    assert list((tmp_path / "prefix").glob("image-*"))


@pytest.mark.parametrize("name", ["prompt_fuse", "blind_prompt", "pmf", "mmbt-frozen"])
def test_class_texts_that_continue_a_text_hear_of_the_picture(
    name: str, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    choice = choose(name)
    torch.manual_seed(2)
    method = choice.build(backbone.shape, choice.method.tiny()).eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(5)
    head = Head(HeadSettings(class_text="joint", query="image"), backbone.shape.joint, 3, backbone.scale)
    model = PairClassifier(method, head).eval()
    model.prepare(backbone, ["one", "two", "three"])
    assert model.suffix is not None
    ids = backbone.tokenize(texts)
    found = model.vectors(backbone, PairBatch(pixels, ids)).classes
    assert found is not None
    turned = model.vectors(backbone, PairBatch(pixels.flip(0), ids)).classes
    assert turned is not None
    assert not torch.allclose(found[0], turned[0], atol=1e-3)
    for at in range(3):
        alone = encode_pair(backbone, pixels, ids, method, suffix=model.suffix[at : at + 1]).classes
        assert alone is not None
        torch.testing.assert_close(alone[:, 0], found[:, at], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("sides", ["both", "image", "text"])
def test_lora_classifies_with_adapters_on_either_tower(
    sides: str, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    choice = choose("lora")
    method = choice.build(backbone.shape, {"rank": 2, "sides": sides})
    head = Head(HeadSettings(kind="pair"), backbone.shape.joint, 3, backbone.scale)
    assert head.weight is not None
    torch.nn.init.normal_(head.weight)
    model = PairClassifier(method, head)
    batch = PairBatch(pixels, backbone.tokenize(texts), torch.arange(7) % 3)
    optimizer, losses = torch.optim.Adam(method.parameters(), lr=0.02), []
    for _ in range(12):
        optimizer.zero_grad()
        loss = model.training_loss(backbone, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    layers = {"image": 5 * 24, "text": 4 * 16}
    per_width = 2 * (1 + 3) + 2 * (1 + 1)
    wanted = sum(per_width * width for side, width in layers.items() if sides in (side, "both"))
    assert sum(parameter.numel() for parameter in method.parameters()) == wanted
