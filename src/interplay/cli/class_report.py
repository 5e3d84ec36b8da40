"""What `interplay evaluate` shows of classes: the worst ones, and with `--per-class` every one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from interplay.cli.result import columns
from interplay.errors import brief

if TYPE_CHECKING:
    from interplay.classification.report import Report

_WHOLE = 12
"""The most classes for which the whole confusion matrix is shown; for more, the most frequent confusions are."""
_WORST = 4
"""How many classes and confusions are shown unasked."""
_FEW = 8
"""With fewer rows a class's figures are mostly chance: one row more or less moves its recall by over 12 points."""
_LETTERS = 40


def class_report(report: Report) -> tuple[dict[str, Any], str]:
    """Figures of every class, and which classes are taken for which.

    Returns:
        As plain JSON values, and in words.
    """
    classes = [
        {"class": name, **{key: None if math.isnan(value) else value for key, value in figures.items()}}
        for name, figures in report.classes.to_dict("index").items()
    ]
    found: dict[str, Any] = {"classes": classes}
    header = ("class", *report.classes.columns)
    text = columns(header, [tuple(one.values()) for one in classes])
    if report.confusion is None:
        return found, text
    names, counts = [str(name) for name in report.confusion.index], report.confusion.to_numpy().tolist()
    found["confusion"] = {"classes": names, "counts": counts}
    if len(names) <= _WHOLE:
        rows = [(name, *row) for name, row in zip(names, counts, strict=True)]
        return found, f"{text}\n\n{columns(('true, predicted as', *names), rows)}"
    return found, f"{text}\n\n{columns(('true', 'predicted as', 'rows'), report.confusions()[:_WHOLE])}"


def worst_classes(report: Report) -> tuple[dict[str, Any], str]:
    """The classes that come out worst and the commonest confusions, in a few lines.

    Returns:
        As plain JSON values, and in words; no words where nothing is wrong.
    """
    worst = report.worst()[:_WORST]
    known = report.classes["rows"].to_dict()
    confused = report.confusions()[:_WORST]
    found: dict[str, Any] = {
        "worst_classes": [
            {"class": str(name), "rows": int(rows), "recall": recall, "f1": f1, "few_rows": int(rows) < _FEW}
            for name, rows, recall, f1 in worst[["rows", "recall", "f1"]].itertuples(name=None)
        ],
        "confusions": [{"true": true, "predicted": said, "rows": count} for true, said, count in confused],
    }
    if not found["worst_classes"]:
        return found, ""
    lines = [
        (brief(one["class"], _LETTERS) + (" (few rows)" if one["few_rows"] else ""), *list(one.values())[1:4])
        for one in found["worst_classes"]
    ]
    text = columns((f"worst of {len(report.classes):,} classes", "rows", "recall", "f1"), lines)
    if confused:
        pairs = ", ".join(
            f"{brief(true, _LETTERS)} → {brief(said, _LETTERS)} ({count:,} of {known[true]:,})"
            for true, said, count in confused
        )
        text += f"\nMost often confused: {pairs}."
    few = sum(0 < rows < _FEW for rows in known.values())
    if few:
        have = "class has" if few == 1 else "classes have"
        text += f"\n{few:,} {have} fewer than {_FEW} rows here: such figures are mostly chance."
    return found, text
