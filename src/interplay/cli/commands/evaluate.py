"""`interplay evaluate`: a trained method, measured on one split of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interplay.cli.class_report import class_report, worst_classes
from interplay.cli.data_options import Reading
from interplay.cli.output_paths import new_file
from interplay.cli.result import Result
from interplay.cli.result import columns as aligned
from interplay.cli.runs import open_run, open_table, task_of
from interplay.errors import InterplayError

if TYPE_CHECKING:
    from torch import Tensor

    from interplay.classification.classifier import Classifier
    from interplay.data.schema import PairTable

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
    confusion: str | None = None,
    errors: str | None = None,
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
      interplay evaluate runs/mine --confusion confusion.png --errors wrong.png
      interplay evaluate runs/mine --risk-coverage risk.png

    Args:
        run: the folder that 'interplay train --out' or 'interplay continual --out' wrote.
        data: what to measure on; by default what it was trained on. Of a retriever every task of the data is
            measured, in the gallery of them all.
        split: which rows; `all` of them, whatever split they are in, is for classifiers.
        columns: what the columns are called in your data, key=value each, as `image=path text=title label=kind`;
            `captions=title` says that a cell holds several texts, separated by `|`.
        per_class: show precision, recall and F1 of every class, and the confusion matrix; for classifiers.
        confusion: a .png file for the confusion matrix, the largest class first; for several labels a pair precision
            and recall of every class; for classifiers.
        errors: a .png file for the wrong pairs, the surest ones first, up to 60, with a list of them all in a .csv file
            beside it; for classifiers.
        risk_coverage: a .png file for the share of wrong answers among the surest ones, over the share that is
            answered, with the numbers in a .json file beside it; for classifiers with one label a pair.
        overwrite: replace the files of --confusion, --errors and --risk-coverage where they are there already.
        device: where to compute, as PyTorch spells it: cpu, cuda, cuda:1, mps.
        batch_size: pairs at a time; these two are for classifiers.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
        on_bad_row: what to do with a row that cannot be used: `error` stops and names it, `skip` leaves it out and
            lists it.
    """
    if task_of(run) == "retrieval":
        for option, asked in (
            ("--confusion", confusion is not None),
            ("--errors", errors is not None),
            ("--risk-coverage", risk_coverage is not None),
            ("--per-class", per_class),
            ("--split all", split == "all"),
            ("--device", device != "cpu"),
            ("--batch-size", batch_size != _BATCH),
        ):
            if asked:
                raise InterplayError(f"{option} is for classifiers, and this run holds a retriever.")
        assert split != "all"
        from interplay.cli.retriever_evaluation import evaluated_retriever

        return evaluated_retriever(run, data, split, columns, backbone, on_bad_row)
    from interplay.classification.artifact import read_card

    source, reading = data or read_card(Path(run)).data, Reading.for_run(run, data, columns)
    read = [source, *(str(reading.given[name]) for name in ("validation", "test") if name in reading.given)]
    pictures = _Pictures(
        _picture("--confusion", confusion, None, overwrite, read),
        _picture("--errors", errors, ".csv", overwrite, read),
        _picture("--risk-coverage", risk_coverage, ".json", overwrite, read),
    )
    pictures.check()
    classifier = open_run(run, backbone)
    if risk_coverage is not None and classifier.kind != "single":
        raise InterplayError("--risk-coverage is for classifiers with one label a pair.")
    table = open_table(source, on_bad_row, reading)
    logits, targets = classifier.to(device).logits(table, split, batch_size=batch_size)
    facts: dict[str, Any] = {"run": run, "data": source, "split": split, "rows": len(targets)}
    left_out = {"left_out": [str(row) for row in table.skipped]} if table.skipped else {}
    title = f"{classifier.method_name} on {source}, {split} ({len(targets):,} rows)"
    measured = _Measured(
        classifier,
        table if split == "all" else table.split(split),
        classifier.probabilities(logits),
        targets,
        title,
    )
    found, text = _reported(measured, per_class, pictures)
    return Result(facts | {"metrics": found.pop("metrics")} | left_out | found, text)


@dataclass(frozen=True)
class _Pictures:
    """Where the pictures go that are wanted."""

    confusion: Path | None
    errors: Path | None
    risk_coverage: Path | None

    def check(self) -> None:
        """Refuse two in one file.

        Raises:
            InterplayError: two options name the same.
        """
        there: dict[Path, str] = {}
        for option, path in vars(self).items():
            if path is not None and (other := there.setdefault(path.resolve(), option)) != option:
                raise InterplayError(
                    f"--{other} and --{option.replace('_', '-')} both write '{path}': choose another name for one."
                )


@dataclass(frozen=True)
class _Measured:
    """A classifier, the pairs that it was measured on, its probabilities (N, K), the targets and a title."""

    classifier: Classifier
    pairs: PairTable
    probabilities: Tensor
    targets: Tensor
    title: str


def _picture(
    option: str, place: str | None, beside: str | None, overwrite: bool, read: Sequence[str]
) -> Path | None:
    """Where a picture goes, with a file beside it that ends in `beside`; None where none is wanted.

    Args:
        read: files of data, which are never replaced.

    Raises:
        InterplayError: one of the two cannot be written there.
    """
    if place is None:
        return None
    picture = new_file(option, place, (".png",), overwrite=overwrite)
    if beside is not None:
        for data in read:
            new_file(option, str(picture.with_suffix(beside)), (beside,), overwrite=overwrite, read=data)
    return picture


def _reported(measured: _Measured, per_class: bool, pictures: _Pictures) -> tuple[dict[str, Any], str]:
    """The figures and pictures that are wanted, for machines and for people."""
    from interplay.classification.report import report

    classifier, probabilities, targets = measured.classifier, measured.probabilities, measured.targets
    assert classifier.card is not None
    labels = classifier.labels or ()
    figures = report(labels, probabilities, targets, classifier.card.kind)
    found: dict[str, Any] = {"metrics": figures.metrics}
    texts = [measured.title, aligned(("metric", "value"), list(figures.metrics.items()))]
    more, classes = class_report(figures) if per_class else worst_classes(figures)
    found |= more
    texts.append(classes)
    if pictures.confusion is not None:
        from interplay.plotting.classes import confusion, precision_and_recall

        if figures.confusion is not None:
            confusion(figures.confusion, pictures.confusion, measured.title)
        else:
            precision_and_recall(figures.classes, pictures.confusion, measured.title)
        found["confusion_picture"] = str(pictures.confusion)
        texts.append(f"The picture of the classes is in {pictures.confusion}.")
    if pictures.errors is not None:
        from interplay.classification.mistakes import mistakes
        from interplay.cli.wrong_pairs import draw_wrong_pairs

        wrong = mistakes(labels, probabilities, targets)
        found["errors"], text = draw_wrong_pairs(measured.pairs, wrong, pictures.errors, measured.title)
        texts.append(text)
    if pictures.risk_coverage is not None:
        from interplay.cli.risk_coverage import draw_risk_coverage

        found["risk_coverage"], text = draw_risk_coverage(
            probabilities, targets, pictures.risk_coverage, measured.title
        )
        texts.append(text)
    return found, "\n\n".join(text for text in texts if text)
