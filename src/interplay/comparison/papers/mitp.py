"""The tables of the MITP paper (Yu et al.) as recipes: published values, the paper's settings, and what it leaves open.

`scripts/recipes.py` writes them to `recipes/mitp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interplay.comparison.papers.recipes import Paper, Recipe

MITP = Paper("mitp", "the MITP paper (Yu et al.)", prefix="", command="train")
BACKBONE = "clip-vit-large-patch14"
_GFLOP = 175  # forward of one pair on it: 162 for the picture, 13 for 77 tokens of text


@dataclass(frozen=True)
class _DataSet:
    """What the paper sets for a data set, and what is chosen for it here.

    Attributes:
        metrics: as the library calls them, in the order of the paper.
        pairs: for training.
        length, batch_size, layers: the paper's prompt length, batch size and best interaction layers.
        small: the one layer of MITP-small; the paper does not say which, here the middle of the three.
        epochs: the paper does not say.
        options: further options of `train`.
        remark: why these.
    """

    metrics: tuple[str, ...]
    pairs: int
    length: int
    batch_size: int
    layers: tuple[int, ...]
    small: int
    epochs: int
    options: Mapping[str, Any]
    remark: str


_DATA: Mapping[str, _DataSet] = {
    "food101": _DataSet(
        ("accuracy",),
        64_572,
        3,
        10,
        (4, 5, 6),
        5,
        10,
        {
            "head": ["kind=class_text", "query=image+text", "template=a photo of {}, a type of food"],
            "on_bad_row": "skip",
        },
        "Not in the paper: 10 epochs, the class prompt, 5 % of train as validation. Rows without a usable picture are "
        "left out and listed.",
    ),
    "mm_imdb": _DataSet(
        ("f1_micro", "f1_macro"),
        15_510,
        2,
        32,
        (7, 8, 9),
        8,
        20,
        {
            "head": ["kind=class_text", "query=image+text", "template=a poster of a {} film"],
            "multi_loss": "zlpr",
        },
        "Not in the paper: 20 epochs, the class prompt, and zlpr as its 'multi-label cross-entropy'.",
    ),
    "snli_ve": _DataSet(
        ("accuracy",),
        529_527,
        6,
        64,
        (7, 8, 9),
        8,
        5,
        {"head": ["kind=pair", "start=probe"]},
        "Not in the paper: 5 epochs, and a linear head on both vectors and their product; its class prompts name no "
        "relation that a picture could be close to. The text is the hypothesis alone, as in the paper.",
    ),
}

_TABLE1: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "linear_probe": ((88.80,), (60.0, 50.8), (68.47,)),
    "p_clip": ((90.30,), (60.0, 50.6), (70.56,)),
    "maple": ((90.80,), (60.9, 51.2), (71.52,)),
    "prompt_fuse": ((82.21,), (54.5, 48.6), (64.53,)),
    "blind_prompt": ((84.56,), (56.5, 50.2), (65.54,)),
    "pmf": ((91.51,), (64.5, 58.8), (71.92,)),
    "cma_clip": ((93.10,), (65.3, 52.7), ()),  # the paper has no figure on SNLI-VE
    "mmbt": ((92.10,), (66.8, 61.8), (74.69,)),
    "mitp": ((93.95,), (65.9, 56.3), (73.45,)),
    "mitp-small": ((93.17,), (64.8, 55.4), (72.51,)),
}
_TABLE2: Mapping[str, tuple[str, tuple[tuple[float, ...], ...]]] = {
    "baseline": ("linear_probe", _TABLE1["linear_probe"]),  # on SNLI-VE the other rows' head: `_table2`
    "model-3": ("mitp-prompts", ((90.32,), (60.9, 51.6), (70.65,))),
    "model-2": ("mitp-naive", ((92.13,), (63.5, 54.0), (71.89,))),
    "model-1": ("mitp", _TABLE1["mitp"]),
}
_TABLE3 = {1: 87.59, 5: 89.81, 10: 90.36, 30: 92.62, 100: 93.95}
_FIGURE4 = ((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12), (2, 4, 6), (4, 6, 8), (6, 8, 10), (8, 10, 12))
_SINGLE = (1, 3, 5, 7, 9, 11)
_SIMILARITIES = {"cosine": "mitp", "mmd": "mitp-mmd", "cov-pearson": "mitp-cov-pearson"}

_REMARKS: Mapping[str, str] = {
    "linear_probe": "A logistic regression on both frozen vectors, its penalty chosen on validation; the training "
    "options do not matter to it. The paper does not say which features its probe reads.",
    "p_clip": "Prompts on the first 12 layers of both towers; the paper does not say how many.",
    "maple-released": "The paper's own run 'under our settings': its prompt length, here on the first 9 layers.",
    "prompt_fuse": "On CLIP's text tower; the paper's own run may have stood on another language model.",
    "blind_prompt": "On CLIP's text tower; the paper's own run may have stood on another language model.",
    "pmf": "On CLIP's towers; the original stands on ViT-B/16 and BERT.",
    "cma_clip": "Published by its authors with CLIP fine-tuned; a reimplementation on frozen towers.",
    "mmbt": "On CLIP's towers, the text tower fine-tuned, and not comparable with the published value, which is of "
    "ResNet-152 and BERT fine-tuned as a whole, and on SNLI-VE read the premise too.",
    "mitp-small": "One interaction layer; the paper does not say which, here the middle of its best three.",
}
_METHODS = {"maple": "maple-released"}
"""Rows of table 1 that another method's name stands for."""
_COST = {
    "linear_probe": 0.0,
    "head_only": 1.0,
    "cma_clip": 3.0,
    "mmbt": 3.0,
    "prompt_fuse": 2.0,
}  # else 2: forward and activations


def tables() -> dict[str, list[Recipe]]:
    """Every table that can be reproduced, with its cells."""
    return {
        "table1": [
            _recipe("table1", dataset, name, _METHODS.get(name, name), values)
            for name, row in _TABLE1.items()
            for dataset, values in zip(_DATA, row, strict=True)
            if values
        ],
        "table2": [
            _table2(dataset, name, method, values)
            for name, (method, row) in _TABLE2.items()
            for dataset, values in zip(_DATA, row, strict=True)
        ],
        "table3": [
            _recipe("table3", "food101", f"mitp-{percent}-percent", "mitp", (value,), share=percent / 100)
            for percent, value in _TABLE3.items()
        ],
        "figure4": _figure4(),
    }


def _table2(dataset: str, name: str, method: str, values: tuple[float, ...]) -> Recipe:
    """A row of the ablation: all prompt the same layers, and where a head is trained, all have that one."""
    layers, remark = _DATA[dataset].layers, ""
    if name == "baseline" and "start=probe" in _DATA[dataset].options["head"]:
        method = "head_only"
        remark = (
            "The other rows' head, trained alike. The paper's baseline is a linear probe of unnamed features."
        )
    elif name == "baseline":
        remark = "The other rows train no head: the step from this one to model-3 is not that of the prompts alone."
    elif name == "model-3":
        layers = (*layers, layers[-1] + 1)
        remark = "The other models carry prompts into the layer after their last one: this one has prompts there too."
    return _recipe(
        "table2", dataset, name, method, values, layers=layers, remarks=(remark,) if remark else ()
    )


def _figure4() -> list[Recipe]:
    """Interaction layers against similarity, and a single layer; the paper prints bars, not numbers."""
    remark = "The paper prints no numbers for this figure and few of its layers; the grid is chosen here."
    found = []
    for similarity, method in _SIMILARITIES.items():
        for layers in (*_FIGURE4, *((layer,) for layer in _SINGLE if similarity == "cosine")):
            name = f"{similarity}-{'-'.join(map(str, layers))}"
            best = (93.95,) if (similarity, layers) == ("cosine", (4, 5, 6)) else ()
            found.append(_recipe("figure4", "food101", name, method, best, layers=layers, remarks=(remark,)))
    return found


def _recipe(
    table: str,
    dataset: str,
    name: str,
    method: str,
    values: tuple[float, ...],
    *,
    layers: tuple[int, ...] = (),
    share: float = 1.0,
    remarks: tuple[str, ...] = (),
) -> Recipe:
    """One cell with the paper's settings."""
    data = _DATA[dataset]
    words = []
    if method.startswith("mitp"):
        one = layers or ((data.small,) if method == "mitp-small" else data.layers)
        words.append(f"layers=[{', '.join(map(str, one))}]")
    if method.startswith("mitp") or method in ("p_clip", "maple-released"):
        words.append(f"length={data.length}")
    if method == "pmf":
        words.append("hidden=wider")
    passes = _COST.get(method, 2.0) * data.epochs or 1
    return Recipe(
        paper=MITP,
        table=table,
        dataset=dataset,
        name=name,
        method=method,
        metrics=data.metrics,
        published=dict(zip(data.metrics, values, strict=False)),
        config={
            "backbone": BACKBONE,
            "set": words,
            **data.options,
            "share": share,
            "epochs": data.epochs,
            "batch_size": data.batch_size,
            "learning_rate": 5e-5 if method == "mmbt" else 2e-4,
            "optimizer": "adam",
            "warmup": 0.0,
            "schedule": "constant",
        },
        hours=share * data.pairs * passes * _GFLOP / MITP.speed / 3600,
        remarks=(data.remark, *([_REMARKS[method]] if method in _REMARKS else []), *remarks),
    )
