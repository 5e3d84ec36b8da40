"""Anchors, the coder, assignment, losses and positive tokens against loops and hand-made cases."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertTokenizerFast

from interplay.grounding.anchors import anchors_of, decoded, encoded
from interplay.grounding.assign import NONE, assigned
from interplay.grounding.losses import NO_OBJECT, centredness, detector_losses, focal, giou_loss
from interplay.grounding.positive_tokens import positive_tokens
from interplay.grounding.token_head import Found
from tests.grounding.oracles import atss, box_giou, numbers, sigmoid

SIZES = ((12, 16), (6, 8), (3, 4), (2, 2), (1, 1))
COUNTS = [height * width for height, width in SIZES]


def random_boxes(random: np.random.Generator, count: int, height: float = 96, width: float = 128) -> Tensor:
    low = random.random((count, 2)) * (width, height) * 0.8
    high = low + 2 + random.random((count, 2)) * ((width, height) - low - 2)
    return torch.from_numpy(np.concatenate([low, high], axis=1)).float()


def test_anchors_stand_around_every_place_row_by_row() -> None:
    found, at = anchors_of(SIZES), 0
    for (height, width), s in zip(SIZES, (8, 16, 32, 64, 128), strict=True):
        for y in range(height):
            for x in range(width):
                middle_x, middle_y = s * x + (s - 1) / 2, s * y + (s - 1) / 2
                assert ((found[at, 0] + found[at, 2]) / 2, (found[at, 1] + found[at, 3]) / 2) == (
                    middle_x,
                    middle_y,
                )
                assert (found[at, 2:] - found[at, :2] + 1).tolist() == [8 * s, 8 * s]
                at += 1
    assert at == len(found)
    assert anchors_of([(1, 1)] * 5)[:2].tolist() == [[-28, -28, 35, 35], [-56, -56, 71, 71]]
    assert len(anchors_of([(56, 56), (28, 28), (14, 14), (7, 7), (4, 4)])) == 4181


def test_the_coder_goes_there_and_back_and_equals_its_formula() -> None:
    random = np.random.default_rng(0)
    anchors, boxes = anchors_of(SIZES)[::7], random_boxes(random, 60)
    for anchor in anchors:
        deltas = encoded(boxes, anchor.expand_as(boxes))
        torch.testing.assert_close(decoded(deltas, anchor.expand_as(boxes)), boxes, atol=1e-3, rtol=0)
    x1, y1, x2, y2 = anchors[3].tolist()
    dx, dy, dw, dh = 3.0, -4.0, 2.0, 90.0
    w, h = x2 - x1 + 1, y2 - y1 + 1
    middle_x, middle_y = (x1 + x2) / 2 + dx / 10 * w, (y1 + y2) / 2 + dy / 10 * h
    wide, tall = math.exp(dw / 5) * w, 1000 / 16 * h
    wanted = [
        middle_x - (wide - 1) / 2,
        middle_y - (tall - 1) / 2,
        middle_x + (wide - 1) / 2,
        middle_y + (tall - 1) / 2,
    ]
    found = decoded(torch.tensor([dx, dy, dw, dh]), anchors[3])
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-3, rtol=1e-6)


@pytest.mark.parametrize("case", range(50))
def test_assignment_equals_brute_force(case: int) -> None:
    random = np.random.default_rng(case)
    boxes = random_boxes(random, case % 5)
    anchors = anchors_of(SIZES)
    found = assigned(anchors, COUNTS, boxes)
    assert found.tolist() == atss(numbers(anchors), COUNTS, numbers(boxes))


def test_a_box_may_get_no_anchor_and_an_anchor_goes_to_the_box_that_it_overlaps_most() -> None:
    anchors = anchors_of(SIZES)
    narrow = torch.tensor([[40.2, 40.2, 40.6, 40.6]])  # no middle lies inside
    assert (assigned(anchors, COUNTS, narrow) == NONE).all()
    two = torch.tensor([[8.0, 8, 79, 79], [10, 10, 73, 73]])
    both = assigned(anchors, COUNTS, two)
    alone = assigned(anchors, COUNTS, two[:1])
    assert ((alone == 0) & (both == 1)).any()
    assert set(both.tolist()) == {NONE, 0, 1}


def test_focal_loss_equals_its_formula_and_has_its_gradient() -> None:
    logits = torch.tensor([-3.0, -0.5, 0.0, 2.0], dtype=torch.float64)
    for target in (0.0, 1.0):
        found = focal(logits, torch.full_like(logits, target))
        for logit, loss in zip(logits.tolist(), found.tolist(), strict=True):
            p = sigmoid(logit) if target else 1 - sigmoid(logit)
            alpha = 0.25 if target else 0.75
            assert loss == pytest.approx(-alpha * (1 - p) ** 2 * math.log(p), rel=1e-9)
    targets = torch.tensor([0.0, 1, 1, 0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: focal(x, targets), logits.requires_grad_())


def test_box_loss_equals_giou_and_has_its_gradient() -> None:
    random = np.random.default_rng(3)
    one, other = random_boxes(random, 20).double(), random_boxes(random, 20).double()
    found = giou_loss(one, other)
    for i in range(20):
        assert found[i] == pytest.approx(1 - box_giou(one[i].tolist(), other[i].tolist()), abs=1e-6)
    assert torch.autograd.gradcheck(lambda x: giou_loss(x, other), one.requires_grad_())
    swapped = giou_loss(torch.tensor([[5.0, 5, 3, 9]]), torch.tensor([[4.0, 4, 8, 8]]))
    assert swapped.item() == pytest.approx(1 - box_giou([5, 5, 5, 9], [4, 4, 8, 8]), abs=1e-6)


def test_an_anchor_in_the_middle_is_as_central_as_can_be() -> None:
    anchors = torch.tensor([[2.0, 2, 6, 6], [0, 0, 4, 4]])
    truth = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 8]])
    torch.testing.assert_close(centredness(anchors, truth), torch.tensor([1.0, 2 / 6]))


def found_of(random: np.random.Generator, batch: int, tokens: int) -> Found:
    return Found(
        torch.from_numpy(random.normal(size=(batch, sum(COUNTS), 4))).float(),
        torch.from_numpy(random.normal(size=(batch, sum(COUNTS)))).float(),
        torch.from_numpy(random.normal(size=(batch, sum(COUNTS), tokens))).float(),
        SIZES,
    )


@pytest.mark.parametrize("counts", [(2, 0, 1), (0, 0), (1,), (6, 3)])
def test_the_losses_of_a_batch_equal_loops(counts: tuple[int, ...]) -> None:
    random = np.random.default_rng(sum(counts))
    tokens, anchors = 6, anchors_of(SIZES)
    found = found_of(random, len(counts), tokens)
    boxes = [random_boxes(random, count) for count in counts]
    named = [torch.from_numpy(random.random((count, tokens)) < 0.4) for count in counts]
    real = torch.from_numpy(np.arange(tokens) < random.integers(2, tokens + 1, (len(counts), 1)))
    losses = detector_losses(found, boxes, named, real)
    token, box, weight, middle, positive = 0.0, 0.0, 0.0, 0.0, 0
    for sample in range(len(counts)):
        owner = atss(numbers(anchors), COUNTS, numbers(boxes[sample]))
        for at, own in enumerate(owner):
            for t in range(tokens):
                if real[sample, t]:
                    target = float(own >= 0 and bool(named[sample][own, t]))
                    p = sigmoid(float(found.logits[sample, at, t]))
                    p, alpha = (p, 0.25) if target else (1 - p, 0.75)
                    token -= alpha * (1 - p) ** 2 * math.log(p)
            if own < 0:
                continue
            positive += 1
            truth = boxes[sample][own].tolist()
            x, y = ((anchors[at, :2] + anchors[at, 2:]) / 2).tolist()
            sides = [x - truth[0], truth[2] - x, y - truth[1], truth[3] - y]
            c = math.sqrt(min(sides[:2]) / max(sides[:2]) * min(sides[2:]) / max(sides[2:]))
            predicted = decoded(found.deltas[sample, at], anchors[at]).tolist()
            box += c * (1 - box_giou(predicted, truth))
            weight += c
            p = sigmoid(float(found.centred[sample, at]))
            middle -= c * math.log(p) + (1 - c) * math.log(1 - p)
    assert losses.tokens.item() == pytest.approx(token / max(positive, 1), rel=1e-5)
    assert losses.boxes.item() == pytest.approx(2 * box / weight if positive else 0.0, rel=1e-4)
    assert losses.centred.item() == pytest.approx(middle / max(positive, 1), rel=1e-5)
    assert losses.total.item() == pytest.approx(
        sum(map(float, (losses.tokens, losses.boxes, losses.centred))), rel=1e-6
    )


def test_only_a_text_of_256_tokens_has_one_for_no_object() -> None:
    random = np.random.default_rng(0)
    found = found_of(random, 1, NO_OBJECT + 1)
    real = torch.zeros(1, NO_OBJECT + 1, dtype=torch.bool)
    real[:, NO_OBJECT] = True
    none = detector_losses(found, [torch.zeros(0, 4)], [torch.zeros(0, NO_OBJECT + 1)], real)
    wanted = focal(found.logits[..., NO_OBJECT], torch.ones(1, sum(COUNTS))).sum()
    torch.testing.assert_close(none.tokens, wanted)


WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "the",
    "red",
    "house",
    "'",
    "s",
    ".",
    ",",
    "tele",
    "##vision",
    "left",
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizerFast:
    path: Path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(WORDS), "utf-8")
    return BertTokenizerFast(vocab={word: at for at, word in enumerate(WORDS)})


def mdetr(encoding: object, spans: list[tuple[int, int]], tokens: int) -> list[bool]:
    """`create_positive_map` of MDETR for one box."""
    row = [False] * tokens
    for begin, end in spans:
        first = encoding.char_to_token(begin)  # type: ignore[attr-defined]
        last = encoding.char_to_token(end - 1)  # type: ignore[attr-defined]
        if first is None:
            first = encoding.char_to_token(begin + 1)  # type: ignore[attr-defined]
            if first is None:
                first = encoding.char_to_token(begin + 2)  # type: ignore[attr-defined]
        if last is None:
            last = encoding.char_to_token(end - 2)  # type: ignore[attr-defined]
            if last is None:
                last = encoding.char_to_token(end - 3)  # type: ignore[attr-defined]
        if first is None or last is None:
            continue
        for at in range(first, last + 1):
            row[at] = True
    return row


PHRASE = "the house's red  television, left."
SPANS = [
    [(0, 9)],
    [(4, 11)],
    [(12, 15)],
    [(15, 27)],
    [(16, 29)],
    [(3, 9), (29, 33)],
    [(0, 34)],
    [(27, 30)],
    [],
]


@pytest.mark.parametrize("spans", SPANS)
def test_positive_tokens_equal_mdetr_s(tokenizer: BertTokenizerFast, spans: list[tuple[int, int]]) -> None:
    encoding = tokenizer(PHRASE, return_offsets_mapping=True)
    offsets = encoding["offset_mapping"]
    found = positive_tokens(offsets, spans)
    assert found == mdetr(encoding, spans, len(offsets))
    assert any(found) == bool(spans)
    assert not found[0]
    assert not found[-1]  # of the special tokens


def test_a_word_is_all_of_its_pieces(tokenizer: BertTokenizerFast) -> None:
    offsets = tokenizer(PHRASE, return_offsets_mapping=True)["offset_mapping"]
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(PHRASE)["input_ids"])
    found = positive_tokens(offsets, [(17, 27)])
    assert [piece for piece, named in zip(pieces, found, strict=True) if named] == ["tele", "##vision"]
    assert not any(positive_tokens(offsets[:3], [(17, 27)]))  # cut off
