"""MM-IMDB: film posters with plots, and which of 23 genres a film has.

Arevalo et al., 2017, "Gated multimodal units for information fusion" (arXiv:1702.01992).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interplay.data.benchmarks import Benchmark, picture_column, split_source
from interplay.data.checks import OnBadRow, checked
from interplay.data.formats import Raw
from interplay.data.records import decoded_json
from interplay.data.schema import PairTable
from interplay.data.splits import Split
from interplay.errors import InterplayError

MM_IMDB = Benchmark(
    name="mm_imdb",
    title="MM-IMDB",
    origin="https://archive.org/details/mmimdb (mmimdb.tar.gz, 8 GB)",
    layout=(("split.json",), ("dataset",)),
    page="docs/guides/data/mm_imdb.md",
)

GENRES = (
    "Action",
    "Adventure",
    "Animation",
    "Biography",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Family",
    "Fantasy",
    "Film-Noir",
    "History",
    "Horror",
    "Music",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Short",
    "Sport",
    "Thriller",
    "War",
    "Western",
)
"""The genres of the published benchmark; Adult, News, Reality-TV and Talk-Show do not belong to it."""

_SPLITS: Mapping[str, Split] = {"train": "train", "dev": "validation", "test": "test"}
_NAMED = 10  # films named in a note, at most


@dataclass(frozen=True)
class _Film:
    """One film; `fault` says why it cannot be used."""

    id: str
    split: Split
    origin: tuple[str, int]
    plot: str = ""
    genres: tuple[str, ...] = ()
    fault: str = ""


def load_mm_imdb(source: str, *, on_bad_row: OnBadRow = "error", verify: bool = True) -> PairTable:
    """Reads MM-IMDB, any number of labels a row.

    The folder holds `split.json` (lists of film numbers for `train`, `dev` and `test`) and `dataset/` with
    `<number>.json` and `<number>.jpeg`. The text is the longest of a film's plots. Of its genres only the 23 of
    `GENRES` count; films that have none of them are left out, counted and named in `notes`, and so is what was cleaned.

    Args:
        source: `mm_imdb:` and the folder; there are no settings.
        on_bad_row: `error`: a film that cannot be used (no or broken poster, no plot, a file that is no JSON, listed
            twice) is an error; `skip`: it is left out and listed in `skipped`.
        verify: open every poster once; without it only missing files are found.

    Raises:
        InterplayError: a folder or file is missing or not in the format of MM-IMDB, or a film is bad.
    """
    folder, _ = split_source(source, MM_IMDB.name, ())
    MM_IMDB.require(folder)
    others: Counter[str] = Counter()
    films = [
        _film(folder, number, split, at, others)
        for split, numbers in _read_splits(folder / "split.json").items()
        for at, number in enumerate(numbers, start=1)
    ]
    without = [film.id for film in films if not film.genres and not film.fault]
    films = [film for film in films if film.genres or film.fault]
    posters = folder.absolute() / "dataset"
    raw = Raw(
        images=picture_column([str(posters / f"{film.id}.jpeg") for film in films]),
        cells={
            "id": [film.id for film in films],
            "text": [film.plot for film in films],
            "labels": [list(film.genres) for film in films],
            "split": [film.split for film in films],
        },
        origins=[film.origin for film in films],
        groups=[film.id for film in films],
        faults={number: film.fault for number, film in enumerate(films) if film.fault},
        classes=GENRES,
    )
    table = checked(source, raw, on_bad_row=on_bad_row, seed=0, verify=verify)
    return replace(table, notes=(*_notes(others, without), *table.notes))


def _notes(others: Mapping[str, int], without: list[str]) -> list[str]:
    """What was cleaned, one sentence each."""
    notes = []
    if others:
        counts = ", ".join(f"{name} ({count})" for name, count in sorted(others.items()))
        notes.append(f"Genres that are none of the 23 of the benchmark were taken off their films: {counts}.")
    if without:
        more = f" and {len(without) - _NAMED} more" if len(without) > _NAMED else ""
        notes.append(
            f"{len(without)} films have none of the 23 genres and are left out: {', '.join(without[:_NAMED])}{more}."
        )
    return notes


def _read_splits(file: Path) -> dict[Split, list[str]]:
    """The film numbers of each split."""
    try:
        stored = decoded_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InterplayError(f"{file} cannot be read as JSON ({problem}). Unpack it again.") from None
    if not isinstance(stored, dict) or not all(
        isinstance(stored.get(name), list) and all(isinstance(number, (str, int)) for number in stored[name])
        for name in _SPLITS
    ):
        raise InterplayError(
            f"{file} is not in the format of MM-IMDB: it needs lists of film numbers under 'train', 'dev' and 'test'."
        )
    return {split: [str(number) for number in stored[name]] for name, split in _SPLITS.items()}


def _film(folder: Path, number: str, split: Split, at: int, others: Counter[str]) -> _Film:
    """One film by its number; genres that do not count are added to `others`.

    A film whose own file is there is named by that file, else by its place in `split.json`.
    """
    file = folder / "dataset" / f"{number}.json"
    film = _Film(number, split, (str(file), 1))
    try:
        stored: Any = decoded_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        listed = (f"{folder / 'split.json'} ({split})", at)
        return replace(film, origin=listed, fault=f"there is no file {file}")
    except (OSError, ValueError) as problem:
        return replace(film, fault=f"it is not valid JSON ({problem})")
    if not isinstance(stored, dict):
        return replace(film, fault="it is not a JSON object")
    plots = _strings(stored.get("plot"))
    if not plots:
        return replace(film, fault="the film has no plot")
    named = dict.fromkeys(_strings(stored.get("genres")))
    others.update(name for name in named if name not in GENRES)
    return replace(film, plot=max(plots, key=len), genres=tuple(name for name in GENRES if name in named))


def _strings(value: Any) -> list[str]:
    """The texts in a cell that holds one or a list of them, without empty ones."""
    values = value if isinstance(value, list) else [value]
    return [one.strip() for one in values if isinstance(one, str) and one.strip()]
