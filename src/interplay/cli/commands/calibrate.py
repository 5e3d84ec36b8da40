"""`interplay calibrate`: probabilities that mean what they say, of a classifier and of what a retriever finds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

from interplay.cli.data_options import Reading
from interplay.cli.result import Result
from interplay.cli.result import columns as aligned
from interplay.cli.runs import changing, open_retriever, open_run, open_table, task_of
from interplay.errors import InterplayError

GROUP = "Classify"


def calibrate(
    run: str,
    *,
    data: str | None = None,
    columns: tuple[str, ...] = (),
    device: str = "cpu",
    batch_size: int = 64,
    backbone: str | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
) -> Result:
    """Choose a temperature on the validation split, so that the probabilities of a classifier mean what they say.

    Examples:

      interplay calibrate runs/subgroup
      interplay calibrate runs/mine --data pairs.csv --json
      interplay calibrate runs/lpi --data pairs.csv

    The temperature goes into the trained method in RUN, and 'interplay predict', 'interplay evaluate' and Python use
    it from then on. With one label a pair no decision changes. With several labels a shift common to all classes joins
    in where validation speaks for it, and then decisions can change. The `test` split is not read. Calibrating again
    starts anew; training again removes it.

    Of a retriever it is fitted how probably the best hit of a search is a right one, from its score: 'interplay serve'
    then knows when a search has found nothing. It holds until the retriever learns or forgets.

    Args:
        run: the folder that 'interplay train --out' or 'interplay continual --out' wrote.
        data: whose validation split to use; by default what a classifier was trained on.
        columns: what the columns are called in your data, key=value each, as `image=path text=title label=kind`;
            `captions=title` says that a cell holds several texts, separated by `|`.
        device: where to compute, as PyTorch spells it: cpu, cuda, cuda:1, mps.
        batch_size: pairs at a time.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
        on_bad_row: what to do with a row that cannot be used: `error` stops and names it, `skip` leaves it out and
            lists it.
    """
    if task_of(run) == "retrieval":
        return _calibrate_search(run, data, Reading.of(columns), backbone, on_bad_row, device)
    reading = Reading.for_run(run, data, columns)
    with changing(run):
        classifier = open_run(run, backbone)
        assert classifier.card is not None
        source = data or classifier.card.data
        table = open_table(source, on_bad_row, reading)
        report = classifier.to(device).calibrate(table, batch_size=batch_size)
        classifier.save_pretrained(run)
    found = {
        "run": run,
        "data": source,
        "rows": report.rows,
        "temperature": report.calibration.temperature,
        "shift": report.calibration.shift,
        "validation": {"before": report.before, "after": report.after},
    }
    rows = [(name, value, report.after[name]) for name, value in report.before.items()]
    shift = f", shift {report.calibration.shift:.4g}" if report.calibration.shift else ""
    text = (
        f"Temperature {report.calibration.temperature:.4g}{shift}, chosen on the {report.rows:,} validation rows of "
        f"{source}:\n\n{aligned(('validation', 'before', 'after'), rows)}\n\n"
        "These rows chose it, so they flatter it; the test split was not read: 'interplay evaluate' measures there. "
        f"The temperature is in {run} now, and is used from there."
    )
    return Result(found, text)


def _calibrate_search(
    run: str,
    data: str | None,
    reading: Reading,
    backbone: str | None,
    on_bad_row: Literal["error", "skip"],
    device: str,
) -> Result:
    """Fit a retriever's curves."""
    if data is None:
        raise InterplayError(
            "Calibrating a retriever needs --data: pairs that it was not trained on, in 'validation'."
        )
    from interplay.devices import device_of
    from interplay.retrieval.found import calibrate_found, save_found

    with changing(run):
        retriever = open_retriever(run, backbone)
        retriever.backbone.to(device_of(device))
        found = calibrate_found(retriever, open_table(data, on_bad_row, reading).split("validation"))
        save_found(Path(run), found)
    rows = [
        (f"by {side}", int(curve["queries"]), curve["slope"], curve["intercept"], curve["wrong"])
        for side, curve in (("text", found.text), ("image", found.image))
    ]
    shown = aligned(("searches", "queries", "slope", "intercept", "on the wrong side"), rows)
    text = (
        "P(the best hit is a right one) = 1 / (1 + exp(-(slope x score + intercept))), fitted on the validation rows "
        f"of {data}, each searched for with its answer and without:\n\n{shown}"
    )
    return Result({"run": run, "data": data, **asdict(found)}, text)
