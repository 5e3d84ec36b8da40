"""Metrics of classification: arrays in, floats out. Nothing here knows a model.

F1, recall, average precision and the confusion matrix are scikit-learn's, imported where they are used; what is chosen
here is which classes count. The calibration error is computed here, since scikit-learn's curve does not tell how many
samples a bin holds, and `torchmetrics` has a sixteenth bin for 1.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
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

    It is scikit-learn's macro recall over these classes, which is its balanced accuracy without the warning about
    classes that were only predicted.

    Args:
        probabilities: (N, K).
        targets: (N,) class indices.
    """
    from sklearn.metrics import recall_score

    true = targets.numpy()
    return float(recall_score(true, _most_probable(probabilities), labels=np.unique(true), average="macro"))


def f1(probabilities: Tensor, targets: Tensor, average: Average) -> float:
    """F1 = 2·TP / (2·TP + FP + FN), by scikit-learn.

    `micro` counts over all classes together. `macro` is the mean over the classes that occur in the targets or in
    the predictions; a class that occurs in neither has no F1 and is left out. With nothing to average it is 0.
    Deviation: papers usually count with scikit-learn's default, which takes such a class as 0 (`zero_division`) and
    lowers the mean by the share of these classes. On MM-IMDB every genre occurs, and both rules agree.

    Args:
        probabilities: (N, K).
        targets: (N,) class indices: the prediction is the most probable class; or (N, K) of zeros and ones: the
            predictions are the classes with a probability above 0.5.
    """
    from sklearn.metrics import f1_score

    true, predicted, classes = _decisions(probabilities, targets)
    value = float(f1_score(true, predicted, labels=classes, average=average, zero_division=np.nan))
    return 0.0 if math.isnan(value) else value


def _most_probable(probabilities: Tensor) -> npt.NDArray[np.int64]:
    """(N, K) → the class of each sample, the first one of equals."""
    return probabilities.argmax(dim=1).numpy()


def _decisions(probabilities: Tensor, targets: Tensor) -> tuple[Any, Any, npt.NDArray[np.int64]]:
    """What is true, what was predicted, and all classes, as scikit-learn takes them; arguments as `f1`.

    Several labels go in as sparse matrices, which it would make of them after slower checks; with an empty column,
    since it takes a single one for two classes.
    """
    from scipy.sparse import csr_matrix

    classes = np.arange(probabilities.shape[1])
    if targets.dim() == 1:
        return targets.numpy(), _most_probable(probabilities), classes
    true, predicted = (csr_matrix(F.pad(x > 0.5, (0, 1)).numpy()) for x in (targets, probabilities))
    return true, predicted, classes


def per_class(probabilities: Tensor, targets: Tensor) -> dict[str, list[float]]:
    """Figures of every class; arguments as `f1`.

    Returns:
        Five lists of K: `rows` with the class, rows that it was `predicted` for, `precision` = TP / predicted,
        `recall` = TP / rows, `f1` = 2·TP / (rows + predicted); NaN where there is nothing to divide by.
    """
    from sklearn.metrics import precision_recall_fscore_support

    true, predicted, classes = _decisions(probabilities, targets)
    precision, recall, score, rows = precision_recall_fscore_support(
        true, predicted, labels=classes, zero_division=np.nan
    )
    found = predicted.sum(axis=0) if targets.dim() == 2 else np.bincount(predicted, minlength=len(classes))
    return {
        "rows": rows.tolist(),
        "predicted": np.ravel(found)[classes].tolist(),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": score.tolist(),
    }


def confusion_matrix(probabilities: Tensor, targets: Tensor) -> Tensor:
    """How many samples of each true class (row) were predicted as each class (column): (K, K) int64.

    Args:
        probabilities: (N, K).
        targets: (N,) class indices.
    """
    from sklearn import metrics

    classes = probabilities.shape[1]
    beyond = np.arange(classes + 1)  # of a single class it warns
    counts = metrics.confusion_matrix(targets.numpy(), _most_probable(probabilities), labels=beyond)
    return torch.from_numpy(counts[:classes, :classes])


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
    """Mean over the classes that occur of the average precision, AP = Σ_n (R_n − R_{n−1})·P_n, by scikit-learn.

    Samples of equal probability enter together, so their order does not matter; one whose probability is no number
    enters as 0. NaN when no class occurs.

    Args:
        probabilities: (N, K).
        targets: (N, K) of zeros and ones.
    """
    from sklearn.metrics import average_precision_score

    occurring = targets.sum(dim=0) > 0
    scores, true = (
        x.T[occurring].contiguous().numpy() for x in (probabilities.nan_to_num(nan=0), targets > 0.5)
    )
    values = [average_precision_score(one, score) for one, score in zip(true, scores, strict=True)]
    return float(np.mean(values)) if values else math.nan


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
