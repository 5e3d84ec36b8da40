"""What the cells of the bench say: regret, rank, and whether a default is below its own probe, or its bare backbone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.small_data.cells import PROBES
from interplay.comparison.pages import shown
from interplay.comparison.tables import RESAMPLES, bootstrap
from interplay.files import read_json

Record = Mapping[str, Any]
Groups = dict[str, dict[str, list[Record]]]
"""Records by set and row, one a seed."""
DEFAULT = "default"
POINTS = 0.02
"""A gain that counts."""


@dataclass(frozen=True)
class Difference:
    """A row's metric less another's, each the mean over its seeds, and the 95 % interval of a paired bootstrap."""

    mean: float
    low: float
    high: float

    @property
    def below(self) -> bool:
        """Beyond noise."""
        return self.high < 0

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def read_all(out: Path) -> Groups:
    """All finished cells of a folder."""
    groups: Groups = {}
    for path in sorted((out / "cells").glob("*/*.json")):
        record: Record = read_json(path)
        groups.setdefault(record["data"], {}).setdefault(record["row"], []).append(record)
    return groups


def values(
    rows: Mapping[str, Sequence[Record]], split: Literal["validation", "test"] = "test"
) -> dict[str, float]:
    """The metric of each row, mean over its seeds."""
    return {row: fmean(record[split] for record in records) for row, records in rows.items()}


def regrets(table: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """For each row the mean, over the sets that it was run on, of what the set's best row has more than it.

    Args:
        table: by set, by row, the metric.
    """
    lost: dict[str, list[float]] = {}
    for rows in table.values():
        best = max(rows.values())
        for row, value in rows.items():
            lost.setdefault(row, []).append(best - value)
    return {row: fmean(all_lost) for row, all_lost in lost.items()}


def mean_ranks(table: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """For each row the mean of its ranks among the rows of each set, 1 the best; equal rows share their mean."""
    found: dict[str, list[float]] = {}
    for rows in table.values():
        for row, rank in zip(rows, rankdata([-value for value in rows.values()]), strict=True):
            found.setdefault(row, []).append(float(rank))
    return {row: fmean(ranks) for row, ranks in found.items()}


def best_probe(rows: Mapping[str, Sequence[Record]]) -> str | None:
    """The probe that is best on test, the hardest one to beat; None where none was run."""
    found = {row: value for row, value in values(rows).items() if row in PROBES}
    return max(found, key=found.__getitem__, default=None)


def against(rows: Mapping[str, Sequence[Record]], row: str, other: str) -> Difference:
    """`row` less `other` on the same test pairs."""
    mean, low, high, _ = bootstrap(rows[other], rows[row])
    return Difference(mean, low, high)


def hits(ranks: Mapping[str, Sequence[int]], owner: Sequence[int], k: int = 10) -> NDArray[np.float64]:
    """For each picture its part in R@k: its hits, 1, hits of its texts, number of its texts: (pictures, 4)."""
    of_image = np.array(ranks["image_to_text"]) <= k
    found = np.zeros((len(of_image), 4))
    found[:, 0], found[:, 1] = of_image, 1
    np.add.at(found[:, 2], owner, np.array(ranks["text_to_image"]) <= k)
    np.add.at(found[:, 3], owner, 1)
    return found


def recall_difference(
    records: Sequence[Record],
    way: str,
    other: str,
    split: str = "test",
    resamples: int = RESAMPLES,
    *,
    k: int = 10,
) -> Difference:
    """R@k (mean of both directions, over all queries) of one way to encode less another, resampling pictures.

    Args:
        records: one a seed.
        way, other: `bare`, `own`, `true`.
    """
    pictures = len(records[0][split]["bare"]["image_to_text"])
    draws = np.random.default_rng(0).multinomial(pictures, np.full(pictures, 1 / pictures), size=resamples)
    weights = np.concatenate([np.ones((1, pictures)), draws])
    means = []
    for name in (way, other):
        sums = [weights @ hits(record[split][name], record[split]["owner"], k) for record in records]
        means.append(np.mean([(one[:, 0] / one[:, 1] + one[:, 2] / one[:, 3]) / 2 for one in sums], axis=0))
    found = means[0] - means[1]
    low, high = np.quantile(found[1:], [0.025, 0.975])
    return Difference(float(found[0]), float(low), float(high))


def recall(records: Sequence[Record], way: str, split: str = "test") -> float:
    """R@10, mean of both directions over all queries and of all seeds."""
    both = [hits(record[split][way], record[split]["owner"]).sum(axis=0) for record in records]
    return fmean(float(one[0] / one[1] + one[2] / one[3]) / 2 for one in both)


def sets_report(groups: Groups, halves: Mapping[str, str]) -> str:
    """Markdown: the rows over all sets, of each half, and every set with its default.

    Args:
        halves: the half of each set.
    """
    groups = {name: rows for name, rows in groups.items() if name in halves}
    parts = []
    for title, names in _by_half(groups, halves):
        table = {name: values(groups[name]) for name in names}
        parts.append(f"### {title}: {len(names)} sets\n\n{_rows_table(groups, table)}")
    return "\n\n".join([*parts, f"### The default on each set\n\n{_each_set(groups, halves)}"])


def validation_report(groups: Groups, halves: Mapping[str, str]) -> str:
    """Markdown: regret and rank on the validation splits of the half `development`, by which defaults may be chosen."""
    table = {
        name: values(rows, "validation") for name, rows in groups.items() if halves.get(name) == "development"
    }
    lost, ranks = regrets(table), mean_ranks(table)
    lines = ["| row | sets | mean regret | mean rank |", "|---" * 4 + "|"]
    for row in sorted(lost, key=lost.__getitem__):
        count = sum(row in rows for rows in table.values())
        lines.append(f"| {row} | {count} | {100 * lost[row]:.1f} | {ranks[row]:.1f} |")
    return "\n".join(lines)


def _rows_table(groups: Groups, table: Mapping[str, Mapping[str, float]]) -> str:
    lost, ranks = regrets(table), mean_ranks(table)
    lines = [
        "| row | sets | mean regret | mean rank | below its best probe | above it by 2 points | mean seconds |",
        "|---" * 7 + "|",
    ]
    for row in sorted(lost, key=lost.__getitem__):
        names = [name for name in table if row in table[name]]
        compared = [
            against(groups[name], row, probe)
            for name in names
            if row not in PROBES and (probe := best_probe(groups[name])) is not None
        ]
        below = f"{sum(one.below for one in compared)} / {len(compared)}" if compared else "–"
        above = f"{sum(one.mean >= POINTS for one in compared)} / {len(compared)}" if compared else "–"
        taken = [record for name in names for record in groups[name][row]]
        lines.append(
            f"| {row} | {len(names)} | {100 * lost[row]:.1f} | {ranks[row]:.1f} | {below} | {above} | "
            f"{_seconds(taken)} |"
        )
    return "\n".join(lines)


def _each_set(groups: Groups, halves: Mapping[str, str]) -> str:
    lines = [
        "| set | half | metric | zero-shot | best probe | default | to the probe [95 %] | best row | seeds | seconds |",
        "|---" * 10 + "|",
    ]
    for name, rows in groups.items():
        found, probe = values(rows), best_probe(rows)
        best = max(found, key=found.__getitem__)
        default = rows.get(DEFAULT, [])
        gap = str(against(rows, DEFAULT, probe)) if default and probe else "–"
        lines.append(
            f"| {name} | {halves[name]} | {next(iter(rows.values()))[0]['metric']} | {_cent(found.get('zero_shot'))} | "
            f"{f'{_cent(found[probe])} ({probe})' if probe else '–'} | "
            f"{shown([record['test'] for record in default]) if default else '–'} | {gap} | "
            f"{_cent(found[best])} ({best}) | {len(default)} | "
            f"{_seconds(default)} |"
        )
    return "\n".join(lines)


def streams_report(groups: Groups, halves: Mapping[str, str]) -> str:
    """Markdown: R@10, and what R@1 gains, of every stream and row over all tasks after the last session.

    Args:
        halves: the half of each stream.
    """
    lines = [
        "| stream | half | row | bare | own routing | to bare [95 %] | R@1 to bare [95 %] | true task | routed right "
        "| seeds | seconds |",
        "|---" * 11 + "|",
    ]
    gaps: dict[str, list[Difference]] = {}
    for name in (name for name in groups if name in halves):
        for row, records in groups[name].items():
            gap = recall_difference(records, "own", "bare")
            gaps.setdefault(row, []).append(gap)
            shares = [share for r in records for share in r["test"]["routing"].values() if share is not None]
            true = _cent(recall(records, "true") if "true" in records[0]["test"] else None)
            routed = _cent(fmean(shares) if shares else None)
            lines.append(
                f"| {name} | {halves[name]} | {row} | {_cent(recall(records, 'bare'))} | "
                f"{_cent(recall(records, 'own'))} | {gap} | "
                f"{recall_difference(records, 'own', 'bare', k=1)} | {true} | "
                f"{routed} | {len(records)} | {_seconds(records)} |"
            )
    for row, found in gaps.items():
        lines.append(
            f"\n{row}: below the bare backbone beyond noise on {sum(gap.below for gap in found)} of {len(found)}, "
            f"3 points above it on {sum(gap.mean >= 0.03 for gap in found)}, "
            f"{100 * fmean(gap.mean for gap in found):+.1f} points in the mean."
        )
    return "\n".join(lines)


def _by_half(groups: Groups, halves: Mapping[str, str]) -> Iterable[tuple[str, list[str]]]:
    yield "All", [*groups]
    for half in dict.fromkeys(halves.values()):
        if names := [name for name in groups if halves[name] == half]:
            yield half.capitalize(), names


def _seconds(records: Sequence[Record]) -> str:
    return f"{fmean(record['seconds'] for record in records):.0f}" if records else "–"


def _cent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
