"""The bilinear probe: its map against loops, what it solves that a linear probe cannot, and heads with a map."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.classification.probe import fit_probe, logistic_regression
from interplay.classification.ridge import Ridge
from interplay.classification.solving import solve
from interplay.encoding.predict import predict
from interplay.errors import InterplayError
from interplay.methods.registry import choose
from interplay.parts.bilinear_map import BilinearMap
from interplay.parts.features import pair_features
from interplay.parts.heads import MAPPED, HeadSettings, Kind
from interplay.training.settings import TrainSettings
from tests.train.toy import toy_backbone, toy_model, toy_table


def vectors(rows: int, joint: int, seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(rows, joint, generator=random) + 1, torch.randn(rows, joint, generator=random) - 0.5


def test_the_map_is_its_formula() -> None:
    image, text = vectors(40, 6, 0)
    found = BilinearMap(6, 3)
    found.fit(image, text)
    components = []
    for side in (image, text):
        unit = F.normalize(side, dim=-1).double().numpy()
        moved = unit - unit.mean(0)
        _, _, directions = np.linalg.svd(moved, full_matrices=False)
        components.append((unit, moved @ directions[:3].T))
    (x, u), (t, v) = components
    products = np.array([[u[n, i] * v[n, j] for i in range(3) for j in range(3)] for n in range(40)])
    products /= math.sqrt((products**2).sum(1).mean())
    features = found(image, text).double().numpy()
    assert features.shape == (40, BilinearMap.width(6, 3))
    np.testing.assert_allclose(features[:, :12], np.concatenate([x, t], axis=1), atol=1e-6)
    np.testing.assert_allclose(np.abs(features[:, 12:]), np.abs(products), atol=1e-5)  # signs are free


def test_with_all_directions_every_bilinear_form_is_linear_in_it() -> None:
    image, text = vectors(200, 4, 1)
    found = BilinearMap(4, 9)
    found.fit(image, text)
    form = torch.randn(4, 4, generator=torch.Generator().manual_seed(2))
    x, t = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    wanted = torch.einsum("ni,ij,nj->n", x, form, t)
    inputs = torch.cat([found(image, text), torch.ones(200, 1)], dim=1).double()
    left = torch.linalg.lstsq(inputs, wanted[:, None].double(), driver="gelsd").solution
    torch.testing.assert_close((inputs @ left)[:, 0], wanted.double(), atol=1e-5, rtol=1e-4)


def test_it_solves_what_neither_side_nor_their_product_by_coordinates_can() -> None:
    """The label is whether two attributes, each along a direction of its own side, agree."""
    random = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (600, 2), generator=random).float() * 2 - 1
    noise = 0.05 * torch.randn(600, 2, 6, generator=random)
    image, text = noise[:, 0], noise[:, 1]
    image[:, 0] += 0.3 * signs[:, 0]
    text[:, 3] += 0.3 * signs[:, 1]
    image[:, 5] += 1
    text[:, 5] += 1
    targets = (signs[:, 0] == signs[:, 1]).long()
    bilinear = BilinearMap(6, 2)
    bilinear.fit(image[:400], text[:400])

    def right(inputs: Tensor) -> float:
        weight, bias = Ridge(inputs[:400].double(), F.one_hot(targets[:400], 2).double()).solution(0.1)
        found = (inputs[400:].double() @ weight.T + bias).argmax(1)
        return (found == targets[400:]).double().mean().item()

    assert right(bilinear(image, text)) == 1.0
    assert right(pair_features(image, text, "pair")) < 0.65


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_the_probe_is_the_regression_on_the_map_of_the_training_pairs(kind: str) -> None:
    towers = toy_backbone()
    train, validation = toy_table(towers, 60, 1, kind), toy_table(towers, 40, 2, kind)  # type: ignore[arg-type]
    method = choose("bilinear_probe").method
    head = HeadSettings(**method.traits.solver.head({}, method.Settings(rank=3)))  # type: ignore[call-arg]
    model = toy_model(towers, "bilinear_probe", head, kind=kind)  # type: ignore[arg-type]
    report = fit_probe(model, towers, train, validation, inverse_penalty=1.0)
    joint, classes = towers.shape.joint, model.output_width
    assert report.parameters == classes * (2 * joint + 9 + 1)
    assert isinstance(model.head.map, BilinearMap)
    assert float(model.head.map.centre.abs().sum()) > 0
    bare = toy_model(towers, "zero_shot", HeadSettings(kind="linear"), kind=kind)  # type: ignore[arg-type]
    found = [bare.vectors(towers, table.collate(range(len(table)))) for table in (train, validation)]
    own = BilinearMap(joint, 3)
    own.fit(found[0].image, found[0].text)
    seen, held_out = (own(pair.image, pair.text).detach().double() for pair in found)
    assert train.targets is not None
    weight, bias = logistic_regression(seen.numpy(), train.targets.numpy(), classes, 1.0)
    torch.testing.assert_close(
        predict(model, towers, validation).double(), held_out @ weight.T + bias, atol=2e-3, rtol=1e-3
    )


@pytest.mark.parametrize("kind", MAPPED)
def test_a_head_on_fitted_features_serves_every_method(kind: Kind, tmp_path: Path) -> None:
    """It is fitted in closed form before the method is trained, whether or not the task has class texts to read."""
    towers = toy_backbone()
    train, validation = toy_table(towers, 60, 1), toy_table(towers, 40, 2)
    model = toy_model(towers, "p_clip", HeadSettings(kind=kind, rank=4))
    settings = TrainSettings(preset="fast", progress=False, loggers=()).settled(60, 1e-3)
    report = solve(model, towers, lambda _: (train, validation), settings, tmp_path, resume=False)
    assert model.head.settings.kind == kind
    assert model.head.weight is not None
    assert float(model.head.weight.detach().abs().sum()) > 0
    assert {standing.name for standing in report.table} >= {"start", "this run"}


def test_no_principal_component_is_refused() -> None:
    with pytest.raises(InterplayError, match="rank must be at least 1, not 0"):
        choose("bilinear_probe").settings({"rank": 0})
    with pytest.raises(InterplayError, match=r"head\.rank must be at least 1"):
        HeadSettings(kind="bilinear", rank=0)
