"""A grid of trainings: methods × data × seeds (× settings × shares of the data), written down before it runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml

from interplay.classification.model import MultiLoss
from interplay.comparison.selection import narrowed
from interplay.errors import InterplayError, unknown
from interplay.files import read_yaml
from interplay.key_value import assignments
from interplay.methods.registry import choose
from interplay.parts.heads import HeadSettings
from interplay.settings import make_settings
from interplay.training.settings import TrainSettings

Values = Mapping[str, Any]
_MERGED = ("settings", "head", "training")
_ROW = (*_MERGED, "method", "multi_loss")
_DATA = ("head", "training", "multi_loss", "rows")
_GRID = (*_DATA, "backbone", "random_weights", "data", "seeds", "shares", "contrasts")


@dataclass(frozen=True)
class GridCell:
    """One training and its measurement on the test split.

    Attributes:
        row: what the table calls it: a method, or a method with certain settings.
        method, settings, head, multi_loss, backbone: as `Classifier` takes them.
        data: as `interplay.data.load` takes it.
        training: changes to `TrainSettings`, the seed not among them.
        seed: of the first weights, the order of the pairs and the draw of a share.
        share: of the training rows, in (0, 1].
        random_weights: of the backbone; results then mean nothing, cost does.
    """

    row: str
    method: str
    data: str
    seed: int
    backbone: str = "tiny"
    settings: Values = field(default_factory=dict)
    head: Values = field(default_factory=dict)
    multi_loss: str = "bce"
    training: Values = field(default_factory=dict)
    share: float = 1.0
    random_weights: bool = False

    @property
    def indent(self) -> None:
        """A record is one line: it holds the class of every test pair."""
        return None

    @property
    def name(self) -> str:
        """`row@data#seed`, with the share where it is not 1: how `only` and messages call it."""
        share = "" if self.share == 1 else f"@{100 * self.share:g}%"
        return f"{self.row}@{self.data}{share}#{self.seed}"

    @property
    def file(self) -> Path:
        """Where its record is kept below the grid's folder."""
        share = "" if self.share == 1 else f"-share{100 * self.share:g}"
        return Path("cells") / slug(self.data) / f"{slug(self.row)}{share}-{self.seed}.json"

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; the same for cells that come to the same."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    def recorded(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The same, as a record says it."""
        return {**record["cell"]}

    def check(self) -> None:
        """Whether it can be built: names and settings, before anything runs.

        Raises:
            InterplayError: an unknown method or setting, or a contradiction; names the cell.
        """
        try:
            choose(self.method).settings(self.settings)
            make_settings(HeadSettings, self.head, "the head")
            if self.multi_loss not in get_args(MultiLoss):
                raise unknown("multi_loss", self.multi_loss, get_args(MultiLoss))
            make_settings(TrainSettings, {**self.training, "seed": self.seed}, "training")
            if not 0 < self.share <= 1:
                raise InterplayError(f"A share must lie in (0, 1], not {self.share}.")
        except InterplayError as problem:
            raise InterplayError(f"{self.name}: {problem}") from None


def slug(name: str) -> str:
    """A name as a part of a path; long ones and paths end in a digest, so that no two share one."""
    plain = re.sub(r"[^\w.+=,-]+", "-", name).strip("-")
    if len(plain) <= 60 and "/" not in re.sub(r"(openmoji|scenes)/", "", name):
        return plain
    return f"{plain[-40:].lstrip('-.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Grid:
    """All cells of a comparison, each row with one name.

    Attributes:
        cells: in the order in which they run: seed by seed, so that every row is there early.
    """

    cells: tuple[GridCell, ...]

    def __post_init__(self) -> None:
        seen: dict[Path, GridCell] = {}
        for cell in self.cells:
            cell.check()
            if seen.setdefault(cell.file, cell) is not cell:
                raise InterplayError(f"The grid holds {cell.name} twice.")
        if not self.cells:
            raise InterplayError("The grid holds no cell: it needs rows, data and seeds.")

    def only(self, words: Sequence[str]) -> Grid:
        """The cells whose row, data, seed (`#0`) or name is among the words; words of one sort widen, sorts narrow.

        Raises:
            InterplayError: a word that names nothing of this grid, or words that no cell has together.
        """
        return Grid(
            tuple(
                narrowed(
                    self.cells,
                    words,
                    lambda cell: ((cell.row,), (cell.data,), (f"#{cell.seed}",), (cell.name,)),
                    "row, data set or seed of the grid",
                )
            )
        )


def cells_of(rows: Mapping[str, Values], data: Mapping[str, Values], shared: Values) -> Iterator[GridCell]:
    """The cells of rows × data × shares × seeds, more special values over more general ones.

    Args:
        rows: for each row its `method`, `settings`, `head`, `training`, `multi_loss`.
        data: for each data set its own `head`, `training`, `multi_loss`, and by `rows` what is special to a row.
        shared: `backbone`, `random_weights`, `seeds`, `shares`, `head`, `training`, `multi_loss`.
    """
    seeds, shares = list(shared.get("seeds", [0])), list(shared.get("shares", [1.0]))
    solvers = {name: choose(str(row.get("method", name))).method.traits.solver for name, row in rows.items()}
    for seed in seeds:
        for source, special in data.items():
            for share in shares:
                for name, row in rows.items():
                    method = str(row.get("method", name))
                    layers = (shared, special, row, special.get("rows", {}).get(name, {}))
                    merged = {
                        key: {k: v for layer in layers for k, v in layer.get(key, {}).items()}
                        for key in _MERGED
                    }
                    by_gradient = solvers[name].by_gradient
                    if seed != seeds[0] and not by_gradient and share == 1:
                        continue  # nothing of it depends on the seed
                    losses = [layer["multi_loss"] for layer in layers if "multi_loss" in layer]
                    yield GridCell(
                        row=name,
                        method=method,
                        data=source,
                        seed=seed,
                        backbone=shared.get("backbone", "tiny"),
                        random_weights=bool(shared.get("random_weights", False)),
                        multi_loss=losses[-1] if losses else "bce",
                        share=float(share),
                        settings=merged["settings"],
                        head={} if solvers[name].own_head else merged["head"],
                        training=merged["training"] if by_gradient else {},
                    )


def make_grid(values: Values, source: str) -> Grid:
    """A grid from plain values, as `read_grid` finds them in a file.

    Args:
        values: `rows`, `data`, and what `cells_of` calls shared.
        source: where they come from, for messages.

    Raises:
        InterplayError: something that does not belong there, or a cell that cannot be built.
    """
    rows, data = (_named(values.get(key), f"{source}, {key}") for key in ("rows", "data"))
    _only_known(values, _GRID, source)
    for key, kinds in (("seeds", (int,)), ("shares", (int, float))):
        numbers = values.get(key, [])
        if not isinstance(numbers, (list, tuple)) or not all(type(number) in kinds for number in numbers):
            raise InterplayError(f"{source}: '{key}' takes a list of numbers, not {numbers!r}.")
    if not isinstance(values.get("backbone", ""), str):
        raise InterplayError(f"{source}: 'backbone' takes a name, not {values['backbone']!r}.")
    if not isinstance(values.get("random_weights", False), bool):
        raise InterplayError(f"{source}: 'random_weights' is true or false.")
    for name, row in rows.items():
        _only_known(row, _ROW, f"{source}, row '{name}'")
    for name, special in data.items():
        _only_known(special, _DATA, f"{source}, data '{name}'")
        own = _named(special.get("rows", {}), f"{source}, data '{name}', rows")
        data[name] = {**special, "rows": own}
        for row_name, row in own.items():
            if row_name not in rows:
                raise unknown(f"row in {source}", row_name, rows)
            _only_known(row, (*_MERGED, "multi_loss"), f"{source}, data '{name}', row '{row_name}'")
    return Grid(tuple(cells_of(rows, data, values)))


def typed_rows(lines: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Rows from lines such as `mitp layers=4,5,6`: a method, and changes to its settings.

    Returns:
        By the name of each row its `method` and `settings`.

    Raises:
        InterplayError: an unknown method or setting, an empty line, or a row twice.
    """
    rows: dict[str, dict[str, Any]] = {}
    for line in lines:
        if not line.split():
            raise InterplayError("--methods takes the name of a method for every row, not an empty text.")
        method, *changes = line.split()
        choice = choose(method)
        settings = assignments(changes, choice.method.Settings, f"the row '{line}'")
        name = " ".join([choice.name, *changes])
        if name in rows:
            raise InterplayError(f"--methods names the row '{name}' twice.")
        rows[name] = {"method": choice.name, "settings": settings}
    return rows


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # the package has no types
    """YAML 1.1, but for `1e-3`, which is a number here as it is in YAML 1.2."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_grid(path: Path) -> Grid:
    """A grid from a YAML file, such as recipes/openmoji.yaml.

    Raises:
        InterplayError: the file cannot be read or is no grid.
    """
    values = read_yaml(path, _Loader)
    if not isinstance(values, dict):
        raise InterplayError(f"The grid '{path}' has to hold the keys 'rows' and 'data'.")
    return make_grid(values, str(path))


def _named(values: Any, owner: str) -> dict[str, Values]:
    """A mapping of names to mappings; a list of names stands for empty ones."""
    if isinstance(values, list) and all(isinstance(name, str) for name in values):
        if twice := {name for name in values if values.count(name) > 1}:
            raise InterplayError(f"{owner}: {', '.join(sorted(twice))} stands there twice.")
        values = {name: {} for name in values}
    if not isinstance(values, dict) or not all(isinstance(v or {}, dict) for v in values.values()):
        raise InterplayError(f"{owner}: this takes a list of names, or names with their settings.")
    return {str(name): value or {} for name, value in values.items()}


def _only_known(values: Values, known: Sequence[str], owner: str) -> None:
    for key in values:
        if key not in known:
            raise InterplayError(f"{owner}: {unknown('key', key, known)}")
    for key in _MERGED:
        if not isinstance(values.get(key, {}), dict):
            raise InterplayError(f"{owner}: '{key}' takes settings with their values.")
    if "seed" in values.get("training", {}):
        raise InterplayError(f"{owner}: seeds stand under 'seeds', not in 'training'.")
    if values.get("training", {}).get("devices", 1) != 1:
        raise InterplayError(f"{owner}: every cell trains on one device: leave 'devices' out.")
