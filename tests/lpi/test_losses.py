"""HPA, CPA and the base loss against loops, at extremes, and where there is nothing to compare."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from interplay.parts.low_rank import LowRankPrompts
from interplay.parts.prompt_alignment import (
    cross_task_alignment,
    hierarchical_alignment,
    like_tasks,
    task_similarity,
)
from interplay.retrieval.model import contrastive
from tests.conftest import small_shape


def hierarchical_loop(image: Tensor, text: Tensor, temperature: float) -> float:
    depth, length = image.shape[:2]
    v = [[image[i, j].double().mean().item() for j in range(length)] for i in range(depth)]
    w = [[text[i, j].double().mean().item() for j in range(length)] for i in range(depth)]
    total = 0.0
    for i in range(depth):
        row = [
            sum(v[i][p] / temperature * w[j][p] / temperature for p in range(length)) for j in range(depth)
        ]
        top = max(row)
        total -= row[i] - top - math.log(sum(math.exp(score - top) for score in row))
    return total / depth


def cross_task_loop(flat: Tensor, alike: Tensor, temperature: float) -> float:
    k, total = len(flat), 0.0
    for i in range(k):
        groups: dict[bool, list[float]] = {True: [], False: []}
        for j in range(k):
            if i == j:
                continue
            a, b = flat[i].double(), flat[j].double()
            cosine = float(a @ b / (a.norm() * b.norm()))
            x = cosine / temperature if alike[i, j] else -cosine / temperature
            groups[bool(alike[i, j])].append(math.log1p(math.exp(-x)) if x > -30 else -x)
        total += sum(sum(group) / len(group) for group in groups.values() if group)
    return total / k


def contrastive_loop(image: Tensor, text: Tensor, owners: list[int], scale: float) -> float:
    n, total = len(image), 0.0
    for a, b in ((image.double(), text.double()), (text.double(), image.double())):
        for i in range(n):
            scores = {j: scale * float(a[i] @ b[j]) for j in range(n) if j == i or owners[j] != owners[i]}
            total -= scores[i] - math.log(sum(math.exp(score) for score in scores.values()))
    return total / (2 * n)


def unit(rows: int, width: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, width), dim=1)


@pytest.mark.parametrize("temperature", [1.0, 0.05, 0.01])
def test_hierarchical_alignment_is_the_loop(temperature: float) -> None:
    torch.manual_seed(0)
    image, text = torch.randn(5, 3, 8) * 0.1, torch.randn(5, 3, 6) * 0.1
    found = hierarchical_alignment(image, text, temperature)
    assert found.item() == pytest.approx(hierarchical_loop(image, text, temperature), rel=1e-4)


def test_alignment_stays_in_fp32_under_autocast() -> None:
    torch.manual_seed(0)
    image, text = torch.rand(5, 16, 8) + 0.7, torch.rand(5, 16, 6) + 0.7
    plain = hierarchical_alignment(image, text, 0.01)
    older = torch.nn.functional.normalize(torch.randn(3, 8), dim=1)
    row = task_similarity(image[0, 0], older, older @ older.T)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(hierarchical_alignment(image, text, 0.01), plain)
        assert torch.equal(task_similarity(image[0, 0], older, (older @ older.T).float())[-1], row[-1])


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("pattern", ["mixed", "all alike", "none alike"])
def test_cross_task_alignment_is_the_loop(temperature: float, pattern: str) -> None:
    torch.manual_seed(1)
    flat = torch.randn(5, 40)
    alike = torch.rand(5, 5) > 0.5
    alike = {"mixed": alike | alike.T, "all alike": alike | True, "none alike": alike & False}[pattern]
    normal = torch.nn.functional.normalize(flat, dim=1)
    similarity = task_similarity(flat[-1], normal[:-1], normal[:-1] @ normal[:-1].T)
    torch.testing.assert_close(similarity, normal @ normal.T, atol=1e-6, rtol=1e-5)
    found = cross_task_alignment(similarity, alike, temperature)
    assert found.item() == pytest.approx(cross_task_loop(flat, alike, temperature), rel=1e-4)


def test_a_single_task_has_no_other_to_be_compared_with() -> None:
    similarity = task_similarity(torch.randn(7), torch.zeros(0, 7), torch.zeros(0, 0))
    alike, threshold = like_tasks(torch.randn(1, 4), None, 0.75)
    assert cross_task_alignment(similarity, alike, 0.01).item() == 0
    assert threshold == 1


@pytest.mark.parametrize("temperature", [0.01, 1e-4])
@pytest.mark.parametrize("size", [1e-3, 1.0, 100.0])
def test_gradients_are_finite_and_not_zero_at_extremes(temperature: float, size: float) -> None:
    torch.manual_seed(2)
    prompts = LowRankPrompts(small_shape(), 3, 4, 4, 0.5)
    image, text = (size * prompts(side) for side in ("image", "text"))
    hierarchical_alignment(image, text, max(temperature, 0.01)).backward()
    for parameter in prompts.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert size > 1 or parameter.grad.abs().max() > 0
    flat = (size * torch.randn(30)).requires_grad_()
    older = unit(4, 30, 3)
    alike = torch.eye(5, dtype=torch.bool)
    alike[0, 4] = alike[4, 0] = True
    cross_task_alignment(task_similarity(flat, older, older @ older.T), alike, temperature).backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()
    assert flat.grad.abs().max() > 0


def test_identical_and_opposite_tasks_stay_finite() -> None:
    flat = torch.ones(6, requires_grad=True)
    older = torch.stack([torch.ones(6), -torch.ones(6)]) / 6**0.5
    loss = cross_task_alignment(
        task_similarity(flat, older, older @ older.T), torch.zeros(3, 3, dtype=torch.bool), 0.01
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(flat.grad).all()  # type: ignore[union-attr]


def test_the_threshold_is_the_quantile_of_the_cosines_between_different_tasks() -> None:
    meanings = unit(5, 8, 4)
    cosines = sorted(float(meanings[i] @ meanings[j]) for i in range(5) for j in range(5) if i != j)
    alike, threshold = like_tasks(meanings, None, 0.5)
    assert threshold == pytest.approx((cosines[9] + cosines[10]) / 2, abs=1e-6)
    assert torch.equal(alike, meanings @ meanings.T >= threshold)
    fixed, given = like_tasks(meanings, 0.4, 0.5)
    assert given == 0.4
    assert torch.equal(fixed, meanings @ meanings.T >= 0.4)


@pytest.mark.parametrize("owners", [[0, 1, 2, 3, 4], [0, 0, 1, 2, 2]])
def test_the_base_loss_is_the_loop(owners: list[int]) -> None:
    image, text = unit(5, 6, 5), unit(5, 6, 6)
    found = contrastive(image, text, torch.tensor(owners), 14.0)
    assert found.item() == pytest.approx(contrastive_loop(image, text, owners, 14.0), rel=1e-5)
