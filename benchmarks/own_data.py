"""A bench of small data that differ on purpose, for defaults: sets of classification and streams of retrieval.

    python -m benchmarks.own_data sets            # the list: rows, classes, balance, what decides
    python -m benchmarks.own_data folder reviews  # its folder, for `interplay train --data FOLDER`
    python -m benchmarks.own_data run --out RUN   # the cells that are missing; --sets, --rows, --seeds
    python -m benchmarks.own_data choices         # what reading hidden states is worth, on development sets
    python -m benchmarks.own_data report RUN      # regret, rank, and where the default is below its own probe

Each set has its own fixed split. Defaults are chosen on the validation splits of the half `development`, and measured
on the test splits of all. Icons come from npm packages that are fetched once into the cache folder
(`$INTERPLAY_CACHE`); nothing of them is part of this repository.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.small_data.catalogue import sets, streams
from benchmarks.small_data.cells import Cell, planned, run
from benchmarks.small_data.choices import choices_report, nested
from benchmarks.small_data.figures import read_all, sets_report, streams_report, validation_report
from benchmarks.small_data.folders import described, folder, stream, table
from interplay.comparison.engine import Record

__all__ = ["described", "folder", "sets", "stream", "streams", "table"]


def listed() -> str:
    """All sets as Markdown."""
    titles = (
        "set",
        "half",
        "kind",
        "decides",
        "learn",
        "test",
        "classes",
        "commonest",
        "words",
        "text/picture",
    )
    lines = [f"| {' | '.join(titles)} | about |", "|---" * (len(titles) + 1) + "|"]
    for name in (*sets(), *streams()):
        one = described(name)
        proved = f"{one['text']:.2f} / {one['picture']:.2f}" if "text" in one else "–"
        lines.append(
            f"| {name} | {one['half']} | {one['kind']} | {one['decides']} | {one['rows']:,} | {one['test']:,} | "
            f"{one['classes']} | {one['commonest']:.2f} | {one['words']:.0f} | {proved} | {one['about']} |"
        )
    return "\n".join(lines)


def told(cell: Cell, record: Record) -> None:
    """One line a cell."""
    if "problem" in record:
        print(f"{cell.data} {cell.row} #{cell.seed}: {record['problem']}", flush=True)
        return
    value = f"{record['test']:.3f}" if "metric" in record else ""
    print(
        f"{time.strftime('%H:%M:%S')} {cell.data} {cell.row} #{cell.seed} {value} {record['seconds']:.0f} s",
        flush=True,
    )


def report(out: Path, *, validation: bool = False) -> str:
    """The tables of a folder's cells: of the test splits, or of validation where defaults may be chosen."""
    groups = read_all(out)
    halves = [{name: one.half for name, one in some.items()} for some in (sets(), streams())]
    if validation:
        return validation_report(groups, halves[0])
    return f"## Sets\n\n{sets_report(groups, halves[0])}\n\n## Streams: R@10\n\n{streams_report(groups, halves[1])}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("sets", help="the list of sets and streams")
    one_folder = commands.add_parser("folder", help="the folder of a set, made on the first call")
    one_folder.add_argument("name")
    running = commands.add_parser("run", help="the cells that are missing")
    running.add_argument("--out", type=Path, required=True)
    running.add_argument("--sets", nargs="*", default=[], help="sets and streams, by default all")
    running.add_argument(
        "--rows", nargs="*", default=[], help="rows, by default all but those 'from the probe'"
    )
    running.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3, 4])
    running.add_argument("--minutes", type=float, default=float("inf"), help="no cell begins after them")
    running.add_argument("--threads", type=int, default=1, help="of a cell")
    choosing = commands.add_parser(
        "choices", help="nested cross-validation of the choice of a head, on train and validation"
    )
    choosing.add_argument("--sets", nargs="*", default=[], help="by default all development sets")
    choosing.add_argument("--repeats", type=int, default=1)
    reporting = commands.add_parser("report", help="the tables of what there is")
    reporting.add_argument("folder", type=Path)
    reporting.add_argument(
        "--validation", action="store_true", help="development sets, for choosing defaults"
    )
    arguments = parser.parse_args()
    if arguments.what == "sets":
        print(listed())
    elif arguments.what == "folder":
        print(folder(arguments.name))
    elif arguments.what == "choices":
        half = [one.name for one in sets().values() if one.half == "development"]
        print(choices_report([nested(name, arguments.repeats) for name in arguments.sets or half]))
    elif arguments.what == "run":
        cells = list(planned(arguments.sets, arguments.rows, arguments.seeds))
        left = run(cells, arguments.out, 60 * arguments.minutes, arguments.threads, told)
        print(f"{left} of {len(cells)} cells are missing.")
    else:
        print(report(arguments.folder, validation=arguments.validation))


if __name__ == "__main__":
    main()
