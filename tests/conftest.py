"""Small random towers that every test can afford."""

from __future__ import annotations

import os

# Read when the hub's client is imported: no test may need a network, or wait for one.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Read when gRPC is imported, which a test module may do before `interplay.gallery.store` sets it.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import CLIPModel

from interplay.towers.backbone import Backbone, clip_config, from_clip
from interplay.towers.tokens import Shape, TowerShape

END = 99
FUZZ = ("tried", "taken", "refused", "traceback", "silent", "hang", "message", "leftover")
"""What the fuzz suite counts (`tests/fuzz/judge.py`)."""


class LetterTokenizer:
    """A tokenizer with one id a letter: start 98, end 99."""

    def __call__(self, texts: Sequence[str], verbose: bool = True) -> dict[str, list[list[int]]]:
        return {"input_ids": [[98, *(ord(letter) % 97 for letter in text), 99] for text in texts]}


def small_shape(image_depth: int = 5, text_depth: int = 4) -> Shape:
    """Towers of unequal width and depth."""
    return Shape(
        image=TowerShape(
            width=24, depth=image_depth, heads=3, hidden=48, joint=16, image_size=32, patch_size=8
        ),
        text=TowerShape(
            width=16,
            depth=text_depth,
            heads=2,
            hidden=32,
            joint=16,
            vocabulary=100,
            positions=40,
            end_token=END,
        ),
    )


def random_clip(shape: Shape, seed: int = 0) -> CLIPModel:
    """A `transformers.CLIPModel` whose weights are large enough for every token to matter."""
    torch.manual_seed(seed)
    model = CLIPModel(clip_config(shape)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2)
    return model


@pytest.fixture(scope="session")
def make_backbone() -> Callable[..., Backbone]:
    """A function that builds a small random backbone."""

    def build(image_depth: int = 5, text_depth: int = 4, seed: int = 0) -> Backbone:
        return from_clip(random_clip(small_shape(image_depth, text_depth), seed), LetterTokenizer(), "small")

    return build


@pytest.fixture(scope="session")
def backbone(make_backbone: Callable[..., Backbone]) -> Backbone:
    """A small random backbone: 5 image layers of width 24, 4 text layers of width 16."""
    return make_backbone()


@pytest.fixture
def pixels() -> torch.Tensor:
    """Seven pictures, uint8."""
    return torch.randint(
        0, 256, (7, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


@pytest.fixture
def texts() -> list[str]:
    """Seven texts of unequal length."""
    return ["cat", "a dog", "green apple pie", "x", "red car", "the moon tonight", "hat"]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many inputs of `tests/fuzz` were tried, and how many of them ended badly."""
    counts: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "teardown":
                counts.update(dict(report.user_properties).get("fuzz", {}))
    if counts["tried"]:
        terminalreporter.write_line("fuzz: " + ", ".join(f"{name} {counts[name]}" for name in FUZZ))
