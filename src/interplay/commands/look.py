"""Commands that only look: methods, costs, data."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from interplay.commands.output import Result, note
from interplay.commands.output import columns as aligned
from interplay.commands.places import new_file
from interplay.commands.reading import Reading
from interplay.errors import InterplayError
from interplay.seeds import check_seed

if TYPE_CHECKING:
    from interplay.profiling.costs import Cost
    from interplay.profiling.memory import Memory

EMBEDDED = {
    "openmoji/subgroup": "picture and name of an emoji: which sub-category? (one label)",
    "openmoji/attributes": "picture and masked name of an emoji: which of 23 words are in its name? (several labels)",
    "openmoji/relation": "picture and hypothesis: this emoji's name, a sibling's, or an unrelated one? (one label)",
    "openmoji/continual": "picture and name of an emoji, nine categories as nine tasks (pairs without labels)",
}
"""The embedded data sets, one line each."""


def methods() -> Result:
    """List the methods with their variants.

    `train --method` takes every name in the first and the last column. A coupled method runs both towers in
    lock-step on true pairs, so it cannot encode a picture or a text alone.

    Example: interplay methods
    """
    from interplay.methods.catalogue import catalogue

    rows = [asdict(entry) for entry in catalogue()]
    shown = [
        (row["name"], row["trained"], "yes" if row["coupled"] else "no", ", ".join(row["variants"]))
        for row in rows
    ]
    width = max(len(row["name"]) for row in rows)
    summaries = "\n".join(f"{row['name']:<{width}}  {row['summary']}" for row in rows)
    return Result(rows, aligned(("method", "trained", "coupled", "variants"), shown) + "\n\n" + summaries)


def info(
    *,
    backbone: str = "tiny",
    method: str = "mitp",
    set: tuple[str, ...] = (),
    text_tokens: int = 0,
    sessions: int = 0,
    measure: bool = False,
    batch_size: int = 64,
) -> Result:
    """Count what a method costs on a backbone, without any weights.

    Examples:

      interplay info --backbone clip-vit-large-patch14 --method mitp
      interplay info --backbone clip-vit-base-patch32 --method mitp --set layers=4,5,6 length=3 --text-tokens 16
      interplay info --backbone glip-tiny --method lpi-m --sessions 12
      interplay info --backbone tiny --method lpi-p --measure --batch-size 32

    Operations are counted for one pair; a multiply-add counts as 2. The head is not counted among the trained
    parameters, since all methods of a comparison share it. `glip-tiny`, on which LPI's published counts stand, has
    parameters to be counted but no towers that could run.

    Args:
        backbone: `tiny`, a preset (clip-vit-base-patch32, clip-vit-base-patch16, clip-vit-large-patch14,
            clip-vit-large-patch14-336), a folder with a CLIP checkpoint, a hub id, or glip-tiny.
        method: a method or variant, see 'interplay methods'.
        set: changes to the method's settings, key=value each.
        text_tokens: length of the text in tokens; 0 means all positions of the text tower.
        sessions: count what the method has after so many tasks of a stream, too.
        measure: measure the peak memory of one training step, in a process of its own on the CPU; presets run with
            random weights.
        batch_size: pairs of the step that is measured.
    """
    from interplay.commands.values import assignments
    from interplay.methods.catalogue import known_name

    known_name(method)  # refused before torch is imported
    from interplay.methods.registry import choose
    from interplay.profiling.costs import cost

    settings = assignments(set, choose(method).method.Settings, "--set")
    if text_tokens < 0:
        raise InterplayError(f"--text-tokens is a number of tokens from 0, not {text_tokens}.")
    if sessions < 0:
        raise InterplayError(f"--sessions is a number of tasks from 0, not {sessions}.")
    found = cost(backbone, method, settings, text_tokens=text_tokens or None, sessions=sessions)
    memory = None
    if measure:
        from interplay.profiling.memory import measure_step

        note("Measuring one training step.")
        memory = measure_step(
            backbone,
            method,
            settings,
            batch_size=batch_size,
            text_tokens=text_tokens or None,
            sessions=sessions,
        )
    data = asdict(found) | {"memory": None if memory is None else asdict(memory)}
    return Result(data, _costs(found, memory))


def _costs(found: Cost, memory: Memory | None) -> str:
    """What a method costs, line by line."""
    rows: list[tuple[str, str, str]] = []
    if found.backbone_parameters is None:
        rows.append(("backbone parameters (frozen)", "not counted", "geometry for counting prompts alone"))
    else:
        rows.append(("backbone parameters (frozen)", f"{found.backbone_parameters:,}", ""))
    a_task = " (one session)" if found.sessions else ""
    share = "" if found.trained_fraction is None else f"({found.trained_fraction:.3%} of the backbone)"
    rows.append((f"trained parameters{a_task}", f"{found.trained_parameters:,}", share))
    if found.session_parameters is not None:
        shared = found.session_parameters == found.trained_parameters and found.sessions > 1
        words = "the sessions share them" if shared else ""
        rows.append((f"after {found.sessions} sessions", f"{found.session_parameters:,}", words))
    for name, value, words in (
        ("forward, one pair", found.forward_gflops, f"GFLOP, texts of {found.text_tokens} tokens"),
        ("training step, one pair", found.training_gflops, "GFLOP, forward and backward"),
    ):
        rows.append(
            (name, "not counted" if value is None else f"{value:,.3f}", "" if value is None else words)
        )
    if memory is None:
        rows.append(("peak memory", "not measured", "--measure runs one training step"))
    else:
        words = f"MiB above the libraries, {memory.batch_size} pairs; with the backbone loaded {memory.backbone:,.0f}"
        rows.append(("peak memory, training step", f"{memory.peak:,.0f}", words))
    lines = (f"  {name:<32}{value:>15}   {words}".rstrip() for name, value, words in rows)
    return "\n".join([f"{found.method} on {found.backbone}", *lines])


def data_list() -> Result:
    """List the embedded data sets, and what else --data takes.

    Example: interplay data list
    """
    rows = [{"name": name, "summary": summary} for name, summary in EMBEDDED.items()]
    text = aligned(("data set", "what it asks"), [(row["name"], row["summary"]) for row in rows])
    return Result(
        rows,
        text
        + "\n\nYour own: a folder of pictures with metadata.csv or metadata.jsonl; a .csv, .jsonl or .parquet file with"
        "\nthe columns image, text and label or labels; a folder saved by `datasets`; an id on the Hugging Face hub."
        "\nA benchmark as its owners publish it: coco:FOLDER, food101:FOLDER, mm_imdb:FOLDER, snli_ve:FOLDER.",
    )


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
