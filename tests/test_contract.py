"""The contract that every method passes: every method and named variant, every rule, no branches by method."""

from __future__ import annotations

import copy

import pytest
import torch
from jaxtyping import TypeCheckError
from safetensors.torch import load_file, save_file

from interplay.errors import InterplayError
from interplay.methods.base import Method, choices, choose
from interplay.parts.heads import Head, HeadSettings, feature_width
from interplay.parts.similarity import similarity
from interplay.tasks.classify import PairClassifier
from interplay.tasks.trainable import PairBatch, keys_of
from interplay.towers.backbone import Backbone
from interplay.towers.presets import PRESETS
from interplay.towers.tokens import SIDES
from interplay.towers.walk import Routes, encode, encode_pair, front

NAMES = sorted(choices())
HEAD = HeadSettings(kind="pair")


def tiny_method(name: str, backbone: Backbone, seed: int = 3) -> Method:
    """A method with the settings that it brings for these tests, its prompts large enough to be seen."""
    choice = choose(name)
    torch.manual_seed(seed)
    method = choice.build(backbone.shape, {**choice.method.tiny(), **tiny_preset(name)})
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(5)
    method.start_from(backbone)
    return method.eval()


def tiny_preset(name: str) -> dict[str, object]:
    """A variant's own settings, but for layer numbers that the small towers lack."""
    preset = dict(choose(name).preset)
    if "layers" in preset:
        preset["layers"] = (2,)
    return preset


def classifier(name: str, backbone: Backbone) -> PairClassifier:
    """The method under a pair head with random weights."""
    method = tiny_method(name, backbone)
    kind = HeadSettings(kind="linear", features=method.features) if method.features else HEAD
    head = Head(kind, backbone.shape.joint, 3, backbone.scale)
    assert head.weight is not None
    torch.nn.init.normal_(head.weight)
    return PairClassifier(method, head)


def batch_of(backbone: Backbone, pixels: torch.Tensor, texts: list[str]) -> PairBatch:
    return PairBatch(pixels, backbone.tokenize(texts), torch.arange(len(texts)) % 3)


def routes_of(method: Method, backbone: Backbone, pixels: torch.Tensor, ids: torch.Tensor) -> Routes:
    """The prompts that each sample's key chooses, where the method lets keys choose."""
    keys = keys_of(backbone, PairBatch(pixels, ids))
    return Routes(method.route("image", keys.image), method.route("text", keys.text))


@pytest.mark.parametrize("name", NAMES)
def test_training_changes_its_own_parameters_alone_and_all_of_them(
    name: str, backbone: Backbone, pixels: torch.Tensor, texts: list[str]
) -> None:
    before = copy.deepcopy(backbone.state_dict())
    model = classifier(name, backbone)
    batch = batch_of(backbone, pixels, texts)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    largest = {key: 0.0 for key, _ in model.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        model.training_loss(backbone, batch).backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{key} is not in the graph"
            assert torch.isfinite(parameter.grad).all()
            largest[key] = max(largest[key], float(parameter.grad.abs().max()))
        optimizer.step()
    assert all(value > 0 for value in largest.values()), f"dead: {[k for k, v in largest.items() if v == 0]}"
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_every_free_prompt_acts(
    name: str, backbone: Backbone, pixels: torch.Tensor, texts: list[str]
) -> None:
    batch = batch_of(backbone, pixels, texts)
    model = classifier(name, backbone)
    reference = model(backbone, batch)
    for key, parameter in model.method.named_parameters():
        if not key.endswith("prompts"):
            continue
        for layer in range(len(parameter)):
            kept = parameter.detach()[layer].clone()
            with torch.no_grad():
                parameter[layer] = 0
                changed = model(backbone, batch)
                parameter[layer] = kept
            assert not torch.equal(changed, reference), f"{key}[{layer}] does nothing"


@pytest.mark.bitwise
@pytest.mark.parametrize("name", NAMES)
def test_save_and_load_are_exact_and_strict(
    name: str, backbone: Backbone, pixels: torch.Tensor, texts: list[str], tmp_path: object
) -> None:
    batch = batch_of(backbone, pixels, texts)
    model = classifier(name, backbone)
    save_file(model.state_dict(), f"{tmp_path}/model.safetensors")
    state = load_file(f"{tmp_path}/model.safetensors")
    fresh = classifier(name, backbone)
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    fresh.load_state_dict(state, strict=True)
    assert torch.equal(fresh(backbone, batch), model(backbone, batch))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        fresh.load_state_dict({**state, "stranger": torch.zeros(1)}, strict=True)
    with pytest.raises(RuntimeError, match="Missing key"):
        fresh.load_state_dict(dict(list(state.items())[1:]), strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_does_not_depend_on_batch_mates_or_padding(
    name: str, backbone: Backbone, pixels: torch.Tensor, texts: list[str]
) -> None:
    model = classifier(name, backbone)
    together = model(backbone, batch_of(backbone, pixels, texts))
    for row in range(len(texts)):
        alone = model(backbone, batch_of(backbone, pixels[row : row + 1], texts[row : row + 1]))
        torch.testing.assert_close(alone[0], together[row], atol=2e-5, rtol=1e-4)
    ids = backbone.tokenize(texts)
    padded = torch.nn.functional.pad(ids, (0, 9), value=backbone.text.shape.end_token)
    torch.testing.assert_close(model(backbone, PairBatch(pixels, padded)), together, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("depths", [(5, 4), (4, 5), (8, 4)])
def test_works_on_unequal_towers_and_single_samples(
    name: str, depths: tuple[int, int], make_backbone: object, pixels: torch.Tensor, texts: list[str]
) -> None:
    other = make_backbone(*depths)  # type: ignore[operator]
    model = classifier(name, other)
    logits = model(other, batch_of(other, pixels[:1], texts[:1]))
    assert logits.shape == (1, 3)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("geometry", sorted(PRESETS))
def test_the_parameter_count_equals_its_formula(name: str, geometry: str) -> None:
    choice, shape = choose(name), PRESETS[geometry]
    settings = choice.settings()
    with torch.device("meta"):
        method = choice.method(shape, settings)
    counted = sum(parameter.numel() for parameter in method.parameters())
    assert counted == choice.method.parameter_count(shape, settings)


@pytest.mark.parametrize("name", NAMES)
def test_one_side_equals_the_pair_or_is_refused(
    name: str, backbone: Backbone, pixels: torch.Tensor, texts: list[str]
) -> None:
    method = tiny_method(name, backbone)
    ids = backbone.tokenize(texts)
    routes = routes_of(method, backbone, pixels, ids)
    pair = encode_pair(backbone, pixels, ids, method, routes=routes)
    if method.coupled:
        with pytest.raises(InterplayError, match="needs pairs"):
            encode(backbone.image, "image", pixels, method)
        return
    image = encode(backbone.image, "image", pixels, method, route=routes.image)
    torch.testing.assert_close(image, pair.image)
    torch.testing.assert_close(encode(backbone.text, "text", ids, method, route=routes.text), pair.text)


@pytest.mark.bitwise
@pytest.mark.parametrize("name", NAMES)
def test_starting_behind_the_front_layers_is_the_whole_walk(
    name: str, backbone: Backbone, pixels: torch.Tensor, texts: list[str]
) -> None:
    method = tiny_method(name, backbone)
    ids = backbone.tokenize(texts)
    routes = routes_of(method, backbone, pixels, ids)
    whole = encode_pair(backbone, pixels, ids, method, routes=routes)
    starts = [
        front(backbone.tower(side), inputs, min(method.first_layer(side), 3))
        if method.first_layer(side)
        else inputs  # a method that is at work from the first layer on may be at work in the embedding
        for side, inputs in zip(SIDES, (pixels, ids), strict=True)
    ]
    behind = encode_pair(backbone, starts[0], starts[1], method, routes=routes)
    assert torch.equal(whole.image, behind.image)
    assert torch.equal(whole.text, behind.text)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_computed_for_the_gradient_in_front_of_the_first_prompted_layer(
    name: str, backbone: Backbone, pixels: torch.Tensor
) -> None:
    method = tiny_method(name, backbone)
    tokens = backbone.image.embed(pixels)
    for i in range(min(method.first_layer("image"), backbone.image.shape.depth - 1)):
        tokens = backbone.image.layer(i, tokens)
        assert not tokens.x.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_a_method_says_what_it_is(name: str) -> None:
    method = choose(name).method
    assert method.__doc__
    assert name in (method.__module__.rsplit(".", 1)[-1], *method.variants)
    if method.features:
        assert feature_width(16, method.features) >= 16


def test_shapes_in_signatures_are_checked_here() -> None:
    with pytest.raises(TypeCheckError):
        similarity(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), "cosine", "token", cross=False)
