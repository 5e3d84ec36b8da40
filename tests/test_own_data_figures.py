"""What the bench of small data reports: against loops, and on cells whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import own_data
from benchmarks.small_data import cells as cells_module
from benchmarks.small_data.catalogue import sets, streams
from benchmarks.small_data.cells import PROBES, ROWS, Cell, planned, run
from benchmarks.small_data.figures import (
    against,
    best_probe,
    mean_ranks,
    read_all,
    recall,
    recall_difference,
    regrets,
    sets_report,
    streams_report,
)
from interplay.comparison.engine import load_record
from interplay.errors import InterplayError
from interplay.files import write_text


def record(data: str, row: str, right: float, seed: int = 0, pairs: int = 200) -> dict[str, Any]:
    """A cell of one label in two classes, whose first pairs are right."""
    truth = [0, 1] * (pairs // 2)
    hits = round(right * pairs)
    predicted = [label if at < hits else 1 - label for at, label in enumerate(truth)]
    facts = {"data": data, "row": row, "seed": seed, "kind": "single", "classes": 2, "metric": "accuracy"}
    validation = {"linear_probe-pair": 0.6, "default": 0.7}.get(row, 0.0)
    return facts | {
        "test": hits / pairs,
        "validation": validation,
        "seconds": 1.0,
        "predicted": predicted,
        "truth": truth,
    }


@pytest.mark.parametrize("seed", range(5))
def test_regret_and_rank_are_those_of_a_loop(seed: int) -> None:
    """Rows that not every set has, and ties, among them."""
    generator = np.random.default_rng(seed)
    rows = [f"row {number}" for number in range(5)]
    table = {
        f"set {number}": {
            row: float(generator.integers(0, 6)) / 5 for row in rows if generator.random() < 0.8
        }
        or {rows[0]: 0.5}
        for number in range(7)
    }
    for row in rows:
        lost, ranks = [], []
        for values in table.values():
            if row in values:
                lost.append(max(values.values()) - values[row])
                better = sum(value > values[row] for value in values.values())
                equal = sum(value == values[row] for value in values.values())
                ranks.append(1 + better + (equal - 1) / 2)
        if lost:
            assert regrets(table)[row] == pytest.approx(sum(lost) / len(lost))
            assert mean_ranks(table)[row] == pytest.approx(sum(ranks) / len(ranks))


def test_below_the_probe_is_told_beyond_noise_alone() -> None:
    """A clear gap is below, one pair of 200 is not; the hardest probe counts."""
    rows = {
        "text_probe": [record("reviews", "text_probe", 0.5)],
        "image_probe": [record("reviews", "image_probe", 0.8)],
        "default": [record("reviews", "default", 0.795)],
        "far": [record("reviews", "far", 0.6, seed) for seed in (0, 1)],
    }
    assert best_probe(rows) == "image_probe"
    assert best_probe({"default": rows["default"]}) is None
    assert not against(rows, "default", "image_probe").below
    far = against(rows, "far", "image_probe")
    assert far.below
    assert far.mean == pytest.approx(-0.2)
    assert far.low < far.mean < far.high < 0
    assert not against(rows, "image_probe", "far").below


def stream_record(data: str, gained: int, pictures: int = 60) -> dict[str, Any]:
    """A stream of one caption a picture, but for the first, which has two; `gained` pictures come within ten."""
    owner = [0, *range(pictures)]
    bare = {"image_to_text": [20] * pictures, "text_to_image": [20] * len(owner)}
    own = {
        "image_to_text": [5 if at < gained else 20 for at in range(pictures)],
        "text_to_image": [10 if at < gained else 11 for at in owner],
    }
    measured = {"owner": owner, "bare": bare, "own": own, "routing": {"image": 0.5, "text": None}}
    facts = {"data": data, "row": "default", "seed": 0, "seconds": 2.0}
    return facts | {"test": measured}


def test_recall_of_a_stream_is_that_of_its_queries() -> None:
    """Both directions weigh the same, each over its own queries; the interval is of pictures."""
    records = [stream_record("emoji-stream", 30)]
    assert recall(records, "bare") == 0
    assert recall(records, "own") == pytest.approx((30 / 60 + 31 / 61) / 2)
    gap = recall_difference(records, "own", "bare")
    assert gap.mean == pytest.approx(recall(records, "own"))
    assert 0.3 < gap.low < gap.mean < gap.high < 0.7
    assert recall_difference(records, "bare", "own").below
    assert not recall_difference(records, "own", "own").below


def test_the_report_is_of_the_cells_that_are_there(tmp_path: Path) -> None:
    """A folder of cells in, both tables out."""
    cells = [
        record("reviews", "linear_probe-pair", 0.8),
        record("reviews", "default", 0.5),
        record("logos", "linear_probe-pair", 0.5),
        record("logos", "default", 0.9),
        stream_record("emoji-stream", 30),
    ]
    for cell in cells:
        write_text(tmp_path / "cells" / cell["data"] / f"{cell['row']}-0.json", json.dumps(cell))
    groups = read_all(tmp_path)
    assert {name: set(rows) for name, rows in groups.items()} == {
        "reviews": {"linear_probe-pair", "default"},
        "logos": {"linear_probe-pair", "default"},
        "emoji-stream": {"default"},
    }
    text = sets_report(groups, {name: one.half for name, one in sets().items()})
    assert "| default | 2 | 15.0 | 1.5 | 1 / 2 | 1 / 2 | 1 |" in text
    assert "| linear_probe-pair | 2 | 20.0 | 1.5 | – | – | 1 |" in text
    assert "### Development: 1 sets" in text
    assert "-30.0 [" in text
    text = streams_report(groups, {name: one.half for name, one in streams().items()})
    assert "below the bare backbone beyond noise on 0 of 1, 3 points above it on 1" in text
    assert own_data.report(tmp_path).count("| emoji-stream |") == 1
    table = own_data.report(tmp_path, validation=True)
    assert "| default | 1 | 0.0 | 1.0 |" in table, "of reviews alone: logos are held out"
    assert "| linear_probe-pair | 1 | 10.0 | 2.0 |" in table


def test_what_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes once, the rest for each seed; unknown names are refused; a cell of another row is not taken for it."""
    monkeypatch.setenv("INTERPLAY_CACHE", str(tmp_path / "cache"))
    cells = list(planned(["glyph-scripts"], [], [0, 1]))
    assert [cell.row for cell in cells if cell.seed == 1] == [
        row for row in ROWS if ROWS[row].drawn and "from the probe" not in row
    ]
    assert {cell.row for cell in cells if cell.seed == 0} >= {*PROBES, "zero_shot", "default"}
    with pytest.raises(InterplayError, match="no set called 'glyph'"):
        list(planned(["glyph"], [], [0]))
    with pytest.raises(InterplayError, match="no row called 'linear'"):
        list(planned([], ["linear"], [0]))
    cell = Cell("glyph-scripts", "zero_shot", 0)
    other = cell.plain() | {"what": {"method": "mitp"}}
    write_text(tmp_path / cell.file, json.dumps(other))
    with pytest.raises(InterplayError, match="choose another folder"):
        load_record(tmp_path, cell)


def test_a_cell_is_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe on a small set; the second call finds it; without time none begins."""
    monkeypatch.setenv("INTERPLAY_CACHE", str(tmp_path / "cache"))
    cells = list(planned(["glyph-scripts"], ["image_probe"], [0, 1]))
    told: list[str] = []
    out = tmp_path / "out"
    assert run(cells, out, -1, 1, lambda cell, _: told.append(cell.row)) == 1
    assert told == []
    for _ in range(2):
        assert run(cells, out, 600, 1, lambda cell, _: told.append(cell.row)) == 0
    assert told == ["image_probe"]
    found = load_record(out, cells[0])
    assert found is not None
    assert found["test"] > 0.4
    assert len(found["truth"]) == 105
    assert found["chosen"]["method"] == "image_probe"


def test_a_cell_that_fails_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(cell: Cell, *_: object) -> dict[str, Any]:
        if cell.seed == 0:
            raise InterplayError("The loss is not finite.")
        return cell.plain()

    monkeypatch.setattr(cells_module, "_set_cell", fails)
    told: dict[int, dict[str, Any]] = {}
    cells = [Cell("reviews", "default", seed) for seed in (0, 1)]
    assert run(cells, tmp_path, 600, 1, lambda cell, found: told.setdefault(cell.seed, found) and None) == 1
    assert told[0] == {"problem": "The loss is not finite."}
    assert load_record(tmp_path, cells[0]) is None
    assert load_record(tmp_path, cells[1]) == told[1]


@pytest.mark.slow
def test_what_a_user_types_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default of a set and of a stream, by the command line, and what is kept of them."""
    monkeypatch.setenv("INTERPLAY_CACHE", str(tmp_path / "cache"))
    cells = list(planned(["emoji-few", "emoji-small-stream"], ["default"], [0]))
    assert run(cells, tmp_path / "out", 3600, 1, lambda *_: None) == 0
    stream, few = (
        load_record(tmp_path / "out", cell) for cell in sorted(cells, key=lambda cell: -len(cell.data))
    )
    assert few is not None
    assert stream is not None
    assert 0 <= few["test"] <= 1
    assert len(few["predicted"]) == len(few["truth"]) == 200
    assert set(stream["test"]) >= {"owner", "routing", "bare", "own"}
    assert own_data.report(tmp_path / "out").count("default") >= 2
