"""What `interplay evaluate --per-class` shows of every class."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from interplay.cli.result import columns

if TYPE_CHECKING:
    from interplay.classification.report import Report

_WHOLE = 12
"""The most classes for which the whole confusion matrix is shown; for more, the most frequent confusions are."""


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
    wrong = sorted(
        (
            (count, names[a], names[b])
            for a, row in enumerate(counts)
            for b, count in enumerate(row)
            if a != b
        ),
        key=lambda one: -one[0],
    )
    shown = [(true, predicted, count) for count, true, predicted in wrong[:_WHOLE] if count]
    return found, f"{text}\n\n{columns(('true', 'predicted as', 'rows'), shown)}"
