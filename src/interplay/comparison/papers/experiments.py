"""The papers' experiments as grids: which rows each of them has, and how the OpenMoji tasks are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Values = Mapping[str, Any]
Experiment = Literal["ablation", "interaction", "shares", "cost"]

TRAINING: Values = {"epochs": 12, "batch_size": 64, "learning_rate": 0.005}
"""Of every gradient method of an experiment, where the data says nothing else."""
HEAD: Values = {"kind": "pair", "start": "probe"}
"""The one head under all of them; it starts at the logistic regression."""
OPENMOJI: Mapping[str, Values] = {
    "openmoji/subgroup": {},
    "openmoji/attributes": {
        "head": {"start_penalty": 10.0},
        "multi_loss": "zlpr",
        "training": {
            "epochs": 10,
            "batch_size": 16,
            "learning_rate": 0.01,
            "head_learning_rate_factor": 0.1,
        },
    },
    "openmoji/relation": {"training": {"monitor": "loss"}},
}
"""The embedded tasks with the default schedules of recipes/openmoji.yaml, which are the same for all its rows."""

ABLATION: Mapping[str, Values] = {
    "baseline": {"method": "head_only"},
    "prompts": {"method": "mitp-prompts", "settings": {"layers": [7, 8, 9, 10]}},
    "prompts + naive interaction": {"method": "mitp-naive"},
    "prompts + memory hub (MITP)": {"method": "mitp"},
}
"""Table 2 of MITP: the same head trained alike under all four rows, and the same prompted layers.

The exchange after layer 9 makes prompts for layer 10 (`carry`), so the row without an exchange prompts that one too.
"""

SIMILARITIES = ("cosine", "mmd", "cov-pearson")
LAYERS: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "interval 1": ((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12)),
    "interval 2": ((1, 3, 5), (4, 6, 8), (7, 9, 11)),
    "one layer": ((2,), (4,), (6,), (8,), (10,), (12,)),
}
"""Figure 4 of MITP: three interaction layers at two distances under each similarity, and one layer under cosine."""
LAST = 12
"""The last layer of CLIP's text tower: alone it exchanges nothing, no layer after it reads what its hub would give."""

SHARES = (0.01, 0.05, 0.1, 0.3, 1.0)
"""Table 3 of MITP."""
SHARE_ROWS: Mapping[str, Values] = {"linear_probe": {}, "linear_probe-pair": {}, "p_clip": {}, "mitp": {}}
COST_ROWS: Mapping[str, Values] = {
    name: {}
    for name in ("linear_probe", "linear_probe-pair", "p_clip", "maple", "lora", "mitp-small", "mitp", "epic")
}
"""Figure 3 of MITP: quality against trained parameters and against the memory of a training step."""


def interaction_rows() -> dict[str, Values]:
    """Figure 4: a row for each choice of layers and similarity."""
    rows: dict[str, Values] = {}
    for kind, groups in LAYERS.items():
        for layers in groups:
            for similarity in SIMILARITIES if len(layers) > 1 else ("cosine",):
                own = {"interaction": "none"} if layers == (LAST,) else {"similarity": similarity}
                rows[interaction_row(kind, layers, similarity)] = {
                    "method": "mitp",
                    "settings": {"layers": list(layers), **own},
                }
    return rows


def interaction_row(kind: str, layers: tuple[int, ...], similarity: str) -> str:
    """The name of a row of `interaction_rows`."""
    return f"{kind}: {', '.join(map(str, layers))}; {'no exchange' if layers == (LAST,) else similarity}"


def values_of(experiment: Experiment, data: Mapping[str, Values]) -> dict[str, Any]:
    """An experiment on data sets, as `make_grid` takes it, but for seeds and what a user changes.

    Args:
        data: what is special to each data set; `OPENMOJI` for the embedded ones.
    """
    rows: dict[Experiment, Mapping[str, Values]] = {
        "ablation": ABLATION,
        "interaction": interaction_rows(),
        "shares": SHARE_ROWS,
        "cost": COST_ROWS,
    }
    shares = SHARES if experiment == "shares" else (1.0,)
    return {"rows": rows[experiment], "data": data, "shares": shares, "head": HEAD, "training": TRAINING}


def changed(special: Values, changes: Values) -> dict[str, Any]:
    """What is special to a data set, with what a user changes over it."""
    merged = {
        key: {**special.get(key, {}), **value} if isinstance(value, dict) else value
        for key, value in changes.items()
    }
    return {**special, **merged}
