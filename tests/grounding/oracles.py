"""GLIP's pieces as slow loops in double precision, one number at a time where that can be afforded."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

Array = npt.NDArray[np.float64]


def numbers(tensor: Tensor) -> Array:
    found: Array = tensor.detach().double().numpy()
    return found


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x: Any) -> Any:
    return np.clip(x + 3, 0, 6) / 6


def bilinear(x: Array, down: float, right: float) -> Array:
    """A map (channels, height, width) at a place between its own; 0 outside."""
    found = np.zeros(len(x))
    y0, x0 = int(np.floor(down)), int(np.floor(right))
    for y, share_y in ((y0, y0 + 1 - down), (y0 + 1, down - y0)):
        for at, share_x in ((x0, x0 + 1 - right), (x0 + 1, right - x0)):
            if 0 <= y < x.shape[1] and 0 <= at < x.shape[2]:
                found += share_y * share_x * x[:, y, at]
    return found


def cuda_kernel(
    x: Array, offset: Array, mask: Array, weight: Array, bias: Array, stride: int, size: tuple[int, int]
) -> Array:
    """The released kernel for one sample: it takes the offsets' numbers by the size of its own output.

    Args:
        offset, mask: flat; as long as the map that they were made for.
    """
    height, width = size
    found = np.zeros((len(weight), height, width))
    for y in range(height):
        for right in range(width):
            total = bias.copy()
            for i in range(3):
                for j in range(3):
                    tap, place = 3 * i + j, y * width + right
                    dy = offset[(2 * tap) * height * width + place]
                    dx = offset[(2 * tap + 1) * height * width + place]
                    m = mask[tap * height * width + place]
                    seen = bilinear(x, y * stride - 1 + i + dy, right * stride - 1 + j + dx)
                    total = total + weight[:, :, i, j] @ (seen * m)
            found[:, y, right] = total
    return found


def conv(x: Array, layer: nn.Conv2d) -> Array:
    """A convolution of one sample (channels, height, width)."""
    weight, bias = numbers(layer.weight), numbers(layer.bias)  # type: ignore[arg-type]
    kernel, stride, pad = weight.shape[2], layer.stride[0], int(layer.padding[0])
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    height = (x.shape[1] + 2 * pad - kernel) // stride + 1
    width = (x.shape[2] + 2 * pad - kernel) // stride + 1
    found = np.zeros((len(weight), height, width))
    for y in range(height):
        for right in range(width):
            part = padded[:, y * stride : y * stride + kernel, right * stride : right * stride + kernel]
            found[:, y, right] = np.tensordot(weight, part, 3) + bias
    return found


def group_norm(x: Array, layer: nn.GroupNorm) -> Array:
    parts = x.reshape(layer.num_groups, -1)
    parts = (parts - parts.mean(1, keepdims=True)) / np.sqrt(parts.var(1, keepdims=True) + layer.eps)
    normed = parts.reshape(x.shape)
    found: Array = normed * numbers(layer.weight)[:, None, None] + numbers(layer.bias)[:, None, None]
    return found


def enlarged(x: Array, height: int, width: int) -> Array:
    """Bilinear with aligned corners."""
    found = np.zeros((len(x), height, width))
    for y in range(height):
        for right in range(width):
            at_y = y * (x.shape[1] - 1) / (height - 1) if height > 1 else 0.0
            at_x = right * (x.shape[2] - 1) / (width - 1) if width > 1 else 0.0
            found[:, y, right] = bilinear(x, at_y, at_x)
    return found


def pyramid(maps: list[Array], own: Any) -> list[Array]:
    """The levels of one sample."""
    inner = [conv(x, layer) for x, layer in zip(maps, own.inner, strict=True)]
    for at in (1, 0):
        height, width = inner[at].shape[1:]
        for y in range(height):
            for x in range(width):
                from_y, from_x = y * inner[at + 1].shape[1] // height, x * inner[at + 1].shape[2] // width
                inner[at][:, y, x] += inner[at + 1][:, from_y, from_x]
    levels = [conv(x, layer) for x, layer in zip(inner, own.layers, strict=True)]
    levels.append(conv(levels[2], own.p6))
    levels.append(conv(np.maximum(levels[3], 0), own.p7))
    return levels


def dynamic_relu(y: Array, own: Any) -> Array:
    mean = y.mean((1, 2))
    hidden = np.maximum(numbers(own.fc1.weight) @ mean + numbers(own.fc1.bias), 0)
    four = hard_sigmoid(numbers(own.fc2.weight) @ hidden + numbers(own.fc2.bias))
    a1, b1, a2, b2 = (part[:, None, None] for part in four.reshape(4, -1))
    slope1, slope2 = (a1 - 0.5) * 2 + 1, (a2 - 0.5) * 2
    found: Array = np.maximum(y * slope1 + (b1 - 0.5), y * slope2 + (b2 - 0.5))
    return found


def dynamic_block(levels: list[Array], own: Any) -> list[Array]:
    """One block for one sample, written after the released class: index 0 reads the coarser level, 2 the finer one."""
    after = []
    for at, x in enumerate(levels):
        both = conv(x, own.offset)
        offset, mask = both[:18].reshape(-1), sigmoid(both[18:]).reshape(-1)

        def branch(
            number: int, source: Array, size: tuple[int, int], flat: tuple[Array, Array] = (offset, mask)
        ) -> Array:
            layer = own.convs[number]
            weight, bias = numbers(layer.conv.weight), numbers(layer.conv.bias)
            return group_norm(
                cuda_kernel(source, *flat, weight, bias, 2 if number == 2 else 1, size), layer.norm
            )

        size = (x.shape[1], x.shape[2])
        seen = [branch(1, x, size)]
        if at > 0:
            seen.append(branch(2, levels[at - 1], size))
        if at + 1 < len(levels):
            coarse = levels[at + 1]
            seen.append(enlarged(branch(0, coarse, (coarse.shape[1], coarse.shape[2])), *size))
        total = np.zeros_like(x)
        for part in seen:
            score = numbers(own.attention.weight)[0, :, 0, 0] @ part.mean((1, 2))
            total += part * hard_sigmoid(np.maximum(score + numbers(own.attention.bias)[0], 0))
        after.append(dynamic_relu(total / len(seen), own.relu))
    return after


def head(levels: list[Array], words: Array, own: Any) -> tuple[Array, Array, Array]:
    """Deltas, centredness and token logits of one sample, place by place."""
    norms = np.maximum(np.sqrt((words**2).sum(1, keepdims=True)), 1e-12)
    unit = words / norms
    tokens = (unit / 2) @ numbers(own.text.weight).T + numbers(own.text.bias)
    shift = unit @ numbers(own.text_bias) + numbers(own.bias)[0]
    deltas, centred, logits = [], [], []
    for number, level in enumerate(levels):
        for y in range(level.shape[1]):
            for x in range(level.shape[2]):
                v = level[:, y, x]
                moved = numbers(own.boxes.weight)[:, :, 0, 0] @ v + numbers(own.boxes.bias)
                deltas.append(moved * numbers(own.scales)[number])
                centred.append(numbers(own.centred.weight)[0, :, 0, 0] @ v + numbers(own.centred.bias)[0])
                logits.append(tokens @ v / np.exp(numbers(own.log_scale)[0]) + shift)
    return np.array(deltas), np.array(centred), np.array(logits)


def box_iou(one: Any, other: Any, extra: float = 0.0) -> float:
    """Of two boxes; `extra` is 1 where right and bottom are pixels of the box."""
    width = min(one[2], other[2]) - max(one[0], other[0]) + extra
    height = min(one[3], other[3]) - max(one[1], other[1]) + extra
    shared = max(width, 0.0) * max(height, 0.0)
    union = sum((b[2] - b[0] + extra) * (b[3] - b[1] + extra) for b in (one, other)) - shared
    return float(shared / union) if union > 0 else 0.0


def box_giou(one: Any, other: Any) -> float:
    width, height = (
        min(one[2], other[2]) - max(one[0], other[0]),
        min(one[3], other[3]) - max(one[1], other[1]),
    )
    shared = max(width, 0.0) * max(height, 0.0)
    union = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)) - shared
    hull = (max(one[2], other[2]) - min(one[0], other[0])) * (max(one[3], other[3]) - min(one[1], other[1]))
    return float((shared / union if union > 0 else 0.0) - ((hull - union) / hull if hull > 0 else 0.0))


def atss(anchors: Array, counts: list[int], boxes: Array) -> list[int]:
    """Which box each anchor belongs to; −1: none."""
    owner, best = [-1] * len(anchors), [-1.0] * len(anchors)
    for number, box in enumerate(boxes):
        candidates, first = [], 0
        for count in counts:
            middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            far = []
            for at in range(first, first + count):
                a = anchors[at]
                away = ((a[0] + a[2]) / 2 - middle[0], (a[1] + a[3]) / 2 - middle[1])
                far.append((np.float32(np.hypot(*away)), at))
            candidates += [at for _, at in sorted(far)[:9]]
            first += count
        overlaps = [box_iou(anchors[at], box, 1.0) for at in candidates]
        threshold = np.mean(overlaps) + np.std(overlaps, ddof=1)
        for at, overlap in zip(candidates, overlaps, strict=True):
            x, y = (anchors[at][0] + anchors[at][2]) / 2, (anchors[at][1] + anchors[at][3]) / 2
            inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if overlap >= threshold and inside and overlap > best[at]:
                owner[at], best[at] = number, overlap
    return owner
