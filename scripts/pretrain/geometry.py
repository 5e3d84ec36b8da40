"""The shapes of the two backbones, and how the larger one starts from the smaller one's weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

TOWERS = Path(__file__).resolve().parents[2] / "src" / "interplay" / "towers"
_POSITIONS = "vision_model.embeddings.position_embedding.weight"
_PATCHES = "vision_model.embeddings.patch_embedding.weight"


@dataclass(frozen=True)
class Geometry:
    """What differs between the backbones.

    Args:
        image_size, patch_size: in pixels.
        keep: patches of a picture that a training step looks at, the blank ones left out first (after FLIP, Li et al.,
            2023, arXiv:2212.00794, which leaves out at random); 0 for all.
        start: the bundled backbone whose weights and tokenizer it starts from; empty for none.
    """

    image_size: int
    patch_size: int
    keep: int = 0
    start: str = ""


GEOMETRIES = {"tiny": Geometry(64, 16), "small": Geometry(96, 12, keep=36, start="tiny")}


def build_config(tokenizer: CLIPTokenizer, geometry: Geometry) -> CLIPConfig:
    """The architecture: 12 layers a tower, 144 and 128 wide."""
    vision = {
        "image_size": geometry.image_size,
        "patch_size": geometry.patch_size,
        "hidden_size": 144,
        "num_hidden_layers": 12,
        "num_attention_heads": 3,
        "intermediate_size": 576,
        "hidden_act": "quick_gelu",
    }
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "hidden_size": 128,
        "num_hidden_layers": 12,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "hidden_act": "quick_gelu",
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return CLIPConfig(
        vision_config={**vision, "projection_dim": 128},
        text_config={**text, "projection_dim": 128},
        projection_dim=128,
        logit_scale_init_value=math.log(1 / 0.07),
    )


def warm_start(model: CLIPModel, source: Mapping[str, Tensor]) -> None:
    """Give a model the weights of one with other patches.

    A picture of the source shown smaller, patch for patch, comes to the same numbers: the patch kernel is resized by
    the pseudo-inverse of shrinking a patch (FlexiViT, Beyer et al., 2023, arXiv:2212.08013, eq. 4), and positions are
    interpolated.
    """
    weights = dict(source)
    own = model.state_dict()
    side = own[_PATCHES].shape[-1]
    weights[_PATCHES] = resized_kernel(weights[_PATCHES], side)
    weights[_POSITIONS] = resized_positions(weights[_POSITIONS], len(own[_POSITIONS]))
    model.load_state_dict({name: weights[name].to(value.dtype) for name, value in own.items()})


def resized_kernel(kernel: Tensor, side: int) -> Tensor:
    """(channels, 3, s, s) as (channels, 3, side, side)."""
    old = kernel.shape[-1]
    pixels = torch.eye(old * old).view(old * old, 1, old, old)
    shrink = F.interpolate(pixels, size=side, mode="bilinear", antialias=True).view(old * old, side * side)
    return (kernel.float().flatten(2) @ torch.linalg.pinv(shrink).T).view(*kernel.shape[:2], side, side)


def resized_positions(positions: Tensor, count: int) -> Tensor:
    """The class token's position and a square grid of them, for another number of patches."""
    old, side = math.isqrt(len(positions) - 1), math.isqrt(count - 1)
    grid = positions[1:].float().view(1, old, old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=side, mode="bicubic").flatten(2)[0].T
    return torch.cat([positions[:1].float(), grid])
