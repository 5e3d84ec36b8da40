"""Winoground's scores against loops, ties included, and the quadruples of a table."""

from __future__ import annotations

import itertools

import pytest
import torch

from interplay.data.scenes.bind import bind
from interplay.data.scenes.where import where
from interplay.metrics.group_score import group_scores, quadruples


def slow(scores: torch.Tensor) -> dict[str, float]:
    text = image = group = 0
    for s in scores.tolist():
        by_text = s[0][0] > s[1][0] and s[1][1] > s[0][1]
        by_image = s[0][0] > s[0][1] and s[1][1] > s[1][0]
        text, image, group = text + by_text, image + by_image, group + (by_text and by_image)
    return {
        "text_score": text / len(scores),
        "image_score": image / len(scores),
        "group_score": group / len(scores),
    }


@pytest.mark.parametrize("levels", [2, 3, 10])
def test_the_scores_are_the_slow_ones_on_every_order_and_tie(levels: int) -> None:
    if levels < 10:
        scores = torch.tensor(list(itertools.product(range(levels), repeat=4))).view(-1, 2, 2).float()
    else:
        scores = torch.randint(0, levels, (500, 2, 2), generator=torch.Generator().manual_seed(0)).float()
    assert group_scores(scores) == pytest.approx(slow(scores))


def test_equal_scores_are_wrong_and_chance_is_a_sixth() -> None:
    assert group_scores(torch.zeros(3, 2, 2)) == {"text_score": 0, "image_score": 0, "group_score": 0}
    orders = torch.tensor(list(itertools.permutations(range(4)))).view(-1, 2, 2).float()
    assert group_scores(orders) == pytest.approx(
        {"text_score": 1 / 4, "image_score": 1 / 4, "group_score": 1 / 6}
    )


def table(groups: int = 5, seed: int = 0) -> tuple[list[str], list[str], list[int]]:
    rows = [
        (f"{q}-{v}.png", f"{q} {t}", int((t == v) ^ (q % 2)))
        for q in range(groups)
        for t in (0, 1)
        for v in (0, 1)
    ]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    pictures, texts, targets = zip(*(rows[at] for at in order), strict=True)
    return list(pictures), list(texts), list(targets)


def test_quadruples_are_found_in_any_order() -> None:
    pictures, texts, targets = table()
    found = quadruples(pictures, texts, targets)
    assert sorted(row for four in found for row in four) == list(range(20))
    for a, b, c, d in found:
        assert [targets[row] for row in (a, b, c, d)] == [1, 0, 0, 1]
        assert (texts[a], texts[c]) == (texts[b], texts[d])
        assert (pictures[a], pictures[b]) == (pictures[c], pictures[d])


@pytest.mark.parametrize("broken", ["a row less", "a label", "a third picture", "no pair"])
def test_other_tables_have_none(broken: str) -> None:
    pictures, texts, targets = table(2)
    if broken == "a row less":
        pictures, texts, targets = pictures[1:], texts[1:], targets[1:]
    if broken == "a label":
        targets[0] = 1 - targets[0]
    if broken == "a third picture":
        pictures, texts, targets = [*pictures, "x.png"], [*texts, texts[0]], [*targets, 1]
    if broken == "no pair":
        pictures, texts, targets = ["a", "b"], ["a", "b"], [0, 0]
    assert quadruples(pictures, texts, targets) == []


def test_which_label_means_that_they_fit_does_not_matter() -> None:
    pictures, texts, targets = table()
    logits = torch.randn(20, 2, generator=torch.Generator().manual_seed(1))
    found = []
    for labels, one in ((targets, 1), ([1 - label for label in targets], 0)):
        scores = logits[:, one] - logits[:, 1 - one]
        rows = torch.tensor(quadruples(pictures, texts, labels))
        found.append(group_scores(scores[rows].view(-1, 2, 2)))
    assert found[0] == found[1]


@pytest.mark.parametrize("task", ["bind", "where"])
def test_scenes_that_only_binding_tells_are_quadruples(task: str) -> None:
    blocks = [*itertools.islice({"bind": bind, "where": where}[task]("test"), 8)]
    rows = [
        (f"{number}-{scene}", said.text, int(said.label == "true"))
        for number, block in enumerate(blocks)
        for scene, texts in enumerate(block.said)
        for said in texts
    ]
    pictures, texts, targets = zip(*rows, strict=True)
    assert len(quadruples(pictures, texts, targets)) == 8
