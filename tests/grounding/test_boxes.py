"""Overlaps and recall of boxes against independent loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interplay.metrics.boxes import Overlap, areas, box_recall, first_hit, giou, iou
from tests.grounding.oracles import box_giou, box_iou

CASES = 1000


def boxes(random: np.random.Generator, count: int) -> torch.Tensor:
    """Whole numbers, so that borders and thresholds are met exactly; some boxes are empty."""
    low = random.integers(0, 12, (count, 2))
    return torch.from_numpy(np.concatenate([low, low + random.integers(0, 9, (count, 2))], axis=1)).float()


def test_overlaps_equal_loops() -> None:
    random = np.random.default_rng(0)
    one, other = boxes(random, 40), boxes(random, 30)
    for inclusive in (False, True):
        found = iou(one.double(), other.double(), inclusive=inclusive)
        for i, a in enumerate(one.tolist()):
            for j, b in enumerate(other.tolist()):
                assert found[i, j] == pytest.approx(box_iou(a, b, float(inclusive)), abs=1e-12)
    found = giou(one.double(), other.double())
    for i, a in enumerate(one.tolist()):
        for j, b in enumerate(other.tolist()):
            assert found[i, j] == pytest.approx(box_giou(a, b), abs=1e-12)
    assert areas(torch.tensor([[1.0, 2, 4, 3]])).item() == 3
    assert areas(torch.tensor([[1.0, 2, 4, 3]]), inclusive=True).item() == 8


def rank_by_hand(
    predicted: torch.Tensor, scores: torch.Tensor, truth: torch.Tensor, overlap: Overlap
) -> int | None:
    """Sort the boxes, of equal scores the misses first, and walk down the list."""
    measure = box_iou if overlap == "iou" else box_giou
    rows = []
    for box, score in zip(predicted.tolist(), scores.tolist(), strict=True):
        hit = False
        for true in truth.tolist():
            hit = hit or measure(box, true) >= 0.5
        rows.append((-score, hit))
    for rank, (_, hit) in enumerate(sorted(rows), start=1):
        if hit:
            return rank
    return None


@pytest.mark.parametrize("overlap", ["iou", "giou"])
def test_recall_equals_loops_on_a_thousand_random_cases(overlap: Overlap) -> None:
    random = np.random.default_rng(1)
    predictions, truths, ranks = [], [], []
    for case in range(CASES):
        count = 0 if case % 50 == 0 else int(random.integers(1, 14))
        truth = boxes(random, 1 if case % 3 else int(random.integers(0, 4)))
        predicted = boxes(random, count)
        if count and len(truth) and case % 2:  # something near the truth; else few cases would have a hit
            predicted[int(random.integers(count))] = truth[0] + float(random.integers(-1, 2))
        if case % 7 == 0:
            predicted = predicted + 100  # outside of every truth
        scores = torch.from_numpy(random.integers(0, 5, count) / 4.0)  # many are equal
        predictions.append((predicted, scores))
        truths.append(truth)
        ranks.append(rank_by_hand(predicted, scores, truth, overlap))
        assert first_hit(predicted, scores, truth, overlap=overlap) == ranks[-1], case
    found = box_recall(predictions, truths, overlap=overlap)
    for k in (1, 5, 10):
        assert found[k] == sum(rank is not None and rank <= k for rank in ranks) / CASES
    assert 0.02 < found[1] < found[5] < found[10] < 0.9


def test_a_box_at_the_threshold_is_a_hit_and_its_giou_may_be_none() -> None:
    truth = torch.tensor([[0.0, 0, 4, 2]])
    half = torch.tensor([[0.0, 0, 2, 2]])
    assert first_hit(half, torch.ones(1), truth) == 1
    apart = torch.tensor([[0.0, 0, 4, 1], [0, 0, 3, 1.5]])
    assert first_hit(apart[:1], torch.ones(1), truth) == 1
    assert first_hit(apart[1:], torch.ones(1), truth, threshold=0.6) is None
    wide, shifted = torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[2.0, 2, 10, 10]])
    assert iou(shifted, wide).item() > 0.5 > giou(shifted, wide).item()
    assert first_hit(shifted, torch.ones(1), wide) == 1
    assert first_hit(shifted, torch.ones(1), wide, overlap="giou") is None


def test_equal_scores_count_against_the_hit() -> None:
    truth, far = [0.0, 0, 4, 4], [50.0, 50, 60, 60]
    predicted = torch.tensor([truth, far, far])
    assert first_hit(predicted, torch.tensor([0.5, 0.5, 0.1]), torch.tensor([truth])) == 2
    assert first_hit(predicted, torch.tensor([0.5, 0.4, 0.1]), torch.tensor([truth])) == 1
    both = torch.tensor([truth, truth])
    assert first_hit(both, torch.tensor([0.5, 0.5]), torch.tensor([truth])) == 1


def test_recall_needs_a_prediction_for_every_phrase() -> None:
    with pytest.raises(ValueError, match="0 predictions for 1 phrases"):
        box_recall([], [torch.zeros(1, 4)])
    with pytest.raises(ValueError, match="0 phrases"):
        box_recall([], [])
