"""Hypotheses that a recipe writes down before its rows are run, and what the finished cells say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from interplay.comparison.statistics import (
    Clusters,
    Floats,
    Measure,
    estimate,
    holm,
    resampled,
    slope,
    values_of_seeds,
)
from interplay.errors import InterplayError, unknown
from interplay.files import read_yaml
from interplay.settings import make_settings

Verdict = Literal["holds", "does not hold", "not decided"]
Place = tuple[str, str]
"""Data set and metric."""
LEVEL = 0.05
"""Of the whole family, one-sided."""
FEWEST = 20
"""With fewer clusters a bootstrap says too much."""


@dataclass(frozen=True)
class Contrast:
    """One hypothesis: of neighbouring rows the first is better by more than `least`.

    Attributes:
        name: what the page calls it.
        hypothesis: in words, with its source.
        rows: two or more, the best first.
        data: on which test split; '' for a recipe of one data set.
        metric: of a grid `accuracy`, or `f1_macro` where a pair may have several labels; of a stream one of its figures
            (`final_average`, `stage_average`, `task_average`, `forgetting`, …), the mean over k and both directions.
        over: a column of the data, of numbers or of lists, whose length counts: then the hypothesis is that the
            difference rises with it, by more than `least` a unit.
        at: numbers of that column: then the hypothesis is of the mean difference at these of them, not of the slope.
        least: the difference that has to be exceeded, 0 to 1.
        negligible: a difference that is surely less than this above `least` refutes the hypothesis.
        seeds: how many a row that depends on them has to have.
    """

    name: str
    hypothesis: str
    rows: tuple[str, ...]
    data: str = ""
    metric: str = "accuracy"
    over: str | None = None
    at: tuple[float, ...] = ()
    least: float = 0.0
    negligible: float = 0.01
    seeds: int = 10

    def __post_init__(self) -> None:
        if len(set(self.rows)) != len(self.rows) or len(self.rows) < 2:
            raise InterplayError(
                f"The contrast '{self.name}' needs two or more different rows, the best first, not "
                f"{', '.join(self.rows) or 'none'}."
            )
        if not self.hypothesis.strip():
            raise InterplayError(f"The contrast '{self.name}' needs a 'hypothesis', a sentence.")
        if self.at and self.over is None:
            raise InterplayError(
                f"The contrast '{self.name}': 'at' needs 'over', the column of these numbers."
            )
        if self.negligible <= 0 or self.seeds < 2:
            raise InterplayError(
                f"The contrast '{self.name}': 'negligible' has to be above 0, and 'seeds' at least 2."
            )

    @property
    def place(self) -> Place:
        """What it is measured on, and by."""
        return self.data, self.metric

    @property
    def sign(self) -> int:
        """Whether more of the metric is better."""
        return -1 if self.metric == "forgetting" else 1


def read_contrasts(path: Path) -> list[Contrast]:
    """The `contrasts` of a recipe, in their order; one that names several data sets is one for each of them.

    Raises:
        InterplayError: the file cannot be read or has none, or one of them names an unknown row, data set or key.
    """
    recipe = read_yaml(path)
    written = recipe.get("contrasts") if isinstance(recipe, dict) else None
    if not isinstance(written, dict) or not all(isinstance(values, dict) for values in written.values()):
        raise InterplayError(
            f"{path} has no contrasts: it needs a key 'contrasts', with 'hypothesis' and 'rows' by the name of each."
        )
    rows, data = _names(recipe.get("rows", {})), _names(recipe.get("data", {}))
    seeds = len(recipe.get("seeds", ()))
    found = []
    for name, values in written.items():
        where = f"{path}, contrast '{name}'"
        for key in ("rows", "at"):
            if not isinstance(values.get(key, []), list):
                raise InterplayError(f"{where}: '{key}' takes a list, not {values[key]!r}.")
        sources = values.get("data", data)
        sources = [sources] if isinstance(sources, str) else sources
        if not isinstance(sources, list):
            raise InterplayError(f"{where}: 'data' takes a name or a list of them, not {sources!r}.")
        for source in sources:
            title = name if len(sources) == 1 else f"{name} ({source})"
            given = {"hypothesis": "", "rows": (), **({"seeds": seeds} if seeds > 1 else {}), **values}
            given |= {"name": str(title), "data": source, "rows": tuple(map(str, given["rows"]))}
            given["at"] = tuple(values.get("at", ()))
            contrast: Contrast = make_settings(Contrast, given, where)
            for row in contrast.rows:
                if row not in rows:
                    raise unknown(f"row in {where}", row, rows)
            if source not in data:
                raise unknown(f"data set in {where}", source, data)
            found.append(contrast)
    return found


def _names(values: Any) -> list[str]:
    """The names of rows or data sets: of a mapping, of a list of names or of mappings with a `name`, or one alone."""
    if isinstance(values, str):
        return [values]
    return [str(one["name"]) if isinstance(one, dict) else str(one) for one in values]


@dataclass(frozen=True, eq=False)
class Measured:
    """What the cells of some rows say on one test split.

    Attributes:
        outcomes: of each row (seeds, N, J).
        by_seed: rows whose training depends on the seed.
        clusters: of the N pairs.
        measure: value from sums of outcomes and weights.
        levels: by column that a contrast is over, its N numbers.
    """

    outcomes: Mapping[str, Floats]
    by_seed: frozenset[str]
    clusters: Clusters
    measure: Measure
    levels: Mapping[str, Floats]


@dataclass(frozen=True)
class Link:
    """Two neighbouring rows of a contrast.

    Attributes:
        better, other: the rows.
        difference: better − other, so that more is better; over a column, its slope.
        low, high: its 95 % interval.
        p_holds, p_refuted: one-sided, uncorrected: of at most `least`, and of at least `least + negligible`.
        detectable: the smallest difference above `least` that this table would have shown with 80 % power.
    """

    better: str
    other: str
    difference: float
    low: float
    high: float
    p_holds: float
    p_refuted: float
    detectable: float


@dataclass(frozen=True)
class Finding:
    """What is known of a contrast.

    Attributes:
        contrast: which one.
        verdict: `holds`, `does not hold` or `not decided`.
        links: its neighbouring rows; empty where cells are missing.
        p_holds, p_refuted: corrected for the whole family (Holm); at most 5 %, and it `holds` or `does not hold`.
        missing: which cells there are not, in words.
    """

    contrast: Contrast
    verdict: Verdict
    links: tuple[Link, ...]
    p_holds: float
    p_refuted: float
    missing: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def judge(
    contrasts: Sequence[Contrast],
    measured: Mapping[Place, Measured],
    *,
    resamples: int | None = None,
    seed: int = 0,
) -> list[Finding]:
    """The verdict on every contrast of a family.

    A chain of rows holds where each of its links does (so its p is the largest of theirs: Berger, 1982), and does not
    hold where one of them is refuted (the smallest p times their number). Both directions are corrected over all
    contrasts, those without cells among them.

    Args:
        contrasts: all that were written down.
        measured: by data set and metric.
        resamples, seed: of the bootstrap.

    Raises:
        InterplayError: as `resampled`.
    """
    shown = [_links(contrast, measured, len(contrasts), resamples, seed) for contrast in contrasts]
    p_holds = holm([max((link.p_holds for link in links), default=1.0) for links, _ in shown])
    p_refuted = holm(
        [min((len(links) * link.p_refuted for link in links), default=1.0) for links, _ in shown]
    )
    return [
        Finding(contrast, _verdict(holds, refuted, links), links, holds, refuted, missing)
        for contrast, (links, missing), holds, refuted in zip(
            contrasts, shown, p_holds, p_refuted, strict=True
        )
    ]


def _verdict(p_holds: float, p_refuted: float, links: Sequence[Link]) -> Verdict:
    if links and p_holds <= LEVEL:
        return "holds"
    return "does not hold" if links and p_refuted <= LEVEL else "not decided"


def _links(
    contrast: Contrast, measured: Mapping[Place, Measured], family: int, resamples: int | None, seed: int
) -> tuple[tuple[Link, ...], str]:
    """The links of a contrast, or what is missing for them."""
    on = measured.get(contrast.place)
    if missing := _missing(contrast, on):
        return (), missing
    assert on is not None
    levels = None if contrast.over is None else on.levels[contrast.over]
    rows = {name: on.outcomes[name] for name in contrast.rows}
    drawn = {} if resamples is None else {"resamples": resamples}
    values = resampled(rows, on.clusters, on.measure, levels, seed=seed, **drawn)
    alone = {name: values_of_seeds(row, on.measure, levels) for name, row in rows.items()}
    links = []
    for better, other in pairwise(contrast.rows):
        found = contrast.sign * _figure(values[better] - values[other], contrast, levels)
        seeds = [_figure(alone[name], contrast, levels) for name in (better, other)]
        known = estimate(found, seeds, on.clusters.count)
        links.append(
            Link(
                better,
                other,
                known.value,
                *known.interval(),
                known.p_above(contrast.least),
                known.p_below(contrast.least + contrast.negligible),
                known.detectable(LEVEL / family),
            )
        )
    return tuple(links), ""


def _figure(values: Floats, contrast: Contrast, levels: Floats | None) -> Floats:
    """What a contrast is about: the value itself, its mean at some numbers of a column, or its slope over it."""
    if levels is None:
        alone: Floats = values[:, 0]
        return alone
    if contrast.at:
        mean: Floats = values[:, np.isin(np.unique(levels), contrast.at)].mean(axis=1)
        return mean
    return slope(values, np.unique(levels))


def _missing(contrast: Contrast, on: Measured | None) -> str:
    """What a verdict needs that is not there, in words; '' where nothing is missing."""
    if on is None:
        return f"no cell on {contrast.data} is finished"
    for row in contrast.rows:
        seeds = len(on.outcomes[row]) if row in on.outcomes else 0
        wanted = contrast.seeds if row in on.by_seed else 1
        if seeds < wanted:
            return f"{row} has {seeds} of {wanted} seeds"
    if len(on.clusters.factors[0]) > 1 and on.clusters.count < FEWEST:
        return f"the test pairs are {on.clusters.count} clusters, fewer than {FEWEST}"
    if contrast.over is not None:
        levels = set(on.levels[contrast.over].tolist())
        if never := sorted({*contrast.at} - levels):
            return f"'{contrast.over}' is never {never[0]:g}"
        if not contrast.at and len(levels) < 2:
            return f"'{contrast.over}' has one value alone"
    return ""
