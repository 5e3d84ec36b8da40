"""Whether a search has found anything: the probability that its best hit is a right one, from its score."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from interplay.data.schema import PairTable
from interplay.data.sessions import by_caption
from interplay.encoding.embedding import table_inputs
from interplay.encoding.inputs import encode_table
from interplay.errors import InterplayError
from interplay.files import read_json, write_text
from interplay.retrieval.retriever import Retriever
from interplay.settings import make_settings
from interplay.towers.tokens import SIDES, Side, other

FILE = "found.json"
_FEWEST = 4


@dataclass(frozen=True)
class Curve:
    """P(the best hit is a right one) = σ(slope · score + intercept).

    Attributes:
        slope, intercept: of the score, a cosine.
        queries: that it was fitted on.
        wrong: share of them that are on the wrong side of one half, with and without a right answer alike.
    """

    slope: float
    intercept: float
    queries: int
    wrong: float

    def probability(self, score: float) -> float:
        """Of one score."""
        return 1 / (1 + math.exp(-min(max(self.slope * score + self.intercept, -500.0), 500.0)))


@dataclass(frozen=True)
class FoundCalibration:
    """The curves of a retriever, by the side of the query; what is found is of the other side.

    Attributes:
        state: of the retriever that they were fitted for; of another one they say nothing.
        image, text: the slope, intercept, queries and wrong of a `Curve`.
    """

    state: str
    image: Mapping[str, float] = field(default_factory=dict)
    text: Mapping[str, float] = field(default_factory=dict)

    def curve(self, by: Side, find: Side) -> Curve | None:
        """That of one kind of search; None where both sides are the same."""
        if by == find:
            return None
        values = self.image if by == "image" else self.text
        return Curve(values["slope"], values["intercept"], int(values["queries"]), values["wrong"])


def calibrate_found(retriever: Retriever, table: PairTable) -> FoundCalibration:
    """Fit both curves on pairs that the retriever was not trained on.

    Every query is asked twice: in a gallery of all items of the other side, and in one without its own. In the second
    no hit is right, so half of the searches have an answer. A logistic regression of "the best hit is a right one" on
    the best hit's score (Platt, 1999) gives the curve. In a gallery that is far larger the best wrong hit is nearer, so
    fit on about as many pairs as the gallery has entries where it matters.

    Args:
        table: pairs, as of the `validation` split.

    Raises:
        InterplayError: fewer than 4 pairs, or scores that do not tell right hits from wrong ones.
    """
    captions, owners = by_caption(table)
    tables: dict[Side, PairTable] = {"image": table, "text": captions}
    vectors = {side: _vectors(retriever, side, tables[side]) for side in SIDES}
    owner = {"text": torch.tensor(owners), "image": torch.arange(len(table))}
    curves = {}
    for side in SIDES:
        scores = vectors[side] @ vectors[other(side)].T
        right = owner[side][:, None] == owner[other(side)][None]
        curves[side] = asdict(_curve(scores, right, side))
    return FoundCalibration(retriever.state(), **curves)


def _vectors(retriever: Retriever, side: Side, table: PairTable) -> Tensor:
    inputs = table_inputs(
        encode_table(table, retriever.backbone, reserve=retriever.method.traits.reserve), side
    )
    return retriever.encode(side, inputs, retriever.routes(side, retriever.keys(side, inputs)))


def _curve(scores: Tensor, right: Tensor, side: Side) -> Curve:
    """The curve of one direction: (queries, items) scores, and which of them are right."""
    if len(scores) < _FEWEST or scores.shape[1] < _FEWEST:
        raise InterplayError(f"Calibrating a search needs at least {_FEWEST} pairs, not {len(scores)}.")
    best, at = scores.max(dim=1)
    hit = right.gather(1, at[:, None]).squeeze(1)
    without = scores.masked_fill(right, -torch.inf).max(dim=1).values
    x = torch.cat([best, without]).double().numpy()
    y = torch.cat([hit, torch.zeros_like(hit)]).numpy()
    slope, intercept = _logistic(x, y)
    if not slope > 0:
        raise InterplayError(
            f"The scores of searches by {side} do not tell right hits from wrong ones: train longer, or calibrate on "
            "more pairs."
        )
    wrong = float(((slope * x + intercept > 0) != y).mean())
    return Curve(slope, intercept, len(scores), wrong)


def _logistic(x: npt.NDArray[np.float64], y: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept; a weak penalty keeps them finite where the classes fall apart."""
    from sklearn.linear_model import LogisticRegression

    if y.all() or not y.any():
        return 0.0, 0.0
    scale = float(x.std()) or 1.0
    model = LogisticRegression(C=100.0).fit((x / scale)[:, None], y)
    return float(model.coef_[0, 0]) / scale, float(model.intercept_[0])


def save_found(run: Path, calibration: FoundCalibration) -> None:
    """Write it into the folder of the retriever's run."""
    write_text(run / FILE, json.dumps(asdict(calibration), indent=2) + "\n")


def read_found(run: Path, retriever: Retriever) -> FoundCalibration | None:
    """What a run's folder has for a retriever; None where there is none, or one for another state of it.

    Raises:
        InterplayError: the file is damaged.
    """
    path = run / FILE
    if not path.is_file():
        return None
    raw = read_json(path)
    if not isinstance(raw, dict) or not all(
        isinstance(raw.get(side), dict) and {"slope", "intercept", "queries", "wrong"} <= {*raw[side]}
        for side in SIDES
    ):
        raise InterplayError(f"{path} is damaged: calibrate the retriever again, or delete the file.")
    found: FoundCalibration = make_settings(FoundCalibration, raw, str(path))
    return found if found.state == retriever.state() else None
