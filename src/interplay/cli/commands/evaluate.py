"""`interplay evaluate`: a trained method, measured on one split of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interplay.cli.class_report import class_report
from interplay.cli.data_options import Reading
from interplay.cli.output_paths import new_file
from interplay.cli.result import Result
from interplay.cli.result import columns as aligned
from interplay.cli.runs import open_run, open_table, task_of
from interplay.errors import InterplayError

if TYPE_CHECKING:
    from torch import Tensor

    from interplay.classification.classifier import Classifier

GROUP = "Classify"


_BATCH = 64
"""Pairs at a time, by default."""


def evaluate(
    run: str,
    *,
    data: str | None = None,
    split: Literal["train", "validation", "test", "all"] = "test",
    columns: tuple[str, ...] = (),
    per_class: bool = False,
    risk_coverage: str | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    batch_size: int = _BATCH,
    backbone: str | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
) -> Result:
    """Measure a trained method on one split of a data set: a classifier's accuracy, or a retriever's recall.

    Examples:

      interplay evaluate runs/subgroup
      interplay evaluate runs/mine --data pairs.csv --split validation --json
      interplay evaluate runs/mine --data more.csv --split all --columns text=title --per-class
      interplay evaluate runs/mine --risk-coverage risk.png

    Args:
        run: the folder that 'interplay train --out' or 'interplay continual --out' wrote.
        data: what to measure on; by default what it was trained on. Of a retriever every task of the data is
            measured, in the gallery of them all.
        split: which rows; `all` of them, whatever split they are in, is for classifiers.
        columns: what the columns are called in your data, key=value each, as `image=path text=title label=kind`;
            `captions=title` says that a cell holds several texts, separated by `|`.
        per_class: show precision, recall and F1 of every class, and the confusion matrix; for classifiers.
        risk_coverage: a .png file for the share of wrong answers among the surest ones, over the share that is
            answered, with the numbers in a .json file beside it; for classifiers with one label a pair.
        overwrite: replace the files of --risk-coverage where they are there already.
        device: where to compute, as PyTorch spells it: cpu, cuda, cuda:1, mps.
        batch_size: pairs at a time; these two are for classifiers.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
        on_bad_row: what to do with a row that cannot be used: `error` stops and names it, `skip` leaves it out and
            lists it.
    """
    picture = _picture(risk_coverage, overwrite, data)
    if task_of(run) == "retrieval":
        for option, asked in (
            ("--risk-coverage", picture is not None),
            ("--per-class", per_class),
            ("--split all", split == "all"),
            ("--device", device != "cpu"),
            ("--batch-size", batch_size != _BATCH),
        ):
            if asked:
                raise InterplayError(f"{option} is for classifiers, and this run holds a retriever.")
        assert split != "all"
        from interplay.cli.retriever_evaluation import measure

        return measure(run, data, split, columns, backbone, on_bad_row)
    classifier = open_run(run, backbone)
    assert classifier.card is not None
    if picture is not None and classifier.kind != "single":
        raise InterplayError("--risk-coverage is for classifiers with one label a pair.")
    source = data or classifier.card.data
    table = open_table(source, on_bad_row, Reading.for_run(run, data, columns))
    logits, targets = classifier.to(device).logits(table, split, batch_size=batch_size)
    facts: dict[str, Any] = {"run": run, "data": source, "split": split, "rows": len(targets)}
    left_out = {"left_out": [str(row) for row in table.skipped]} if table.skipped else {}
    title = f"{classifier.method_name} on {source}, {split} ({len(targets):,} rows)"
    found, text = _reported(classifier, classifier.probabilities(logits), targets, title, per_class, picture)
    return Result(facts | {"metrics": found.pop("metrics")} | left_out | found, text)


def _picture(place: str | None, overwrite: bool, data: str | None) -> Path | None:
    """Where the risk-coverage curve goes, with its numbers in a JSON file beside it; None where none is wanted.

    Raises:
        InterplayError: one of the two cannot be written there.
    """
    if place is None:
        return None
    picture = new_file("--risk-coverage", place, (".png",), overwrite=overwrite)
    numbers = str(picture.with_suffix(".json"))
    new_file("--risk-coverage", numbers, (".json",), overwrite=overwrite, read=data)
    return picture


def _reported(
    classifier: Classifier,
    probabilities: Tensor,
    targets: Tensor,
    title: str,
    per_class: bool,
    picture: Path | None,
) -> tuple[dict[str, Any], str]:
    """The figures that are wanted, for machines and for people."""
    from interplay.classification.report import report

    assert classifier.card is not None
    figures = report(classifier.labels or (), probabilities, targets, classifier.card.kind)
    found: dict[str, Any] = {"metrics": figures.metrics}
    text = f"{title}\n\n{aligned(('metric', 'value'), list(figures.metrics.items()))}"
    if per_class:
        more_of, classes = class_report(figures)
        found |= more_of
        text += f"\n\n{classes}"
    if picture is not None:
        from interplay.cli.risk_coverage import draw_risk_coverage

        found["risk_coverage"], more = draw_risk_coverage(probabilities, targets, picture, title)
        text += f"\n\n{more}"
    return found, text
