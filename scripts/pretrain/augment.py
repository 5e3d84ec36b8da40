"""Batched augmentation of RGBA pictures and the plain view used for validation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
LUMA = torch.tensor([0.299, 0.587, 0.114])


def premultiplied(rgba: Tensor) -> Tensor:
    """uint8 pictures (batch, height, width, 4) as float (batch, 4, height, width), colour times alpha."""
    pixels = rgba.permute(0, 3, 1, 2).float().div_(255.0)
    pixels[:, :3] *= pixels[:, 3:]
    return pixels


def plain(rgba: Tensor, size: int) -> Tensor:
    """The pictures on white, resized and normalised, without any augmentation."""
    pixels = F.interpolate(premultiplied(rgba), size=size, mode="bicubic", antialias=True)
    image = (pixels[:, :3] + 1 - pixels[:, 3:]).clamp(0, 1)
    return (image - MEAN) / STD


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform draws in [low, high)."""
    return torch.rand(count, generator=generator) * (high - low) + low


def _warp(pixels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Random scale, aspect, small rotation and shift."""
    count = len(pixels)
    angle = _uniform(count, -0.26, 0.26, generator) * (_uniform(count, 0, 1, generator) < 0.5)
    scale = 1 / _uniform(count, 0.68, 1.12, generator)
    stretch = _uniform(count, 0.93, 1.07, generator)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = _uniform(2 * count, -0.1, 0.1, generator).view(2, count)
    theta = torch.stack(
        [
            torch.stack([cos * stretch, -sin, shift[0]], dim=-1),
            torch.stack([sin, cos / stretch, shift[1]], dim=-1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [count, 4, size, size], align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", align_corners=False)


def outlines(pixels: Tensor) -> Tensor:
    """Lines where colour or coverage changes, (batch, 1, height, width)."""
    edge = F.max_pool2d(pixels, 3, 1, 1) + F.max_pool2d(-pixels, 3, 1, 1)
    return (edge.amax(dim=1, keepdim=True) * 2.2 - 0.5).clamp(0, 1)


def _outline(pixels: Tensor) -> Tensor:
    """Paint the outlines dark, as in styles drawn with black contours."""
    line = outlines(pixels)
    return torch.cat([pixels[:, :3] * (1 - line), torch.maximum(pixels[:, 3:], line)], dim=1)


def jitter_colour(pixels: Tensor, generator: torch.Generator, *, grey: float = 0.08) -> Tensor:
    """Random brightness, contrast, saturation and channel mixing; a share of `grey` without any colour."""
    count = len(pixels)
    saturation = _uniform(count, 0.6, 1.3, generator) * (_uniform(count, 0, 1, generator) > grey)
    contrast = _uniform(count, 0.75, 1.2, generator).view(-1, 1, 1)
    bias = _uniform(count, -0.1, 0.1, generator).view(-1, 1, 1, 1)
    mixing = torch.randn(count, 3, 3, generator=generator) * 0.05
    weight = saturation.view(-1, 1, 1)
    matrix = contrast * (weight * (torch.eye(3) + mixing) + (1 - weight) * LUMA.expand(3, 3))
    alpha = pixels[:, 3:]
    colour = torch.bmm(matrix, pixels[:, :3].flatten(2)).view_as(pixels[:, :3])
    colour = colour + (0.5 * (1 - contrast).unsqueeze(-1) + bias) * alpha
    return torch.cat([torch.minimum(colour.clamp_min(0), alpha), alpha], dim=1)


def augment(rgba: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A random view of every picture: warped, recoloured, on a random background, normalised.

    Nothing is mirrored: left and right carry meaning in names.
    """
    count = len(rgba)
    pixels = _warp(premultiplied(rgba), size, generator)
    outlined = (torch.rand(count, generator=generator) < 0.3).nonzero().flatten()
    pixels[outlined] = _outline(pixels[outlined])
    pixels = jitter_colour(pixels, generator)
    background = torch.rand(count, 3, 1, 1, generator=generator)
    background[torch.rand(count, generator=generator) < 0.7] = 1.0
    image = pixels[:, :3] + (1 - pixels[:, 3:]) * background
    return (image.clamp_(0, 1) - MEAN) / STD
