"""Pictures of results: they are drawn, and no label stands on another one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from interplay.plotting.figures import Point, Prediction, accuracy_against_parameters, predictions, spread


@given(st.lists(st.floats(0, 1), max_size=12))
def test_spread_keeps_order_distance_and_limits(wanted: list[float]) -> None:
    found = spread(wanted, 0.08, 0.0, 1.0)
    gap = min(0.08, 1 / max(1, len(wanted) - 1))
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(sorted(found)))
    assert all(-1e-9 <= value <= 1 + 1e-9 for value in found)
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    assert [found[i] for i in order] == sorted(found)


def test_spread_leaves_alone_what_has_room() -> None:
    assert spread([0.9, 0.1, 0.5], 0.1, 0, 1) == pytest.approx([0.9, 0.1, 0.5])


def test_accuracy_against_parameters_takes_zero_and_one_point(tmp_path: Path) -> None:
    rows = [Point("zero_shot", 0, 1 / 3), Point("probe", 387, 0.34, 0.01), Point("mitp", 200_000, 1.0)]
    for name, points in (("all", rows), ("one", rows[:1]), ("last", rows[2:])):
        path = accuracy_against_parameters(points, tmp_path / "new" / f"{name}.png", "a title")
        with Image.open(path) as picture:
            assert picture.size[0] > 800


def test_predictions_of_any_number(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 20))
    long = "a text of $5 that goes on " * 9
    for count in (1, 4, 5):
        rows = [Prediction(image, long, "same", ("same", "other")[i % 2], 0.7) for i in range(count)]
        assert predictions(rows, tmp_path / f"{count}.png", "a title").exists()
