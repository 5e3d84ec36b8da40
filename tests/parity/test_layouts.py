"""The folders of OpenAI's, LAION's and MetaCLIP's checkpoints, with all their quirks and random weights.

Small geometries with the same quirks run with the fast tests, the full ones with the slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoImageProcessor, AutoTokenizer, CLIPConfig, CLIPProcessor

from interplay import load_backbone
from interplay.towers.presets import PRESETS
from interplay.towers.tokens import Shape, TowerShape
from tests.parity.checkpoints import (
    TEXTS,
    assert_equal,
    first_generation,
    preprocessor,
    random_weights,
    write_json,
    write_pictures,
    write_tokenizer,
)

SMALL = Shape(
    image=TowerShape(width=24, depth=3, heads=2, hidden=48, joint=12, image_size=32, patch_size=8),
    text=TowerShape(
        width=16, depth=2, heads=2, hidden=32, joint=12, vocabulary=3450, positions=77, end_token=3449
    ),
)


@dataclass(frozen=True)
class Layout:
    """What sets a publisher's folders apart.

    Attributes:
        hidden_act: in both towers' configurations.
        old_tokens: whether the configuration says 0, 1 and 2 of the start, padding and end token.
        twice: whether each tower's settings come a second time as `text_config_dict`, which has the last word.
        nested_joint: what the towers' own configurations say of the joint width; it does not count.
        half: whether the weights are kept in fp16.
        shards: in about how many files the weights are kept.
        processor: `first`, `dict` or `nested`: where and in which form the rules for pictures are kept.
        names_only: whether the tokenizer is there as vocab.json and merges.txt alone.
    """

    hidden_act: str = "quick_gelu"
    old_tokens: bool = False
    twice: bool = False
    nested_joint: int | None = None
    half: bool = False
    shards: int = 1
    processor: str = "dict"
    names_only: bool = False


LAYOUTS = {
    "openai": Layout(old_tokens=True, twice=True, processor="first", names_only=True),
    "openai today": Layout(old_tokens=True),
    "laion": Layout(hidden_act="gelu", old_tokens=True, nested_joint=512),
    "laion sharded": Layout(hidden_act="gelu", old_tokens=True, nested_joint=512, shards=4),
    "metaclip": Layout(half=True),
    "saved today": Layout(processor="nested", half=True),
}


def config_of(layout: Layout, shape: Shape) -> dict[str, Any]:
    """`config.json` as the publisher wrote it."""

    def tower(side: TowerShape) -> dict[str, Any]:
        return {
            "hidden_size": side.width,
            "num_hidden_layers": side.depth,
            "num_attention_heads": side.heads,
            "intermediate_size": side.hidden,
            "hidden_act": layout.hidden_act,
            "projection_dim": layout.nested_joint or side.joint,
            "attention_dropout": 0.0,
            "dropout": 0.0,
            "is_encoder_decoder": False,
        }

    image, text = shape.image, shape.text
    special = (0, 1, 2) if layout.old_tokens else (text.end_token - 1, 1, text.end_token)
    vision_config = tower(image) | {
        "model_type": "clip_vision_model",
        "image_size": image.image_size,
        "patch_size": image.patch_size,
    }
    text_config = tower(text) | {
        "model_type": "clip_text_model",
        "vocab_size": text.vocabulary,
        "max_position_embeddings": text.positions,
        **dict(zip(("bos_token_id", "pad_token_id", "eos_token_id"), special, strict=True)),
    }
    config: dict[str, Any] = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": shape.joint,
        "logit_scale_init_value": 2.6592,
        "torch_dtype": "float16" if layout.half else "float32",
        "transformers_version": None,
    }
    if not layout.twice:
        return config | {"text_config": text_config, "vision_config": vision_config}
    few = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")
    fewer = {key: value for key, value in text_config.items() if key in few} | {
        key: text_config[key] for key in ("vocab_size", "max_position_embeddings", "eos_token_id")
    }
    return config | {
        "text_config": text_config | {"hidden_size": 8},
        "text_config_dict": fewer,
        "vision_config": vision_config,
        "vision_config_dict": None,
    }


def write(layout: Layout, shape: Shape, folder: Path) -> None:
    """A whole folder."""
    config, size = config_of(layout, shape), shape.image.image_size
    model = random_weights(CLIPConfig.from_dict(config))
    model = model.half() if layout.half else model
    size_of_all = sum(tensor.nbytes for tensor in model.state_dict().values())
    model.save_pretrained(folder, max_shard_size=size_of_all // layout.shards + 1)
    assert (folder / "model.safetensors.index.json").exists() == (layout.shards > 1)
    write_json(folder / "config.json", config)
    write_tokenizer(folder, shape.text.vocabulary, shape.text.positions)
    rules = first_generation(size) if layout.processor == "first" else preprocessor(size)
    write_json(folder / "preprocessor_config.json", rules)
    if layout.processor == "nested":
        both = CLIPProcessor(
            AutoImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        )
        (folder / "preprocessor_config.json").unlink()
        both.save_pretrained(folder)
    if layout.names_only:
        vocabulary = AutoTokenizer.from_pretrained(folder)
        vocabulary.backend_tokenizer.model.save(str(folder))
        (folder / "tokenizer.json").unlink()


def compare(name: str, shape: Shape, folder: Path, some: int | None = None) -> None:
    write(LAYOUTS[name], shape, folder / "checkpoint")
    (folder / "pictures").mkdir()
    pictures = write_pictures(folder / "pictures")[:some]
    backbone = load_backbone(str(folder / "checkpoint"))
    assert backbone.shape.joint == shape.joint
    assert backbone.shape.image.activation == LAYOUTS[name].hidden_act
    assert_equal(backbone, str(folder / "checkpoint"), pictures, TEXTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_small_geometries(name: str, tmp_path: Path) -> None:
    compare(name, SMALL, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("openai", "clip-vit-base-patch32"),
        ("laion", "clip-vit-base-patch32"),
        ("metaclip", "clip-vit-base-patch32"),
        ("saved today", "clip-vit-base-patch16"),
        ("openai", "clip-vit-large-patch14-336"),
        ("laion sharded", "clip-vit-large-patch14"),
    ],
)
def test_full_geometries(name: str, preset: str, tmp_path: Path) -> None:
    compare(name, PRESETS[preset], tmp_path, some=2)
