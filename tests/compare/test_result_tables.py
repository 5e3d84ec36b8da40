"""Tables: the bootstrap against a slow one, metrics from sums against the library's own, words and links."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interplay.comparison.grid import GridCell
from interplay.comparison.pages import cells_of_row, header_of, markdown, page, shown
from interplay.comparison.tables import bootstrap, data_tables, headline, outcome
from interplay.metrics.classification import classification_metrics


def record(
    row: str, seed: int, kind: str, skill: float, pairs: int = 60, classes: int = 4
) -> dict[str, object]:
    """Random predictions that are right with probability `skill`."""
    dice, truth_dice = np.random.default_rng([seed, int(100 * skill)]), np.random.default_rng(5)
    right = dice.random(pairs) < skill
    if kind == "single":
        truth = truth_dice.integers(classes, size=pairs)
        predicted: list[object] = np.where(right, truth, (truth + 1) % classes).tolist()
        probabilities = torch.nn.functional.one_hot(torch.tensor(predicted), classes).float()
        targets = torch.tensor(truth)
        truths: list[object] = truth.tolist()
    else:
        mask = truth_dice.random((pairs, classes - 1)) < 0.4
        mask = np.concatenate([mask, np.zeros((pairs, 1), dtype=bool)], axis=1)  # a class that never occurs
        guess = np.where(right[:, None], mask, ~mask)
        guess[:, -1] = False
        predicted = [np.flatnonzero(line).tolist() for line in guess]
        truths = [np.flatnonzero(line).tolist() for line in mask]
        probabilities, targets = torch.tensor(guess).float(), torch.tensor(mask).float()
    return {
        "cell": GridCell(row, "mitp", "toy", seed).plain(),
        "metrics": classification_metrics(probabilities, targets, kind),  # type: ignore[arg-type]
        "kind": kind,
        "classes": classes,
        "predicted": predicted,
        "truth": truths,
        "trained_parameters": 1234,
        "seconds": 2.0,
        "peak_mib": 5.0 if seed == 0 else None,
        "pairs_per_second": 10.0,
    }


METRIC = {"single": "accuracy", "multi": "f1_macro"}


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_sums_give_the_metric(kind: str) -> None:
    found = record("a", 0, kind, 0.7)
    sums = outcome(found, 4).sum(axis=0)
    assert headline(sums, 60, kind) == pytest.approx(found["metrics"][METRIC[kind]], abs=1e-12)  # type: ignore[index]


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_the_bootstrap_is_the_slow_one(kind: str) -> None:
    best = [record("a", seed, kind, 0.8) for seed in (0, 1)]
    other = [record("b", seed, kind, 0.6) for seed in (0, 1, 2)]
    found = bootstrap(best, other, resamples=50, seed=3)
    draws = np.random.default_rng(3).multinomial(60, np.full(60, 1 / 60), size=50)

    def value(one: dict[str, object], rows: np.ndarray) -> float:
        parts = outcome(one, 4)[rows]
        return float(headline(parts.sum(axis=0), len(rows), kind))

    differences = []
    for counts in [np.ones(60, dtype=int), *draws]:
        rows = np.repeat(np.arange(60), counts)
        means = [np.mean([value(one, rows) for one in group]) for group in (best, other)]
        differences.append(means[1] - means[0])
    assert found[0] == pytest.approx(differences[0], abs=1e-12)
    assert found[1:3] == pytest.approx(tuple(np.quantile(differences[1:], [0.025, 0.975])), abs=1e-12)
    assert found[3] == np.mean([value >= -1e-15 for value in differences[1:]])
    assert found[0] < 0
    assert found[3] < 0.2


def test_a_row_against_itself_is_no_worse() -> None:
    same = [record("a", 0, "single", 0.5)]
    assert bootstrap(same, same) == (0.0, 0.0, 0.0, 1.0)


def test_the_best_row_is_bold_and_every_seed_is_a_link() -> None:
    records = [
        record(row, seed, "single", skill) for row, skill in (("a", 0.5), ("b", 0.9)) for seed in (0, 1)
    ]
    records.append({"cell": GridCell("c", "mitp", "toy", 0).plain(), "problem": "It broke."})
    (table,) = data_tables(records)
    assert table.best.name == "b"
    assert [row.name for row in table.rows] == ["a", "b"]
    assert table.rows[0].p_value == 0
    assert table.rows[0].peak_mib == 5
    text = markdown([table], "../results")
    assert "| **b** | **" in text
    assert "| a | " in text
    assert "[1](../results/cells/toy/b-1.json)" in text
    html = page([table], "A <title>", "note")
    assert '<a href="cells/toy/a-0.json">0</a>' in html
    assert "A &lt;title&gt;" in html


@pytest.mark.parametrize(
    ("kind", "header", "second"),
    [
        ("single", "| row | accuracy | runs | macro accuracy | macro F1 |", "f1_macro"),
        ("multi", "| row | macro F1 | runs | micro F1 | mean average precision |", "map"),
    ],
)
def test_macro_figures_stand_beside_the_headline(kind: str, header: str, second: str) -> None:
    records = [record("a", seed, kind, 0.6) for seed in (0, 1)]
    (table,) = data_tables(records)
    assert header in markdown([table])
    values = [one["metrics"][second] for one in records]  # type: ignore[index]
    assert table.rows[0].beside[1] == tuple(values)
    assert f"| {shown(values)} |" in markdown([table])
    assert f"<td>{shown(values)}</td>" in page([table], "title", "note")
    assert cells_of_row(table.rows[0], table)[4] == shown(values)
    assert len(header_of(table)) == len(cells_of_row(table.rows[0], table))


def test_shares_stand_in_tables_of_their_own() -> None:
    records = [record("a", 0, "single", 0.5), record("a", 0, "single", 0.9)]
    records[1]["cell"] = GridCell("a", "mitp", "toy", 0, share=0.1).plain()
    tables = data_tables(records)
    assert [table.title for table in tables] == ["toy", "toy, 10 % of the training data"]
