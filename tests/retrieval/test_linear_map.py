"""Linear maps in closed form: the formulas against loops, exact forgetting, and never worse than the bare vectors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay import Classifier, Retriever
from interplay.errors import InterplayError
from interplay.methods.linear_map import LinearMap
from interplay.methods.settings import NoSettings
from interplay.parts.moments import Moments, pooled
from interplay.parts.vector_alignment import (
    VectorAlignment,
    alignment,
    reciprocal_ranks,
    strength_of,
)
from interplay.retrieval.retriever import BARE, SHARED
from interplay.towers.backbone import Backbone, load_backbone
from interplay.towers.walk import Keys
from tests.conftest import small_shape
from tests.lpi.toy import pairs, picture

JOINT = 6


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


def world(seed: int, count: int, *, turned: bool = True) -> tuple[Tensor, Tensor]:
    """Pairs whose text is their image's vector, turned and with some noise; else texts of no image."""
    random = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(JOINT, JOINT, generator=torch.Generator().manual_seed(0))).Q
    hidden = torch.randn(count, JOINT, generator=random)
    other = hidden if turned else torch.randn(count, JOINT, generator=random)
    text = other @ turn + 0.3 * torch.randn(count, JOINT, generator=random)
    return F.normalize(hidden + 0.5, dim=1), F.normalize(text - 0.5, dim=1)


def moments_of(image: Tensor, text: Tensor) -> Moments:
    moments = Moments(2 * image.shape[1])
    moments.fit(torch.cat([image, text], dim=1))
    return moments


def learned(sessions: Sequence[tuple[Tensor, Tensor]]) -> VectorAlignment:
    found = VectorAlignment(JOINT)
    for image, text in sessions:
        found.begin()
        found.end(image, text)
    return found


def test_moments_of_sessions_are_those_of_all_their_pairs() -> None:
    parts = [world(seed, count) for seed, count in ((1, 5), (2, 9), (3, 2))]
    count, mean, covariance = pooled([moments_of(*part) for part in parts])
    rows = torch.cat([torch.cat(part, dim=1) for part in parts]).double()
    assert count == 16
    expected_mean, expected = torch.zeros(2 * JOINT).double(), torch.zeros(2 * JOINT, 2 * JOINT).double()
    for row in rows:
        expected_mean += row / 16
    for row in rows:
        for i in range(2 * JOINT):
            for j in range(2 * JOINT):
                expected[i, j] += (row[i] - expected_mean[i]) * (row[j] - expected_mean[j]) / 16
    torch.testing.assert_close(mean, expected_mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(covariance, expected, atol=1e-6, rtol=0)


def test_chance_is_the_mean_over_all_ways_to_pair_anew() -> None:
    image, text = (side.double() for side in world(4, 5))
    image, text = image - image.mean(0), text - text.mean(0)
    norms = [
        float((image.T @ text[list(order)] / 5).square().sum()) for order in itertools.permutations(range(5))
    ]
    across = image.T @ text / 5
    expected = 1 - (sum(norms) / len(norms)) / float(across.square().sum())
    assert strength_of(5, image.T @ image / 5, text.T @ text / 5, across) == pytest.approx(max(0.0, expected))
    assert strength_of(5, image.T @ image / 5, text.T @ text / 5, across / 9) == 0


def test_the_maps_give_the_score_of_the_formula() -> None:
    image, text = world(5, 60)
    count, mean, covariance = pooled([moments_of(image, text)])
    strength, taken, maps = alignment(count, mean, covariance)
    cx, cy, cxy = covariance[:JOINT, :JOINT], covariance[JOINT:, JOINT:], covariance[:JOINT, JOINT:]

    def whitening(c: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(c + JOINT / (2 * count) * c.trace() / JOINT * torch.eye(JOINT))
        return sum(value**-0.5 * torch.outer(v, v) for value, v in zip(values, vectors.T, strict=True))  # type: ignore[return-value]

    def spread(score: Tensor) -> float:
        apart = [(x - mean[:JOINT], y - mean[JOINT:]) for x in image.double() for y in text.double()]
        return (sum(float(x @ score @ y) ** 2 for x, y in apart) / len(apart)) ** 0.5

    wx, wy = whitening(cx), whitening(cy)
    k = wx @ cxy @ wy
    learned = wx @ k @ torch.linalg.inv(_root(k.T @ k)) @ (k.T @ k) @ wy  # U·S·Vᵀ·V·S⁻¹·Vᵀ·V·S²·Vᵀ = U·S²·Vᵀ
    eye = torch.eye(JOINT).double()
    score = strength * learned / spread(learned) + (1 - strength) * eye / spread(eye)
    for x, y in zip(image[:9].double(), text[9:18].double(), strict=True):
        expected = (x - strength**0.5 * mean[:JOINT]) @ score @ (y - strength**0.5 * mean[JOINT:])
        found = ((x - taken["image"]) @ maps["image"].double()) @ (
            (y - taken["text"]) @ maps["text"].double()
        )
        assert float(found) == pytest.approx(float(expected), rel=1e-4, abs=1e-4)


def _root(square: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(square)
    return vectors @ torch.diag(values.sqrt()) @ vectors.T


def test_what_image_and_text_have_in_common_is_found() -> None:
    train, other = world(6, 120), world(7, 40)
    found = learned([train])
    assert found.acts
    after = reciprocal_ranks(found("image", other[0]), found("text", other[1])).mean()
    assert after > reciprocal_ranks(*other).mean() + 0.2


def test_reciprocal_ranks_are_those_of_a_slow_count() -> None:
    image, text = world(6, 600)
    text[3] = text[590]  # a tie counts against both
    found = reciprocal_ranks(image, text)
    scores = image.double() @ text.double().T
    for at in (0, 3, 511, 512, 590, 599):
        above = sum(float(one) >= float(scores[at, at]) - 1e-9 for one in scores[at])
        beside = sum(float(one) >= float(scores[at, at]) - 1e-9 for one in scores[:, at])
        assert float(found[at]) == pytest.approx((1 / above + 1 / beside) / 2)
    assert torch.equal(reciprocal_ranks(image, text, 7), found[:7])


def test_pairs_that_have_nothing_in_common_change_no_bit() -> None:
    found = learned([world(seed, 40, turned=False) for seed in range(3)])
    assert float(found.strength) == pytest.approx(0, abs=0.05)
    still = learned([world(8, 7, turned=False)])
    assert not still.acts
    image, _ = world(9, 11)
    assert still("image", image) is image


def test_the_order_of_sessions_is_none_and_joint_training_is_the_same() -> None:
    parts = [world(seed, 20) for seed in range(4)]
    image, text = world(10, 12)
    one, other = learned(parts), learned(parts[::-1])
    whole = learned([(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]))])
    scores = [found("image", image) @ found("text", text).T for found in (one, other, whole)]
    for score in scores[1:]:
        torch.testing.assert_close(score, scores[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("gone", range(4))
def test_what_is_forgotten_was_never_learned(gone: int) -> None:
    parts = [world(seed, 9 + seed) for seed in range(4)]
    found, never = learned(parts), learned([part for at, part in enumerate(parts) if at != gone])
    found.remove(gone)
    assert found.state_dict().keys() == never.state_dict().keys()
    for key, value in found.state_dict().items():
        assert torch.equal(value, never.state_dict()[key]), key


def test_a_session_that_makes_its_held_out_pairs_worse_does_not_count() -> None:
    image, text = world(11, 60)
    harmful = VectorAlignment(JOINT)
    for at in range(2):
        harmful.begin()
        harmful.end(image, text, world(12, 30) if at == 0 else (image[:30], image[:30]))
    assert [bool(one.counts) for one in harmful.kept] == [True, False]
    once = learned([(image, text)])
    assert torch.equal(harmful.get_buffer("image_map"), once.get_buffer("image_map"))
    few = VectorAlignment(JOINT)
    few.begin()
    few.end(image, text, (image[:7], image[:7]))
    assert bool(few.kept[0].counts)  # type: ignore[arg-type]


def test_sides_that_are_all_alike_are_left_alone() -> None:
    image, text = world(13, 30)
    assert not learned([(image, text[:1].expand(30, -1))]).acts
    assert not learned([(image[:1], text[:1])]).acts
    assert not learned([]).acts


def test_the_policy_begins_ends_and_forgets() -> None:
    method = LinearMap(small_shape(), NoSettings())
    bare = torch.randn(3, 16)
    for name, seed in (("a", 1), ("b", 2)):
        method.sessions.begin(name, torch.zeros(16))
        image = F.normalize(torch.randn(50, 16, generator=torch.Generator().manual_seed(seed)), dim=1)
        method.sessions.end(Keys(image, image.roll(1, dims=1)))
    assert method.sessions.names == ["a", "b"]
    assert method.sessions.route("image", bare) is None
    assert not torch.equal(method.alignment("image", bare), bare)
    method.sessions.forget("a")
    method.sessions.forget("b")
    assert method.sessions.names == []
    assert torch.equal(method.alignment("image", bare), bare)


def test_a_retriever_learns_forgets_and_opens_again(tiny: Backbone, tmp_path: Path) -> None:
    images, texts = [picture(i, 40) for i in range(3)], ["cat 1 0", "moon", "a dog"]
    retriever = Retriever(tiny, "linear_map")
    bare = retriever.encode_images(images), retriever.encode_texts(texts)
    assert retriever.routes("image", bare[0]) == [BARE] * 3
    for task in range(3):
        assert retriever.learn(f"task {task}", pairs(task)) is None
    assert retriever.routes("image", bare[0]) == [SHARED] * 3
    assert not torch.equal(retriever.encode_texts(texts), bare[1])
    retriever.save_pretrained(tmp_path)
    again = Retriever.from_pretrained(tmp_path, backbone=tiny)
    assert torch.equal(again.encode_images(images), retriever.encode_images(images))
    assert torch.equal(again.encode_texts(texts), retriever.encode_texts(texts))
    again.forget("task 1")
    never = Retriever(tiny, "linear_map")
    for task in (0, 2):
        never.learn(f"task {task}", pairs(task))
    assert torch.equal(again.encode_images(images), never.encode_images(images))
    for name in ("task 0", "task 2"):
        again.forget(name)
    assert torch.equal(again.encode_images(images), bare[0])
    assert torch.equal(again.encode_texts(texts), bare[1])


def test_there_is_nothing_to_classify_with(tiny: Backbone) -> None:
    with pytest.raises(InterplayError, match="'linear_map' is for retrieval"):
        Classifier(tiny, "linear_map")
