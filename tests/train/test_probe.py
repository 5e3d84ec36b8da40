"""The linear probe against scikit-learn itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from interplay.classification.evaluation import evaluate
from interplay.classification.probe import features, fit_probe, fit_threshold, logistic_regression
from interplay.encoding.batches import EncodedTable
from interplay.encoding.predict import predict
from interplay.errors import InterplayError
from interplay.metrics.classification import classification_metrics
from interplay.parts.heads import HeadSettings
from interplay.towers.backbone import Backbone
from tests.train.toy import toy_backbone, toy_model, toy_table

LINEAR = HeadSettings(kind="linear")


@pytest.fixture(scope="module")
def towers() -> Backbone:
    return toy_backbone()


@pytest.mark.parametrize("classes", [2, 4])
def test_equals_scikit_learn(classes: int) -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 5)), random.integers(0, classes, 60)
    weight, bias = logistic_regression(x, y, classes, 0.7)
    oracle = LogisticRegression(C=0.7, max_iter=1000).fit(x, y)
    found = (torch.from_numpy(x) @ weight.T + bias).softmax(dim=1)
    np.testing.assert_allclose(found.numpy(), oracle.predict_proba(x), atol=1e-6)


def test_several_labels_equal_one_regression_each() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 5)), (random.random((60, 4)) < 0.4).astype(np.float32)
    y[:, 2], y[:, 3] = 0, 1
    weight, bias = logistic_regression(x, y, 4, 0.7)
    found = (torch.from_numpy(x) @ weight.T + bias).sigmoid().numpy()
    for k in range(2):
        oracle = LogisticRegression(C=0.7, max_iter=1000).fit(x, y[:, k])
        np.testing.assert_allclose(found[:, k], oracle.predict_proba(x)[:, 1], atol=1e-6)
    np.testing.assert_allclose(found[:, 2], 0.5 / 61)
    np.testing.assert_allclose(found[:, 3], 60.5 / 61)


def test_a_class_that_never_occurs_is_never_predicted() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(30, 5))
    weight, bias = logistic_regression(x, np.repeat([0, 2], 15), 4, 100.0)
    found = (torch.from_numpy(x) @ weight.T + bias).softmax(dim=1)
    assert found[:, [1, 3]].max() < 1e-8
    weight, bias = logistic_regression(x, np.full(30, 2), 4, 1.0)
    assert (torch.from_numpy(x) @ weight.T + bias).softmax(dim=1)[:, 2].min() > 0.999


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_chooses_the_penalty_and_fills_the_head(kind: Literal["single", "multi"], towers: Backbone) -> None:
    train, validation = toy_table(towers, 60, 1, kind), toy_table(towers, 40, 2, kind)
    model = toy_model(towers, "linear_probe", LINEAR, kind=kind)
    report = fit_probe(model, towers, train, validation)
    assert report.value == max(report.tried.values())
    assert report.inverse_penalty == min(c for c, v in report.tried.items() if v == report.value)
    assert report.parameters == sum(p.numel() for p in model.parameters())
    found = evaluate(model, towers, validation)
    assert found["accuracy" if kind == "single" else "f1_macro"] == pytest.approx(report.value)
    x = features(model, towers, train).double()
    assert model.head.weight is not None
    assert model.head.bias is not None
    torch.testing.assert_close(
        predict(model, towers, train).double(),
        x @ model.head.weight.double().T + model.head.bias.double(),
        atol=1e-2,
        rtol=1e-3,
    )
    assert train.targets is not None
    assert (
        len(
            classification_metrics(model.probabilities(x @ model.head.weight.double().T), train.targets, kind)
        )
        == 4
    )


def test_takes_the_penalty_that_is_given(towers: Backbone) -> None:
    train, validation = toy_table(towers, 60, 1), toy_table(towers, 40, 2)
    model = toy_model(towers, "linear_probe", LINEAR)
    report = fit_probe(model, towers, train, validation, inverse_penalty=0.3)
    assert report.inverse_penalty == 0.3
    assert list(report.tried) == [0.3]
    assert train.targets is not None
    weight, _ = logistic_regression(
        features(model, towers, train).double().numpy(), train.targets.numpy(), 3, 0.3
    )
    assert model.head.weight is not None
    torch.testing.assert_close(model.head.weight.detach(), weight.float())


@pytest.mark.parametrize("seed", range(5))
def test_a_threshold_stands_between_different_logits(
    seed: int, towers: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(seed)
    logits, targets = torch.randint(0, 4, (6, 3)).float(), (torch.rand(6, 3) < 0.4).float()
    targets[0, 0] = 1
    table = toy_table(towers, 6, 1, "multi")
    monkeypatch.setattr("interplay.classification.probe.predict", lambda *given: logits)
    model = toy_model(towers, "linear_probe", LINEAR, kind="multi")
    found = fit_threshold(model, towers, replace(table, targets=targets))
    assert model.head.bias is not None

    def f1(threshold: float) -> float:
        picked = logits > threshold
        return 2 * float((targets * picked).sum()) / float(targets.sum() + picked.sum())

    assert found == pytest.approx(f1(-model.head.bias[0].item()))
    assert found == pytest.approx(max(f1(threshold - 0.5) for threshold in range(4)))


def test_needs_a_linear_head_and_labels(towers: Backbone) -> None:
    table = toy_table(towers, 8, 1)
    with pytest.raises(InterplayError, match=r"head\.kind = linear"):
        fit_probe(toy_model(towers, "linear_probe"), towers, table, table)
    bare = EncodedTable("bare", "pairs", table.pixels, table.texts, None)
    with pytest.raises(InterplayError, match="bare has no labelled pairs"):
        fit_probe(toy_model(towers, "linear_probe", LINEAR), towers, table, bare)
