"""A bench of small data that differ on purpose, for defaults: sets of classification and streams of retrieval.

    python -m benchmarks.own_data sets            # the list: rows, classes, balance, what decides
    python -m benchmarks.own_data folder reviews  # its folder, for `interplay train --data FOLDER`

Each set has its own fixed split. Defaults are chosen on the validation splits of the half `development`, and measured
on the test splits of all. Icons come from npm packages that are fetched once into the cache folder
(`$INTERPLAY_CACHE`); nothing of them is part of this repository.
"""

from __future__ import annotations

import argparse

from benchmarks.small_data.catalogue import sets, streams
from benchmarks.small_data.folders import described, folder, stream, table

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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("sets", help="the list of sets and streams")
    one_folder = commands.add_parser("folder", help="the folder of a set, made on the first call")
    one_folder.add_argument("name")
    arguments = parser.parse_args()
    if arguments.what == "sets":
        print(listed())
    else:
        print(folder(arguments.name))


if __name__ == "__main__":
    main()
