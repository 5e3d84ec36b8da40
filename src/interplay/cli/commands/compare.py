"""`interplay compare`: many trainings side by side, on one machine or a Ray cluster, into one table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interplay.cli.key_value import assignments
from interplay.cli.output_paths import out_folder
from interplay.cli.result import Result, columns, note
from interplay.errors import InterplayError

if TYPE_CHECKING:
    from interplay.comparison.grid import Cell, Grid
    from interplay.comparison.run import Record, Resources
    from interplay.comparison.tables import DataTable, Row


_SHARED = {"backbone": "tiny", "random_weights": False, "multi_loss": "bce"}
"""Options that a grid file has keys for, as they are when nothing was typed."""


def compare(
    *,
    out: str,
    methods: tuple[str, ...] = (),
    data: tuple[str, ...] = (),
    grid: str | None = None,
    seeds: int = 1,
    shares: tuple[float, ...] = (),
    backbone: str = "tiny",
    head: tuple[str, ...] = (),
    multi_loss: Literal["bce", "zlpr"] = "bce",
    random_weights: bool = False,
    only: tuple[str, ...] = (),
    ray: str | None = None,
    cpus: int = 1,
    gpus: float = 0.0,
    on_bad_row: Literal["error", "skip"] = "error",
    no_memory: bool = False,
    dry_run: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Train methods on data with several seeds each, and compare them on the test splits.

    Examples:

      interplay compare --methods p_clip mitp "mitp layers=4,5,6" --data openmoji/subgroup --seeds 3 --out cmp
      interplay compare --grid recipes/openmoji.yaml --out results/openmoji --only openmoji/subgroup
      interplay compare --grid recipes/openmoji.yaml --out results/openmoji --ray auto --cpus 4

    Every finished cell is a JSON file below OUT/cells: a grid that was stopped or killed goes on where it was, and
    one that grew runs what is new. OUT gets table.md and table.html: mean ± deviation over seeds, the best row in bold,
    a paired bootstrap against it, trained parameters, training time, peak memory of a step, throughput.

    Args:
        out: folder of the cells and tables.
        methods: rows: a method or variant each, or one with settings in quotes, as "mitp layers=4,5,6 length=2".
        data: data sets, as 'interplay train' takes them.
        grid: YAML file with rows, data, seeds and their settings, in place of --methods and --data.
        seeds: how many, counting up from --seed.
        shares: shares of the training data, each above 0 and up to 1; by default all of it.
        backbone: `tiny`, a preset, a folder with a CLIP checkpoint, or a hub id.
        head: changes to the head's settings, key=value each, the same under all methods.
        multi_loss: loss for data with several labels a row.
        random_weights: random weights for the backbone; the scores mean nothing, times and memory do.
        only: rows, data sets, seeds (as #0) or whole cells (as mitp@openmoji/relation#0) of the grid to run; the tables
            hold every finished cell of it.
        ray: address of a Ray cluster (auto, local or ray://HOST:PORT); by default one cell runs after the other here.
        cpus: threads of a cell; on a cluster, processors that it reserves.
        gpus: graphics processors that a cell reserves on a cluster.
        on_bad_row: what to do with a row that cannot be used: `error` stops and names it, `skip` leaves it out and
            says how many.
        no_memory: leave the peak memory of a training step unmeasured; it takes some seconds a row and data set.
        dry_run: list the cells, and which of them are finished, without running any.
    """
    from interplay.comparison.run import Resources, load_record
    from interplay.training.settings import split_execution

    folder = out_folder(out)
    training, free = split_execution(settings or {})
    whole = _grid(
        methods,
        data,
        grid,
        seeds,
        shares,
        training,
        head,
        {
            "backbone": backbone,
            "random_weights": random_weights,
            "multi_loss": multi_loss,
        },
    )
    wanted = whole.only(only)
    resources = Resources(cpus, gpus, memory=not no_memory, training=free, on_bad_row=on_bad_row)
    if dry_run:
        done = [load_record(folder, cell) is not None for cell in wanted.cells]
        rows = [
            (cell.name, "finished" if there else "to run")
            for cell, there in zip(wanted.cells, done, strict=True)
        ]
        return Result(
            [{"cell": name, "state": state} for name, state in rows], columns(("cell", "state"), rows)
        )
    if any(cell.random_weights for cell in wanted.cells):
        note("WARNING: with random weights the scores mean nothing; times and memory do.")
    return write_tables(run_part(whole, wanted, folder, resources, ray), folder, "Comparison")


def _grid(
    methods: Sequence[str],
    data: Sequence[str],
    file: str | None,
    seeds: int,
    shares: Sequence[float],
    training: Mapping[str, Any],
    head: Sequence[str],
    shared: Mapping[str, Any],
) -> Grid:
    """The grid of a file, or of what was typed."""
    from interplay.comparison.grid import make_grid, read_grid
    from interplay.parts.heads import HeadSettings

    if file is not None:
        if methods or data or training or head or shares or seeds != 1 or shared != _SHARED:
            raise InterplayError(
                "--grid brings rows, data, seeds and settings of its own: put them into the file, or leave --grid "
                "away; --only picks from it."
            )
        return read_grid(Path(file))
    if not methods or not data:
        raise InterplayError("interplay compare needs --methods and --data, or --grid.")
    if seeds < 1:
        raise InterplayError(f"--seeds must be at least 1, not {seeds}.")
    first = training.get("seed", 0)
    values = {
        **shared,
        "seeds": list(range(first, first + seeds)),
        "shares": list(shares) or [1.0],
        "head": assignments(head, HeadSettings, "--head"),
        "training": {key: value for key, value in training.items() if key != "seed"},
        "rows": _rows(methods),
        "data": list(data),
    }
    return make_grid(values, "interplay compare")


def _rows(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What was typed for each row, by its name."""
    rows: dict[str, dict[str, Any]] = {}
    for words in methods:
        name, row = _row(words)
        if name in rows:
            raise InterplayError(f"--methods names the row '{name}' twice.")
        rows[name] = row
    return rows


def _row(words: str) -> tuple[str, dict[str, Any]]:
    """`mitp layers=4,5,6` as a row of that name."""
    from interplay.methods.registry import choose

    if not words.split():
        raise InterplayError("--methods takes the name of a method for every row, not an empty text.")
    method, *changes = words.split()
    choice = choose(method)
    values = assignments(changes, choice.method.Settings, f"the row '{words}'")
    return " ".join([choice.name, *changes]), {"method": choice.name, "settings": values}


def run_part(whole: Grid, part: Grid, folder: Path, resources: Resources, ray: str | None) -> list[Record]:
    """Run a part of a grid; the records of it and of all other cells that were finished before, in the grid's order.

    Raises:
        InterplayError: as `run_grid`; a finished cell of other settings anywhere in the grid, before anything runs.
    """
    from interplay.comparison.run import load_record, run_grid

    names = {cell.name for cell in part.cells}
    found = {cell.name: load_record(folder, cell) for cell in whole.cells if cell.name not in names}
    records = run_grid(part, folder, resources, ray=ray, report=reported)
    found |= {cell.name: record for cell, record in zip(part.cells, records, strict=True)}
    return [record for cell in whole.cells if (record := found[cell.name]) is not None]


def reported(cell: Cell, record: Record) -> None:
    """Say what a cell came to."""
    from interplay.comparison.tables import HEADLINE

    if "problem" in record:
        note(f"{cell.name}: {record['problem']}")
    else:
        metric = HEADLINE[record["kind"]]
        left_out = f"; {record['left_out']:,} rows left out" if record["left_out"] else ""
        note(
            f"{cell.name}: {metric} {record['metrics'][metric]:.3f} after {record['seconds']:.0f} s{left_out}"
        )


def write_tables(records: Sequence[Record], folder: Path, title: str) -> Result:
    """Write table.md and table.html beside the cells, and say what is in them.

    Raises:
        InterplayError: a cell could not be trained; the tables of the others are written all the same.
    """
    from interplay.comparison.pages import NOTE, cells_of_row, header_of, markdown, page
    from interplay.comparison.tables import data_tables
    from interplay.files import write_text

    tables = data_tables(records)
    problems = [record for record in records if "problem" in record]
    files = {"markdown": str(folder / "table.md"), "html": str(folder / "table.html")}
    if tables:
        write_text(Path(files["markdown"]), f"# {title}\n\n{NOTE}\n\n{markdown(tables)}")
        write_text(Path(files["html"]), page(tables, title, NOTE))
    if problems:
        where = f" The others are in {files['markdown']}." if tables else ""
        where += (
            " The finished ones are kept: the same command goes on." if len(problems) < len(records) else ""
        )
        raise InterplayError(
            f"{len(problems)} of {len(records)} cells could not be trained; the first one: {problems[0]['problem']}"
            f"{where}"
        )
    text = "\n\n".join(
        f"{table.title}\n\n"
        + columns(
            header_of(table),
            [cells_of_row(row, table) for row in table.rows],
        )
        for table in tables
    )
    plain = [
        {
            "data": table.data,
            "share": table.share,
            "metric": table.metric,
            "rows": [_plain(row, table) for row in table.rows],
        }
        for table in tables
    ]
    return Result(
        {"tables": plain, "files": files},
        f"{text}\n\n{NOTE}\n\nThe tables are in {files['markdown']} and {files['html']}.",
    )


def _plain(row: Row, table: DataTable) -> dict[str, Any]:
    values = asdict(row) | {"mean": row.mean, "deviation": row.deviation}
    values["beside"] = dict(zip(table.beside, row.beside, strict=True))
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain
