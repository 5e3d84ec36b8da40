"""The sheet of wrong pairs that 'interplay evaluate --errors' draws, and the list of them all."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interplay.classification.mistakes import Mistake
    from interplay.data.schema import PairTable

_SHOWN, _COLUMNS = 60, 6
_SIDE = 320
"""Pixels that are kept of a picture's longer side."""


def draw_wrong_pairs(
    pairs: PairTable, wrong: Sequence[Mistake], picture: Path, title: str
) -> tuple[dict[str, Any], str]:
    """The first wrong pairs as a sheet of pictures, and all of them in a CSV file beside it.

    Only the pictures on the sheet are read, one after another.

    Args:
        pairs: what was measured.
        wrong: its wrong pairs, in the order in which they are shown.
        picture: where the PNG goes.
        title: above the sheet.

    Returns:
        Where they are, for machines and for people.

    Raises:
        InterplayError: a picture cannot be read, or a file cannot be written.
    """
    from interplay.files import write_text
    from interplay.plotting.figures import Prediction, predictions

    ids, texts = pairs.ids(), pairs.texts()
    shown = []
    for one in wrong[:_SHOWN]:
        image = pairs.image(one.row)
        image.thumbnail((_SIDE, _SIDE))
        names = (one.truth or "none", one.predicted or "none")
        shown.append(Prediction(image, texts[one.row], *names, one.probability))
    first = f", the {len(shown)} surest" if len(wrong) > len(shown) else ", the surest first" if shown else ""
    predictions(shown, picture, f"{title}: {len(wrong):,} wrong{first}", _COLUMNS)
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["id", "text", "truth", "predicted", "probability"])
    for one in wrong:
        writer.writerow([ids[one.row], texts[one.row], one.truth, one.predicted, f"{one.probability:.6f}"])
    listed = picture.with_suffix(".csv")
    write_text(listed, lines.getvalue())
    found = {"wrong": len(wrong), "picture": str(picture), "list": str(listed)}
    return (
        found,
        f"{len(wrong):,} of {len(pairs):,} pairs are wrong: {listed} lists them, {picture} shows {len(shown)}.",
    )
