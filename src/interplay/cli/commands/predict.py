"""`interplay predict`: one pair of picture and text, or a table of pairs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interplay.cli.data_options import Reading
from interplay.cli.output_paths import new_file
from interplay.cli.result import Result, note
from interplay.cli.result import columns as aligned
from interplay.cli.runs import open_run
from interplay.errors import InterplayError

if TYPE_CHECKING:
    from interplay.classification.classifier import Classifier

GROUP = "Classify"


_BATCH = 64
"""Pairs at a time, by default."""


_BLOCK = 256
"""Rows of a table that are decoded at a time."""


def predict(
    run: str,
    *,
    image: str | None = None,
    text: str | None = None,
    table: str | None = None,
    out: str | None = None,
    overwrite: bool = False,
    columns: tuple[str, ...] = (),
    abstain_below: float | None = None,
    device: str = "cpu",
    batch_size: int = _BATCH,
    backbone: str | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
) -> Result:
    """Classify one pair of picture and text, one of the two where that is enough, or a table of pairs.

    Examples:

      interplay predict runs/relation --image cat.png --text "grinning cat"
      interplay predict runs/mine --table pairs.csv --out predictions.csv
      interplay predict runs/mine --table pairs.csv --abstain-below 0.8

    A table in has the columns image (a path relative to it) and text, and may have an id; labels are not read. The
    table out has the columns id, text, prediction and, for each class, `p(class)`: its probability.
    With --abstain-below there is a column `abstained` too, true or false.

    Args:
        run: the folder that 'interplay train --out' wrote.
        image: a picture file; alone, where the classifier reads nothing else.
        text: the text beside it, or alone.
        table: a file or folder with pairs, as 'interplay train' takes them.
        out: a .csv or .jsonl file for the predictions of a table; without it they are printed.
        overwrite: replace that file where it is there already.
        columns: what the columns are called in your data, key=value each, as `image=path text=title label=kind`;
            `captions=title` says that a cell holds several texts, separated by `|`.
        abstain_below: leave the prediction empty where even the highest probability is below this, above 0 and up to 1;
            'interplay calibrate' makes probabilities worth comparing with it. For one label a pair.
        device: where to compute, as PyTorch spells it: cpu, cuda, cuda:1, mps.
        batch_size: pairs at a time.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
        on_bad_row: what to do with a row of the table that cannot be used: `error` stops and names it, `skip` leaves
            it out and lists it.
    """
    if (table is None) == (image is None and text is None):
        raise InterplayError("interplay predict needs --image and --text, or --table alone.")
    if columns and table is None:
        raise InterplayError("--columns says what the columns of a --table are called.")
    reading = Reading.of(columns)
    if out is not None and table is None:
        raise InterplayError(
            "--out is where the predictions for a --table go: with --image they are printed."
        )
    if out is not None:
        new_file("--out", out, (".csv", ".jsonl"), overwrite=overwrite, read=table)
    from interplay.classification.deciding import check_abstaining

    classifier = open_run(run, backbone).to(device)
    check_abstaining(classifier.kind, abstain_below)
    if table is not None:
        return _predict_table(classifier, table, reading, out, on_bad_row, abstain_below, batch_size)
    if image is not None and not Path(image).is_file():
        raise InterplayError(f"There is no picture '{image}'.")
    images, texts = None if image is None else [image], None if text is None else [text]
    (found,) = _predictions(classifier, images, texts, abstain_below, batch_size)
    ranked = sorted(found["probabilities"].items(), key=lambda item: -item[1])
    title = f"{'abstained' if found.get('abstained') else _worded(found['prediction'])}\n\n"
    return Result({"image": image, "text": text} | found, title + aligned(("class", "probability"), ranked))


def _predictions(
    classifier: Classifier,
    images: Sequence[Any] | None,
    texts: Sequence[str] | None,
    abstain_below: float | None,
    batch_size: int,
) -> Iterator[dict[str, Any]]:
    """For each pair the prediction and the probability of each class, and whether it abstained where it may."""
    assert classifier.labels is not None
    probabilities = classifier.predict_proba(images, texts, batch_size=batch_size)
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
    reading: Reading,
    out: str | None,
    on_bad_row: Literal["error", "skip"],
    abstain_below: float | None,
    batch_size: int,
) -> Result:
    from datasets.utils import tqdm

    from interplay.data import load

    pairs = load(source, on_bad_row=on_bad_row, labelled=False, **reading.options())
    for row in pairs.skipped:
        note(f"Left out: {row}.")
    texts, ids = pairs.texts(), pairs.ids()
    found: list[dict[str, Any]] = []
    block_size = max(_BLOCK, batch_size)
    starts = range(0, len(pairs), block_size)
    for start in tqdm(starts, desc="Predicting", delay=2, leave=False, disable=None):
        rows = range(start, min(start + block_size, len(pairs)))
        parts = pairs.sources(rows), texts[start : rows.stop]
        block = _predictions(classifier, *parts, abstain_below, batch_size)
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
