"""From anchors to boxes: suppression and selection against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from interplay.grounding.anchors import anchors_of, decoded
from interplay.grounding.choosing import Boxes, Choice, chosen, survivors
from interplay.grounding.token_head import Found
from tests.grounding.oracles import box_iou, sigmoid
from tests.grounding.test_training_targets import COUNTS, SIZES, found_of, random_boxes


def by_hand(boxes: list[list[float]], scores: list[float], overlap: float) -> list[int]:
    """O(n²): a box survives if no survivor that is better overlaps it by more."""
    order = sorted(range(len(boxes)), key=lambda at: (-scores[at], at))
    kept: list[int] = []
    for at in order:
        if all(box_iou(boxes[at], boxes[better], 1.0) <= overlap for better in kept):
            kept.append(at)
    return kept


@pytest.mark.parametrize("seed", range(6))
def test_suppression_equals_loops(seed: int) -> None:
    random = np.random.default_rng(seed)
    boxes = random_boxes(random, 60, 20, 20).round()
    scores = torch.from_numpy(random.integers(0, 8, 60) / 8.0)
    wanted = by_hand(boxes.tolist(), scores.tolist(), 0.5)
    assert 5 < len(wanted) < 60
    assert survivors(boxes, scores, 0.5, 100).tolist() == wanted
    assert survivors(boxes, scores, 0.5, 4).tolist() == wanted[:4]
    assert survivors(boxes[:0], scores[:0], 0.5, 4).tolist() == []


def test_boxes_are_chosen_as_loops_choose_them() -> None:
    random = np.random.default_rng(5)
    found = found_of(random, 2, 6)
    named = torch.tensor([[0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0]], dtype=torch.bool)
    choice = Choice(least=0.4, a_level=20, overlap=0.4, most=7)
    anchors, results = anchors_of(SIZES), chosen(found, named, (96, 128), choice)
    for sample, result in enumerate(results):
        boxes, scores, first = [], [], 0
        for count in COUNTS:
            rows = []
            for at in range(first, first + count):
                tokens = [float(found.logits[sample, at, t]) for t in range(6) if named[sample, t]]
                p = sum(map(sigmoid, tokens)) / len(tokens)
                if p > 0.4:
                    rows.append((p * sigmoid(float(found.centred[sample, at])), at))
            for score, at in sorted(rows, key=lambda row: -row[0])[:20]:
                x1, y1, x2, y2 = decoded(found.deltas[sample, at], anchors[at]).tolist()
                boxes.append(
                    [min(max(x1, 0), 127), min(max(y1, 0), 95), min(max(x2, 0), 127), min(max(y2, 0), 95)]
                )
                scores.append(math.sqrt(score))
            first += count
        kept = by_hand(boxes, scores, 0.4)[:7]
        assert len(kept) == 7
        torch.testing.assert_close(result.boxes, torch.tensor([boxes[at] for at in kept]), atol=1e-3, rtol=0)
        torch.testing.assert_close(
            result.scores, torch.tensor([scores[at] for at in kept]), atol=1e-5, rtol=0
        )


def test_what_no_token_is_sure_of_is_no_box() -> None:
    random = np.random.default_rng(5)
    bare = found_of(random, 1, 3)
    found = Found(bare.deltas, bare.centred, bare.logits - 20, SIZES)
    (nothing,) = chosen(found, torch.ones(1, 3, dtype=torch.bool), (96, 128))
    assert nothing.boxes.shape == (0, 4)
    assert nothing.scores.shape == (0,)
    (none_named,) = chosen(bare, torch.zeros(1, 3, dtype=torch.bool), (96, 128))
    assert len(none_named.boxes) == 0


def test_boxes_go_back_to_the_picture_s_own_size_by_each_axis() -> None:
    boxes = Boxes(torch.tensor([[10.0, 20, 30, 40]]), torch.ones(1)).scaled(0.5, 2.0)
    assert boxes.boxes.tolist() == [[5, 40, 15, 80]]
