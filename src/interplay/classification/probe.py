"""Linear probes: logistic regression on the frozen vectors of a pair, its penalty chosen on validation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

from interplay.classification.model import PairClassifier
from interplay.encoding.batches import BatchLoader, EncodedTable, OrderedSampler, to_device
from interplay.encoding.predict import predict
from interplay.errors import InterplayError
from interplay.metrics.classification import accuracy, f1
from interplay.parts.bilinear_map import BilinearMap
from interplay.parts.heads import LINEAR
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES
from interplay.towers.walk import Vectors, encode_pair

GRID = (1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e4, 1e6)
SEARCH_STEPS = 8
ITERATIONS = 1000
_NEVER = 20.0  # how far below all others the logit of a class lies that the training pairs lack

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ProbeReport:
    """What came out of fitting a probe.

    Attributes:
        inverse_penalty: C, the weight of the data against the L2 penalty.
        value: the validation accuracy (one label) or macro F1 (several labels) that chose it.
        tried: every C that was tried, with its validation value.
        parameters: numbers that were fitted.
    """

    inverse_penalty: float
    value: float
    tried: dict[float, float]
    parameters: int


def fit_probe(
    model: PairClassifier,
    backbone: Backbone,
    train: EncodedTable,
    validation: EncodedTable,
    batch_size: int = 64,
    *,
    inverse_penalty: float | None = None,
) -> ProbeReport:
    """Fit the linear head of a classifier whose method leaves the towers alone, and write it into the head.

    L2 logistic regression (lbfgs, at most 1000 iterations) on the head's inputs, which are not standardised: on
    `pair_features`, or under a bilinear head on the map that is fitted to the vectors of `train` first. C is the
    best of 10^−6, 10^−4, …, 10^6 on validation, then refined in 8 steps of a binary search in log C around it, as
    in CLIP's few-shot probe (Radford et al., 2021; `lpclip` of Zhou et al., 2022); of equals the smaller C wins.
    Several labels: one regression a class, one C for all.

    Args:
        inverse_penalty: C, where it is given and not searched for.

    Raises:
        InterplayError: the head is not linear, or there are no labelled pairs.
    """
    head = model.head
    if head.settings.kind not in (*LINEAR, "bilinear") or head.weight is None or head.bias is None:
        raise InterplayError(
            f"A probe fits a linear head: set head.kind = linear, not '{head.settings.kind}'."
        )
    for table in (train, validation):
        if not len(table) or table.targets is None:
            raise InterplayError(f"{table.name} has no labelled pairs to fit a probe with.")
    if isinstance(head.map, BilinearMap):
        head.map.fit(*frozen_vectors(backbone, train, batch_size))
    inputs = features(model, backbone, train, batch_size).double().numpy()
    held_out = features(model, backbone, validation, batch_size).double()
    targets, held_out_targets = train.targets, validation.targets
    assert targets is not None
    assert held_out_targets is not None
    classes = len(head.weight)
    tried: dict[float, float] = {}
    fitted: dict[float, tuple[Tensor, Tensor]] = {}

    def value(penalty: float) -> float:
        if penalty not in tried:
            weight, bias = logistic_regression(inputs, targets.numpy(), classes, penalty)
            logits = held_out @ weight.T + bias
            tried[penalty] = (
                accuracy(logits, held_out_targets)
                if model.kind == "single"
                else f1(logits.sigmoid(), held_out_targets, "macro")
            )
            fitted[penalty] = weight, bias
        return tried[penalty]

    if inverse_penalty is not None:
        value(inverse_penalty)
    else:
        best = max(GRID, key=lambda penalty: (value(penalty), -penalty))
        low, high = np.log10(best) - 1, np.log10(best) + 1
        for _ in range(SEARCH_STEPS):
            middle = (low + high) / 2
            if value(10.0**low) < value(10.0**high):
                low = middle
            else:
                high = middle
    best = max(tried, key=lambda penalty: (tried[penalty], -penalty))
    weight, bias = fitted[best]
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    return ProbeReport(best, tried[best], tried, head.weight.numel() + head.bias.numel())


def fit_threshold(model: PairClassifier, backbone: Backbone, validation: EncodedTable) -> float:
    """Give all classes of an untrained multi-label classifier the one bias with the best micro F1 on validation.

    A cosine has no natural zero, so without a threshold "zero-shot with several labels" means nothing.

    Returns:
        The micro F1 on validation.

    Raises:
        InterplayError: there are no labelled pairs.
    """
    head, targets = model.head, validation.targets
    if targets is None or not len(targets):
        raise InterplayError(f"{validation.name} has no labelled pairs to choose a threshold on.")
    assert head.bias is not None
    logits = predict(model, backbone, validation).flatten()
    ranked, order = logits.sort(descending=True)
    hits = targets.flatten()[order].cumsum(0)
    f1_at = 2 * hits / (torch.arange(1, len(ranked) + 1) + targets.sum())
    f1_at[:-1][ranked[1:] == ranked[:-1]] = -1  # no threshold stands between equal logits
    at = int(f1_at.argmax())
    below = ranked[at + 1] if at + 1 < len(ranked) else ranked[at] - 1
    with torch.no_grad():
        head.bias.fill_(-float(ranked[at] + below) / 2)
    return float(f1_at[at])


def frozen_vectors(backbone: Backbone, table: EncodedTable, batch_size: int = 64) -> tuple[Tensor, Tensor]:
    """What the bare towers make of all pairs, in the order of the table: image and text, (N, joint), on the CPU."""
    image, text = (torch.empty(len(table), backbone.shape.joint) for _ in SIDES)
    with torch.no_grad():
        for batch in BatchLoader(table, OrderedSampler(table.text_lengths, batch_size)):
            pairs = to_device(batch.pairs, backbone.device)
            vectors = encode_pair(backbone, pairs.images, pairs.texts)
            image[batch.rows], text[batch.rows] = vectors.image.float().cpu(), vectors.text.float().cpu()
    return image, text


def features(model: PairClassifier, backbone: Backbone, table: EncodedTable, batch_size: int = 64) -> Tensor:
    """What the head's weights are applied to, for all pairs under the bare towers: (N, features), on the CPU."""
    image, text = (side.to(backbone.device) for side in frozen_vectors(backbone, table, batch_size))
    with torch.no_grad():
        return model.head.inputs(Vectors(image, text)).float().cpu()


def logistic_regression(
    inputs: Floats, targets: npt.NDArray[np.generic], classes: int, penalty: float
) -> tuple[Tensor, Tensor]:
    """Weight (K, features) and bias (K,) of an L2 logistic regression; its logits go through softmax or sigmoids.

    A class that the targets lack gets weight 0 and a bias far below the others; with several labels, a class that
    none or all of the samples have gets weight 0 and its smoothed log-odds, log((n₁ + ½)/(n₀ + ½)).

    Args:
        inputs: (N, features).
        targets: (N,) class indices, or (N, K) of zeros and ones.
        penalty: C of scikit-learn, the inverse of the L2 penalty.
    """
    weight = np.zeros((classes, inputs.shape[1]))
    bias = np.zeros(classes)
    if targets.ndim == 1:
        present = np.unique(targets).astype(np.int64)
        if len(present) > 1:
            weight[present], bias[present] = _solve(inputs, targets, penalty)
        absent = np.setdiff1d(np.arange(classes), present)
        reach = np.abs(inputs @ weight[present].T + bias[present]).max()
        bias[absent] = -reach - _NEVER
    else:
        for k in range(classes):
            count = float(targets[:, k].sum())
            if 0 < count < len(targets):
                both_weights, both_biases = _solve(inputs, targets[:, k], penalty)
                weight[k], bias[k] = both_weights[1] - both_weights[0], both_biases[1] - both_biases[0]
            else:
                bias[k] = np.log((count + 0.5) / (len(targets) - count + 0.5))
    return torch.from_numpy(weight), torch.from_numpy(bias)


def _solve(inputs: Floats, targets: npt.NDArray[np.generic], penalty: float) -> tuple[Floats, Floats]:
    """Weight and bias of the classes that occur, at least two; two classes share one regression, halved."""
    solver = LogisticRegression(C=penalty, max_iter=ITERATIONS)
    with threadpool_limits(torch.get_num_threads(), user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as the paper's probe, it may stop at the bound
        warnings.filterwarnings("ignore", message="The number of unique classes")  # few pairs, many classes
        solver.fit(inputs, targets)
    if len(solver.coef_) > 1:
        return solver.coef_, solver.intercept_
    return np.concatenate([-solver.coef_, solver.coef_]) / 2, np.concatenate(
        [-solver.intercept_, solver.intercept_]
    ) / 2
