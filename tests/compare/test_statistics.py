"""The bootstrap over seeds × clusters against loops and by its coverage, clusters by search, Holm by closed testing."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest
from scipy.stats import ttest_ind

from interplay.comparison.statistics import (
    Clusters,
    Estimate,
    Floats,
    clusters_of,
    draws,
    estimate,
    holm,
    resampled,
    slope,
    values_of_seeds,
)
from interplay.comparison.tables import headline
from interplay.errors import InterplayError


def accuracy(sums: Floats, pairs: Floats) -> Floats:
    return headline(sums, pairs, "single")


def macro(sums: Floats, pairs: Floats) -> Floats:
    return headline(sums, pairs, "multi")


@pytest.mark.parametrize(("measure", "width"), [(accuracy, 1), (macro, 6)])
@pytest.mark.parametrize("crossed", [False, True])
def test_the_bootstrap_is_the_slow_one(measure: object, width: int, crossed: bool) -> None:
    dice = np.random.default_rng(0)
    rows = {name: (dice.random((seeds, 30, width)) < 0.6) * 1.0 for name, seeds in (("a", 3), ("b", 1))}
    factors = [dice.integers(0, 9, 30) for _ in range(2 if crossed else 1)]
    clusters = Clusters(tuple(factors))
    levels = np.repeat([1.0, 2.0], 15)
    found = resampled(rows, clusters, measure, levels, resamples=7, seed=5)  # type: ignore[arg-type]
    blocks = list(draws({"a": 3, "b": 1}, clusters, 7, 5))
    weights = np.concatenate([block[0] for block in blocks])
    for name, row in rows.items():
        shares = np.concatenate([block[1][name] for block in blocks])
        for b in range(8):
            for at, level in enumerate((1.0, 2.0)):
                mean = 0.0
                for s, outcomes in enumerate(row):
                    drawn = [n for n in range(30) if levels[n] == level for _ in range(round(weights[b, n]))]
                    sums = np.sum([outcomes[n] for n in drawn], axis=0)
                    mean += shares[b, s] * float(measure(sums, np.array(float(len(drawn)))))  # type: ignore[operator]
                assert found[name][b, at] == pytest.approx(mean, abs=1e-12)


def test_pairs_of_a_cluster_count_together_and_one_draw_is_left_out() -> None:
    clusters = Clusters((np.array([0, 0, 1, 2, 2, 2, 3]),))
    weights = clusters.weights(50, np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, [3, 4]] == weights[:, [5, 5]]).all()
    assert (weights[:, [0, 2, 3, 6]].sum(1) == 3).all()
    assert clusters.count == 4


def test_the_deviation_of_a_mean_is_unbiased() -> None:
    """Even with four seeds, where drawing as many as there are would give √(3/4) of it."""
    values = np.array([0.1, 0.5, 0.2, 0.9])
    row = {"a": values[:, None, None]}
    found = resampled(row, Clusters((np.zeros(1, dtype=np.int64),)), accuracy, resamples=20000)["a"][1:]
    assert found.std() == pytest.approx(values.std(ddof=1) / 2, rel=0.02)


def covered(seeds: int, clusters: int, *, as_it_is: bool = True, repetitions: int = 150) -> float:
    """How often the 95 % interval holds the truth, 0.5, of a row whose seeds and clusters of five pairs differ.

    Args:
        as_it_is: whether seeds and clusters are told, or all pairs are taken for independent.
    """
    inside = 0
    place = np.repeat(np.arange(clusters), 5)
    drawn = Clusters((place if as_it_is else np.arange(len(place)),))
    for repetition in range(repetitions):
        dice = np.random.default_rng(repetition)
        levels, groups = dice.normal(0, 0.05, (seeds, 1)), dice.normal(0, 0.3, clusters)[place]
        row = (0.5 + levels + groups + dice.normal(0, 0.3, (seeds, len(place))))[:, :, None]
        row = row if as_it_is else row.mean(0, keepdims=True)
        values = resampled({"a": row}, drawn, accuracy, resamples=400, seed=repetition)["a"][:, 0]
        low, high = estimate(values, [values_of_seeds(row, accuracy)[:, 0]], drawn.count).interval()
        inside += low <= 0.5 <= high
    return inside / repetitions


@pytest.mark.parametrize(("seeds", "clusters"), [(10, 40), (3, 40), (3, 200)])
def test_the_interval_covers_the_truth_as_often_as_it_says(seeds: int, clusters: int) -> None:
    assert 0.90 <= covered(seeds, clusters) <= 0.995


def test_without_clusters_and_seeds_it_would_not() -> None:
    assert covered(10, 40, as_it_is=False) < 0.75


def test_over_seeds_alone_it_is_welch_s_t_test() -> None:
    dice = np.random.default_rng(2)
    a, b = dice.normal(0.5, 0.02, 4), dice.normal(0.47, 0.05, 7)
    rows = {name: values[:, None, None] for name, values in (("a", a), ("b", b))}
    values = resampled(rows, Clusters((np.zeros(1, dtype=np.int64),)), accuracy, resamples=40000)
    found = estimate((values["a"] - values["b"])[:, 0], [a, b], 1)
    welch = ttest_ind(a, b, equal_var=False, alternative="greater")
    assert found.freedom == pytest.approx(welch.df)
    assert found.p_above(0) == pytest.approx(welch.pvalue, rel=0.03)
    both = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert found.interval() == pytest.approx((both.low, both.high), abs=1e-3)
    assert found.p_below(0) == pytest.approx(1 - found.p_above(0))


def test_what_does_not_vary_is_known() -> None:
    same = estimate(np.zeros(9), [np.zeros(1)], 5)
    assert (same.p_above(0.0), same.p_below(0.01), same.interval()) == (1.0, 0.0, (0.0, 0.0))


def test_clusters_are_what_hangs_together() -> None:
    dice = np.random.default_rng(1)
    pictures, texts = dice.integers(0, 60, 40).tolist(), [f"t{n}" for n in dice.integers(0, 60, 40)]
    (found,) = clusters_of([*pictures, *range(1000, 1400)], [*texts, *map(str, range(400))]).factors
    own = list(range(40))
    changed = True
    while changed:  # the slow way: names spread until nothing changes
        changed = False
        for a, b in combinations(range(40), 2):
            if own[a] != own[b] and (pictures[a] == pictures[b] or texts[a] == texts[b]):
                own = [min(own[a], own[b]) if n in (own[a], own[b]) else n for n in own]
                changed = True
    for a, b in combinations(range(40), 2):
        assert (found[a] == found[b]) == (own[a] == own[b])
    assert len(np.unique(found[40:])) == 400


def test_where_all_hangs_together_pictures_and_texts_are_drawn_apart() -> None:
    grid = [(p, t) for p in range(5) for t in range(5)]
    pictures, texts = zip(*grid, strict=True)
    found = clusters_of(pictures, texts)
    assert [len(np.unique(factor)) for factor in found.factors] == [5, 5]
    weights = found.weights(20, np.random.default_rng(0)).reshape(20, 5, 5)
    for one in weights:
        assert np.linalg.matrix_rank(one) == 1  # a product of picture and text


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_closed_testing(seed: int) -> None:
    """An hypothesis is rejected where every set that holds it is, by the smallest p times the set's size."""
    p = (np.random.default_rng(seed).random(5) ** 3).round(2).tolist()
    sets = list(chain.from_iterable(combinations(range(5), size) for size in range(1, 6)))
    slow = [max(min(1.0, len(s) * min(p[i] for i in s)) for s in sets if at in s) for at in range(5)]
    assert holm(p) == pytest.approx(slow)
    assert holm([]) == []


def test_slopes_are_least_squares() -> None:
    levels, values = np.array([1.0, 2, 4]), np.array([[0.1, 0.5, 0.6], [1, 2, 4]])
    np.testing.assert_allclose(slope(values, levels), np.polyfit(levels, values.T, 1)[0])


def test_a_difference_as_large_as_is_said_is_found_as_often_as_is_said() -> None:
    least = Estimate(0.0, 0.02, 1e6).detectable(0.01)
    means = least + np.random.default_rng(0).normal(0, 0.02, 4000)
    found = np.mean([Estimate(mean, 0.02, 1e6).p_above(0.0) <= 0.01 for mean in means])
    assert found == pytest.approx(0.8, abs=0.03)


def test_a_resample_without_pairs_is_told() -> None:
    row = {"a": np.ones((1, 2, 1))}
    with pytest.raises(InterplayError, match="too few pictures and texts"):
        resampled(row, Clusters((np.array([0, 1]),)), accuracy, np.array([1.0, 2.0]), resamples=50)
