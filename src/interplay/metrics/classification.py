"""Metrics of classification: arrays in, floats out. Nothing here knows a model.

Plain code where `torchmetrics` would fit in name: its macro averages treat a class that occurs nowhere differently
for one label and for several, its average precision warns, and its calibration error has a sixteenth bin for 1.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["single", "multi"]
Average = Literal["micro", "macro"]

BINS = 15


def accuracy(probabilities: Tensor, targets: Tensor) -> float:
    """Share of samples whose most probable class (the first one of equals) is the right one.

    Args:
        probabilities: (N, K).
        targets: (N,) class indices.
    """
    return (probabilities.argmax(dim=1) == targets).double().mean().item()


def macro_accuracy(probabilities: Tensor, targets: Tensor) -> float:
    """Mean over the classes that occur in `targets` of the accuracy on the samples of that class.

    Args:
        probabilities: (N, K).
        targets: (N,) class indices.
    """
    right = (probabilities.argmax(dim=1) == targets).double()
    total = torch.zeros(probabilities.shape[1], dtype=torch.double)
    hits = total.index_add(0, targets, right)
    total = total.index_add(0, targets, torch.ones_like(right))
    return (hits[total > 0] / total[total > 0]).mean().item()


def f1(probabilities: Tensor, targets: Tensor, average: Average) -> float:
    """F1 = 2·TP / (2·TP + FP + FN).

    `micro` counts over all classes together. `macro` is the mean over the classes that occur in the targets or in
    the predictions; a class that occurs in neither has no F1 and is left out. With nothing to average it is 0.
    Deviation: scikit-learn, by which papers usually count, takes such a class as 0 (`zero_division`), which lowers the
    mean by the share of these classes. On MM-IMDB every genre occurs, and both rules agree.

    Args:
        probabilities: (N, K).
        targets: (N,) class indices: the prediction is the most probable class; or (N, K) of zeros and ones: the
            predictions are the classes with a probability above 0.5.
    """
    predicted, true = _decisions(probabilities, targets)
    hits = (predicted & true).sum(dim=0).double()
    both = (predicted.sum(dim=0) + true.sum(dim=0)).double()  # 2·TP + FP + FN
    if average == "micro":
        hits, both = hits.sum(dim=0, keepdim=True), both.sum(dim=0, keepdim=True)
    occurring = both > 0
    return (2 * hits / both)[occurring].mean().item() if occurring.any() else 0.0


def _decisions(probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Which classes were predicted and which are true, both (N, K) of truth values; arguments as `f1`."""
    if targets.dim() == 2:
        return probabilities > 0.5, targets > 0.5
    classes = probabilities.shape[1]
    predicted, true = (F.one_hot(x, classes).bool() for x in (probabilities.argmax(dim=1), targets))
    return predicted, true


def per_class(probabilities: Tensor, targets: Tensor) -> dict[str, list[float]]:
    """Figures of every class; arguments as `f1`.

    Returns:
        Five lists of K: `rows` with the class, rows that it was `predicted` for, `precision` = TP / predicted,
        `recall` = TP / rows, `f1` = 2·TP / (rows + predicted); NaN where there is nothing to divide by.
    """
    predicted, true = _decisions(probabilities, targets)
    hits, found, rows = ((x).sum(dim=0).double() for x in (predicted & true, predicted, true))
    return {
        "rows": rows.long().tolist(),
        "predicted": found.long().tolist(),
        "precision": (hits / found).tolist(),
        "recall": (hits / rows).tolist(),
        "f1": (2 * hits / (rows + found)).tolist(),
    }


def confusion_matrix(probabilities: Tensor, targets: Tensor) -> Tensor:
    """How many samples of each true class (row) were predicted as each class (column): (K, K) int64.

    Args:
        probabilities: (N, K).
        targets: (N,) class indices.
    """
    classes = probabilities.shape[1]
    cells = targets * classes + probabilities.argmax(dim=1)
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def expected_calibration_error(probabilities: Tensor, targets: Tensor) -> float:
    """Σ over 15 equal bins of confidence of (share of samples) · |mean outcome − mean confidence| (Guo et al., 2017).

    A bin holds its lower edge; the last one holds 1 too.

    Args:
        probabilities: (N, K).
        targets: (N,) class indices: the confidence is the largest probability, the outcome whether it is right; or
            (N, K) of zeros and ones: every one of the N·K outputs is a confidence, its target the outcome.
    """
    if targets.dim() == 2:
        confidence, outcome = probabilities.flatten().double(), targets.flatten().double()
    else:
        top, predicted = probabilities.max(dim=1)
        confidence, outcome = top.double(), (predicted == targets).double()
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.double)[1:-1]
    bins = torch.bucketize(confidence, edges, right=True)
    gaps = torch.zeros(BINS, dtype=torch.double).index_add(0, bins, outcome - confidence)
    return (gaps.abs().sum() / len(confidence)).item()


def negative_log_likelihood(logits: Tensor, targets: Tensor) -> float:
    """Mean over samples of −log softmax(z) of the right class; for several labels the mean over all N·K outputs.

    Args:
        logits: (N, K).
        targets: (N,) class indices, or (N, K) of zeros and ones.
    """
    z = logits.double()
    if targets.dim() == 2:
        return F.binary_cross_entropy_with_logits(z, targets.double()).item()
    return F.cross_entropy(z, targets).item()


def mean_average_precision(probabilities: Tensor, targets: Tensor) -> float:
    """Mean over the classes that occur of the average precision, AP = Σ_n (R_n − R_{n−1})·P_n.

    Samples of equal probability enter together, so their order does not matter. NaN when no class occurs.

    Args:
        probabilities: (N, K).
        targets: (N, K) of zeros and ones.
    """
    occurring = targets.sum(dim=0) > 0
    columns = zip(probabilities.T[occurring], targets.T[occurring], strict=True)
    values = [_average_precision(column, target) for column, target in columns]
    return sum(values) / len(values) if values else float("nan")


def _average_precision(probabilities: Tensor, targets: Tensor) -> float:
    """Average precision of one class: (N,) and (N,)."""
    values, order = probabilities.sort(descending=True)
    hits = targets[order].double().cumsum(0)
    last_of_equals = torch.cat([values[1:] != values[:-1], torch.ones(1, dtype=torch.bool)])
    ranks = torch.arange(1, len(values) + 1, dtype=torch.double)
    hits, ranks = hits[last_of_equals], ranks[last_of_equals]
    gained = hits.diff(prepend=hits.new_zeros(1))
    return ((gained / hits[-1]) * (hits / ranks)).sum().item()


def classification_metrics(probabilities: Tensor, targets: Tensor, kind: Kind) -> dict[str, float]:
    """All metrics of one evaluation.

    Args:
        probabilities: (N, K), N >= 1.
        targets: `single`: (N,) class indices; `multi`: (N, K) of zeros and ones.

    Returns:
        `single`: accuracy, macro_accuracy, f1_macro, calibration_error. `multi`: f1_micro, f1_macro, map,
        calibration_error.

    Raises:
        ValueError: the shapes do not belong together, or there is no sample.
    """
    probabilities, targets = probabilities.detach().float().cpu(), targets.detach().cpu()
    wanted = probabilities.shape if kind == "multi" else probabilities.shape[:1]
    if targets.shape != wanted or not len(targets):
        raise ValueError(f"{kind}: targets of shape {tuple(targets.shape)}, not {tuple(wanted)} with N >= 1")
    if kind == "single":
        return {
            "accuracy": accuracy(probabilities, targets),
            "macro_accuracy": macro_accuracy(probabilities, targets),
            "f1_macro": f1(probabilities, targets, "macro"),
            "calibration_error": expected_calibration_error(probabilities, targets),
        }
    return {
        "f1_micro": f1(probabilities, targets, "micro"),
        "f1_macro": f1(probabilities, targets, "macro"),
        "map": mean_average_precision(probabilities, targets),
        "calibration_error": expected_calibration_error(probabilities, targets),
    }
