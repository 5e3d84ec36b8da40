from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interplay.errors import InterplayError
from interplay.metrics import recall as module
from interplay.metrics.recall import DIRECTIONS, Recall, ranks, retrieval_ranks, retrieval_recall


def loop_rank(scores: list[float], own: list[int]) -> int:
    """The oracle: how many items of others are at least as good as the best own one."""
    best = max(scores[item] for item in own)
    worse_for_us = 0
    for item, score in enumerate(scores):
        if item not in own and score >= best:
            worse_for_us += 1
    return 1 + worse_for_us


def loop_recall(images: Tensor, texts: Tensor, owner: list[int], ks: list[int], asks: list[int]) -> Recall:
    """The oracle: pair after pair, in exact arithmetic for the small integers of the tests."""

    def score(a: Tensor, b: Tensor) -> float:
        return float(sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True)))

    image_ranks, text_ranks = [], []
    for image in asks:
        scores = [score(images[image], text) for text in texts]
        image_ranks.append(loop_rank(scores, [text for text, of in enumerate(owner) if of == image]))
    for text, of in enumerate(owner):
        if of in asks:
            text_ranks.append(loop_rank([score(image, texts[text]) for image in images], [of]))
    return {
        direction: {k: sum(rank <= k for rank in found) / len(found) for k in ks}
        for direction, found in zip(DIRECTIONS, (image_ranks, text_ranks), strict=True)
    }


@st.composite
def galleries(draw: st.DrawFn) -> tuple[Tensor, Tensor, list[int], list[int]]:
    """Small integer vectors, so that ties are frequent and every product is exact; captions in any order."""
    count = draw(st.integers(1, 6))
    width = draw(st.integers(1, 3))
    owner = draw(st.permutations(list(range(count)) + draw(st.lists(st.integers(0, count - 1), max_size=8))))
    vector = st.lists(st.integers(-1, 1), min_size=width, max_size=width)
    images = torch.tensor([draw(vector) for _ in range(count)], dtype=torch.float32)
    texts = torch.tensor([draw(vector) for _ in owner], dtype=torch.float32)
    asks = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True))
    return images, texts, owner, asks


@settings(deadline=None, max_examples=200)
@given(galleries(), st.sampled_from([1, 7, 2**23]), st.sampled_from([0, 2**27]))
def test_equals_the_loops(
    gallery: tuple[Tensor, Tensor, list[int], list[int]], block: int, whole_up_to: int
) -> None:
    images, texts, owner, asks = gallery
    mask = torch.zeros(len(images), dtype=torch.bool)
    mask[asks] = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        patch.setattr(module, "_WHOLE", whole_up_to)
        found = retrieval_ranks(images, texts, torch.tensor(owner))
        whole = retrieval_recall(images, texts, torch.tensor(owner), ks=(1, 2, 5))
    everyone = list(range(len(images)))
    assert whole == loop_recall(images, texts, owner, [1, 2, 5], everyone)
    assert found.recall((1, 2, 5)) == whole
    assert found.recall((1, 3), mask) == loop_recall(images, texts, owner, [1, 3], asks)


def test_other_captions_of_the_image_do_not_count_against_it() -> None:
    images = torch.eye(2)
    texts = torch.tensor([[0.9, 0.0], [0.8, 0.0], [0.7, 0.0], [0.0, 0.1]])
    found = retrieval_ranks(images, texts, torch.tensor([0, 0, 0, 1]))
    assert found.image_to_text.tolist() == [1, 1]
    assert found.text_to_image.tolist() == [1, 1, 1, 1]


def test_a_stranger_between_own_captions_counts_only_if_it_beats_the_best() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[0.9, 0.0], [0.8, 1.0], [0.1, 0.0]])
    assert ranks(images, texts, torch.arange(2), torch.tensor([0, 1, 0])).tolist() == [1, 1]
    assert ranks(images, texts, torch.arange(2), torch.tensor([1, 0, 0])).tolist() == [2, 3]


def test_one_pair() -> None:
    found = retrieval_recall(torch.tensor([[1.0]]), torch.tensor([[-1.0]]), torch.tensor([0]))
    assert found == {direction: {1: 1.0, 5: 1.0, 10: 1.0} for direction in DIRECTIONS}


@pytest.mark.parametrize("count", [2, 3, 7, 17, 101, 1003])
@pytest.mark.parametrize("width", [3, 16, 100, 512])
def test_a_collapsed_encoder_is_ranked_last(count: int, width: int) -> None:
    """Where every vector is the same, products of one row differ in their last bit from column to column."""
    generator = torch.Generator().manual_seed(width)
    same = torch.randn(1, width, generator=generator).expand(count, width)
    queries = torch.randn(5, width, generator=generator)
    each = torch.arange(count)
    assert ranks(same, same, each, each).tolist() == [count] * count
    assert ranks(queries, same, torch.arange(5) % count, each).tolist() == [count] * 5
    assert ranks(queries[:1], same, each[-1:], each).tolist() == [count]


@pytest.mark.parametrize("whole_up_to", [0, 2**27])
@pytest.mark.parametrize("count", [2, 7, 101, 1003])
def test_a_collapsed_side_is_ranked_last(
    count: int, whole_up_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WHOLE", whole_up_to)
    generator = torch.Generator().manual_seed(1)
    same = torch.randn(1, 512, generator=generator).expand(count, 512)
    other = torch.randn(count, 512, generator=generator)
    each = torch.arange(count)
    assert retrieval_ranks(other, same, each).image_to_text.tolist() == [count] * count
    assert retrieval_ranks(same, other, each).text_to_image.tolist() == [count] * count
    one_image = retrieval_ranks(other[:1], same, torch.zeros(count, dtype=torch.int64))
    assert one_image.image_to_text.tolist() == [1]
    texts = torch.cat([same, other])
    owner = torch.cat([each, each])
    assert retrieval_ranks(same, texts, owner).text_to_image.tolist() == [count] * 2 * count


def test_zeros_of_either_sign_are_one_vector() -> None:
    gallery = torch.tensor([[0.0, 1.0], [-0.0, 1.0]])
    assert ranks(gallery, gallery, torch.arange(2), torch.arange(2)).tolist() == [2, 2]


def test_duplicates_among_many_vectors() -> None:
    """A double of every third item, somewhere else in the gallery: rank 2 for those, 1 for the others."""
    generator = torch.Generator().manual_seed(0)
    items = torch.nn.functional.normalize(torch.randn(600, 33, generator=generator), dim=1)
    gallery = torch.cat([items, items[::3]])
    order = torch.randperm(len(gallery), generator=generator)
    names = torch.arange(len(gallery))[order]
    found = ranks(items, gallery[order], torch.arange(600), names)
    assert found.tolist() == [2 if item % 3 == 0 else 1 for item in range(600)]


@pytest.mark.parametrize("whole_up_to", [0, 2**27])
@pytest.mark.parametrize("block", [1, 64, 1000])
def test_the_size_of_blocks_does_not_matter(
    block: int, whole_up_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(3)
    owner = torch.arange(40).repeat_interleave(3)[torch.randperm(120, generator=generator)]
    images = torch.randint(-2, 3, (40, 4), generator=generator).float()
    texts = images[owner] + torch.randint(-1, 2, (120, 4), generator=generator)
    whole = retrieval_ranks(images, texts, owner)
    monkeypatch.setattr(module, "_BLOCK", block)
    monkeypatch.setattr(module, "_WHOLE", whole_up_to)
    parts = retrieval_ranks(images, texts, owner)
    assert parts.image_to_text.equal(whole.image_to_text)
    assert parts.text_to_image.equal(whole.text_to_image)
    assert len(whole.image_to_text.unique()) > 3


def test_broken_vectors_are_refused() -> None:
    good, bad = torch.eye(3), torch.eye(3)
    bad[1, 0] = float("nan")
    for images, texts in ((good, bad), (bad, good)):
        with pytest.raises(InterplayError, match=r"1 of 3 \w+ vectors .* not finite"):
            retrieval_ranks(images, texts, torch.arange(3))


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="do not go with owners"):
        retrieval_ranks(torch.eye(3), torch.eye(3), torch.arange(2))
    with pytest.raises(ValueError, match="do not go with owners"):
        retrieval_ranks(torch.eye(3), torch.eye(2), torch.arange(2))
    with pytest.raises(ValueError, match=r"query 2 \(owner 2\) has no own item"):
        retrieval_ranks(torch.eye(3), torch.eye(3), torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="not \\(number, d\\)"):
        retrieval_ranks(torch.ones(3), torch.eye(3), torch.arange(3))
    found = retrieval_ranks(torch.eye(3), torch.eye(3), torch.arange(3))
    for images in (torch.zeros(3, dtype=torch.bool), torch.ones(2, dtype=torch.bool), torch.arange(3)):
        with pytest.raises(ValueError, match="with at least one True"):
            found.recall(images=images)
