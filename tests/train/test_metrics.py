"""The metrics against the same definitions written as plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from torch import Tensor

from interplay.metrics import classification as metrics


def loop_f1(hits: int, false: int, missed: int) -> float:
    return 2 * hits / (2 * hits + false + missed) if hits + false + missed else math.nan


def counts(predicted: list[bool], true: list[bool]) -> tuple[int, int, int]:
    pairs = list(zip(predicted, true, strict=True))
    return (
        sum(p and t for p, t in pairs),
        sum(p and not t for p, t in pairs),
        sum(t and not p for p, t in pairs),
    )


def loop_f1_macro(predicted: list[list[bool]], true: list[list[bool]]) -> float:
    """Lists over classes of lists over samples."""
    values = [loop_f1(*counts(p, t)) for p, t in zip(predicted, true, strict=True)]
    values = [value for value in values if not math.isnan(value)]
    return sum(values) / len(values) if values else 0.0


def loop_calibration(confidence: list[float], outcome: list[float]) -> float:
    """Bins are [edge, next edge), the last one closed."""
    total = 0.0
    for b in range(15):
        inside = [i for i, c in enumerate(confidence) if min(int(c * 15), 14) == b]
        if inside:
            gap = sum(outcome[i] for i in inside) - sum(confidence[i] for i in inside)
            total += abs(gap) / len(confidence)
    return total


def loop_average_precision(scores: list[float], true: list[float]) -> float:
    value, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [t for s, t in zip(scores, true, strict=True) if s >= threshold]
        precision, now = sum(taken) / len(taken), sum(taken) / sum(true)
        value += (now - recall) * precision
        recall = now
    return value


def single(seed: int, samples: int, classes: int, used: int) -> tuple[Tensor, Tensor]:
    """Rounded probabilities, so that some are equal; only the first `used` classes occur."""
    g = torch.Generator().manual_seed(seed)
    logits = (torch.randn(samples, classes, generator=g) * 2).round()
    return logits.softmax(dim=1), torch.randint(0, used, (samples,), generator=g)


def test_macro_f1_is_scikit_learn_s_but_for_classes_that_occur_nowhere() -> None:
    """There such a class counts as 0; here it is left out."""
    rng = np.random.default_rng(0)
    probabilities, targets = rng.random((40, 5)), rng.integers(0, 2, (40, 5))
    guess = probabilities > 0.5

    def ours() -> float:
        return metrics.f1(torch.tensor(probabilities), torch.tensor(targets), "macro")

    assert ours() == pytest.approx(f1_score(targets, guess, average="macro"))
    probabilities[:, 2], targets[:, 2], guess[:, 2] = 0, 0, False
    assert ours() * 4 / 5 == pytest.approx(f1_score(targets, guess, average="macro", zero_division=0))
    for only in ("predicted", "true"):
        probabilities[0, 2], targets[0, 2] = float(only == "predicted"), int(only == "true")
        guess = probabilities > 0.5
        assert ours() == pytest.approx(f1_score(targets, guess, average="macro", zero_division=0))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(1, 30), st.integers(2, 6), st.integers(1, 6))
def test_single_label_metrics_equal_plain_loops(seed: int, samples: int, classes: int, used: int) -> None:
    p, t = single(seed, samples, classes, min(used, classes))
    got = metrics.classification_metrics(p, t, "single")
    guess = [max(range(classes), key=lambda k, i=i: (p[i, k].item(), -k)) for i in range(samples)]
    right = [g == y for g, y in zip(guess, t.tolist(), strict=True)]
    by_class = {k: [r for r, y in zip(right, t.tolist(), strict=True) if y == k] for k in set(t.tolist())}
    assert got["accuracy"] == pytest.approx(sum(right) / samples)
    assert got["macro_accuracy"] == pytest.approx(
        sum(sum(r) / len(r) for r in by_class.values()) / len(by_class)
    )
    predicted = [[g == k for g in guess] for k in range(classes)]
    true = [[y == k for y in t.tolist()] for k in range(classes)]
    assert got["f1_macro"] == pytest.approx(loop_f1_macro(predicted, true), abs=1e-6)
    top = [p[i].max().item() for i in range(samples)]
    assert got["calibration_error"] == pytest.approx(
        loop_calibration(top, [float(r) for r in right]), abs=1e-5
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(1, 20), st.integers(1, 5), st.floats(0, 1))
def test_multi_label_metrics_equal_plain_loops(seed: int, samples: int, classes: int, density: float) -> None:
    g = torch.Generator().manual_seed(seed)
    p = torch.randn(samples, classes, generator=g).mul(4).round().div(2).sigmoid()
    t = (torch.rand(samples, classes, generator=g) < density).float()
    got = metrics.classification_metrics(p, t, "multi")
    predicted = [[value > 0.5 for value in p[:, k].tolist()] for k in range(classes)]
    true = [[value == 1 for value in t[:, k].tolist()] for k in range(classes)]
    micro = loop_f1(*counts([x for k in predicted for x in k], [x for k in true for x in k]))
    assert got["f1_micro"] == pytest.approx(0.0 if math.isnan(micro) else micro, abs=1e-6)
    assert got["f1_macro"] == pytest.approx(loop_f1_macro(predicted, true), abs=1e-6)
    oracle = loop_calibration(p.flatten().tolist(), t.flatten().tolist())
    assert got["calibration_error"] == pytest.approx(oracle, abs=1e-5)
    occurring = [k for k in range(classes) if t[:, k].sum() > 0]
    if not occurring:
        assert math.isnan(got["map"])
        return
    values = [loop_average_precision(p[:, k].tolist(), t[:, k].tolist()) for k in occurring]
    assert got["map"] == pytest.approx(sum(values) / len(values), abs=1e-6)


def loop_figures(predicted: list[bool], true: list[bool]) -> dict[str, float]:
    """A class in `per_class`; NaN where there is nothing to divide by."""
    hits, false, missed = counts(predicted, true)
    return {
        "rows": hits + missed,
        "predicted": hits + false,
        "precision": hits / (hits + false) if hits + false else math.nan,
        "recall": hits / (hits + missed) if hits + missed else math.nan,
        "f1": loop_f1(hits, false, missed),
    }


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(1, 20), st.integers(1, 6), st.sampled_from(["single", "multi"]))
def test_every_class_s_figures_equal_plain_loops(seed: int, samples: int, classes: int, kind: str) -> None:
    g = torch.Generator().manual_seed(seed)
    p, t = single(seed, samples, classes, 1 + seed % classes)
    guess, right = p.argmax(dim=1), t
    if kind == "multi":
        t = (torch.rand(samples, classes, generator=g) < 0.3).long()
    predicted, true = (
        (p > 0.5, t > 0.5) if kind == "multi" else (F.one_hot(x, classes) > 0 for x in (guess, t))
    )
    found = metrics.per_class(p, t)
    for k in range(classes):
        expected = loop_figures(predicted[:, k].tolist(), true[:, k].tolist())
        assert {name: values[k] for name, values in found.items()} == pytest.approx(expected, nan_ok=True)
    matrix = metrics.confusion_matrix(p, right)
    pairs = list(zip(right.tolist(), guess.tolist(), strict=True))
    assert matrix.tolist() == [[pairs.count((i, j)) for j in range(classes)] for i in range(classes)]


def test_a_probability_that_is_no_number_ranks_last() -> None:
    p, t = torch.tensor([[0.4], [math.nan], [0.3]]), torch.tensor([[1.0], [0.0], [1.0]])
    assert metrics.classification_metrics(p, t, "multi")["map"] == 1


def test_equal_probabilities_choose_the_first_class() -> None:
    p = torch.full((4, 4), 0.25)
    got = metrics.classification_metrics(p, torch.tensor([0, 0, 1, 1]), "single")
    assert got["accuracy"] == 0.5
    assert got["macro_accuracy"] == 0.5
    assert got["calibration_error"] == pytest.approx(0.25)


def test_no_label_and_no_prediction_is_zero_not_an_error() -> None:
    got = metrics.classification_metrics(torch.zeros(3, 2), torch.zeros(3, 2), "multi")
    assert (got["f1_micro"], got["f1_macro"], got["calibration_error"]) == (0, 0, 0)
    assert math.isnan(got["map"])


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="single"):
        metrics.classification_metrics(torch.zeros(3, 2), torch.zeros(3, 2), "single")
    with pytest.raises(ValueError, match="N >= 1"):
        metrics.classification_metrics(torch.zeros(0, 2), torch.zeros(0), "single")
