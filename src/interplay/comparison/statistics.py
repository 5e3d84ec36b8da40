"""Intervals and p-values of rows with several seeds, measured on test pairs that are not independent."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interplay.errors import InterplayError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Measure = Callable[[Floats, Floats], Floats]
"""Sums of outcomes (…, J) and of weights (…) → values (…)."""

RESAMPLES = 4000
POWER = 0.8
_BLOCK = 200
"""Resamples whose weights are held at once."""
_LARGEST = 0.1
"""Where a cluster of all that hangs together holds a larger share, pictures and texts are drawn apart."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which test pairs are drawn together.

    Attributes:
        factors: for each pair its cluster, (N,). Of several factors each is drawn on its own, and a pair counts as
            often as the product says (Owen, 2007, the pigeonhole bootstrap; it errs on the wide side).
    """

    factors: tuple[Integers, ...]

    @property
    def count(self) -> int:
        """Clusters; of several factors, of the one that has the fewest."""
        return min(len(np.unique(factor)) for factor in self.factors)

    def weights(self, resamples: int, random: np.random.Generator) -> Floats:
        """How often each pair counts in each resample: (resamples, N).

        Of n clusters n − 1 are drawn with replacement, so that the variance of a mean is unbiased (Rao & Wu, 1988).
        """
        weights: Floats = np.ones((resamples, len(self.factors[0])))
        for factor in self.factors:
            _, place = np.unique(factor, return_inverse=True)
            weights *= counts(int(place.max()) + 1, resamples, random)[:, place]
        return weights


def counts(things: int, resamples: int, random: np.random.Generator) -> Floats:
    """How often each of some things is drawn, one draw fewer than there are (a single one is always there)."""
    share = np.full(things, 1 / things)
    return random.multinomial(max(1, things - 1), share, size=resamples).astype(np.float64)


def clusters_of(pictures: Sequence[Hashable], texts: Sequence[Hashable]) -> Clusters:
    """Pairs that share a picture or a text, directly or through other pairs, are one cluster.

    Where nearly everything hangs together that way (one cluster above a tenth of the pairs), pictures and texts are two
    crossed factors instead.

    Args:
        pictures, texts: of each pair, what tells equal ones.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = [np.unique([str(key) for key in keys], return_inverse=True)[1] for keys in (pictures, texts)]
    first = int(ends[0].max()) + 1
    nodes = first + int(ends[1].max()) + 1
    edges = coo_array((np.ones(len(ends[0])), (ends[0], first + ends[1])), shape=(nodes, nodes))
    _, component = connected_components(edges, directed=False)
    together: Integers = component[ends[0]].astype(np.int64)
    if np.bincount(together).max() > _LARGEST * len(together):
        return Clusters((ends[0].astype(np.int64), ends[1].astype(np.int64)))
    return Clusters((together,))


def resampled(
    rows: Mapping[str, Floats],
    clusters: Clusters,
    measure: Measure,
    levels: Floats | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Floats]:
    """Values of rows under a bootstrap over seeds × clusters, each the mean over its seeds.

    Seeds and clusters are crossed, since every seed is measured on all pairs, so both are drawn on their own and the
    weights multiply. All rows are measured on the same resampled pairs, so what makes a pair hard for all of them
    cancels out of a difference; seeds are drawn for each row on its own.

    Args:
        rows: of each row the outcomes, (seeds, N, J).
        clusters: of the N pairs.
        measure: a row's value from sums of outcomes and weights.
        levels: (N,) of numbers: a value for each of them, in rising order; None: one for all pairs.
        resamples: how many.
        seed: decides the draws.

    Returns:
        By row (1 + resamples, levels); the first line is of all pairs as they are.

    Raises:
        InterplayError: a level has so few clusters that a resample misses it.
    """
    masks = level_masks(levels, len(clusters.factors[0]))
    found: dict[str, list[Floats]] = {name: [] for name in rows}
    for weights, drawn in draws({name: len(row) for name, row in rows.items()}, clusters, resamples, seed):
        for name, row in rows.items():
            values = np.stack([_values(row, weights * mask, measure) for mask in masks], axis=-1)
            found[name].append(np.einsum("bs,bsl->bl", drawn[name], values))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def values_of_seeds(row: Floats, measure: Measure, levels: Floats | None = None) -> Floats:
    """The value of each seed of a row on all pairs: (seeds, levels); arguments as `resampled` takes them."""
    masks = level_masks(levels, row.shape[1])
    return np.stack([_values(row, mask[None], measure)[0] for mask in masks], axis=-1)


def level_masks(levels: Floats | None, pairs: int) -> Floats:
    """Which pairs are of which level: (levels, N) of zeros and ones."""
    if levels is None:
        return np.ones((1, pairs))
    masks: Floats = np.equal(np.unique(levels)[:, None], levels).astype(np.float64)
    return masks


def draws(
    seeds: Mapping[str, int], clusters: Clusters, resamples: int, seed: int
) -> Iterator[tuple[Floats, dict[str, Floats]]]:
    """Blocks of resamples: weights of the pairs (block, N), and by row shares of its seeds (block, seeds).

    The first block is a single one, of all as they are.

    Args:
        seeds: by row, how many it has.
    """
    yield (
        np.ones((1, len(clusters.factors[0]))),
        {name: np.full((1, count), 1 / count) for name, count in seeds.items()},
    )
    random = np.random.default_rng(seed)
    for start in range(0, resamples, _BLOCK):
        block = min(_BLOCK, resamples - start)
        weights = clusters.weights(block, random)
        drawn = {name: counts(count, block, random) for name, count in seeds.items()}
        yield weights, {name: shares / shares.sum(1, keepdims=True) for name, shares in drawn.items()}


def _values(row: Floats, weights: Floats, measure: Measure) -> Floats:
    """Of each resample and seed: (block, seeds)."""
    total = weights.sum(1)
    if not total.all():
        raise InterplayError(
            "A resample holds none of the pairs: there are too few pictures and texts for an interval. Measure more."
        )
    sums = np.stack([weights @ outcomes for outcomes in row], axis=1)
    return measure(sums, total[:, None])


def slope(values: Floats, levels: Floats) -> Floats:
    """The least-squares slope of values (…, levels) over the levels' numbers: (…)."""
    moved = levels - levels.mean()
    found: Floats = values @ moved / (moved @ moved)
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values that hold for all of a family together (Holm, 1979): of the i-th smallest of m, (m − i + 1)·p, rising.

    Args:
        p_values: of each hypothesis, in any order.

    Returns:
        In the same order, at most 1.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[at]))
        adjusted[at] = largest
    return adjusted


@dataclass(frozen=True)
class Estimate:
    """A difference, its standard error, and the degrees of freedom that this is known with.

    Attributes:
        value: of all seeds and pairs.
        error: its deviation under the bootstrap.
        freedom: of Student's t, infinite where nothing varies.
    """

    value: float
    error: float
    freedom: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Value ± t·error."""
        reach = self._quantile((1 + level) / 2) * self.error
        return self.value - reach, self.value + reach

    def p_above(self, bound: float) -> float:
        """One-sided p-value of the hypothesis that the difference is at most `bound`; small: it is above."""
        return self._tail(self.value - bound)

    def p_below(self, bound: float) -> float:
        """One-sided p-value of the hypothesis that the difference is at least `bound`; small: it is below."""
        return self._tail(bound - self.value)

    def detectable(self, level: float, power: float = POWER) -> float:
        """The smallest difference beyond a bound that a test at this one-sided level finds with some power, about."""
        return (self._quantile(1 - level) + self._quantile(power)) * self.error

    def _quantile(self, share: float) -> float:
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, share))

    def _tail(self, beyond: float) -> float:
        from scipy.special import stdtr

        if not self.error:
            return float(beyond <= 0)
        return float(stdtr(self.freedom, -beyond / self.error))


def estimate(found: Floats, of_seeds: Sequence[Floats], clusters: int) -> Estimate:
    """The estimate of a difference of rows, its degrees of freedom by Welch and Satterthwaite.

    The bootstrap's own quantiles would be too narrow for a few seeds: no resample lies beyond the best and the worst of
    them. Of rows without a test pair (streams) it is Welch's t-test.

    Args:
        found: (1 + resamples) values of the difference, the first one of all as they are.
        of_seeds: of each row that has several seeds, the value of each seed on all pairs.
        clusters: that were drawn.
    """
    variance = float(found[1:].var())
    parts = [
        (float(values.var(ddof=1)) / len(values), len(values) - 1) for values in of_seeds if len(values) > 1
    ]
    if clusters > 1:
        parts.append((max(0.0, variance - sum(part for part, _ in parts)), clusters - 1))
    whole, spread = sum(part for part, _ in parts), sum(part**2 / freedom for part, freedom in parts)
    return Estimate(float(found[0]), variance**0.5, whole**2 / spread if spread else float("inf"))
