"""Prompts in a detector's towers: LPI against loops over the released code's own words, and its baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.errors import InterplayError
from interplay.grounding.glip import Glip
from interplay.grounding.token_head import Found
from interplay.methods.lpi import Lpi, LpiPrompts
from interplay.methods.registry import choose
from interplay.towers.presets import GLIP_TINY
from interplay.towers.tokens import SIDES
from interplay.towers.walk import Routes, through_layers
from tests.grounding.test_glip import SMALL
from tests.grounding.toy import phrases, shaken

LPI: dict[str, Any] = {"depth": 5, "length": 16, "rank": 2, "fusion_rank": 2, "deviation": 1.0}
LPI_P = {"fusion": "pair", "fusion_profile": "released"}


@pytest.fixture(scope="module")
def glip() -> Glip:
    torch.manual_seed(0)
    built = Glip(SMALL)
    shaken(built)
    return built


def inputs(lengths: tuple[int, ...] = (6, 20)) -> tuple[Tensor, Tensor]:
    torch.manual_seed(4)
    return torch.randn(len(lengths), 3, 96, 128), phrases(list(lengths))


def lpi(glip: Glip, seed: int = 5, **settings: Any) -> Lpi:
    torch.manual_seed(seed)
    method = choose("lpi").build(glip.shape, LPI | settings)
    assert isinstance(method, Lpi)
    for module in method.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.normal_(module.weight, 1, 0.3)
            torch.nn.init.normal_(module.bias)
    return method.eval()


def newest(method: Lpi) -> LpiPrompts:
    assert isinstance(method.bank.newest, LpiPrompts)
    return method.bank.newest


def low_rank(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """P[i, j, c], the mean over r of D1[i]·D2[j]·D3[c], number by number of r."""
    ranks = range(first.shape[1])
    parts = [first[:, r, None, None] * second[None, :, r, None] * third[None, None, :, r] for r in ranks]
    return torch.stack(parts).mean(dim=0)


def by_hand(
    glip: Glip, pixels: Tensor, ids: Tensor, prompts: LpiPrompts, depth: int
) -> tuple[list[Tensor], Tensor]:
    """The released lock-step loop: prompts are added to the corner and to the first rows, then both are fused."""
    own = prompts.prompts
    visual = low_rank(own.layers, own.image_tokens, own.image_channels)  # type: ignore[union-attr, arg-type]
    textual = low_rank(own.layers, own.text_tokens, own.text_channels)  # type: ignore[union-attr, arg-type]
    tokens = glip.image.embed(pixels)
    assert tokens.size is not None
    x = tokens.x.view(len(pixels), *tokens.size, 24)
    rows, lengths = glip.text.embed(ids).x, (ids != 0).sum(dim=1)
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    maps = []
    for i in range(8):
        stage = i // 2
        channels = 24 * 2**stage
        down, right = ((4, 4), (2, 4), (2, 2), (1, 2))[stage]
        if i < depth:
            x, rows = x.clone(), rows.clone()
            x[:, :down, :right] += visual[i].reshape(down, right, channels)
            rows[:, :16] += textual[i]
        if 0 < i < depth and prompts.settings.fusion == "pair":
            old_v, old_t = x[:, :down, :right].reshape(-1, 16, 24), rows[:, :16].clone()
            for side, old, other, maps_of in (
                ("image", old_v, old_t, prompts.to_image),
                ("text", old_t, old_v, prompts.to_text),
            ):
                whole = low_rank(maps_of.layers[i][None], maps_of.inputs, maps_of.outputs)[0]
                mixed = 0.9 * old + 0.1 * (other @ whole[:-1] + whole[-1])
                norm = prompts.norms[side]
                mixed = F.layer_norm(mixed, mixed.shape[-1:], norm.weight, norm.bias)  # type: ignore[arg-type]
                if side == "image":
                    x[:, :down, :right] = mixed.reshape(-1, down, right, channels)
                else:
                    rows[:, :16] = mixed
        x = glip.image.blocks[i](x)
        rows = glip.text.blocks[i](rows, real[:, None])
        if i % 2:
            maps.append(x)
            x = glip.image.merges[stage](x) if stage < 3 else x
    return maps, rows


@pytest.mark.parametrize("settings", [{}, LPI_P], ids=["lpi-m", "lpi-p"])
@pytest.mark.parametrize("lengths", [(6, 20), (16, 3), (9, 7)])
def test_lpi_equals_the_released_loop(glip: Glip, settings: dict[str, Any], lengths: tuple[int, ...]) -> None:
    method, (pixels, ids) = lpi(glip, **settings), inputs(lengths)
    whole = torch.cat([ids, ids.new_zeros(len(ids), max(0, 16 - ids.shape[1]))], dim=1)
    maps, rows = by_hand(glip, pixels, whole, newest(method), 5)
    pair = through_layers(glip, pixels, ids, method)
    torch.testing.assert_close(pair.text.x, rows, atol=1e-5, rtol=1e-5)
    for stage in range(4):
        x = maps[stage] if stage == 0 else glip.image.norms[stage - 1](maps[stage])
        torch.testing.assert_close(pair.image.maps[stage], x.permute(0, 3, 1, 2), atol=1e-5, rtol=1e-5)


def test_prompts_of_zero_leave_the_detector_as_it_is(glip: Glip) -> None:
    method, (pixels, ids) = lpi(glip), inputs()
    torch.nn.init.zeros_(newest(method).prompts.layers)  # type: ignore[arg-type]
    plain, prompted = glip(pixels, ids), glip(pixels, ids, method)
    for name in ("logits", "deltas", "centred"):
        assert torch.equal(getattr(plain, name), getattr(prompted, name))


@pytest.mark.parametrize("settings", [{}, LPI_P, {"fusion": "own"}], ids=["lpi-m", "lpi-p", "own"])
def test_the_gradient_reaches_the_prompts_alone(glip: Glip, settings: dict[str, Any]) -> None:
    method, (pixels, ids) = lpi(glip, **settings), inputs()
    before = {name: tensor.clone() for name, tensor in glip.state_dict().items()}
    loss(glip(pixels, ids, method)).backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert all(parameter.grad is None for parameter in glip.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in glip.state_dict().items())


def loss(found: Found) -> Tensor:
    return found.logits.square().mean() + found.deltas.square().mean() + found.centred.square().mean()


def test_sessions_have_prompts_of_their_own_and_a_batch_may_mix_them(glip: Glip) -> None:
    method, (pixels, ids) = lpi(glip), inputs()
    for session in ("kitchen", "food"):
        method.sessions.begin(session, torch.randn(24))
    first, second = method.bank.sets
    assert not any(parameter.requires_grad for parameter in first.parameters())
    loss(glip(pixels, ids, method)).backward()
    assert all(parameter.grad is None for parameter in first.parameters())
    assert all(parameter.grad is not None for parameter in second.parameters())
    route = torch.tensor([1, 0])
    mixed = glip(pixels, ids, method, routes=Routes(route, route))
    for row in range(2):
        alone = Routes(route[row : row + 1], route[row : row + 1])
        one = glip(pixels[row : row + 1], ids[row : row + 1], method, routes=alone)
        torch.testing.assert_close(
            mixed.logits[row : row + 1, :, :6], one.logits[..., :6], atol=1e-4, rtol=1e-4
        )
    plain = glip(pixels, ids, method)
    assert not torch.allclose(plain.deltas[1], mixed.deltas[1], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "settings", "twelve"),
    [
        ("lpi-m", {}, 43_440),
        ("lpi-p", LPI_P, 148_368),
        ("s_prompts", {"image_length": 16, "text_length": 16}, 165_888),
        ("maple", {"length": 16}, 9_300_096),
        ("l2p", {"pool": 12, "length": 4, "picked": 4}, 5_760),
    ],
)
def test_the_published_parameters_of_twelve_tasks_on_glip_tiny(
    name: str, settings: dict[str, Any], twelve: int
) -> None:
    with torch.device("meta"):
        method = choose(name).build(GLIP_TINY, settings)
        for session in range(12):
            method.sessions.begin(f"task {session}", torch.zeros(GLIP_TINY.joint))
    assert sum(parameter.numel() for parameter in method.parameters()) == twelve


BASELINES: dict[str, dict[str, Any]] = {
    "l2p": {"pool": 3, "length": 4, "picked": 2},
    "s_prompts": {"image_length": 16, "text_length": 16},
    "maple": {"depth": 5, "length": 16},
    "dual_prompt": {"length": 4, "sides": "both"},
    "lora": {"rank": 2},
}


@pytest.mark.parametrize("name", BASELINES)
def test_what_lpi_is_compared_with_runs_on_the_same_towers(glip: Glip, name: str) -> None:
    torch.manual_seed(0)
    method = choose(name).build(glip.shape, BASELINES[name])
    method.sessions.begin("one", torch.randn(24))
    pixels, ids = inputs()
    keys = F.normalize(torch.randn(2, 24), dim=1)
    training = method.sessions.training_route
    routes = Routes(training("image", keys), training("text", keys))
    if method.traits.starts_frozen:
        plain, fresh = glip(pixels, ids), glip(pixels, ids, method, routes=routes)
        torch.testing.assert_close(fresh.logits, plain.logits, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # LoRA starts at nothing
    loss(glip(pixels, ids, method, routes=routes)).backward()
    chosen_by = {"pool_keys", "bank.sets.0.keys.image", "bank.sets.0.keys.text"}  # trained by the objective
    for name_of, parameter in method.named_parameters():
        dead = parameter.grad is None or parameter.grad.abs().sum() == 0
        assert dead == (name_of in chosen_by), name_of
    assert sum(p.numel() for p in method.parameters()) == method.parameter_count(glip.shape, method.settings)
    assert all(parameter.grad is None for parameter in glip.parameters())
    alone = Routes(*(None if r is None else r[:1] for r in (routes.image, routes.text)))
    batch, one = glip(pixels, ids, method, routes=routes), glip(pixels[:1], ids[:1], method, routes=alone)
    torch.testing.assert_close(batch.logits[:1, :, :6], one.logits[..., :6], atol=1e-4, rtol=1e-4)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("late_fusion", {}, "changes no layer"),
    ("linear_probe", {}, "changes no layer"),
    ("zero_shot", {}, "changes no layer"),
    ("full", {}, "Only CLIP's towers can be copied"),
    ("mmbt-frozen", {}, "only CLIP's towers have"),
    ("prompt_fuse", {}, "no vector of a whole input"),
    ("maple", {"length": 2}, "multiple of 4, not 2"),
    ("lpi", {"start": "frozen", "length": 16}, "start = paper"),
]


@pytest.mark.parametrize(("name", "settings", "said"), REFUSED)
def test_what_cannot_work_on_these_towers_is_refused_in_one_sentence(
    glip: Glip, name: str, settings: dict[str, Any], said: str
) -> None:
    pixels, ids = inputs()
    run: Callable[[], Found] = lambda: glip(pixels, ids, choose(name).build(glip.shape, settings))  # noqa: E731
    with pytest.raises(InterplayError, match=said):
        run()


def test_both_sides_are_in_lock_step() -> None:
    assert all(GLIP_TINY.side(side).depth == 12 for side in SIDES)
    assert sum(GLIP_TINY.image.stages) == 12
    uneven = replace(SMALL, towers=replace(SMALL.towers, text=replace(SMALL.towers.text, depth=7)))
    with pytest.raises(ValueError, match="8 image layers do not go with 7 text layers"), torch.device("meta"):
        Glip(uneven)
