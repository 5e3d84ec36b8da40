"""DCP's exchange against the released one, head by head, and where it takes place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from interplay.errors import InterplayError
from interplay.methods.dcp import AttendingPrompts, Dcp
from interplay.methods.registry import choose
from interplay.towers.backbone import Backbone
from interplay.towers.presets import PRESETS
from interplay.towers.walk import encode


def dcp(backbone: Backbone, **settings: Any) -> tuple[Dcp, AttendingPrompts]:
    torch.manual_seed(0)
    method = choose("dcp").build(backbone.shape, {"length": 3, "sessions": "shared", **settings}).eval()
    assert isinstance(method, Dcp)
    prompts = method.bank.newest
    assert isinstance(prompts, AttendingPrompts)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.normal_(0, 0.3)
    return method, prompts


def normed(x: Tensor, p: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return scaled * p[f"{name}.weight"] + p[f"{name}.bias"]


def exchanged(p: dict[str, Tensor], own: Tensor, other: Tensor, heads: int) -> Tensor:
    """One side of the released exchange: the other side asks in this side's width, this side's rows answer."""
    width = own.shape[1]
    asked = normed(other @ p["map.weight"].T + p["map.bias"], p, "norm")
    rows = normed(own, p, "norm")
    projected = []
    for at, x in enumerate((asked, rows, rows)):
        part = slice(at * width, (at + 1) * width)
        projected.append(x @ p["attention.in_proj_weight"][part].T + p["attention.in_proj_bias"][part])
    q, k, v = projected
    size, seen = width // heads, []
    for head in range(heads):
        here = slice(head * size, (head + 1) * size)
        seen.append((q[:, here] @ k[:, here].T / size**0.5).softmax(dim=1) @ v[:, here])
    x = own + torch.cat(seen, dim=1) @ p["attention.out_proj.weight"].T + p["attention.out_proj.bias"]
    inner = normed(x, p, "norm_out") @ p["widen.weight"].T + p["widen.bias"]
    return x + (inner * torch.sigmoid(1.702 * inner)) @ p["narrow.weight"].T + p["narrow.bias"]


def test_the_released_exchange_is_the_released_module(backbone: Backbone) -> None:
    """Layer 0 takes the raw prompts, layers 1 to D what the exchanges make, each side with its tower's own heads."""
    method, prompts = dcp(backbone, depth=3, exchange="released")
    prompts = prompts.double()
    state = prompts.state_dict()
    maps = {
        side: {
            key.removeprefix(f"to_{side}."): v for key, v in state.items() if key.startswith(f"to_{side}.")
        }
        for side in ("image", "text")
    }
    image, text = state["image"], state["text"]
    slow = [(image, text)]
    for _ in range(3):
        image, text = (
            exchanged(maps["image"], image, text, backbone.shape.image.heads),
            exchanged(maps["text"], text, image, backbone.shape.text.heads),
        )
        slow.append((image, text))
    assert backbone.shape.image.heads != backbone.shape.text.heads
    with torch.no_grad():
        for at, side in enumerate(("image", "text")):
            found = prompts(side)  # type: ignore[arg-type]
            assert len(found) == method.depth == 4
            for layer, expected in enumerate(slow):
                assert (found[layer] - expected[at]).abs().max() < 1e-9


@pytest.mark.parametrize("exchange", ["first", "released"])
def test_the_streams_overwrite_the_slots_in_front_of_their_layers(
    exchange: str, backbone: Backbone, pixels: Tensor
) -> None:
    method, prompts = dcp(backbone, depth=2, exchange=exchange, heads=4)
    stream, released = prompts("image"), exchange == "released"
    assert len(stream) == (3 if released else 2)
    tokens = backbone.image.embed(pixels, context=stream[0] if released else None)
    for i in range(5):
        if released <= i < len(stream):
            tokens = tokens.put(stream[i])
        tokens = backbone.image.layer(i, tokens)
    found = encode(backbone.image, "image", pixels, method)
    torch.testing.assert_close(found, backbone.image.pool(tokens), atol=2e-5, rtol=1e-4)
    assert method.traits.reserve == (3 if released else 0)


def test_heads_are_the_towers_own_where_they_are_released() -> None:
    """12 and 8 on ViT-B/16."""
    method = choose("dcp").build(PRESETS["clip-vit-base-patch16"], {"exchange": "released"})
    exchange: Any = method.bank.newest  # type: ignore[union-attr]
    assert (exchange.to_image.attention.num_heads, exchange.to_text.attention.num_heads) == (12, 8)
    count = sum(parameter.numel() for parameter in method.parameters())
    assert count == 11_048_448  # as with 8 heads


def test_heads_that_do_not_divide_a_width_are_refused_only_where_they_are_used(backbone: Backbone) -> None:
    with pytest.raises(InterplayError, match="7 heads do not divide"):
        choose("dcp").build(backbone.shape, {"heads": 7})
    choose("dcp").build(backbone.shape, {"heads": 7, "exchange": "released"})
