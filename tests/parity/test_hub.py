"""The hub's equations (MITP eq. 4–6) against loops over samples, tokens and channels."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from interplay.parts.memory_hub import MemoryHub, activation, apply_weights, keep_norm
from interplay.parts.similarity import similarity
from tests.conftest import small_shape

KINDS = ("cosine", "mmd", "cov-pearson")
SHAPES = ("token", "pair", "channel")
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a: list[float], b: list[float]) -> float:
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def centred(a: list[float]) -> list[float]:
    mean = sum(a) / len(a)
    return [x - mean for x in a]


def kernel(distance: float, scale: float) -> float:
    return sum(math.exp(-distance / (width * scale + 1e-6)) for width in BANDWIDTHS) / len(BANDWIDTHS)


def compare(a: list[float], b: list[float], kind: str, cross: bool, scale: float, scalars: bool) -> float:
    """sim of two vectors: one token's channels, or one channel's tokens."""
    if kind == "cosine":
        return cosine(a, b)
    if kind == "cov-pearson":
        if cross:
            return cosine(centred(a), centred(b))
        return dot(centred(a), centred(b)) / max(len(a) - 1, 1)
    if scalars:  # the MMD of two sets of numbers

        def mean(p: list[float], q: list[float]) -> float:
            return sum(kernel((x - y) ** 2, scale) for x in p for y in q) / (len(p) * len(q))

        return 1 - (mean(a, a) + mean(b, b) - 2 * mean(a, b)) / 2
    distance = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return 1 - (kernel(0, scale) + kernel(0, scale) - 2 * kernel(distance, scale)) / 2


def oracle(a: Tensor, b: Tensor, kind: str, shape: str, cross: bool) -> Tensor:
    batch, tokens, width = a.shape
    rows = []
    for n in range(batch):
        p, q = a[n].tolist(), b[n].tolist()
        if shape == "channel":
            p, q = a[n].T.tolist(), b[n].T.tolist()
            scale = sum(dot(x, x) + dot(y, y) for x, y in zip(p, q, strict=True)) / (tokens * width)
        else:
            scale = sum(dot(x, x) + dot(y, y) for x, y in zip(p, q, strict=True)) / tokens
        if shape == "pair":
            rows.append([[compare(x, y, kind, cross, scale, False) for y in q] for x in p])
        else:
            rows.append(
                [compare(x, y, kind, cross, scale, shape == "channel") for x, y in zip(p, q, strict=True)]
            )
    return torch.tensor(rows, dtype=a.dtype)


@pytest.mark.parametrize(("kind", "shape", "cross"), list(itertools.product(KINDS, SHAPES, (False, True))))
def test_similarity_equals_its_loops(kind: str, shape: str, cross: bool) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 4, 5, dtype=torch.float64), torch.randn(2, 4, 5, dtype=torch.float64)
    ours = similarity(a, b, kind, shape, cross=cross)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, oracle(a, b, kind, shape, cross), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "shape"), list(itertools.product(KINDS, SHAPES)))
def test_similarity_of_equal_zero_and_huge_prompts_is_finite_with_its_gradient(kind: str, shape: str) -> None:
    for value in (0.0, 1.0, 1e4):
        a = torch.full((2, 3, 4), value, requires_grad=True)
        out = activation(a, a * 1.0, kind, shape, cross=True)  # type: ignore[arg-type]
        out.square().sum().backward()
        assert torch.isfinite(out).all()
        assert a.grad is not None
        assert torch.isfinite(a.grad).all()


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    exps = [math.exp(value - top) for value in values]
    return [value / sum(exps) for value in exps]


@pytest.mark.parametrize(("kind", "shape"), list(itertools.product(KINDS, SHAPES)))
@pytest.mark.parametrize("renormalise", [False, True])
def test_the_hub_equals_its_loops(kind: str, shape: str, renormalise: bool) -> None:
    torch.manual_seed(1)
    hub = MemoryHub(small_shape(), 6, kind, shape, renormalise=renormalise).double()  # type: ignore[arg-type]
    image = torch.randn(2, 3, 24, dtype=torch.float64)
    text = torch.randn(2, 3, 16, dtype=torch.float64)
    ours = hub(image, text)
    sides = (
        (image, hub.image_self(image), hub.text_to_image(text)),
        (text, hub.text_self(text), hub.image_to_text(image)),
    )
    for got, (own, mapped, other) in zip(ours, sides, strict=True):
        map_self = oracle(mapped, own, kind, shape, False).clamp_min(0)
        map_cross = oracle(own, other, kind, shape, True).clamp_min(0)
        batch, tokens, width = own.shape
        expected = torch.zeros_like(own)
        for n in range(batch):
            if shape == "pair":
                z = torch.tensor([softmax(row) for row in map_self[n].tolist()], dtype=own.dtype)
                r = torch.tensor([softmax(row) for row in map_cross[n].tolist()], dtype=own.dtype)
                expected[n] = z @ own[n] + (torch.eye(tokens, dtype=own.dtype) - z) @ (r @ other[n])
            else:
                z_list, r_list = softmax(map_self[n].tolist()), softmax(map_cross[n].tolist())
                for i, c in itertools.product(range(tokens), range(width)):
                    at = i if shape == "token" else c
                    z_at, r_at = z_list[at], r_list[at]
                    expected[n, i, c] = z_at * own[n, i, c] + (1 - z_at) * r_at * other[n, i, c]
            if renormalise:
                for i in range(tokens):
                    expected[n, i] *= own[n, i].norm() / expected[n, i].norm()
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_the_softmax_over_tokens_shrinks_prompts_unless_they_are_renormalised() -> None:
    torch.manual_seed(2)
    prompt = torch.randn(4, 6, 24)
    weights = activation(prompt, prompt, "cosine", "token", cross=False)
    shrunk = apply_weights(weights, prompt, "token")
    torch.testing.assert_close(shrunk.norm(), prompt.norm() / 6, rtol=0.05, atol=0.05)
    torch.testing.assert_close(keep_norm(shrunk, prompt), prompt, rtol=1e-5, atol=1e-5)
