"""Swin (Liu et al., ICCV 2021) as a tower: a pyramid of maps whose layers attend in windows.

Prompts are added onto fixed places of the map, its upper left corner, since windows leave no room for further tokens
(LPI on GLIP; its released code): what enters stays a map of the same size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.towers.activations import activation
from interplay.towers.preprocessing import Normalisation
from interplay.towers.tokens import AS_IT_IS, Tokens, Tower, TowerShape, check_plain, no_vector

GLIP_PIXELS = Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), 1.0)
"""Of bytes as they are (ImageNet's mean and deviation, times 255)."""
_HIDDEN = -100.0
"""What the released code adds to the scores of windows' tokens that a shift brought together."""
Map = Float[Tensor, "batch height width channels"]


def pair_index(window: int) -> Tensor:
    """(window², window²): which row of a bias table belongs to each query and key of a window."""
    at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    apart = at[:, :, None] - at[:, None, :] + window - 1
    return apart[0] * (2 * window - 1) + apart[1]


def strangers(height: int, width: int, window: int, shift: int) -> Tensor:
    """Which tokens of a shifted map's windows were no neighbours: (windows, window², window²), −100 or 0.

    Args:
        height, width: of the map, multiples of `window`.
        shift: how far it was rolled up and to the left.
    """
    bands = [torch.zeros(edge, dtype=torch.long) for edge in (height, width)]
    for band in bands:
        band[-window:] += 1
        band[-shift:] += 1
    region = (bands[0][:, None] * 3 + bands[1])[None, :, :, None]
    parts = windows_of(region, window)[0, ..., 0]
    return (parts[:, :, None] != parts[:, None, :]).float() * _HIDDEN


def windows_of(x: Tensor, window: int) -> Tensor:
    """(batch, height, width, channels) → (batch, windows, window², channels), row by row."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(batch, -1, window * window, channels)


def map_of(windows: Tensor, height: int, width: int) -> Tensor:
    """`windows_of` undone."""
    batch, _, area, channels = windows.shape
    window = int(area**0.5)
    x = windows.view(batch, height // window, width // window, window, window, channels)
    return x.transpose(2, 3).reshape(batch, height, width, channels)


class SwinBlock(nn.Module):
    """One pre-norm layer that attends in windows; with a shift, in windows half of which lie across the others.

    Args:
        shape: of the tower.
        i: the layer's number.
    """

    def __init__(self, shape: TowerShape, i: int) -> None:
        super().__init__()
        stage, width = shape.stage(i), shape.width_at(i)
        self.heads = shape.heads << stage
        self.window = shape.window
        self.shift = shape.window // 2 if (i - sum(shape.stages[:stage])) % 2 else 0
        hidden = shape.hidden << stage
        self.norm1 = nn.LayerNorm(width, eps=shape.epsilon)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.bias_table = nn.Parameter(torch.zeros((2 * shape.window - 1) ** 2, self.heads))
        self.norm2 = nn.LayerNorm(width, eps=shape.epsilon)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.activation = activation(shape.activation)

    def _bias(self, height: int, width: int) -> Tensor:
        """What is added to the scores, (1, windows or 1, heads, window², window²)."""
        area = self.window**2
        index = pair_index(self.window).to(self.bias_table.device)
        bias = self.bias_table[index.flatten()].view(area, area, -1).permute(2, 0, 1)[None]
        if self.shift:
            hidden = strangers(height, width, self.window, self.shift)
            bias = bias + hidden.to(bias)[:, None]
        return bias[None]

    def _attend(self, x: Tensor, bias: Tensor, prefix: tuple[Tensor, Tensor] | None) -> Tensor:
        """Windows (batch, windows, window², channels) → the same.

        Args:
            bias: as `_bias`.
            prefix: further keys and values (batch, length, channels), projected already, that every window reads.
        """
        count = x.shape[1]

        def split(part: Tensor) -> Tensor:  # (batch, windows · heads, length, channels / heads)
            return part.view(*part.shape[:3], self.heads, -1).transpose(2, 3).flatten(1, 2)

        q, k, v = (split(part) for part in self.qkv(x).chunk(3, dim=-1))
        if prefix is not None:
            more = [split(part[:, None].expand(-1, count, -1, -1).contiguous()) for part in prefix]
            k, v = torch.cat([more[0], k], dim=2), torch.cat([more[1], v], dim=2)
            bias = F.pad(bias, (prefix[0].shape[1], 0))
        mask = bias.expand(1, count, -1, -1, -1).flatten(1, 2).to(q.dtype)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        back = seen.view(len(x), count, self.heads, *seen.shape[2:]).transpose(2, 3).flatten(3)
        out: Tensor = self.out(back)
        return out

    def forward(self, x: Map, prefix: tuple[Tensor, Tensor] | None = None) -> Map:
        """A map (batch, height, width, channels) → the same; zeros that fill its last windows are attended to."""
        height, width = x.shape[1:3]
        down, right = -height % self.window, -width % self.window
        inner = F.pad(self.norm1(x), (0, 0, 0, right, 0, down))
        if self.shift:
            inner = inner.roll((-self.shift, -self.shift), dims=(1, 2))
        bias = self._bias(height + down, width + right)
        seen = self._attend(windows_of(inner, self.window), bias, prefix)
        inner = map_of(seen, height + down, width + right)
        if self.shift:
            inner = inner.roll((self.shift, self.shift), dims=(1, 2))
        x = x + inner[:, :height, :width]
        change: Tensor = self.fc2(self.activation(self.fc1(self.norm2(x))))
        return x + change


class Merging(nn.Module):
    """Four neighbours become one token of twice the width, between two stages."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width, eps=epsilon)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Map) -> Map:
        """(batch, height, width, C) → (batch, ⌈height / 2⌉, ⌈width / 2⌉, 2·C)."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        four = [x[:, down::2, right::2] for down, right in ((0, 0), (1, 0), (0, 1), (1, 1))]
        merged: Tensor = self.reduction(self.norm(torch.cat(four, dim=-1)))
        return merged


def corner(places: int) -> tuple[int, int]:
    """(height, width) of the corner that holds a number of places: the most even one that is no taller than wide."""
    height = next(edge for edge in range(int(places**0.5), 0, -1) if places % edge == 0)
    return height, places // height


class SwinTower(Tower):
    """Swin's pyramid. Reads pixels (batch, 3, height, width): uint8, or float that is normalised already.

    Of the tokens `maps` keeps what each stage ends in, before the merging; all but the first are normalised. Merging
    belongs to the last layer of its stage, so that prompts of the next layer are added to the merged map.

    Prompts (length, width) are added onto the corner of the map; at a stage with channels C, length·width / C places
    of it: each place takes C / width consecutive prompts, which are joined along the channels. Prompts that are put
    where there are some replace what the corner holds; taken out, they leave the map as it is.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, shape: TowerShape, normalisation: Normalisation = GLIP_PIXELS) -> None:
        super().__init__()
        self.shape = shape
        self.normalisation = normalisation
        self.patches = nn.Conv2d(3, shape.width, shape.patch_size, shape.patch_size)
        self.norm_in = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.blocks = nn.ModuleList(SwinBlock(shape, i) for i in range(shape.depth))
        widths = [shape.width << stage for stage in range(len(shape.stages))]
        self.merges = nn.ModuleList(Merging(width, shape.epsilon) for width in widths[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=shape.epsilon) for width in widths[1:])
        mean, deviation = (
            torch.tensor(three, device="cpu").view(3, 1, 1)
            for three in (normalisation.mean, normalisation.deviation)
        )
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def embed(self, inputs: Tensor, *, context: Tensor | None = None, split: int | None = None) -> Tokens:
        """Pixels to tokens; the picture is filled to whole patches with zeros, and `context` is put onto the map.

        Its order counts and `split` changes nothing.
        """
        if inputs.dtype == torch.uint8:
            inputs = (inputs.to(self.mean.dtype) / self.normalisation.divisor - self.mean) / self.deviation
        patch = self.shape.patch_size
        inputs = F.pad(inputs, (0, -inputs.shape[3] % patch, 0, -inputs.shape[2] % patch))
        x = self.patches(inputs.to(self.patches.weight.dtype))
        size = x.shape[2], x.shape[3]
        tokens = Tokens(self.norm_in(x.flatten(2).transpose(1, 2)), size=size)
        return tokens if context is None else self.put(tokens, context)

    def layer(self, i: int, tokens: Tokens, *, block: Any = None) -> Tokens:
        """Frozen layer `i`; after the last one of a stage its map is kept, and merged for the next stage."""
        check_plain(tokens, "Swin")
        chosen: SwinBlock = self.blocks[i] if block is None else block  # type: ignore[assignment]
        assert tokens.size is not None
        batch, _, channels = tokens.x.shape
        prefix = None if tokens.next.prefix is None else self._prefix(tokens)
        x = chosen(tokens.x.view(batch, *tokens.size, channels), prefix)
        maps, stage = tokens.maps, self.shape.stage(i)
        if i + 1 == sum(self.shape.stages[: stage + 1]):
            maps = (*maps, (self.norms[stage - 1](x) if stage else x).permute(0, 3, 1, 2))
            x = self.merges[stage](x) if stage < len(self.merges) else x
        size = x.shape[1], x.shape[2]
        return replace(tokens, x=x.flatten(1, 2), size=size, maps=maps, next=AS_IT_IS)

    def _prefix(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Keys and values of prompts, as many channels wide as the map: (batch, length·width / C, C) each."""
        assert tokens.next.prefix is not None
        batch, _, channels = tokens.x.shape
        keys, values = (
            part.to(tokens.x.dtype).expand(batch, *part.shape[-2:]) for part in tokens.next.prefix
        )
        self._places(keys.shape[1], channels)
        return keys.reshape(batch, -1, channels), values.reshape(batch, -1, channels)

    def _places(self, prompts: int, channels: int) -> int:
        """How many places of a map with `channels` a number of prompts takes."""
        each = channels // self.shape.width
        if prompts % each:
            raise InterplayError(
                f"Swin joins {each} prompts to one place of a map with {channels} channels: set the method's length to "
                f"a multiple of {each}, not {prompts}."
            )
        return prompts // each

    def _corner(self, tokens: Tokens, prompts: int) -> tuple[int, int]:
        """(height, width) of the places that prompts take."""
        assert tokens.size is not None
        found = corner(self._places(prompts, tokens.x.shape[-1]))
        if found[0] > tokens.size[0] or found[1] > tokens.size[1]:
            raise InterplayError(
                f"A map of {tokens.size[0]} × {tokens.size[1]} places has no room for {prompts} prompts in its corner: "
                "use larger pictures or a shorter length."
            )
        return found

    def slots(self, tokens: Tokens) -> Tensor:
        """The corner, cut into prompts again: (batch, prompts, width)."""
        assert tokens.size is not None
        down, right = self._corner(tokens, tokens.prompts)
        x = tokens.x.view(len(tokens.x), *tokens.size, -1)[:, :down, :right]
        return x.reshape(len(x), tokens.prompts, self.shape.width)

    def put(self, tokens: Tokens, prompt: Tensor, *, see_all: bool = False) -> Tokens:
        """Add prompts onto the corner; where there are some, they replace what it holds. All tokens see them."""
        assert tokens.size is not None
        batch, _, channels = tokens.x.shape
        down, right = self._corner(tokens, prompt.shape[-2])
        held = (
            prompt.to(tokens.x.dtype).expand(batch, *prompt.shape[-2:]).reshape(batch, down, right, channels)
        )
        x = tokens.x.view(batch, *tokens.size, channels)
        if tokens.prompts == 0:
            held = x[:, :down, :right] + held
        top = torch.cat([held, x[:, :down, right:]], dim=2)
        x = torch.cat([top, x[:, down:]], dim=1)
        return replace(tokens, x=x.flatten(1, 2), prompts=prompt.shape[-2])

    def drop(self, tokens: Tokens) -> Tokens:
        """The map stays as it is; prompts that are put next are added again."""
        return replace(tokens, prompts=0)

    def pool(self, tokens: Tokens) -> Tensor:
        """Refused: the tower ends in maps.

        Raises:
            InterplayError: always.
        """
        raise no_vector("Swin")
