"""What the readers of published benchmarks share: how a folder and its settings are named, what has to lie there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from interplay.data.images import fault
from interplay.data.picture_sources import Unusable, encodable, regular_file
from interplay.errors import InterplayError, unknown

if TYPE_CHECKING:
    import datasets

_READERS = 4  # threads that open pictures


@dataclass(frozen=True)
class Benchmark:
    """One benchmark as its owners publish it.

    Attributes:
        name: the part before the colon in `name:FOLDER`; also its folder under `reproduce --root`.
        title: as papers call it.
        origin: where a user gets it.
        layout: for each thing that has to be there the names that it may have, relative to the folder.
        page: the page of the documentation.
    """

    name: str
    title: str
    origin: str
    layout: tuple[tuple[str, ...], ...]
    page: str

    @property
    def prefix(self) -> str:
        """How a source of this benchmark begins."""
        return f"{self.name}:"

    def missing(self, folder: Path) -> str:
        """One sentence on what the folder lacks, where it is from and where it goes; empty where nothing is missing."""
        absent = [
            " or ".join(names) for names in self.layout if not any((folder / name).exists() for name in names)
        ]
        if not absent:
            return ""
        return (
            f"{self.title}: {folder} has no {', no '.join(absent)}. Get it from {self.origin} and unpack it there; "
            f"{self.page} says what goes where."
        )

    def require(self, folder: Path) -> None:
        """Refuse a folder that lacks something.

        Raises:
            InterplayError: with the sentence of `missing`.
        """
        if sentence := self.missing(folder):
            raise InterplayError(sentence)


def split_source(source: str, name: str, known: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """`name:FOLDER?setting=value&…` as folder and settings, still as text.

    Args:
        source: as it was typed.
        name: of the reader, without the colon.
        known: the settings that it has.

    Raises:
        InterplayError: no folder is named, or a setting is unknown.
    """
    folder, _, query = source.removeprefix(f"{name}:").partition("?")
    if not folder:
        raise InterplayError(f"'{source}' names no folder; write {name}:path/to/{name}.")
    return Path(folder).expanduser(), settings_in(query, source, name, known)


def settings_in(query: str, source: str, name: str, known: Sequence[str]) -> dict[str, str]:
    """The settings after a `?`, still as text.

    Args:
        query: what stands there, `setting=value&…`; may be empty.
        source: the whole as it was typed.
        name: of what has these settings.
        known: the settings that it has.

    Raises:
        InterplayError: it has another form, or a setting is unknown.
    """
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise InterplayError(f"'{source}': settings have the form ?name=value&name=value.") from None
    for setting in given:
        if setting not in known:
            raise unknown(f"setting of {name}", setting, known)
    return given


def with_settings(source: str, name: str, cls: type[Any], numbers: Sequence[str] = ()) -> tuple[Path, Any]:
    """The same with the settings as a dataclass.

    Args:
        source: `name:FOLDER?setting=value&…`.
        name: of the reader.
        cls: the dataclass of its settings, which checks their values itself.
        numbers: the settings that are numbers.

    Raises:
        InterplayError: as `split_source`, or a setting has a value that it cannot hold.
    """
    folder, given = split_source(source, name, [field.name for field in fields(cls)])
    values: dict[str, Any] = dict(given)
    for number in numbers:
        if number in values:
            try:
                values[number] = float(values[number])
            except ValueError:
                raise InterplayError(
                    f"The setting '{number}' of {name} must be a number, not '{values[number]}'."
                ) from None
    return folder, cls(**values)


def picture_column(paths: Sequence[str]) -> datasets.Dataset:
    """One undecoded picture a row, by its path; none where the path is no Unicode, so no file can be meant."""
    import datasets

    features = datasets.Features({"image": datasets.Image(decode=False)})
    return datasets.Dataset.from_dict(
        {"image": [{"path": path, "bytes": None} if encodable(path) else None for path in paths]},
        features=features,
    )


def broken_pictures(paths: Sequence[str], *, verify: bool) -> Mapping[str, str]:
    """Why pictures cannot be used, by path; each distinct one is looked at once, however many rows it has.

    Args:
        paths: may repeat.
        verify: decode them; without it only missing files are found.
    """

    def look(path: str) -> str | None:
        if verify:
            return fault({"path": path, "bytes": None})
        try:
            regular_file(path)
        except Unusable as problem:
            return str(problem)
        return None

    distinct = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(look, distinct)
        return {path: reason for path, reason in zip(distinct, found, strict=True) if reason}


def check_share(value: float, title: str) -> None:
    """Refuse what is no share of train for a validation split.

    Raises:
        InterplayError: it is not in [0, 1).
    """
    if not 0 <= value < 1:
        raise InterplayError(f"The share of {title}'s validation split must lie in [0, 1), not {value}.")
