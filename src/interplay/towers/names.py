"""What the parameters of Swin and BERT are called where their weights come from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from interplay.towers.tokens import TowerShape

Names = dict[str, tuple[str, ...]]
"""From our name to theirs; several are joined, one after the other, along their first dimension."""


def _both(names: Names, ours: str, *theirs: str) -> None:
    """A weight and a bias."""
    for kind in ("weight", "bias"):
        names[f"{ours}.{kind}"] = tuple(f"{name}.{kind}" for name in theirs)


def swin_names(shape: TowerShape) -> Names:
    """In Swin's released code, and so in GLIP's."""
    names: Names = {}
    _both(names, "patches", "patch_embed.proj")
    _both(names, "norm_in", "patch_embed.norm")
    for i in range(shape.depth):
        stage = shape.stage(i)
        theirs = f"layers.{stage}.blocks.{i - sum(shape.stages[:stage])}"
        for ours, part in (
            ("norm1", "norm1"),
            ("qkv", "attn.qkv"),
            ("out", "attn.proj"),
            ("norm2", "norm2"),
            ("fc1", "mlp.fc1"),
            ("fc2", "mlp.fc2"),
        ):
            _both(names, f"blocks.{i}.{ours}", f"{theirs}.{part}")
        names[f"blocks.{i}.bias_table"] = (f"{theirs}.attn.relative_position_bias_table",)
    for stage in range(len(shape.stages) - 1):
        _both(names, f"merges.{stage}.norm", f"layers.{stage}.downsample.norm")
        names[f"merges.{stage}.reduction.weight"] = (f"layers.{stage}.downsample.reduction.weight",)
        _both(names, f"norms.{stage}", f"norm{stage + 1}")
    return names


def bert_names(shape: TowerShape) -> Names:
    """In `transformers.BertModel`; its pooler is left out."""
    names: Names = {
        "words.weight": ("embeddings.word_embeddings.weight",),
        "positions.weight": ("embeddings.position_embeddings.weight",),
        "types.weight": ("embeddings.token_type_embeddings.weight",),
    }
    _both(names, "norm_in", "embeddings.LayerNorm")
    for i in range(shape.depth):
        theirs = f"encoder.layer.{i}"
        parts = (f"{theirs}.attention.self.{part}" for part in ("query", "key", "value"))
        _both(names, f"blocks.{i}.qkv", *parts)
        for ours, part in (
            ("out", "attention.output.dense"),
            ("norm1", "attention.output.LayerNorm"),
            ("fc1", "intermediate.dense"),
            ("fc2", "output.dense"),
            ("norm2", "output.LayerNorm"),
        ):
            _both(names, f"blocks.{i}.{ours}", f"{theirs}.{part}")
    return names


def renamed(weights: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Tensors by our names from tensors by theirs."""
    return {
        ours: weights[theirs[0]] if len(theirs) == 1 else torch.cat([weights[name] for name in theirs])
        for ours, theirs in names.items()
    }
