"""Risk over coverage against all orders that ties can come in."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interplay.metrics.risk_coverage import (
    area_under_risk_coverage,
    confidence_and_error,
    risk_at_coverage,
    risk_coverage,
)

samples = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6)


def loop_risks(rows: list[tuple[int, bool]]) -> list[float]:
    """Mean over all orders by falling confidence of the share of wrong ones among the first k."""
    orders = [
        order
        for order in itertools.permutations(rows)
        if all(a[0] >= b[0] for a, b in itertools.pairwise(order))
    ]
    return [
        sum(sum(wrong for _, wrong in order[:k]) / k for order in orders) / len(orders)
        for k in range(1, len(rows) + 1)
    ]


@settings(max_examples=60, deadline=None)
@given(samples)
def test_the_curve_is_the_mean_over_all_orders_of_equals(rows: list[tuple[int, bool]]) -> None:
    confidence = torch.tensor([c / 3 for c, _ in rows], dtype=torch.double)
    error = torch.tensor([float(w) for _, w in rows])
    expected = loop_risks(rows)
    curve = risk_coverage(confidence, error)
    assert curve.risk == pytest.approx(expected)
    assert curve.coverage == pytest.approx([k / len(rows) for k in range(1, len(rows) + 1)])
    assert curve.threshold == sorted(confidence.tolist(), reverse=True)
    assert area_under_risk_coverage(confidence, error) == pytest.approx(sum(expected) / len(expected))
    for k in range(1, len(rows) + 1):
        assert risk_at_coverage(confidence, error, k / len(rows)) == pytest.approx(expected[k - 1])
        assert risk_at_coverage(confidence, error, (k - 0.5) / len(rows)) == pytest.approx(expected[k - 1])
    shuffled = torch.randperm(len(rows), generator=torch.Generator().manual_seed(len(rows)))
    assert risk_coverage(confidence[shuffled], error[shuffled]) == curve


def test_the_best_order_has_the_smallest_area() -> None:
    error = torch.tensor([0.0, 0.0, 0.0, 1.0])
    assert area_under_risk_coverage(torch.tensor([4.0, 3.0, 2.0, 1.0]), error) == 1 / 16
    assert area_under_risk_coverage(torch.tensor([1.0, 2.0, 3.0, 4.0]), error) > 0.5
    assert area_under_risk_coverage(torch.ones(4), error) == 0.25


def test_confidence_and_error_take_the_first_of_equals() -> None:
    probabilities = torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]])
    confidence, error = confidence_and_error(probabilities, torch.tensor([1, 1, 0]))
    assert confidence.tolist() == pytest.approx([0.5, 0.8, 0.9])
    assert error.tolist() == [1, 0, 0]


def test_what_does_not_fit_is_refused() -> None:
    for confidence, error in ((torch.ones(2), torch.ones(3)), (torch.ones(0), torch.ones(0))):
        with pytest.raises(ValueError, match="do not fit"):
            risk_coverage(confidence, error)
    with pytest.raises(ValueError, match="do not fit"):
        risk_coverage(torch.tensor([float("nan")]), torch.ones(1))
    with pytest.raises(ValueError, match="coverage lies"):
        risk_at_coverage(torch.ones(1), torch.ones(1), 0.0)
