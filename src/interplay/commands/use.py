"""Commands that use a trained method: evaluate, predict."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interplay.commands.output import Result, columns, note
from interplay.commands.runs import open_run, open_table, task_of
from interplay.errors import InterplayError

if TYPE_CHECKING:
    from interplay.classification.classifier import Classifier

_BLOCK = 256
"""Rows of a table that are decoded at a time."""


def evaluate(
    run: str,
    *,
    data: str | None = None,
    split: Literal["train", "validation", "test"] = "test",
    risk_coverage: str | None = None,
    backbone: str | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
) -> Result:
    """Measure a trained method on one split of a data set: a classifier's accuracy, or a retriever's recall.

    Examples:

      interplay evaluate runs/subgroup
      interplay evaluate runs/mine --data pairs.csv --split validation --json
      interplay evaluate runs/mine --risk-coverage risk.png

    Args:
        run: the folder that 'interplay train --out' or 'interplay continual --out' wrote.
        data: what to measure on; by default what it was trained on. Of a retriever every task of the data is
            measured, in the gallery of them all.
        split: which rows.
        risk_coverage: a .png file for the share of wrong answers among the surest ones, over the share that is
            answered, with the numbers in a .json file beside it; for classifiers with one label a pair.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
        on_bad_row: what to do with a row that cannot be used: `error` stops and names it, `skip` leaves it out and
            lists it.
    """
    if risk_coverage is not None and Path(risk_coverage).suffix != ".png":
        raise InterplayError(f"--risk-coverage writes .png, not '{risk_coverage}'.")
    if task_of(run) == "retrieval":
        if risk_coverage is not None:
            raise InterplayError("--risk-coverage is for classifiers, and this run holds a retriever.")
        from interplay.commands.measure import measure

        return measure(run, data, split, backbone, on_bad_row)
    classifier = open_run(run, backbone)
    assert classifier.card is not None
    if risk_coverage is not None and classifier.kind != "single":
        raise InterplayError("--risk-coverage is for classifiers with one label a pair.")
    from interplay.metrics.classification import classification_metrics

    source = data or classifier.card.data
    table = open_table(source, on_bad_row)
    logits, targets = classifier.logits(table, split)
    probabilities = classifier.probabilities(logits)
    metrics = classification_metrics(probabilities, targets, classifier.card.kind)
    found = {"run": run, "data": source, "split": split, "rows": len(targets), "metrics": metrics}
    if table.skipped:
        found["left_out"] = [str(row) for row in table.skipped]
    title = f"{classifier.method_name} on {source}, {split} ({len(targets):,} rows)"
    text = f"{title}\n\n{columns(('metric', 'value'), list(metrics.items()))}"
    if risk_coverage is not None:
        from interplay.commands.calibrate import draw_risk_coverage

        found["risk_coverage"], more = draw_risk_coverage(probabilities, targets, Path(risk_coverage), title)
        text += f"\n\n{more}"
    return Result(found, text)


def predict(
    run: str,
    *,
    image: str | None = None,
    text: str | None = None,
    table: str | None = None,
    out: str | None = None,
    abstain_below: float | None = None,
    backbone: str | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
) -> Result:
    """Classify one pair of picture and text, or a table of them.

    Examples:

      interplay predict runs/relation --image cat.png --text "grinning cat"
      interplay predict runs/mine --table pairs.csv --out predictions.csv
      interplay predict runs/mine --table pairs.csv --abstain-below 0.8

    A table in has the columns image (a path relative to it) and text, and may have an id; labels are not read. The
    table out has the columns id, text, prediction and, for each class, `p(class)`: its probability.
    With --abstain-below there is a column `abstained` too, true or false.

    Args:
        run: the folder that 'interplay train --out' wrote.
        image: a picture file.
        text: the text beside it.
        table: a .csv, .jsonl or .parquet file, or a folder, with pairs.
        out: a .csv or .jsonl file for the predictions of a table; without it they are printed.
        abstain_below: leave the prediction empty where even the highest probability is below this, above 0 and up to 1;
            'interplay calibrate' makes probabilities worth comparing with it. For one label a pair.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
        on_bad_row: what to do with a row of the table that cannot be used: `error` stops and names it, `skip` leaves
            it out and lists it.
    """
    if (table is None) == (image is None and text is None) or (image is None) != (text is None):
        raise InterplayError("interplay predict needs --image and --text, or --table alone.")
    if out is not None and table is None:
        raise InterplayError(
            "--out is where the predictions for a --table go: with --image they are printed."
        )
    if out is not None and Path(out).suffix not in (".csv", ".jsonl"):
        raise InterplayError(f"--out writes .csv or .jsonl, not '{out}'.")
    classifier = open_run(run, backbone)
    classifier.check_abstaining(abstain_below)
    if table is not None:
        return _predict_table(classifier, table, out, on_bad_row, abstain_below)
    assert image is not None
    assert text is not None
    if not Path(image).is_file():
        raise InterplayError(f"There is no picture '{image}'.")
    (found,) = _predictions(classifier, [image], [text], abstain_below)
    ranked = sorted(found["probabilities"].items(), key=lambda item: -item[1])
    title = f"{'abstained' if found.get('abstained') else _worded(found['prediction'])}\n\n"
    return Result({"image": image, "text": text} | found, title + columns(("class", "probability"), ranked))


def _predictions(
    classifier: Classifier, images: Sequence[Any], texts: Sequence[str], abstain_below: float | None
) -> Iterator[dict[str, Any]]:
    """For each pair the prediction and the probability of each class, and whether it abstained where it may."""
    assert classifier.labels is not None
    probabilities = classifier.predict_proba(images, texts)
    decisions = classifier.decide(probabilities, abstain_below=abstain_below)
    for decision, row in zip(decisions, probabilities.tolist(), strict=True):
        may = {} if abstain_below is None else {"abstained": decision == ""}
        yield {
            "prediction": decision,
            **may,
            "probabilities": dict(zip(classifier.labels, row, strict=True)),
        }


def _predict_table(
    classifier: Classifier,
    source: str,
    out: str | None,
    on_bad_row: Literal["error", "skip"],
    abstain_below: float | None,
) -> Result:
    from datasets.utils import tqdm

    from interplay.data import load

    pairs = load(source, on_bad_row=on_bad_row, labelled=False)
    for row in pairs.skipped:
        note(f"Left out: {row}.")
    texts, ids = pairs.texts(), pairs.ids()
    found: list[dict[str, Any]] = []
    for start in tqdm(range(0, len(pairs), _BLOCK), desc="Predicting", delay=2, leave=False):
        rows = range(start, min(start + _BLOCK, len(pairs)))
        block = _predictions(classifier, pairs.sources(rows), texts[start : rows.stop], abstain_below)
        found += [{"id": ids[at], "text": texts[at]} | one for at, one in zip(rows, block, strict=True)]
    left_out = [str(row) for row in pairs.skipped]
    if out is None:
        return Result({"rows": found, "left_out": left_out}, _as_csv(found).rstrip("\n"))
    from interplay.files import write_text

    as_lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
    write_text(Path(out), as_lines if out.endswith(".jsonl") else _as_csv(found))
    summary: dict[str, Any] = {"out": out, "rows": len(found), "left_out": left_out}
    text = f"{len(found):,} predictions are in {out}."
    if abstain_below is not None:
        summary["abstained"] = sum(row["abstained"] for row in found)
        text += f" {summary['abstained']:,} pairs are left without one."
    if left_out:
        text += f" {len(left_out):,} rows could not be used and were left out."
    return Result(summary, text)


def _as_csv(rows: Sequence[dict[str, Any]]) -> str:
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    classes = list(rows[0]["probabilities"])
    may = ["abstained"] if "abstained" in rows[0] else []
    writer.writerow(["id", "text", "prediction", *may, *(f"p({name})" for name in classes)])
    for row in rows:
        values = (f"{row['probabilities'][name]:.6f}" for name in classes)
        prediction = row["prediction"]
        writer.writerow(
            [
                row["id"],
                row["text"],
                prediction if isinstance(prediction, str) else "|".join(prediction),
                *(str(row[name]).lower() for name in may),
                *values,
            ]
        )
    return lines.getvalue()


def _worded(prediction: str | list[str]) -> str:
    if isinstance(prediction, str):
        return prediction
    return ", ".join(prediction) or "none of the classes"
