"""Maps of vectors and hidden states: the formulas against slow forms, exact forgetting, and what is read of a tower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay import Retriever
from interplay.methods.layer_map import ADDED, LayerMap
from interplay.methods.settings import NoSettings
from interplay.parts.moments import Moments, pooled
from interplay.parts.signs import random_signs
from interplay.parts.vector_alignment import (
    VectorAlignment,
    layered_alignment,
    reciprocal_ranks,
    share_of_others,
)
from interplay.retrieval.retriever import BARE, SHARED
from interplay.towers.backbone import Backbone, load_backbone
from tests.conftest import small_shape
from tests.lpi.toy import pairs, picture

JOINT, MORE = 4, 3
WIDTH = JOINT + MORE
Pairs = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


def world(seed: int, count: int, *, told: float = 0.0, alike: bool = True) -> Pairs:
    """Pairs of vectors, of length 1, and further features.

    Args:
        told: how much of what a pair has in common its vectors tell as they are.
        alike: whether the further features have anything in common.
    """
    random = torch.Generator().manual_seed(seed)
    common = torch.randn(count, MORE, generator=random)
    other = common if alike else torch.randn(count, MORE, generator=random)
    noise = [torch.randn(count, JOINT, generator=random) for _ in range(3)]
    image, text = (F.normalize(told * noise[0] + one, dim=1) for one in noise[1:])
    return torch.cat([image, common], dim=1), torch.cat([text, other.flip(1)], dim=1)


def moments_of(part: Pairs) -> Moments:
    found = Moments(2 * WIDTH)
    found.fit(torch.cat(part, dim=1))
    return found


def learned(sessions: Sequence[Pairs]) -> VectorAlignment:
    found = VectorAlignment(JOINT, MORE)
    for part in sessions:
        found.begin()
        found.end(*part)
    return found


def slow_score(parts: Sequence[Pairs]) -> tuple[Tensor, Tensor, Tensor]:
    """W_x·U·S²·Vᵀ·W_y of scaled features, from the pairs themselves, and the covariances of the sides."""
    sides = [torch.cat([part[at] for part in parts]).double() for at in (0, 1)]
    apart = [side - side.mean(0) for side in sides]
    scaled, factors = [], []
    for side in apart:
        factor = torch.ones(WIDTH).double()
        factor[:JOINT] = 1 / side[:, :JOINT].square().sum(1).mean().sqrt()
        factor[JOINT:] = 1 / side[:, JOINT:].square().sum(1).mean().sqrt()
        factors.append(factor)
        scaled.append(side * factor)
    count = len(apart[0])

    def whitening(side: Tensor) -> Tensor:
        c = side.T @ side / count
        values, vectors = torch.linalg.eigh(c + WIDTH / (2 * count) * c.trace() / WIDTH * torch.eye(WIDTH))
        return vectors @ torch.diag(values.rsqrt()) @ vectors.T

    wx, wy = whitening(scaled[0]), whitening(scaled[1])
    k = wx @ (scaled[0].T @ scaled[1] / count) @ wy
    u, s, v = torch.linalg.svd(k)
    score = torch.diag(factors[0]) @ wx @ u @ torch.diag(s**2) @ v @ wy @ torch.diag(factors[1])
    return score, apart[0].T @ apart[0] / count, apart[1].T @ apart[1] / count


def slow_spread(score: Tensor, image: Tensor, text: Tensor) -> float:
    return float((score.T @ image @ score @ text).trace().sqrt())


BARE_SCORE = torch.diag(torch.tensor([1.0] * JOINT + [0.0] * MORE)).double()


def test_the_share_is_fishers_over_all_pairs_of_a_session_that_was_left_out() -> None:
    parts = [world(seed, 12 + seed, told=0.6) for seed in range(4)]
    apart, alike = np.zeros(2), np.zeros((2, 2))
    for at, (image, text) in enumerate(parts):
        score, cx, cy = slow_score([part for other, part in enumerate(parts) if other != at])
        scores = [one / slow_spread(one, cx, cy) for one in (BARE_SCORE, score)]
        x, y = image.double() - image.double().mean(0), text.double() - text.double().mean(0)
        both = np.stack([(x @ one @ y.T).numpy() for one in scores])
        count = len(x)
        for i in range(count):
            apart += both[:, i, i]  # the strangers' mean is 0
            for j in range(count):
                alike += np.outer(both[:, i, j], both[:, i, j]) / count
    weights = np.linalg.solve(alike, apart)
    assert (weights > 0).all()
    found = share_of_others([moments_of(part) for part in parts], JOINT)
    assert found == pytest.approx(weights[1] / weights.sum(), rel=1e-3)
    assert share_of_others([moments_of(parts[0])], JOINT) == 0


def test_the_share_follows_what_the_other_sessions_have_learned() -> None:
    helped = share_of_others([moments_of(world(seed, 40)) for seed in range(4)], JOINT)
    useless = share_of_others(
        [moments_of(world(seed, 40, told=2.0, alike=False)) for seed in range(4)], JOINT
    )
    assert helped > 0.8
    assert useless < 0.3


def test_the_maps_give_the_score_of_the_formula() -> None:
    parts = [world(seed, 30, told=0.5) for seed in range(3)]
    sessions = [moments_of(part) for part in parts]
    strength, taken, maps = layered_alignment(sessions, JOINT)
    assert 0 < share_of_others(sessions, JOINT) <= strength <= 1
    learned_score, cx, cy = slow_score(parts)
    score = strength * learned_score / slow_spread(learned_score, cx, cy)
    score = score + (1 - strength) * BARE_SCORE / slow_spread(BARE_SCORE, cx, cy)
    u, s, v = torch.linalg.svd(score)
    kept = u[:, :JOINT] @ torch.diag(s[:JOINT]) @ v[:JOINT]
    torch.testing.assert_close(maps["image"].double() @ maps["text"].double().T, kept, atol=1e-4, rtol=1e-3)
    _, mean, _ = pooled(sessions)
    torch.testing.assert_close(
        torch.cat([taken["image"], taken["text"]]).double(), strength**0.5 * mean, atol=1e-6, rtol=0
    )


def test_hidden_states_that_have_something_in_common_are_used() -> None:
    found, (image, text) = learned([world(seed, 40) for seed in range(3)]), world(9, 40)
    after = reciprocal_ranks(found("image", image), found("text", text)).mean()
    assert after > reciprocal_ranks(image[:, :JOINT], text[:, :JOINT]).mean() + 0.3


def test_only_the_directions_of_vectors_count() -> None:
    found, (image, _) = learned([world(seed, 20, told=1.0) for seed in range(3)]), world(9, 5)
    torch.testing.assert_close(found("image", 3 * image), found("image", image))


def test_features_without_variance_and_sides_that_are_all_alike() -> None:
    image, text = world(3, 30, told=2.0)
    flat = torch.cat([image[:, :JOINT], torch.ones(30, MORE)], dim=1)
    found = learned([(flat, text)])
    assert found("image", flat).isfinite().all()
    assert not learned([(image[:1].expand(30, -1), text)]).acts
    assert not learned([(image[:1], text[:1])]).acts
    assert torch.equal(learned([])("image", image), image[:, :JOINT])


@pytest.mark.parametrize("gone", range(3))
def test_what_is_forgotten_was_never_learned(gone: int) -> None:
    parts = [world(seed, 9 + seed) for seed in range(3)]
    found, never = learned(parts), learned([part for at, part in enumerate(parts) if at != gone])
    found.remove(gone)
    assert found.state_dict().keys() == never.state_dict().keys()
    for key, value in found.state_dict().items():
        assert torch.equal(value, never.state_dict()[key]), key


def test_a_session_that_makes_its_held_out_pairs_worse_does_not_count() -> None:
    found = VectorAlignment(JOINT, MORE)
    image, text = world(11, 60)
    for held_out in (world(12, 30), (image[:30], torch.cat([image[:30, :JOINT], -text[:30, JOINT:]], dim=1))):
        found.begin()
        found.end(image, text, held_out)
    assert found.counting() == [True, False]


def test_projections_are_signs_that_never_change() -> None:
    found = random_signs(200, 16, 0)
    assert set((found * 4).unique().tolist()) == {-1.0, 1.0}
    assert (found[:2, :8] * 4).tolist() == [[-1, 1, 1, -1, 1, 1, 1, 1], [-1, -1, -1, 1, -1, 1, 1, -1]]
    rows = torch.randn(5, 200, generator=torch.Generator().manual_seed(0))
    assert ((rows @ random_signs(200, 4096, 1)).norm(dim=1) / rows.norm(dim=1)).sub(1).abs().max() < 0.1


def test_what_is_read_are_the_pooled_token_and_the_mean_at_three_depths(tiny: Backbone) -> None:
    method = LayerMap(tiny.shape, NoSettings())
    method.alignment.begin()
    ids = tiny.tokenize(["a red cat on a mat", "moon"])
    tokens, read = tiny.text.embed(ids), []
    for i in range(tiny.shape.text.depth):
        tokens = tiny.text.layer(i, tokens)
        if i + 1 in method.layers["text"]:
            for row, words in zip(tokens.x, ids.tolist(), strict=True):
                end = words.index(tiny.shape.text.end_token)
                read += [row[end], row[: end + 1].mean(0)]
    assert len(method.layers["text"]) == 3
    blocks = F.normalize(torch.stack(read), dim=1).view(3, 2, 2, -1).transpose(0, 1).reshape(2, -1)
    walked = tiny.text.embed(ids)
    for i in range(tiny.shape.text.depth):
        walked = method.layer("text", i, tiny.text, walked)
    found = method.vector("text", tiny.text, walked)
    assert found.shape == (2, tiny.shape.joint + ADDED)
    bare = F.normalize(tiny.text.pool(tokens), dim=1)
    expected = torch.cat([bare, blocks @ method.get_buffer("text_projection")], dim=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_towers_without_layers_in_the_middle_have_vectors_alone() -> None:
    shape = small_shape()
    short = type(shape)(shape.image, type(shape.text)(**{**vars(shape.text), "depth": 1}))
    method = LayerMap(short, NoSettings())
    assert method.alignment.added == 0
    assert method.first_layer("image") == short.image.depth


def test_a_retriever_learns_forgets_and_opens_again(tiny: Backbone, tmp_path: Path) -> None:
    images, texts = [picture(i, 40) for i in range(3)], ["cat 1 0", "moon", "a dog"]
    retriever = Retriever(tiny)
    assert retriever.method_name == "layer_map"
    bare = retriever.encode_images(images), retriever.encode_texts(texts)
    assert retriever.routes("image", bare[0]) == [BARE] * 3
    for task in range(3):
        assert retriever.learn(f"task {task}", pairs(task)) is None
    assert retriever.routes("image", bare[0]) == [SHARED] * 3
    assert retriever.encode_texts(texts).shape == bare[1].shape
    assert not torch.equal(retriever.encode_texts(texts), bare[1])
    retriever.save_pretrained(tmp_path)
    again = Retriever.from_pretrained(tmp_path, backbone=tiny)
    assert torch.equal(again.encode_images(images), retriever.encode_images(images))
    assert torch.equal(again.encode_texts(texts), retriever.encode_texts(texts))
    again.forget("task 1")
    never = Retriever(tiny)
    for task in (0, 2):
        never.learn(f"task {task}", pairs(task))
    assert torch.equal(again.encode_images(images), never.encode_images(images))
    for name in ("task 0", "task 2"):
        again.forget(name)
    torch.testing.assert_close(again.encode_images(images), bare[0], atol=1e-6, rtol=0)
