"""What choosing a head is worth: nested cross-validation over the train and validation pairs of development sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.small_data.folders import table
from interplay.classification.evidence import Monitor
from interplay.classification.model import PairClassifier
from interplay.classification.starts import PairVectors, Starts, folds_of, logits_of, vectors_of
from interplay.encoding.inputs import encode_table
from interplay.methods.registry import choose
from interplay.parts.heads import Head, HeadSettings, Readout
from interplay.towers.backbone import load_backbone
from interplay.towers.hidden import HiddenStates
from interplay.towers.tokens import SIDES

READOUTS: dict[str, Sequence[Readout]] = {"vectors": ("vectors",), "hidden": ("vectors", "hidden")}
"""What may be read, by the name of its column."""
MOST = 1200
"""Pairs of a set that are looked at, drawn with a fixed seed."""


@dataclass(frozen=True)
class Nested:
    """One set.

    Attributes:
        name: of the set.
        rows: pairs that were looked at.
        values: for each column the monitored figure on pairs that neither the fit nor the choice saw, mean of folds.
        chosen: the heads that were chosen where all may be read, and how often.
    """

    name: str
    rows: int
    values: dict[str, float]
    chosen: Counter[str]


def nested(name: str, repeats: int = 1) -> Nested:
    """Five folds, in each of which heads are chosen anew on the other four; the test split is never read."""
    backbone, pairs = load_backbone("tiny"), table(name)
    multi = pairs.kind == "multi"
    head = Head(HeadSettings(), backbone.shape.joint, len(pairs.classes), backbone.scale, bias=multi)
    model = PairClassifier(choose("head_only").build(backbone.shape), head, "multi" if multi else "single")
    model.prepare(backbone, pairs.class_texts())
    seen, held_out = (
        vectors_of(model, backbone, encode_table(pairs.split(split), backbone))
        for split in ("train", "validation")
    )
    known = seen.and_(held_out)
    known = rows_of(known, torch.randperm(len(known), generator=torch.Generator().manual_seed(1))[:MOST])
    monitor = Monitor(model, model.monitors[0])
    values: dict[str, list[float]] = {column: [] for column in READOUTS}
    chosen: Counter[str] = Counter()
    for train, validation, test in folds(known, repeats):
        for column, readouts in READOUTS.items():
            starts = Starts(model, monitor, readouts=readouts)
            best = starts.choose(train, validation).best
            fitted = starts.fit(best, train.and_(validation))
            values[column].append(monitor.value(logits_of(fitted, test), test.targets))
        settings = best.candidate.settings
        chosen[f"{settings.kind} {settings.read} {settings.readout}"] += 1
    means = {column: sum(found) / len(found) for column, found in values.items()}
    return Nested(name, len(known), means, chosen)


def folds(known: PairVectors, repeats: int) -> Iterator[tuple[PairVectors, PairVectors, PairVectors]]:
    """Train, validation and test of each fold: seven tenths, a tenth and two tenths of the pairs."""
    for seed in range(repeats):
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))
        mixed = rows_of(known, order)
        tenths = folds_of(mixed.targets)
        for at in range(0, len(tenths), 2):
            parts = [torch.cat(tenths[at : at + 2]), tenths[(at + 2) % len(tenths)]]
            rest = torch.ones(len(mixed), dtype=torch.bool)
            rest[torch.cat(parts)] = False
            test, validation, train = (rows_of(mixed, rows) for rows in (*parts, rest.nonzero().squeeze(1)))
            yield train, validation, test


def rows_of(pairs: PairVectors, rows: Tensor) -> PairVectors:
    """Some pairs, by number."""
    hidden = None
    if pairs.hidden is not None:
        hidden = HiddenStates(*(pairs.hidden.asked(side)[rows] for side in SIDES))
    return PairVectors(pairs.image[rows], pairs.text[rows], pairs.targets[rows], hidden)


def choices_report(found: Sequence[Nested]) -> str:
    """Markdown: one line a set, and the mean."""
    lines = ["| set | pairs | vectors | hidden states too | chosen |", "|---|---|---|---|---|"]
    for one in found:
        often = ", ".join(f"{head} ({times})" for head, times in one.chosen.most_common(2))
        lines.append(f"| {one.name} | {one.rows} | {_shown(one.values.values())} | {often} |")
    means = [sum(one.values[column] for one in found) / len(found) for column in READOUTS]
    return "\n".join([*lines, f"| mean | | {_shown(means)} | |"])


def _shown(values: Iterable[float]) -> str:
    return " | ".join(f"{100 * value:.1f}" for value in values)
