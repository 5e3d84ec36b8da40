"""EMAP against loops and by its properties, on outputs and on trained classifiers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from interplay.classification.additive import additive_part, crossed
from interplay.classification.model import PairClassifier
from interplay.classification.probe import fit_probe
from interplay.encoding.predict import predict
from interplay.errors import InterplayError
from interplay.metrics.additive import additive_projection
from interplay.parts.heads import HeadSettings
from interplay.towers.backbone import Backbone
from tests.train.toy import toy_backbone, toy_model, toy_table


@pytest.fixture(scope="module")
def towers() -> Backbone:
    return toy_backbone()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_projection_is_the_slow_one(size: int) -> None:
    f = random(7, 7, 3)
    found = additive_projection(f.split(size))
    for i in range(7):
        for k in range(3):
            text = sum(float(f[i, j, k]) for j in range(7)) / 7
            image = sum(float(f[j, i, k]) for j in range(7)) / 7
            mean = sum(float(f[j, l, k]) for j in range(7) for l in range(7)) / 49  # noqa: E741
            assert found[i, k].item() == pytest.approx(text + image - mean, abs=1e-6)


def test_it_is_the_nearest_additive_function() -> None:
    """Least squares over all f_t(t) + f_v(v) on the cross product."""
    f = random(5, 5, 1).double()
    design = torch.cat([torch.eye(5).repeat_interleave(5, 0), torch.eye(5).repeat(5, 1)], dim=1).double()
    fitted = torch.linalg.lstsq(design, f.reshape(25, 1), driver="gelsd").solution
    wanted = (design @ fitted).reshape(5, 5).diagonal()
    torch.testing.assert_close(additive_projection([f])[:, 0], wanted)


def test_an_additive_model_is_its_own_projection() -> None:
    text, image = random(6, 1, 4), random(1, 6, 4, seed=1)
    whole = (text + image).double()
    torch.testing.assert_close(additive_projection([whole]), whole.diagonal().T)


def test_a_pure_product_is_at_chance() -> None:
    """The label is the product of two balanced signs: the projection of the perfect model says nothing."""
    signs = torch.tensor([[t, v] for t in (-1.0, 1.0) for v in (-1.0, 1.0)]).repeat(10, 1)
    product = signs[:, 0, None] * signs[None, :, 1]
    logits = torch.stack([-product, product], dim=-1)
    torch.testing.assert_close(additive_projection([logits]), torch.zeros(40, 2).double())


def test_texts_have_to_meet_all_images() -> None:
    with pytest.raises(ValueError, match="each with all"):
        additive_projection([random(3, 4, 2)])


def product_head(towers: Backbone) -> PairClassifier:
    """A probe of what is no sum: the product of the vectors."""
    return toy_model(towers, "linear_probe", HeadSettings(kind="linear", features="product"))


@pytest.mark.parametrize("features", ["concat", "text"])
def test_a_probe_of_both_sides_is_additive(features: str, towers: Backbone) -> None:
    head = HeadSettings(kind="linear", features=features)  # type: ignore[arg-type]
    model = toy_model(towers, "linear_probe", head)
    train, test = toy_table(towers, 80, 1), toy_table(towers, 60, 2)
    fit_probe(model, towers, train, test, inverse_penalty=1.0)
    found = additive_part(model, towers, test, pairs=24)
    assert (found.pairs, found.metric) == (24, "accuracy")
    assert found.beyond == pytest.approx(0, abs=1e-9)
    assert found.whole > 1 / 3


def test_interaction_is_what_the_projection_loses(towers: Backbone) -> None:
    """Bright or dark, and which of two words: the label is whether they agree, so no sum of parts knows it."""
    table = toy_table(towers, 240, 3)
    bright = (table.collate(range(240)).images.float().mean((1, 2, 3)) > 100).long()  # type: ignore[union-attr]
    long = torch.from_numpy(table.text_lengths > 6).long()
    table = replace(table, targets=(bright == long).long(), class_texts=("no", "yes"))
    model = toy_model(towers, "bilinear_probe", HeadSettings(kind="bilinear", rank=6))
    fit_probe(model, towers, table, table, inverse_penalty=1e4)
    found = additive_part(model, towers, table, pairs=120)
    assert found.whole > 0.95
    assert found.additive < 0.75
    assert found.beyond == pytest.approx(found.whole - found.additive)


@pytest.mark.parametrize("method", ["mitp", "late_fusion"])
def test_every_text_meets_every_picture(method: str, towers: Backbone) -> None:
    """One pair at a time, by hand, gives the same projection of methods whose sides talk."""
    table, model = toy_table(towers, 12, 2), toy_model(towers, method, HeadSettings(kind="pair"))
    assert model.head.weight is not None
    torch.nn.init.normal_(model.head.weight)
    logits = predict(model, towers, crossed(table, range(12), range(12))).view(12, 12, -1)
    for i, j in ((0, 0), (3, 8), (11, 2)):
        batch = table.collate([i])
        batch = replace(batch, images=table.collate([j]).images)
        torch.testing.assert_close(
            logits[i, j], model.eval()(towers, batch)[0].detach(), atol=2e-4, rtol=1e-3
        )
    assert table.targets is not None
    slow = logits.mean(1) + logits.mean(0) - logits.mean((0, 1))
    wanted = (slow.argmax(1) == table.targets).double().mean().item()
    assert additive_part(model, towers, table).additive == pytest.approx(wanted)


def test_two_labelled_pairs_are_the_least(towers: Backbone) -> None:
    table = toy_table(towers, 12, 2)
    with pytest.raises(InterplayError, match="2 labelled pairs at least"):
        additive_part(product_head(towers), towers, table, pairs=1)
    with pytest.raises(InterplayError, match="2 labelled pairs at least"):
        additive_part(product_head(towers), towers, replace(table, targets=None))
