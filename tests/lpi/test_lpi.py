"""LPI against slow code: what enters the slots before each layer, both fusions, counts, sessions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from interplay.errors import InterplayError
from interplay.methods.lpi import Lpi, LpiPrompts
from interplay.methods.registry import choose
from interplay.towers.backbone import Backbone
from interplay.towers.presets import PRESETS
from interplay.towers.tokens import SIDES, Shape, Side, TowerShape
from interplay.towers.walk import Routes, encode, encode_pair

GLIP = Shape(
    image=TowerShape(width=96, depth=12, heads=3, hidden=384, joint=96, image_size=448, patch_size=4),
    text=TowerShape(
        width=768, depth=12, heads=12, hidden=3072, joint=96, vocabulary=30522, positions=256, end_token=102
    ),
)
"""GLIP-T's widths at the first stage and of its text tower. It has no joint space: the image width stands in."""


@pytest.mark.parametrize(
    ("shape", "name", "settings", "a_task", "twelve"),
    [
        (GLIP, "lpi-m", {}, 3_620, 43_440),
        (GLIP, "lpi-p", {}, 10_604, 127_248),
        (GLIP, "lpi-p", {"fusion_profile": "released"}, 12_364, 148_368),
        (PRESETS["clip-vit-base-patch16"], "lpi-m", {}, 5_284, 63_408),
    ],
)
def test_the_papers_parameter_counts(
    shape: Shape, name: str, settings: dict[str, Any], a_task: int, twelve: int
) -> None:
    choice = choose(name)
    assert choice.method.parameter_count(shape, choice.settings(settings)) == a_task
    method = choice.build(shape, settings)
    for session in range(12):
        method.sessions.begin(f"task {session}", torch.zeros(shape.joint))
    assert sum(parameter.numel() for parameter in method.parameters()) == twelve
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == a_task


def method_of(backbone: Backbone, **settings: Any) -> Lpi:
    torch.manual_seed(5)
    method = choose("lpi").build(backbone.shape, {"depth": 3, "length": 2, "deviation": 1.0, **settings})
    assert isinstance(method, Lpi)
    return method.eval()


def newest(method: Lpi) -> LpiPrompts:
    assert isinstance(method.bank.newest, LpiPrompts)
    return method.bank.newest


def written_out(weights: Any, i: int) -> Tensor:
    """The map between the modalities as a whole matrix with its bias as the last row."""
    return torch.einsum("r,ar,br->ab", weights.layers[i], weights.inputs, weights.outputs) / len(
        weights.layers[i]
    )


def shaken_norms(prompts: LpiPrompts) -> None:
    """Norms that are no longer as they start."""
    for module in prompts.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.normal_(module.weight, 1, 0.5)
            torch.nn.init.normal_(module.bias)


def released_module(p: dict[str, Tensor], image: Tensor, text: Tensor, layer: int) -> tuple[Tensor, Tensor]:
    """The released fusion of two slots, entry by entry: each side's sum of old and new, then its LayerNorm."""
    found = []
    for side, own, across, maps in (("image", image, text, "to_image"), ("text", text, image, "to_text")):
        d1, d2, d3 = (p[f"{maps}.{name}"] for name in ("layers", "inputs", "outputs"))
        rank, width = d1.shape[1], own.shape[1]
        new = torch.zeros_like(own)
        for row in range(len(own)):
            for b in range(width):
                weight = [
                    sum(d1[layer, r] * d2[a, r] * d3[b, r] for r in range(rank)) / rank
                    for a in range(len(d2))
                ]
                new[row, b] = sum(across[row, a] * weight[a] for a in range(across.shape[1])) + weight[-1]
        mixed = 0.9 * own + 0.1 * new
        centred = mixed - mixed.mean(dim=1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
        found.append(scaled * p[f"norms.{side}.weight"] + p[f"norms.{side}.bias"])
    return found[0], found[1]


def test_the_released_fusion_is_the_released_module(backbone: Backbone) -> None:
    """Its i-th map serves layer i, and the LayerNorm comes after the sum."""
    method = method_of(backbone, fusion="pair", fusion_profile="released").double()
    prompts = newest(method)
    shaken_norms(prompts)
    torch.manual_seed(11)
    image = torch.randn(2, backbone.shape.image.width, dtype=torch.double)
    text = torch.randn(2, backbone.shape.text.width, dtype=torch.double)
    with torch.no_grad():
        for layer in (1, 2):
            slow = released_module(prompts.state_dict(), image, text, layer)
            for side, own, across, expected in (
                ("image", image, text, slow[0]),
                ("text", text, image, slow[1]),
            ):
                found = prompts.fused(side, layer, own, across)  # type: ignore[arg-type]
                assert (found - expected).abs().max() < 1e-9
                paper = 0.9 * own + 0.1 * prompts.seen(side, layer, across)  # type: ignore[arg-type]
                assert (found - paper).abs().max() > 0.5


def test_the_released_maps_start_from_a_uniform_distribution(backbone: Backbone) -> None:
    """U(±1/√rank), kaiming's with a = √5 for a factor (rows, rank); the prompts' factors stay normal."""
    method = choose("lpi").build(
        PRESETS["clip-vit-base-patch16"], {"fusion": "own", "fusion_profile": "released", "fusion_rank": 4}
    )
    for maps in (newest(method).to_image, newest(method).to_text):
        for factor in (maps.inputs, maps.outputs):
            assert 0.49 < float(factor.detach().abs().max()) < 0.5
            assert float(factor.detach().std()) == pytest.approx(1 / 12**0.5, abs=0.01)
        assert maps.layers.shape == (12, 4)
    assert float(newest(method).prompts.image_channels.detach().abs().max()) > 1  # type: ignore[union-attr]


@pytest.mark.parametrize("fusion", ["own", "pair"])
def test_every_released_tensor_is_trained(
    fusion: str, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    method = method_of(backbone, fusion=fusion, fusion_profile="released")
    vectors = encode_pair(backbone, pixels, backbone.tokenize(texts), method)
    torch.nn.functional.cosine_similarity(vectors.image, vectors.text).sum().backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_each_sample_has_the_norm_of_its_own_session(backbone: Backbone, pixels: Tensor) -> None:
    method = method_of(backbone, fusion="own", fusion_profile="released")
    for name in ("a", "b", "c"):
        method.sessions.begin(name, torch.zeros(16))
        shaken_norms(newest(method))
    route = torch.tensor([2, 0, 1, 1, 0, 2, 1])
    mixed = encode(backbone.image, "image", pixels, method, route=route)
    for row in range(len(route)):
        alone = encode(backbone.image, "image", pixels[row : row + 1], method, route=route[row : row + 1])
        torch.testing.assert_close(mixed[row], alone[0], atol=2e-5, rtol=1e-4)
    trained = encode(backbone.image, "image", pixels, method)
    torch.testing.assert_close(mixed[route == 2], trained[route == 2], atol=2e-5, rtol=1e-4)
    assert (mixed[route != 2] - trained[route != 2]).abs().max() > 1e-2


@pytest.mark.parametrize("fusion", ["own", "pair"])
def test_sets_of_version_0_1_0_stay_what_they_were(
    fusion: str, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    """They had a LayerNorm before each map, under other names, and the first map served layer 1."""

    def begun() -> Lpi:
        method = method_of(backbone, fusion=fusion, fusion_profile="released")
        for name in ("a", "b"):
            method.sessions.begin(name, torch.zeros(16))
        return method

    method = begun()
    for prompts in method.bank.sets:  # type: ignore[union-attr]
        shaken_norms(prompts)  # type: ignore[arg-type]
    stored = {
        key.replace(".norms.image.", ".image_norm."): value for key, value in method.state_dict().items()
    }
    stored = {key.replace(".norms.text.", ".text_norm."): value for key, value in stored.items()}
    assert sum("_norm." in key for key in stored) == 2 * 4
    opened = begun()
    opened.load_state_dict(stored, strict=True)
    old = newest(opened)
    assert not old.normed
    assert list(opened.state_dict()) != list(method.state_dict())
    assert {key: value.shape for key, value in opened.state_dict().items()} == {
        key: value.shape for key, value in stored.items()
    }  # the same names, so that galleries see the same prompts
    slots = torch.randn(2, backbone.shape.image.width), torch.randn(2, backbone.shape.text.width)
    norm, weight = newest(method).norms["text"], written_out(old.to_image, 0)
    expected = 0.9 * slots[0] + 0.1 * (norm(slots[1]) @ weight[:-1] + weight[-1])
    torch.testing.assert_close(old.fused("image", 1, *slots), expected)
    again = begun()
    again.load_state_dict(opened.state_dict(), strict=True)
    again.sessions.begin("c", torch.zeros(16))  # another one on the same retriever is alike
    route = torch.zeros(len(pixels), dtype=torch.long)
    routes = Routes(route, route)
    ids = backbone.tokenize(texts)
    found = encode_pair(backbone, pixels, ids, opened, routes=routes)
    repeated = encode_pair(backbone, pixels, ids, again, routes=routes)
    assert torch.equal(found.image, repeated.image)
    assert torch.equal(found.text, repeated.text)


@pytest.mark.parametrize("fusion", ["none", "own", "own released"])
@pytest.mark.parametrize("text_positions", [False, True])
def test_prompts_are_added_to_their_slots_in_front_of_the_first_layers(
    fusion: str, text_positions: bool, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    fusion, released = fusion.split()[0], fusion.endswith("released")
    method = method_of(
        backbone,
        fusion=fusion,
        text_positions=text_positions,
        fusion_profile="released" if released else "paper",
    )
    shaken_norms(newest(method))
    ids = backbone.tokenize(texts, reserve=2)
    prompts = {side: newest(method).prompts(side) for side in SIDES}
    for side, inputs in zip(SIDES, (pixels, ids), strict=True):
        tower, other = backbone.tower(side), prompts["text" if side == "image" else "image"]
        if side == "text" and text_positions:
            tokens = tower.embed(inputs, context=torch.zeros(2, 16))
        else:
            tokens = tower.embed(inputs).put(torch.zeros(2, tower.shape.width))
        for i in range(tower.shape.depth):
            if i < 3:
                slots = tokens.slots + prompts[side][i]
                if i and fusion == "own":
                    maps = newest(method).to_image if side == "image" else newest(method).to_text
                    weight = written_out(maps, i if released else i - 1)
                    seen = sum(other[j] for j in range(i + 1))
                    slots = 0.9 * slots + 0.1 * (seen @ weight[:-1] + weight[-1])
                    if released:
                        slots = newest(method).norms[side](slots)
                tokens = tokens.put(slots)
            tokens = tower.layer(i, tokens)
        torch.testing.assert_close(
            encode(tower, side, inputs, method), tower.pool(tokens), atol=2e-5, rtol=1e-4
        )


def test_the_fusion_of_true_pairs_mixes_the_slots_of_both_sides(
    backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    method = method_of(backbone, fusion="pair")
    ids = backbone.tokenize(texts)
    prompts = {side: newest(method).prompts(side) for side in SIDES}
    image = backbone.image.embed(pixels).put(prompts["image"][0])
    text = backbone.text.embed(ids).put(prompts["text"][0])
    for i in range(5):
        if 0 < i < 3:
            image_slots, text_slots = image.slots + prompts["image"][i], text.slots + prompts["text"][i]
            to_image = written_out(newest(method).to_image, i - 1)
            to_text = written_out(newest(method).to_text, i - 1)
            image = image.put(0.9 * image_slots + 0.1 * (text_slots @ to_image[:-1] + to_image[-1]))
            text = text.put(0.9 * text_slots + 0.1 * (image_slots @ to_text[:-1] + to_text[-1]))
        image = backbone.image.layer(i, image)
        text = backbone.text.layer(i, text) if i < 4 else text
    found = encode_pair(backbone, pixels, ids, method)
    torch.testing.assert_close(found.image, backbone.image.pool(image), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found.text, backbone.text.pool(text), atol=2e-5, rtol=1e-4)


def test_pairs_cannot_be_taken_apart(backbone: Backbone, pixels: Tensor) -> None:
    with pytest.raises(InterplayError, match="needs pairs"):
        encode(backbone.image, "image", pixels, method_of(backbone, fusion="pair"))


@pytest.mark.bitwise
@pytest.mark.parametrize("name", ["lpi-m", "lpi-p"])
def test_a_later_session_leaves_the_older_ones_alone(
    name: str, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    torch.manual_seed(6)
    choice = choose(name)
    method = choice.build(backbone.shape, choice.method.tiny())
    ids = backbone.tokenize(texts)
    first, before = torch.zeros(len(pixels), dtype=torch.long), {}
    inputs: dict[Side, Tensor] = {"image": pixels, "text": ids}
    for session in range(12):
        method.sessions.begin(f"task {session}", torch.nn.functional.normalize(torch.randn(16), dim=0))
        optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            vectors = [encode(backbone.tower(side), side, inputs[side], method) for side in SIDES]
            method.objective((vectors[0] - vectors[1]).square().mean(), None).backward()
            optimizer.step()
        if session == 0:
            state = {key: value.clone() for key, value in method.state_dict().items()}
            method.eval()
            before = {s: encode(backbone.tower(s), s, inputs[s], method, route=first) for s in SIDES}
    now = method.state_dict()
    assert all(torch.equal(now[key], value) for key, value in state.items())
    for side in SIDES:
        after = encode(backbone.tower(side), side, inputs[side], method, route=first)
        assert torch.equal(after, before[side])
        assert not torch.equal(encode(backbone.tower(side), side, inputs[side], method), before[side])


def test_older_prompts_are_compared_anew_for_every_session_and_in_full_precision(backbone: Backbone) -> None:
    method = method_of(backbone)
    for session, meaning in enumerate(torch.nn.functional.normalize(torch.randn(4, 16), dim=1)):
        if session == 3:
            method.sessions.forget("0")
        method.sessions.begin(str(session), meaning)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            method.objective(torch.tensor(1.0), None)
        for side in SIDES if session else ():
            older, among = method._older(side)
            flat = [prompts.prompts(side).flatten() for prompts in list(method.bank.sets)[:-1]]
            assert len(older) == (2 if session == 3 else session)
            assert torch.equal(older, torch.nn.functional.normalize(torch.stack(flat), dim=1))
            assert torch.equal(among, older @ older.T)


def test_the_loss_weighs_its_parts(backbone: Backbone) -> None:
    method = method_of(backbone)
    base = torch.tensor(2.0)
    torch.manual_seed(7)
    meanings = torch.nn.functional.normalize(torch.randn(3, 16), dim=1)
    parts = []
    for weights in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.8, 0.1, 0.1)):
        torch.manual_seed(8)
        method = method_of(backbone, weights=weights)
        for session, meaning in enumerate(meanings):
            method.sessions.begin(str(session), meaning)
        parts.append(method.objective(base, None).item())
    assert parts[0] == 2
    assert min(parts) > 0
    assert parts[3] == pytest.approx(0.8 * parts[0] + 0.1 * parts[1] + 0.1 * parts[2], rel=1e-5)


def test_one_shared_set_is_trained_on_and_on(backbone: Backbone) -> None:
    choice = choose("lpi-m-sequential")
    method = choice.build(backbone.shape, choice.method.tiny())
    before = list(method.state_dict())
    for name in ("a", "b"):
        method.sessions.begin(name, torch.zeros(16))
    assert list(method.state_dict()) == before
    assert all(parameter.requires_grad for parameter in method.parameters())
    assert method.sessions.route("image", torch.zeros(2, 16)) is None
    with pytest.raises(InterplayError, match="cannot forget 'a'"):
        method.sessions.forget("a")


def test_contradictions_are_refused() -> None:
    for wrong in (
        {"rank": 0},
        {"fusion": "own", "depth": 1},
        {"fusion": "pair", "fusion_profile": "released", "depth": 13},
        {"momentum": 2.0},
        {"modal_temperature": 0.0},
        {"weights": (1.0,)},
    ):
        with pytest.raises(InterplayError):
            choose("lpi").settings(wrong)
    settings = choose("lpi").settings()
    assert replace(settings, fusion="own").fusion == "own"
