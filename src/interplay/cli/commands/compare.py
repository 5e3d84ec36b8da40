"""`interplay compare`: many trainings side by side, on one machine or a Ray cluster, into one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from interplay.cli.options import Further
from interplay.cli.output_paths import out_folder
from interplay.cli.result import Result, columns, note
from interplay.errors import InterplayError
from interplay.key_value import assignments
from interplay.training.settings import TrainSettings

if TYPE_CHECKING:
    from interplay.comparison.engine import Record
    from interplay.comparison.grid import Grid, GridCell

GROUP = "Compare"


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
    additive: int = 0,
    contrasts: bool = False,
    dry_run: bool = False,
    settings: Annotated[Mapping[str, Any] | None, Further(TrainSettings, "Training")] = None,
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
        additive: test pairs on which EMAP is measured: how much of a score is more than a sum of what picture and text
            say alone; costs as much as predicting the square of this number, 200 are a good choice.
        contrasts: run nothing; judge the hypotheses under 'contrasts' in the file of --grid by the finished cells.
        dry_run: list the cells, and which of them are finished, without running any.
    """
    from interplay.comparison.engine import Place, load_record
    from interplay.comparison.run import Conduct, run_part
    from interplay.training.settings import split_execution

    folder = out_folder(out)
    training, free = split_execution(settings or {})
    shared = {"backbone": backbone, "random_weights": random_weights, "multi_loss": multi_loss}
    whole = _grid(methods, data, grid, seeds, shares, training, head, shared)
    if contrasts:
        return judged(whole, grid, folder, on_bad_row)
    wanted = whole.only(only)
    conduct, place = Conduct(not no_memory, free, on_bad_row, additive), Place(cpus, gpus, ray)
    if dry_run:
        found = [load_record(folder, cell) for cell in wanted.cells]
        rows = [
            (cell.name, "to run" if record is None else "finished")
            for cell, record in zip(wanted.cells, found, strict=True)
        ]
        return Result(
            [{"cell": name, "state": state} for name, state in rows], columns(("cell", "state"), rows)
        )
    if any(cell.random_weights for cell in wanted.cells):
        note("WARNING: with random weights the scores mean nothing; times and memory do.")
    records = run_part(whole, wanted, folder, conduct, place, report=report_cell)
    return compared(records, folder, "Comparison")


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
    from interplay.comparison.grid import make_grid, read_grid, typed_rows
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
        "rows": typed_rows(methods),
        "data": list(data),
    }
    return make_grid(values, "interplay compare")


def judged(grid: Grid, file: str | None, folder: Path, on_bad_row: Literal["error", "skip"]) -> Result:
    """The verdicts on a grid's contrasts, into contrasts.md.

    Raises:
        InterplayError: no file, or one without contrasts; cells that do not fit it.
    """
    from interplay.comparison.contrasts import judge, read_contrasts
    from interplay.comparison.measured import measured_grid
    from interplay.comparison.verdicts import HEADER, NOTE, lines_of, write_verdicts

    if file is None:
        raise InterplayError(
            "--contrasts needs --grid: a file that says under 'contrasts' what is to be shown."
        )
    asked = read_contrasts(Path(file))
    findings = judge(asked, measured_grid(grid, folder, asked, on_bad_row=on_bad_row))
    path = write_verdicts(findings, folder, f"Contrasts of {Path(file).name}")
    return Result(
        {"contrasts": [finding.plain() for finding in findings], "file": str(path)},
        f"{columns(HEADER, lines_of(findings))}\n\n{NOTE}\n\nThe page is {path}.",
    )


def report_cell(cell: GridCell, record: Record) -> None:
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


def compared(records: Sequence[Record], folder: Path, title: str) -> Result:
    """Write table.md and table.html beside the cells, and say what is in them.

    Raises:
        InterplayError: a cell could not be trained; the tables of the others are written all the same.
    """
    from interplay.comparison.pages import NOTE, cells_of_row, header_of, write_pages
    from interplay.comparison.tables import data_tables

    tables = data_tables(records)
    problems = [record["problem"] for record in records if "problem" in record]
    files = write_pages(tables, folder, title)
    if problems:
        where = f" The others are in {files['markdown']}." if tables else ""
        kept = (
            " The finished ones are kept: the same command goes on." if len(problems) < len(records) else ""
        )
        raise InterplayError(
            f"{len(problems)} of {len(records)} cells could not be trained; the first one: {problems[0]}{where}{kept}"
        )
    text = "\n\n".join(
        f"{table.title}\n\n{columns(header_of(table), [cells_of_row(row, table) for row in table.rows])}"
        for table in tables
    )
    return Result(
        {"tables": [table.plain() for table in tables], "files": files},
        f"{text}\n\n{NOTE}\n\nThe tables are in {files['markdown']} and {files['html']}.",
    )
