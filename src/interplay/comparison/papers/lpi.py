"""Table 1 of the LPI paper (Yan et al., 2024) as recipes: retrieval on MS-COCO, 12 tasks one after the other.

`scripts/recipes.py` writes them to `recipes/lpi`. The paper's values are in none of its readable copies, so cells are
listed and measured without one; what the text says of them stands in the recipes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interplay.comparison.papers.recipes import Paper, Recipe
from interplay.metrics.recall import DIRECTIONS, KS

LPI = Paper("lpi", "the LPI paper (Yan et al., 2024)", prefix="lpi-", command="continual")
BACKBONE = "clip-vit-base-patch16"
METRICS = (
    *(f"{direction}_recall_{k}" for direction in DIRECTIONS for k in KS),
    *(f"{direction}_forgetting" for direction in DIRECTIONS),
)
"""Recall@k as `ScoreMatrix.task_average`, the released script's average; forgetting, the mean over k, is positive."""

_EPOCHS = 5
_PAIRS = 393_000  # 95 % of the 82,783 training pictures of 2014, with five captions each
_GFLOP = 42  # forward of one pair with 77 tokens of text

_ROWS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "clip": ("zero_shot", ()),
    "l2p": ("l2p", ("pool=12", "length=4", "picked=4")),
    "s_prompts": ("s_prompts", ("image_length=16", "text_length=16")),
    "maple": ("maple", ("length=16",)),
    "dcp": ("dcp", ("length=16", "exchange=released")),
    "lpi-m": ("lpi-m", ()),
    "lpi-p": ("lpi-p", ()),
    "lpi-p-pair": ("lpi", ("fusion=pair",)),
}
"""Row → method and the changes to its settings; LPI's own are the paper's (§5.1.4)."""

_REMARKS: Mapping[str, str] = {
    "clip": "Nothing is trained. The gallery grows with the tasks, so recall falls and 'forgetting' is above 0.",
    "l2p": "The pool of the released code, which never ran on CLIP there.",
    "maple": "The text does not say whether the table has this row; the released code has no MaPLe for retrieval.",
    "dcp": "The text does not say whether the table has this row; the released code has no DCP for retrieval.",
    "lpi-m": "In words (§5.2.2): above CLIP in every recall with more forgetting, above L2P everywhere, slightly above "
    "S-Prompts in recall with similar forgetting.",
    "lpi-p": "A deviation: each side is fused with the other side's prompts of its task, so both are encoded apart; "
    "lpi-p-pair is the paper's form.",
    "lpi-p-pair": "True pairs are fused, as in the paper: the bare towers' first ten candidates are ranked in pairs.",
}
_COMMON = (
    "The paper's table is in none of its readable copies. Not in the paper: how pictures were assigned to the 12 tasks "
    "(here: the super-category with the largest area), which sets it used (its released code names those of 2014), 5 % "
    "of train as validation, nine prompted layers."
)


def tables() -> dict[str, list[Recipe]]:
    """Every table of the paper that can be reproduced, with its cells."""
    return {f"{LPI.prefix}table1": [_recipe(name, method, words) for name, (method, words) in _ROWS.items()]}


def _recipe(name: str, method: str, words: tuple[str, ...]) -> Recipe:
    """One row with the paper's settings (§5.1.4): Adam, 0.01, 5 epochs, a cosine; batches of 64 as released."""
    config: dict[str, Any] = {
        "backbone": BACKBONE,
        "set": list(words),
        "epochs": _EPOCHS,
        "batch_size": 64,
        "learning_rate": 0.01,
        "optimizer": "adam",
        "warmup": 0.0,
        "schedule": "cosine",
    }
    passes = 0 if method == "zero_shot" else 2 * _EPOCHS  # forward and activations
    return Recipe(
        paper=LPI,
        table="table1",
        dataset="coco",
        name=name,
        method=method,
        metrics=METRICS,
        published={},
        config=config,
        hours=_PAIRS * passes * _GFLOP / LPI.speed / 3600,
        remarks=(_COMMON, *([_REMARKS[name]] if name in _REMARKS else [])),
        unread="the table is in no readable copy",
    )
