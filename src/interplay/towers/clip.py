"""CLIP's two towers, layer by layer, with the weights of `transformers.CLIPModel`.

The arithmetic is CLIP's own (Radford et al., 2021); tests hold it against `CLIPModel` on the same weights.
Three exact savings: queries, keys and values come from one matrix product; text is never computed beyond the
longest caption of the batch; the last layer computes the pooled row alone where nothing else is read from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.towers.block import Block, KeysValues
from interplay.towers.preprocessing import CLIP_PIXELS, Normalisation
from interplay.towers.tokens import AS_IT_IS, Tokens, Tower, TowerShape


def _prefix(block: Block, tokens: Tokens) -> KeysValues | None:
    """The keys and values that join the next layer, one row a sample: given as such, or made from prompts."""
    if tokens.next.prefix is None and tokens.next.aside is None:
        return None
    pair = tokens.next.prefix
    if tokens.next.aside is not None:
        rows = tokens.next.aside if tokens.next.aside.dim() == 3 else tokens.next.aside[None]
        pair = block.read(rows.to(tokens.x.dtype))
    assert pair is not None
    keys, values = (part.expand(tokens.x.shape[0], -1, -1) for part in pair)
    return keys, values


def _slot_rows(tokens: Tokens) -> Tensor:
    """(length,) True for the rows that are prompt slots."""
    rows = torch.arange(tokens.x.shape[1], device=tokens.x.device)
    return (rows >= 1) & (rows <= tokens.prompts)


def _own_keys(tokens: Tokens) -> Tensor:
    """(length, length) True where a row may look if gated slots are hidden from all rows but the slots."""
    slots = _slot_rows(tokens)
    return slots[:, None] | ~slots


def _gate(tokens: Tokens) -> Tensor | None:
    """The gate of the next layer, (batch or 1, heads); None where nothing is gated."""
    if tokens.next.gate is None or (
        not tokens.prompts and tokens.next.prefix is None and tokens.next.aside is None
    ):
        return None
    gate = tokens.next.gate.to(tokens.x.dtype)
    return gate[None] if gate.dim() == 1 else gate


def _after(tokens: Tokens, x: Tensor) -> Tokens:
    """The tokens after a layer that made `x`; what was for that layer alone is gone."""
    return replace(tokens, x=x, next=AS_IT_IS)


def _apart(tokens: Tokens, split: int) -> Tokens:
    """The first `split` prompts stay before a text's own tokens, the others move before its end token."""
    assert tokens.lengths is not None
    moved = tokens.prompts - split
    at = torch.arange(tokens.x.shape[1], device=tokens.x.device).expand(len(tokens.x), -1)
    words_end = (tokens.lengths + split - 1)[:, None]
    end = words_end + moved
    rows = torch.where(at < words_end, at + moved, at - words_end + 1 + split)
    rows = torch.where((at <= split) | (at >= end), at, rows)
    x = tokens.x.gather(1, rows[:, :, None].expand_as(tokens.x))
    return Tokens(x, lengths=tokens.lengths + tokens.prompts)


class ImageTower(Tower):
    """CLIP's vision transformer. Reads pixels (batch, 3, size, size): uint8, or float that is normalised already."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, shape: TowerShape, normalisation: Normalisation = CLIP_PIXELS) -> None:
        super().__init__()
        self.shape = shape
        self.normalisation = normalisation
        self.patches = nn.Conv2d(3, shape.width, shape.patch_size, shape.patch_size, bias=False)
        self.first = nn.Parameter(torch.zeros(shape.width))
        self.positions = nn.Parameter(torch.zeros(shape.length, shape.width))
        self.norm_in = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm_out = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.projection = nn.Linear(shape.width, shape.joint, bias=False)
        mean, deviation = (
            torch.tensor(three, device="cpu").view(3, 1, 1)
            for three in (normalisation.mean, normalisation.deviation)
        )
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def normalised(self, inputs: Tensor) -> Tensor:
        """Pixels as the first layer reads them: uint8 by the backbone's mean and deviation, floats as they are."""
        if inputs.dtype == torch.uint8:
            inputs = (inputs.to(self.mean.dtype) / self.normalisation.divisor - self.mean) / self.deviation
        return inputs

    def embed(self, inputs: Tensor, *, context: Tensor | None = None, split: int | None = None) -> Tokens:
        """Pixels to tokens; `context` joins after the class token, before the first norm (VPT, S-Prompts).

        It joins after the positions too, so its order does not count, and `split` changes nothing.
        """
        inputs = self.normalised(inputs)
        x = self.patches(inputs.to(self.patches.weight.dtype)).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], 1, -1), x], dim=1) + self.positions
        tokens = Tokens(x)
        if context is not None:
            tokens = tokens.put(context)
        return replace(tokens, x=self.norm_in(tokens.x))

    def layer(self, i: int, tokens: Tokens, *, block: Any = None) -> Tokens:
        """Frozen layer `i`: every token sees every token."""
        chosen: Block = self.blocks[i] if block is None else block  # type: ignore[assignment]
        prefix, gate, slots = _prefix(chosen, tokens), _gate(tokens), tokens.prompts
        gated_slots = gate is not None and prefix is None
        if tokens.next.pooled_only and (prefix is None or gate is not None):
            batch, length, _ = tokens.x.shape
            row = tokens.x.new_zeros(batch, dtype=torch.long)
            seen = torch.ones(1, length, dtype=torch.bool, device=row.device)
            if gated_slots:
                seen = ~_slot_rows(tokens)[None]
            x = chosen.one_row(tokens.x, row, seen, prefix=prefix, slots=slots, gate=gate)[0]
            return Tokens(x)
        mask = _own_keys(tokens)[None, None] if gated_slots else None
        return _after(tokens, chosen(tokens.x, mask, prefix=prefix, slots=slots, gate=gate)[0])

    def pool(self, tokens: Tokens) -> Tensor:
        """The class token, normalised and projected: (batch, joint)."""
        pooled: Tensor = self.projection(self.norm_out(tokens.x[:, 0]))
        return pooled


def _embedding(rows: int, width: int) -> nn.Embedding:
    """`nn.Embedding`; on the meta device nothing is drawn, for which torch would import its compiler."""
    if torch.get_default_device().type == "meta":
        return nn.Embedding(rows, width, _weight=torch.empty(rows, width))
    return nn.Embedding(rows, width)


class TextTower(Tower):
    """CLIP's causal text transformer. Reads token ids (batch, length) that end in `shape.end_token`."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        self.words = _embedding(shape.vocabulary, shape.width)
        self.positions = nn.Parameter(torch.zeros(shape.positions, shape.width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm_out = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.projection = nn.Linear(shape.width, shape.joint, bias=False)

    def lengths(self, ids: Tensor) -> Tensor:
        """(batch,) how many ids of each row stand up to and with the one whose token is pooled.

        That is the first end token; for `shape.pools_highest_id` the first highest id, as in `transformers`.
        """
        wanted = ids if self.shape.pools_highest_id else ids == self.shape.end_token
        return wanted.int().argmax(dim=-1) + 1  # onnxruntime has no argmax of int64

    def embed(
        self,
        inputs: Tensor,
        *,
        context: Tensor | None = None,
        split: int | None = None,
        lengths: Tensor | None = None,
        suffix: Tensor | None = None,
    ) -> Tokens:
        """Token ids to tokens.

        Args:
            context: prompts that join after the start token, before the position embeddings (CoOp).
            split: how many of them; the others join before the end token. None: all, and they are prompt slots.
            lengths: (batch,) real tokens; by default up to and with the one that is pooled (`lengths`).
            suffix: (classes, suffix length) ids of one continuation a class, all of one length; each
                continues every sample at that sample's own length (`Tokens.suffix`).

        Raises:
            ValueError: the sequence, context and suffix included, is longer than the position table.
        """
        if lengths is None:
            lengths = self.lengths(inputs)
        x = self.words(inputs)
        extra = 0 if context is None else context.shape[-2]
        behind = 0 if suffix is None else suffix.shape[-1]
        if x.shape[1] + extra + behind > self.shape.positions:
            raise ValueError(
                f"{x.shape[1]} text tokens with {extra + behind} added ones exceed the "
                f"{self.shape.positions} positions of the text tower"
            )
        tokens = Tokens(x, lengths=lengths)
        if context is not None:
            tokens = tokens.put(context)
        if split is not None:
            tokens = _apart(tokens, split)
        tokens = replace(tokens, x=tokens.x + self.positions[: tokens.x.shape[1]])
        if suffix is not None:
            at = lengths[:, None] + extra + torch.arange(behind, device=lengths.device)
            tokens = replace(tokens, suffix=self.words(suffix)[None] + self.positions[at][:, None])
        return tokens

    def _real(self, tokens: Tokens) -> Tensor:
        """(batch, length) True for rows that are no padding."""
        assert tokens.lengths is not None
        rows = torch.arange(tokens.x.shape[1], device=tokens.x.device)
        return rows < (tokens.lengths + tokens.prompts)[:, None]

    def _mask(self, tokens: Tokens) -> Tensor | None:
        """What each row may attend to, (batch, 1, length, length); None where plain causality says it all.

        Padding stands on the right, so a causal row that is real never sees any.
        """
        gated = tokens.next.gate is not None and tokens.next.prefix is None and tokens.next.aside is None
        if not tokens.prompts or not (tokens.prompts_see_all or tokens.blind or gated):
            return None
        length, device = tokens.x.shape[1], tokens.x.device
        mask = torch.ones(1, length, length, dtype=torch.bool, device=device).tril()
        if tokens.prompts_see_all:
            mask = mask | (_slot_rows(tokens)[:, None] & self._real(tokens)[:, None])
        if tokens.blind:
            blind = torch.zeros(length, dtype=torch.bool, device=device)
            blind[1 : 1 + tokens.blind] = True
            mask = (blind[:, None] & blind) | (~blind[:, None] & mask)  # onnxruntime has no Where of truths
        if gated:
            mask = mask & _own_keys(tokens)
        return mask[:, None]

    def layer(self, i: int, tokens: Tokens, *, block: Any = None) -> Tokens:
        """Frozen layer `i`: causal, but for prompt rows where `tokens.prompts_see_all` or `tokens.blind`."""
        chosen: Block = self.blocks[i] if block is None else block  # type: ignore[assignment]
        prefix, gate, slots = _prefix(chosen, tokens), _gate(tokens), tokens.prompts
        visible = self._real(tokens)
        if gate is not None and prefix is None:
            visible = visible & ~_slot_rows(tokens)
        suffix = tokens.suffix
        if tokens.next.pooled_only and suffix is None and (prefix is None or gate is not None):
            assert tokens.lengths is not None
            row = tokens.lengths + slots - 1
            x = chosen.one_row(tokens.x, row, visible, prefix=prefix, slots=slots, gate=gate)[0]
            return Tokens(x, lengths=torch.ones_like(tokens.lengths))
        mask = self._mask(tokens)
        x, front = chosen(tokens.x, mask, causal=True, prefix=prefix, slots=slots, gate=gate)
        if suffix is not None:
            visible = F.pad(visible, (front[0].shape[2] - visible.shape[1], 0), value=True)
            suffix = chosen.continuation(suffix, front, visible, prefix=prefix, slots=slots, gate=gate)
        return replace(_after(tokens, x), suffix=suffix)

    def pool(self, tokens: Tokens) -> Tensor:
        """The end token (the last real one), normalised and projected: (batch, joint)."""
        assert tokens.lengths is not None
        rows = torch.arange(tokens.x.shape[0], device=tokens.x.device)
        pooled: Tensor = self.projection(self.norm_out(tokens.x[rows, tokens.lengths + tokens.prompts - 1]))
        return pooled

    def pool_suffix(self, tokens: Tokens, ids: Tensor) -> Tensor:
        """The first end token of every continuation, normalised and projected: (batch, classes, joint).

        Args:
            ids: (classes, suffix length), the ids of the continuations.
        """
        assert tokens.suffix is not None
        end = (ids == self.shape.end_token).int().argmax(dim=-1)
        classes = torch.arange(len(ids), device=ids.device)
        pooled: Tensor = self.projection(self.norm_out(tokens.suffix[:, classes, end]))
        return pooled


def _load(
    tower: nn.Module, weights: Mapping[str, Tensor], prefix: str, head: str, table: dict[str, str]
) -> None:
    """Give a tower the weights that `transformers.CLIPModel` has under its own names; every one must find its place.

    Tensors are taken over, not copied, so that loading needs the memory of one model.
    """
    source = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    state = {ours: source[theirs] for ours, theirs in table.items()}
    state["projection.weight"] = weights[head]
    blocks: nn.ModuleList = tower.blocks  # type: ignore[assignment]
    for i in range(len(blocks)):
        for kind in ("weight", "bias"):
            layer = f"encoder.layers.{i}."
            state[f"blocks.{i}.qkv.{kind}"] = torch.cat(
                [source[f"{layer}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            )
            for ours, theirs in (
                ("norm1", "layer_norm1"),
                ("out", "self_attn.out_proj"),
                ("norm2", "layer_norm2"),
                ("fc1", "mlp.fc1"),
                ("fc2", "mlp.fc2"),
            ):
                state[f"blocks.{i}.{ours}.{kind}"] = source[f"{layer}{theirs}.{kind}"]
    tower.load_state_dict(state, strict=True, assign=True)


def load_image_tower(tower: ImageTower, weights: Mapping[str, Tensor]) -> None:
    """Fill the image tower from the state dict of a `transformers.CLIPModel`."""
    _load(
        tower,
        weights,
        "vision_model.",
        "visual_projection.weight",
        {
            "first": "embeddings.class_embedding",
            "patches.weight": "embeddings.patch_embedding.weight",
            "positions": "embeddings.position_embedding.weight",
            "norm_in.weight": "pre_layrnorm.weight",
            "norm_in.bias": "pre_layrnorm.bias",
            "norm_out.weight": "post_layernorm.weight",
            "norm_out.bias": "post_layernorm.bias",
        },
    )


def load_text_tower(tower: TextTower, weights: Mapping[str, Tensor]) -> None:
    """Fill the text tower from the state dict of a `transformers.CLIPModel`."""
    _load(
        tower,
        weights,
        "text_model.",
        "text_projection.weight",
        {
            "words.weight": "embeddings.token_embedding.weight",
            "positions": "embeddings.position_embedding.weight",
            "norm_out.weight": "final_layer_norm.weight",
            "norm_out.bias": "final_layer_norm.bias",
        },
    )
