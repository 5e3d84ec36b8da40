"""Sessions told by Gaussians: the formula against loops, exact forgetting, and samples that belong to none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.errors import InterplayError
from interplay.methods.registry import choose
from interplay.parts.gaussian_keys import NONE, SOFTER, SURE, GaussianKeys
from interplay.retrieval.continual import StreamEvaluation
from interplay.retrieval.keeping import helps
from interplay.retrieval.retriever import BARE, Retriever
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES
from interplay.towers.walk import Keys
from tests.conftest import small_shape
from tests.lpi.toy import QUICK, SMALL, pairs, picture, stream
from tests.train.toy import toy_backbone

WIDTH = 4


@pytest.fixture(scope="module")
def towers() -> Backbone:
    return toy_backbone()


def session(seed: int, count: int = 12) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    mixed = torch.randn(WIDTH, WIDTH, generator=random)
    return torch.randn(count, WIDTH, generator=random) @ mixed / 3 + torch.randn(WIDTH, generator=random)


def learned(seeds: list[int]) -> GaussianKeys:
    found = GaussianKeys()
    for seed in seeds:
        found.append(torch.zeros(WIDTH))
        found.fit("image", session(seed, 9 + seed))
        found.fit("text", session(seed + 50, 9 + seed))
    return found


def by_hand(seeds: list[int], key: Tensor) -> list[float]:
    """Log probabilities of a key by loops, in double precision."""
    rows = [session(seed, 9 + seed).double().numpy() for seed in seeds]
    total = sum(len(part) for part in rows)
    within = np.zeros((WIDTH, WIDTH))
    for part in rows:
        for row in part:
            within += np.outer(row - part.mean(0), row - part.mean(0)) / total
    found = []
    for part in rows:
        own = sum(np.outer(row - part.mean(0), row - part.mean(0)) for row in part) / len(part)
        share = len(part) / (len(part) + WIDTH)
        ridge = WIDTH / (2 * total) * np.trace(within) / WIDTH
        covariance = share * own + (1 - share) * within + ridge * np.eye(WIDTH)
        apart = key.double().numpy() - part.mean(0)
        far = apart @ np.linalg.inv(covariance) @ apart
        found.append(math.log(len(part)) - far / 2 - math.log(np.linalg.det(covariance)) / 2)
    return found


def test_sessions_are_told_by_the_formula() -> None:
    seeds, asked = [1, 2, 3, 4], session(9, 20)
    keys = learned(seeds)
    logs, nearest, margin = (
        keys.logs("image", asked),
        keys.nearest("image", asked),
        keys.margin("image", asked),
    )
    for row, key in enumerate(asked):
        expected = by_hand(seeds, key)
        assert logs[row].tolist() == pytest.approx(expected, abs=1e-3)
        shares = [math.exp((one - max(expected)) / SOFTER) for one in expected]
        sure = max(shares) / sum(shares)
        if abs(sure - SURE) > 1e-3:
            assert nearest[row] == (expected.index(max(expected)) if sure > SURE else NONE)
        two = sorted(expected)
        assert float(margin[row]) == pytest.approx(two[-1] - two[-2], abs=1e-2)
    assert {NONE, 0} <= set(keys.nearest("image", torch.cat([asked, session(1)])).tolist())


@pytest.mark.parametrize("gone", range(3))
def test_what_is_forgotten_was_never_learned(gone: int) -> None:
    seeds = [1, 2, 3]
    found, never = learned(seeds), learned([seed for at, seed in enumerate(seeds) if at != gone])
    found.remove(gone)
    for key, value in never.state_dict().items():
        assert torch.equal(found.state_dict()[key], value), key
    for side in SIDES:
        assert torch.equal(found.logs(side, session(7)), never.logs(side, session(7)))


def test_a_single_session_takes_all() -> None:
    keys = learned([1])
    assert keys.nearest("image", session(5)).tolist() == [0] * 12
    assert torch.isinf(keys.margin("image", session(5))).all()


def test_keys_that_are_all_the_same_are_told_apart() -> None:
    keys = GaussianKeys()
    for at in range(3):
        keys.append(torch.zeros(WIDTH))
        for side in SIDES:
            keys.fit(side, torch.eye(WIDTH)[at].expand(5, -1))
    assert keys.nearest("text", torch.eye(WIDTH)[:3]).tolist() == [0, 1, 2]


def test_the_policy_says_that_it_may_abstain() -> None:
    for distance in ("l1", "gaussian"):
        method = choose("lpi-m").build(small_shape(), {"depth": 2, "length": 2, "distance": distance})
        assert method.sessions.abstains == (distance == "gaussian")


def test_a_sample_that_belongs_to_none_keeps_the_backbones_vector(
    towers: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever = Retriever(towers, "lpi-m", settings={**SMALL, "distance": "gaussian"})
    for task in range(2):
        retriever.learn(f"task {task}", pairs(task), settings=QUICK)
    images = [picture(i, 0) for i in range(3)]
    keys = retriever.keys("image", images)
    monkeypatch.setattr(retriever.method.sessions, "route", lambda side, keys: torch.tensor([0, NONE, 1]))
    routes = retriever.routes("image", keys)
    assert routes == ["task 0", BARE, "task 1"]
    vectors = retriever.encode("image", images, routes)
    torch.testing.assert_close(vectors[1], keys[1])
    for row, task in ((0, "task 0"), (2, "task 1")):
        own = retriever.encode("image", images[row : row + 1], [task])[0]
        torch.testing.assert_close(vectors[row], own)
        assert not torch.allclose(vectors[row], keys[row], atol=1e-4)
    monkeypatch.undo()
    stage = StreamEvaluation(towers, stream(2)).stage(retriever, 1)
    assert stage.routing is not None
    assert stage.oracle is not None


def test_a_task_that_has_not_helped_keeps_the_backbones_vectors(
    towers: Backbone, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    from interplay.retrieval import learning as module

    answers = iter([True, False])
    monkeypatch.setattr(module, "session_helps", lambda *_: next(answers))
    retriever = Retriever(towers, "lpi-m", settings=SMALL)
    for task in range(2):
        retriever.learn(f"task {task}", pairs(task), settings=QUICK, keep="helpful")
    assert retriever.sessions == ("task 0", "task 1")
    assert retriever.bare == ("task 1",)
    images = [picture(i, 50) for i in range(4)]
    keys = retriever.keys("image", images)
    assert torch.equal(retriever.encode("image", images, ["task 1"] * 4), keys)
    assert not torch.allclose(retriever.encode("image", images, ["task 0"] * 4), keys, atol=1e-4)
    assert set(retriever.routes("image", keys)) <= {"task 0", BARE}
    assert retriever.version_of("task 1") == retriever.version_of(BARE)
    retriever.save_pretrained(str(tmp_path))
    again = Retriever.from_pretrained(str(tmp_path), backbone=towers)
    assert again.bare == ("task 1",)
    assert torch.equal(again.encode_images(images), retriever.encode_images(images))
    again.forget("task 0")
    assert again.routes("image", keys) == [BARE] * 4
    again.forget("task 1")
    assert again.bare == ()


def test_shared_prompts_that_have_not_helped_are_what_they_were(
    towers: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interplay.retrieval import learning as module

    answers = iter([False, True, False])
    monkeypatch.setattr(module, "session_helps", lambda *_: next(answers))
    retriever = Retriever(towers, "lora")
    images = [picture(i, 50) for i in range(4)]
    keys = retriever.keys("image", images)
    retriever.learn("task 0", pairs(0), settings=QUICK, keep="helpful")
    assert torch.equal(retriever.encode_images(images), keys)
    retriever.learn("task 1", pairs(1), settings=QUICK, keep="helpful")
    once = retriever.encode_images(images)
    assert not torch.equal(once, keys)
    retriever.learn("task 2", pairs(2), settings=QUICK, keep="helpful")
    assert torch.equal(retriever.encode_images(images), once)
    assert retriever.bare == ("task 0", "task 2")


def test_training_helps_where_those_that_ask_are_ranked_better_beyond_noise() -> None:
    right = F.normalize(session(1, 30), dim=1)
    noise = F.normalize(session(2, 30), dim=1)
    worse, better = Keys(right, noise), Keys(right, right)
    assert helps(worse, better, 20)
    assert not helps(better, worse, 20)
    assert not helps(better, better, 20)
    assert not helps(worse, better, 1)  # of one pair nobody knows the noise
    others = Keys(right, torch.cat([noise[:20], right[20:]]))
    assert not helps(worse, others, 20)  # better for those beside them alone


def test_what_cannot_be_kept_is_told(towers: Backbone) -> None:
    paired = Retriever(towers, "lpi", settings={"fusion": "pair", "depth": 2, "length": 2})
    with pytest.raises(InterplayError, match="keep = trained"):
        paired.learn("task 0", pairs(0), settings=QUICK, keep="helpful")
    with pytest.raises(InterplayError, match="keep"):
        paired.learn("task 0", pairs(0), settings=QUICK, keep="best")  # type: ignore[arg-type]
