"""How data of the user's own are read: names of columns, further files, shares of the split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interplay.errors import InterplayError
from interplay.files import read_yaml


@dataclass(frozen=True)
class Reading:
    """What was said of the data beside their name.

    Attributes:
        given: the options `columns`, `validation`, `test` and `split` that were given, as `config.yaml` holds them.
    """

    given: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        columns: Sequence[str] = (),
        validation: str | None = None,
        test: str | None = None,
        split: str | None = None,
    ) -> Reading:
        """What was typed.

        Raises:
            InterplayError: something that cannot be read.
        """
        typed = {"columns": list(columns), "validation": validation, "test": test, "split": split}
        reading = cls({name: value for name, value in typed.items() if value})
        reading.options()  # what cannot be read is told before anything is loaded
        return reading

    @classmethod
    def of_run(cls, folder: str, source: str | None = None) -> Reading:
        """What the run in a folder was told of its data; nothing where its `config.yaml` is not there.

        Args:
            source: for a stream the data that are meant, which may be other data than those of `config.yaml`; a
                stream is told of its columns alone.
        """
        path = Path(folder) / "config.yaml"
        if not path.is_file():
            return cls()
        try:
            config = read_yaml(path)
        except InterplayError:
            config = None
        if not isinstance(config, dict):
            raise InterplayError(f"{path} cannot be read: name the data with --data.")
        if source not in (None, config.get("data")):
            return cls()
        told = ("columns", "validation", "test", "split") if source is None else ("columns",)
        return cls({name: config[name] for name in told if config.get(name)})

    @classmethod
    def for_run(cls, folder: str, data: str | None, columns: Sequence[str]) -> Reading:
        """How to read what a run is measured on: other data as was typed, its own as it was told."""
        typed = cls.of(columns)
        return typed if data is not None else cls({**cls.of_run(folder).given, **typed.given})

    def words(self) -> list[str]:
        """The same as it is typed."""
        columns = [str(word) for word in self.given.get("columns", ())]
        named = {name: value for name, value in self.given.items() if name != "columns"}
        return [
            *(["--columns", *columns] if columns else []),
            *(word for name, value in named.items() for word in (f"--{name}", str(value))),
        ]

    def options(self) -> dict[str, Any]:
        """The same as arguments of `interplay.data.load`.

        Raises:
            InterplayError: something that cannot be read.
        """
        found: dict[str, Any] = {
            name: str(self.given[name]) for name in ("validation", "test") if name in self.given
        }
        if "columns" in self.given:
            found["columns"] = _columns(self.given["columns"])
        if "split" in self.given:
            found["shares"] = _shares(str(self.given["split"]))
        return found


def _columns(words: Any) -> dict[str, str]:
    """`["image=path,text=title"]`, or each on its own, by the schema's names."""
    pairs = [pair for word in words for pair in re.split(r",(?=\w+=)", str(word))]
    named: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs):
            raise InterplayError(f"--columns takes key=value, as image=path text=title, not '{pair:.60}'.")
        named[ours] = theirs
    return named


def _shares(text: str) -> tuple[float, ...]:
    """`80/10/10` as numbers; what are no three numbers is refused by the reader."""
    try:
        return tuple(float(part) for part in text.split("/"))
    except ValueError:
        raise InterplayError(f"--split takes three shares, as 80/10/10, not '{text:.60}'.") from None
