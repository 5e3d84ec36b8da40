"""Layers without weights, for methods that change the linear maps of a tower."""

from __future__ import annotations

import torch
from torch import nn

from interplay.towers.bert import BertBlock
from interplay.towers.block import Block
from interplay.towers.swin import SwinBlock
from interplay.towers.tokens import TowerShape


def skeleton(shape: TowerShape, i: int) -> nn.Module:
    """Layer `i` (from 0) of a tower without weights, on the meta device; its linear maps are `qkv` and `out`."""
    with torch.device("meta"):
        if shape.kind == "swin":
            return SwinBlock(shape, i)
        return BertBlock(shape) if shape.kind == "bert" else Block(shape)
