"""Small towers of Swin and BERT with random weights, and the same models of `transformers`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, SwinBackbone, SwinConfig

from interplay.towers.bert import BertTower
from interplay.towers.names import bert_names, renamed, swin_names
from interplay.towers.swin import SwinTower
from interplay.towers.tokens import Shape, TowerShape

SHAPE = Shape(
    image=TowerShape(
        kind="swin",
        width=24,
        depth=8,
        heads=2,
        hidden=96,
        joint=24,
        activation="gelu",
        image_size=96,
        patch_size=4,
        stages=(2, 2, 2, 2),
        window=7,
    ),
    text=TowerShape(
        kind="bert",
        width=64,
        depth=8,
        heads=4,
        hidden=128,
        joint=24,
        activation="gelu",
        epsilon=1e-12,
        vocabulary=1000,
        positions=32,
        end_token=102,
    ),
)
"""As many layers on either side; prompts are 24 channels wide, so 16 take 4 × 4, 2 × 4, 2 × 2 and 1 × 2 places."""


@dataclass(frozen=True)
class Pair:
    """Two towers side by side."""

    image: SwinTower
    text: BertTower

    @property
    def shape(self) -> Shape:
        return Shape(self.image.shape, self.text.shape)


def shaken(module: nn.Module, seed: int = 0, deviation: float = 0.1) -> None:
    """Weights that are large enough for every token to matter."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * deviation)
    module.requires_grad_(False)
    module.eval()


def towers(seed: int = 0) -> Pair:
    """Both towers, frozen."""
    pair = Pair(SwinTower(SHAPE.image), BertTower(SHAPE.text))
    shaken(pair.image, seed)
    shaken(pair.text, seed + 1)
    return pair


def library_swin(shape: TowerShape) -> tuple[SwinBackbone, SwinTower]:
    """The backbone of `transformers` and the tower, with the same weights; its first stage is normalised by nothing."""
    config = SwinConfig(
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        embed_dim=shape.width,
        depths=list(shape.stages),
        num_heads=[shape.heads << stage for stage in range(len(shape.stages))],
        window_size=shape.window,
        mlp_ratio=shape.hidden / shape.width,
        layer_norm_eps=shape.epsilon,
        drop_path_rate=0.0,
        out_features=[f"stage{stage + 1}" for stage in range(len(shape.stages))],
    )
    model = SwinBackbone(config).eval()
    shaken(model)
    tower = SwinTower(shape).eval()
    tower.load_state_dict(renamed(released_swin(model, shape), swin_names(shape)), strict=True)
    return model, tower.requires_grad_(False)


def released_swin(model: SwinBackbone, shape: TowerShape) -> dict[str, Tensor]:
    """The weights of `transformers` by the names of Swin's released code."""
    state = model.state_dict()
    found = {}
    for kind in ("weight", "bias"):
        found[f"patch_embed.proj.{kind}"] = state[f"swin.embeddings.patch_embeddings.projection.{kind}"]
        found[f"patch_embed.norm.{kind}"] = state[f"swin.embeddings.norm.{kind}"]
        for stage, depth in enumerate(shape.stages):
            here, there = f"layers.{stage}", f"swin.encoder.layers.{stage}"
            if stage:
                found[f"norm{stage}.{kind}"] = state[f"hidden_states_norms.stage{stage + 1}.{kind}"]
            if stage + 1 < len(shape.stages):
                found[f"{here}.downsample.norm.{kind}"] = state[f"{there}.downsample.norm.{kind}"]
                found[f"{here}.downsample.reduction.weight"] = state[f"{there}.downsample.reduction.weight"]
            for i in range(depth):
                ours, theirs = f"{here}.blocks.{i}", f"{there}.blocks.{i}"
                table = f"{theirs}.attention.relative_position_bias.relative_position_bias_table"
                found[f"{ours}.attn.relative_position_bias_table"] = state[table]
                found[f"{ours}.attn.qkv.{kind}"] = torch.cat(
                    [state[f"{theirs}.attention.{part}_proj.{kind}"] for part in "qkv"]
                )
                for name, other in (
                    ("attn.proj", "attention.o_proj"),
                    ("norm1", "layernorm_before"),
                    ("norm2", "layernorm_after"),
                    ("mlp.fc1", "mlp.fc1"),
                    ("mlp.fc2", "mlp.fc2"),
                ):
                    found[f"{ours}.{name}.{kind}"] = state[f"{theirs}.{other}.{kind}"]
    return found


def library_bert(shape: TowerShape) -> tuple[BertModel, BertTower]:
    """`transformers.BertModel` without its pooler and the tower, with the same weights."""
    config = BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        intermediate_size=shape.hidden,
        max_position_embeddings=shape.positions,
        layer_norm_eps=shape.epsilon,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    shaken(model)
    tower = BertTower(shape).eval()
    tower.load_state_dict(renamed(model.state_dict(), bert_names(shape)), strict=True)
    return model, tower.requires_grad_(False)


def phrases(lengths: list[int], seed: int = 0) -> Tensor:
    """Ids of phrases with a start and an end token, padded on the right to the longest."""
    torch.manual_seed(seed)
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(200, 1000, (length,))
        ids[row, 0], ids[row, length - 1] = 101, 102
    return ids
