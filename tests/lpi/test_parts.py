"""Low-rank tensors, task keys and the prompt bank against slow, obvious code."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from interplay.parts.low_rank import LowRankMaps, LowRankPrompts
from interplay.parts.prompt_bank import PromptBank
from interplay.parts.task_keys import Distance, TaskKeys
from interplay.towers.tokens import SIDES, Tokens
from tests.conftest import small_shape


def test_low_rank_prompts_are_the_triple_sum() -> None:
    torch.manual_seed(0)
    prompts = LowRankPrompts(small_shape(), 3, 2, 4, 0.5)
    for side, tokens, channels in (
        ("image", prompts.image_tokens, prompts.image_channels),
        ("text", prompts.text_tokens, prompts.text_channels),
    ):
        whole = prompts(side)  # type: ignore[arg-type]
        for i in range(3):
            for j in range(2):
                for k in range(0, whole.shape[2], 5):
                    slow = sum(prompts.layers[i, r] * tokens[j, r] * channels[k, r] for r in range(4)) / 4
                    torch.testing.assert_close(whole[i, j, k], slow)


def test_low_rank_maps_are_the_written_out_weight_and_bias() -> None:
    torch.manual_seed(1)
    maps = LowRankMaps(3, 5, 4, 2, 0.5)
    x = torch.randn(6, 7, 5)
    whole = torch.einsum("ir,ar,br->iab", maps.layers, maps.inputs, maps.outputs) / 2
    for i in range(3):
        torch.testing.assert_close(maps(i, x), x @ whole[i, :5] + whole[i, 5])


@pytest.mark.parametrize("distance", ["l1", "cosine"])
def test_the_nearest_centre_and_its_margin_are_those_of_the_loop(distance: Distance) -> None:
    torch.manual_seed(2)
    keys = TaskKeys(3, distance)
    for session in range(4):
        keys.append(torch.zeros(6))
        for side in SIDES:
            keys.fit(side, nn.functional.normalize(torch.randn(20, 6) + 2 * torch.eye(6)[session], dim=1))
    asked = nn.functional.normalize(torch.randn(9, 6), dim=1)
    for side in SIDES:
        found, margin = keys.nearest(side, asked), keys.margin(side, asked)
        for row in range(9):
            apart = []
            for kept in keys.sessions():
                each = []
                for centre in kept.side(side):
                    if distance == "l1":
                        each.append(float((asked[row] - centre).abs().sum()))
                    else:
                        each.append(1 - float(nn.functional.cosine_similarity(asked[row], centre, dim=0)))
                apart.append(min(each))
            assert found[row] == apart.index(min(apart))
            two = sorted(apart)
            assert float(margin[row]) == pytest.approx(two[1] - two[0], abs=1e-5)


def test_centres_are_k_means_and_repeat_where_samples_are_few() -> None:
    keys = TaskKeys(4, "l1")
    keys.append(torch.zeros(2))
    points = torch.tensor([[0.0, 0.0], [0.0, 0.2], [5.0, 5.0], [5.0, 5.2], [9.0, 0.0], [0.0, 9.0]])
    keys.fit("image", points)
    keys.fit("text", points[:1])
    expected = {(0.0, 0.1), (5.0, 5.1), (9.0, 0.0), (0.0, 9.0)}
    assert {tuple(round(x, 4) for x in row) for row in keys.sessions()[0].image.tolist()} == expected
    assert torch.equal(keys.sessions()[0].text, points[:1].expand(4, 2))
    assert torch.isinf(keys.margin("image", points)).all()


def bank_of(sessions: int) -> PromptBank:
    torch.manual_seed(3)
    bank = PromptBank(lambda _: LowRankPrompts(small_shape(), 3, 2, 2, 0.5))
    for _ in range(sessions):
        bank.begin(torch.zeros(16))
    return bank


def test_a_mixed_batch_is_each_sample_s_own_set() -> None:
    bank = bank_of(5)
    route = torch.tensor([4, 0, 2, 2, 1])
    for side in SIDES:
        mixed = bank.stream(side, route)
        for row, session in enumerate(route.tolist()):
            assert torch.equal(mixed[row], bank.sets[session](side))
        assert torch.equal(bank.stream(side, None), bank.newest(side))
        tokens = bank.hold(side, Tokens(torch.zeros(5, 3, 24), route=route))
        for layer in range(3):
            assert torch.equal(tokens.held_for(layer, 2), mixed[:, layer])
        assert bank.hold(side, tokens) is tokens


def test_only_the_newest_set_is_trained_and_what_is_kept_does_not_grow_with_samples() -> None:
    bank = bank_of(3)
    assert [p.requires_grad for s in bank.sets for p in s.parameters()] == [False] * 10 + [True] * 5
    sizes = []
    for samples in (10, 1000):
        bank.end(torch.randn(samples, 16), torch.randn(samples, 16))
        sizes.append({key: value.numel() for key, value in bank.state_dict().items()})
    assert sizes[0] == sizes[1]


def test_weights_that_are_loaded_replace_what_was_materialised() -> None:
    bank, other = bank_of(3), bank_of(3)
    bank.stream("image", torch.tensor([0]))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    bank.load_state_dict(other.state_dict())
    found = bank.stream("image", torch.tensor([0, 1, 2]))
    torch.testing.assert_close(found, torch.stack([s("image") for s in other.sets]))


def test_a_removed_session_leaves_the_others_as_they_are() -> None:
    bank = bank_of(4)
    for kept in bank.keys.sessions():
        kept.image.normal_()
    before = [{k: v.clone() for k, v in s.state_dict().items()} for s in bank.sets]
    centres = [kept.image.clone() for kept in bank.keys.sessions()]
    bank.stream("text", torch.tensor([3]))
    bank.remove(1)
    assert len(bank.sets) == len(bank.keys) == 3
    for now, was in zip(bank.sets, (before[0], before[2], before[3]), strict=True):
        assert all(torch.equal(now.state_dict()[key], value) for key, value in was.items())
    for kept, was in zip(bank.keys.sessions(), (centres[0], centres[2], centres[3]), strict=True):
        assert torch.equal(kept.image, was)
    torch.testing.assert_close(bank.stream("text", torch.tensor([2]))[0], bank.newest("text"))
