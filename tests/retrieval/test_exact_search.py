"""Exact search finds what comparing everything at once finds, in bounded memory, from several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from interplay import InterplayError
from interplay.embeddings import Manifest, Record, write_partition
from interplay.retrieval import exact_search
from interplay.retrieval.exact_search import ExactSearch, Match

JOINT = 8
SIZES = (50, 7, 120)
BAD = (3, 60)


def unit(count: int, seed: int) -> Tensor:
    """Vectors of length 1."""
    random = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, JOINT, generator=random), dim=1)


@pytest.fixture(scope="module")
def vectors() -> Tensor:
    found = unit(sum(SIZES), 0)
    found[list(BAD)] = 0
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, vectors: Tensor) -> Path:
    """Three partitions; two items could not be read."""
    place = tmp_path_factory.mktemp("embeddings")
    made = Manifest("tiny", "b", "p", JOINT, ("image",))
    made.write(place)
    for number, rows in enumerate(torch.arange(sum(SIZES)).split(list(SIZES))):
        columns = {
            "key": [f"item {row}" for row in rows],
            "image_path": [f"/{row}.png" for row in rows],
            "image_error": ["broken" if int(row) in BAD else None for row in rows],
        }
        write_partition(
            place,
            Record(number, "test", len(rows), 0),
            columns,
            {"img_emb": vectors[rows].numpy().astype(np.float32)},
        )
    return place


def wanted(vectors: Tensor, queries: Tensor, k: int) -> list[list[int]]:
    scores = queries @ vectors.T
    scores[:, list(BAD)] = -torch.inf
    found: list[list[int]] = scores.argsort(dim=1, descending=True)[:, :k].tolist()
    return found


def places(found: list[list[Match]]) -> list[list[int]]:
    return [[int(match.key.split()[1]) for match in row] for row in found]


@pytest.mark.parametrize("k", [1, 10, 175])
def test_it_finds_what_comparing_everything_finds(
    folder: Path, vectors: Tensor, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    monkeypatch.setattr(exact_search, "ROWS", 16)
    monkeypatch.setattr(exact_search, "QUERIES", 5)
    queries = unit(12, 1)
    found = ExactSearch(folder).nearest(queries, k)
    assert places(found) == wanted(vectors, queries, k)
    best = found[0][0]
    assert best.source == f"/{best.key.split()[1]}.png"
    assert best.score == pytest.approx(float(queries[0] @ vectors[places(found)[0][0]]), abs=1e-6)
    assert sum(SIZES[: best.partition]) + best.row == places(found)[0][0]


def test_what_could_not_be_read_is_never_found(folder: Path) -> None:
    search = ExactSearch(folder)
    assert len(search) == sum(SIZES) - len(BAD)
    (found,) = search.nearest(unit(1, 2), 1000)
    assert len(found) == len(search)


def test_threads_find_what_one_finds(folder: Path) -> None:
    search, queries = ExactSearch(folder), unit(40, 3)
    alone = [search.nearest(query[None], 5) for query in queries]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda query: search.nearest(query[None], 5), queries))
    assert together == alone


@pytest.mark.parametrize(
    ("queries", "k", "told"),
    [(unit(2, 0)[:, :3], 1, "shape"), (unit(2, 0)[0], 1, "shape"), (unit(2, 0), 0, "at least 1")],
)
def test_a_mistake_is_told(folder: Path, queries: Tensor, k: int, told: str) -> None:
    with pytest.raises(InterplayError, match=told):
        ExactSearch(folder).nearest(queries, k)


def test_a_side_that_is_not_there_is_told(folder: Path) -> None:
    with pytest.raises(InterplayError, match="no vectors of texts"):
        ExactSearch(folder, "text")
