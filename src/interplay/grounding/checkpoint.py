"""GLIP-T(A)'s published checkpoint: every tensor finds its place, or it is said which does not."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interplay.errors import InterplayError, listed
from interplay.grounding.anchors import STRIDES, anchors_of
from interplay.grounding.glip import TINY, Glip, GlipShape
from interplay.towers.names import Names, bert_names, renamed, swin_names
from interplay.towers.swin import pair_index

_WRAPPED = "module."
_LEFT_OUT = ("position_ids", "pooler", "resizer", "rpn.tunable_linear")
"""What some checkpoints hold and no detector reads."""


@dataclass(frozen=True)
class Differences:
    """Where a checkpoint and a geometry do not agree, by the checkpoint's names.

    Attributes:
        missing, unexpected: tensors that are not there, or have no place.
        misshaped: of another shape, each with both shapes.
        altered: tables that follow from the geometry (which places windows pair, anchors), and say something else.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: tuple[str, ...]
    altered: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshaped or self.altered)

    def __str__(self) -> str:
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": self.misshaped,
            "of other values": self.altered,
        }
        return "; ".join(
            f"{len(names)} {kind}: {listed(names, 80)}" for kind, names in kinds.items() if names
        )


def glip_names(shape: GlipShape) -> Names:
    """From the names of `Glip`'s parameters to the checkpoint's."""
    names: Names = {}
    for ours, theirs, part in (
        ("image", "backbone.body", swin_names(shape.towers.image)),
        ("text", "language_backbone.body.model", bert_names(shape.towers.text)),
    ):
        for name, others in part.items():
            names[f"{ours}.{name}"] = tuple(f"{theirs}.{other}" for other in others)
    layers = {
        **{f"pyramid.inner.{i}": f"backbone.fpn.fpn_inner{i + 2}" for i in range(3)},
        **{f"pyramid.layers.{i}": f"backbone.fpn.fpn_layer{i + 2}" for i in range(3)},
        **{f"pyramid.{name}": f"backbone.fpn.top_blocks.{name}" for name in ("p6", "p7")},
        "head.boxes": "rpn.head.bbox_pred",
        "head.centred": "rpn.head.centerness",
        "head.classes": "rpn.head.cls_logits",
        "head.text": "rpn.head.dot_product_projection_text",
    }
    for block in range(shape.blocks):
        ours, theirs = f"tower.blocks.{block}", f"rpn.head.dyhead_tower.{block}"
        for i in range(3):
            layers[f"{ours}.convs.{i}.conv"] = f"{theirs}.DyConv.{i}.conv"
            layers[f"{ours}.convs.{i}.norm"] = f"{theirs}.DyConv.{i}.bn"
        layers[f"{ours}.offset"] = f"{theirs}.offset"
        layers[f"{ours}.attention"] = f"{theirs}.AttnConv.1"
        layers[f"{ours}.relu.fc1"] = f"{theirs}.relu.fc.0"
        layers[f"{ours}.relu.fc2"] = f"{theirs}.relu.fc.2"
    for ours, theirs in layers.items():
        for kind in ("weight", "bias"):
            names[f"{ours}.{kind}"] = (f"{theirs}.{kind}",)
    names["head.log_scale"] = ("rpn.head.log_scale",)
    names["head.bias"] = ("rpn.head.bias0",)
    names["head.text_bias"] = ("rpn.head.bias_lang",)
    names["head.scales"] = tuple(f"rpn.head.scales.{level}.scale" for level in range(len(STRIDES)))
    return names


def _tables(shape: GlipShape) -> dict[str, Tensor]:
    """What a checkpoint holds beside parameters, by its names."""
    image = shape.towers.image
    found = {}
    for stage, depth in enumerate(image.stages):
        for i in range(depth):
            name = f"backbone.body.layers.{stage}.blocks.{i}.attn.relative_position_index"
            found[name] = pair_index(image.window)
    anchors = anchors_of([(1, 1)] * len(STRIDES))
    for level in range(len(STRIDES)):
        found[f"rpn.anchor_generator.cell_anchors.{level}"] = anchors[level][None]
    return found


def differences(weights: Mapping[str, Tensor], shape: GlipShape = TINY) -> Differences:
    """All that keeps a checkpoint's tensors from a geometry."""
    with torch.device("meta"):
        empty = Glip(shape).state_dict()
    wanted: dict[str, tuple[int, ...]] = {}
    for ours, theirs in glip_names(shape).items():
        whole = tuple(empty[ours].shape)
        for name in theirs:
            wanted[name] = (whole[0] // len(theirs), *whole[1:])
    tables = _tables(shape)
    wanted |= {name: tuple(table.shape) for name, table in tables.items()}
    both = wanted.keys() & weights.keys()
    misshaped = sorted(name for name in both if tuple(weights[name].shape) != wanted[name])
    return Differences(
        tuple(sorted(wanted.keys() - weights.keys())),
        tuple(sorted(weights.keys() - wanted.keys())),
        tuple(f"{name} {tuple(weights[name].shape)} for {wanted[name]}" for name in misshaped),
        tuple(
            name
            for name, table in tables.items()
            if name in both and name not in misshaped and not torch.equal(weights[name].to(table), table)
        ),
    )


def load_grounder(file: str | Path, shape: GlipShape = TINY, *, recompute: bool = False) -> Glip:
    """GLIP-T(A) in fp32 on the CPU from `glip_a_tiny_o365.pth`, whose 541 tensors must all find their places.

    The file is a pickle of which only tensors are read (`weights_only`). BERT's weights come inside it. The first
    convolution, trained on blue, green and red, is turned around once, so that the detector reads red, green and blue.

    Args:
        file: as its owners publish it.
        shape: its geometry; by default GLIP-T's.
        recompute: as for `DynamicHead`.

    Raises:
        InterplayError: the file is not there, cannot be read, holds more than tensors, or another model.
    """
    weights = {
        name.removeprefix(_WRAPPED): tensor
        for name, tensor in _read(Path(file)).items()
        if not any(part in name for part in _LEFT_OUT)
    }
    found = differences(weights, shape)
    if found:
        raise InterplayError(f"'{file}' is no GLIP-T(A): {found}.")
    state = {name: tensor.detach().float() for name, tensor in renamed(weights, glip_names(shape)).items()}
    state["image.patches.weight"] = state["image.patches.weight"].flip(1)
    glip = Glip(shape, recompute=recompute)
    glip.load_state_dict(state, strict=True)
    return glip.requires_grad_(False)


def _read(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name."""
    if not file.is_file():
        raise InterplayError(f"There is no file '{file}': download glip_a_tiny_o365.pth from GLIP's owners.")
    try:
        held: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, pickle.UnpicklingError) as error:
        raise InterplayError(f"'{file}' holds no tensors that can be read safely: {error}") from error
    model = held.get("model", held) if isinstance(held, dict) else held
    if not isinstance(model, dict) or not all(isinstance(value, Tensor) for value in model.values()):
        raise InterplayError(f"'{file}' holds no tensors by name: it is no checkpoint of GLIP.")
    return {str(name): value for name, value in model.items()}
