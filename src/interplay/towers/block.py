"""One layer of CLIP's towers: the whole of it, its one pooled row, and short continuations of a text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interplay.towers.activations import activation
from interplay.towers.tokens import TowerShape

KeysValues = tuple[Tensor, Tensor]
Rows = Float[Tensor, "batch length width"]


class Block(nn.Module):
    """One pre-norm transformer layer with fused query, key and value projections."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm1 = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)
        self.norm2 = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.fc1 = nn.Linear(shape.width, shape.hidden)
        self.fc2 = nn.Linear(shape.hidden, shape.width)
        self.activation = activation(shape.activation)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def read(self, rows: Rows) -> KeysValues:
        """Keys and values of rows that stand outside the sequence, (batch, prompts, width) each."""
        keys, values = self.qkv(self.norm1(rows))[..., rows.shape[-1] :].chunk(2, dim=-1)
        return keys, values

    def _behind_gate(self, q: Tensor, keys_values: KeysValues, gate: Tensor) -> Tensor:
        """What queries (batch, heads, length, head width) take of a softmax of its own, times the gate.

        Args:
            keys_values: (batch, prompts, width) each.
            gate: (batch or 1, heads).
        """
        keys, values = keys_values
        each = gate[:, None, :, None].expand(-1, -1, -1, values.shape[-1] // self.heads).flatten(2)
        return F.scaled_dot_product_attention(q, self._split(keys), self._split(each * values))

    def _perceptron(self, x: Tensor) -> Tensor:
        change: Tensor = self.fc2(self.activation(self.fc1(self.norm2(x))))
        return x + change

    def forward(
        self,
        x: Rows,
        mask: Bool[Tensor, "#batch 1 length length"] | None = None,
        *,
        causal: bool = False,
        prefix: KeysValues | None = None,
        slots: int = 0,
        gate: Tensor | None = None,
    ) -> tuple[Rows, KeysValues]:
        """(batch, length, width) → the same, and this layer's keys and values (batch, heads, length, head width).

        Args:
            mask: broadcastable to (batch, 1, length, length), True where a row may look.
            causal: without a mask, whether a row may look at itself and its past only.
            prefix: further keys and values (batch, length, width), projected already, that every row may look at.
            slots: prompt slots after row 0; they count with a gate alone, and `mask` hides them from other rows then.
            gate: (batch or 1, heads): what rows take of a softmax over the prefix, or else over the prompt slots,
                on top of that over their own keys (zero-initialised attention; LLaMA-Adapter, Zhang et al., 2023).
        """
        flat = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        q, k, v = (self._split(part) for part in flat)
        if prefix is not None and gate is None:
            k, v = (
                torch.cat([self._split(more), own], dim=2) for more, own in zip(prefix, (k, v), strict=True)
            )
            if mask is None and causal:
                mask = torch.ones(*x.shape[1:2] * 2, dtype=torch.bool, device=x.device).tril()[None, None]
            if mask is not None:
                mask = F.pad(mask, (prefix[0].shape[1], 0), value=True)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal and mask is None)
        if gate is not None:
            seen = seen + self._behind_gate(q, prefix or _slots(flat[1:], slots), gate)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return self._perceptron(x), (k, v)

    def one_row(
        self,
        x: Rows,
        row: Int[Tensor, " batch"],
        mask: Bool[Tensor, "#batch length"],
        *,
        prefix: KeysValues | None = None,
        slots: int = 0,
        gate: Tensor | None = None,
    ) -> tuple[Float[Tensor, "batch 1 width"], KeysValues]:
        """`forward`, but only the output of one row a sample: (batch, 1, width).

        Args:
            row: (batch,) which row.
            mask: (batch or 1, length), True where that row may look.
            prefix, slots, gate: as in `forward`; a prefix needs a gate.
        """
        width = x.shape[-1]
        normed = self.norm1(x)
        picked = row.view(-1, 1, 1).expand(-1, 1, width)
        q = F.linear(normed.gather(1, picked), self.qkv.weight[:width], self.qkv.bias[:width])
        flat = F.linear(normed, self.qkv.weight[width:], self.qkv.bias[width:]).chunk(2, dim=-1)
        q, k, v = (self._split(part) for part in (q, *flat))
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        if gate is not None:
            seen = seen + self._behind_gate(q, prefix or _slots(flat, slots), gate)
        return self._perceptron(x.gather(1, picked) + self.out(seen.transpose(1, 2).flatten(2))), (k, v)

    def continuation(
        self,
        suffix: Float[Tensor, "batch classes short width"],
        front: KeysValues,
        visible: Bool[Tensor, "batch length"],
        *,
        prefix: KeysValues | None = None,
        slots: int = 0,
        gate: Tensor | None = None,
    ) -> Float[Tensor, "batch classes short width"]:
        """Many short continuations of one shared front: (batch, classes, length, width) → the same.

        Equal to running front and continuation together once a class, at the cost of running the front once.

        Args:
            front: the front's keys and values, (batch, heads, front length, head width).
            visible: (batch, front length), True for the rows of the front that are real.
            prefix, slots, gate: as in `forward`; without a gate the prefix is a part of the front.
        """
        length = suffix.shape[2]
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).permute(
                0, 3, 1, 2, 4
            )  # (batch, heads, classes, length, head width)
            for part in self.qkv(self.norm1(suffix)).chunk(3, dim=-1)
        )
        q = q * q.shape[-1] ** -0.5
        past = torch.einsum("bhksd,bhnd->bhksn", q, front[0])
        past = past.masked_fill(~visible[:, None, None, None], float("-inf"))
        later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        own = (q @ k.transpose(-1, -2)).masked_fill(later, float("-inf"))
        weights = torch.cat([past, own], dim=-1).softmax(dim=-1)
        to_past, to_own = weights[..., :-length], weights[..., -length:]
        seen = torch.einsum("bhksn,bhnd->bhksd", to_past, front[1]) + to_own @ v
        if gate is not None:
            few = front[0][:, :, 1 : 1 + slots], front[1][:, :, 1 : 1 + slots]
            keys, values = few if prefix is None else (self._split(prefix[0]), self._split(prefix[1]))
            aside = torch.einsum("bhksd,bhnd->bhksn", q, keys).softmax(dim=-1)
            seen = seen + torch.einsum("bhksn,bhnd->bhksd", aside, gate[:, :, None, None] * values)
        return self._perceptron(suffix + self.out(seen.permute(0, 2, 3, 1, 4).flatten(3)))


def _slots(keys_values: Sequence[Tensor], slots: int) -> KeysValues:
    """The prompt slots of keys and values, (batch, length, width) each."""
    keys, values = (part[:, 1 : 1 + slots] for part in keys_values)
    return keys, values
