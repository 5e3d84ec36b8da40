"""`interplay data show`: the rows, splits and classes of a data set, and a sheet of its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from interplay.cli.data_options import Reading
from interplay.cli.output_paths import new_file
from interplay.cli.result import Result, note
from interplay.cli.result import columns as aligned
from interplay.seeds import check_seed

if TYPE_CHECKING:
    pass

GROUP = "Look"


def data_show(
    name: str,
    *,
    out: str | None = None,
    overwrite: bool = False,
    columns: tuple[str, ...] = (),
    validation: str | None = None,
    test: str | None = None,
    split: str | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
    seed: int = 0,
) -> Result:
    """Count the rows, splits and classes of a data set, and draw its pictures.

    Examples:

      interplay data show openmoji/relation --out sheet.png
      interplay data show my-pictures/ --on-bad-row skip

    Args:
        name: an embedded data set ('interplay data list'), a file, a folder, or a hub id.
        out: PNG file for a sheet of 24 pictures with their texts and labels; without it none is drawn.
        overwrite: replace that file where it is there already.
        columns: what the columns are called in your data, key=value each, as `image=path text=title label=kind`;
            `captions=title` says that a cell holds several texts, separated by `|`.
        validation: data whose rows are the validation split; those of --data are then train.
        test: data whose rows are the test split.
        split: shares of train, validation and test for data without a split, as 80/10/10.
        on_bad_row: what to do with a row that cannot be used: `error` stops and names it, `skip` leaves it out and
            lists it.
        seed: of the choice of pictures.
    """
    if out is not None:
        new_file("--out", out, (".png",), overwrite=overwrite, read=name)
    check_seed(seed)
    from interplay.data import contact_sheet, load, summary

    reading = Reading.of(columns, validation, test, split)
    table = load(name, on_bad_row=on_bad_row, **reading.options())
    counts = summary(table)
    if out is not None:
        counts["sheet"] = str(contact_sheet(table, out, seed=seed))
        note(f"The sheet of pictures is in {out}.")
    return Result(counts, _described(counts))


def _described(counts: dict[str, Any]) -> str:
    kinds = {"single": "one label a row", "multi": "several labels a row", "pairs": "pairs without labels"}
    splits = ", ".join(f"{size:,} {split}" for split, size in counts["splits"].items())
    parts = [f"{counts['name']}: {counts['rows']:,} rows ({splits}), {kinds[counts['kind']]}"]
    if counts["classes"]:
        used = list(counts["splits"]) or ["all"]
        rows = [
            (label, *(count.get(split, 0) for split in used)) for label, count in counts["classes"].items()
        ]
        parts.append(aligned(("class", *used), rows))
    if counts["tasks"]:
        parts.append(aligned(("task", "rows"), list(counts["tasks"].items())))
    parts += [f"note: {sentence}" for sentence in counts["notes"]]
    parts += [f"left out: {sentence}" for sentence in counts["skipped"]]
    return "\n\n".join(parts)
