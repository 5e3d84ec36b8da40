"""A task that was learned and forgotten leaves a gallery as it was, bit for bit, and nothing of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from interplay.gallery.address import Address
from interplay.gallery.entry import GalleryCard
from interplay.gallery.gallery import Gallery
from interplay.gallery.store import Store
from interplay.retrieval.retriever import Retriever
from interplay.towers.tokens import SIDES
from tests.gallery.fake import snapshot
from tests.gallery.test_private import every_byte
from tests.kernels import KernelsByShape
from tests.lpi.toy import QUICK, SMALL, pairs, picture
from tests.train.toy import toy_backbone

WORDS = ("cat", "dog", "pie", "moon", "car", "hat")


def items(folder: Path) -> tuple[list[Path], list[str]]:
    """Forty pictures of three shades, and sixty texts of unequal lengths."""
    files = []
    for number in range(40):
        files.append(folder / f"{number}.png")
        picture(300 + number, 50 * (number % 4)).save(files[-1])
    return files, [" ".join(WORDS[at % 6] for at in range(n % 7 + 1)) + f" {n % 4} {n}" for n in range(60)]


@pytest.mark.bitwise
@pytest.mark.parametrize("method", ["lpi-p", "lpi-m"])
def test_learning_and_forgetting_leave_the_gallery_as_it_was(tmp_path: Path, method: str) -> None:
    files, texts = items(tmp_path)
    retriever = Retriever(toy_backbone(), method, settings=SMALL)
    for task in (0, 2):
        retriever.learn(f"task {task}", pairs(task), settings=QUICK)
    place = tmp_path / "gallery.db"
    with KernelsByShape(), retriever.index(files, texts=texts, uri=place, progress=False) as gallery:
        state = gallery.waiting(), retriever.state()
    before = snapshot(retriever, place)
    retriever.learn("task 3", pairs(3), settings=QUICK)
    with KernelsByShape(), Gallery.open(retriever, place) as gallery:
        moved = gallery.refresh(progress=False).reencoded
    during = snapshot(retriever, place)
    changed = [name for name in before if during[name] != before[name]]
    assert 10 < len(changed) == moved < 100
    assert {during[name][2] for name in changed} == {"task 3"}
    retriever.forget("task 3")
    assert (0, retriever.state()) == state
    with KernelsByShape(), Gallery.open(retriever, place) as gallery:
        assert gallery.waiting() == moved
        assert gallery.refresh(progress=False).reencoded == moved
        assert gallery.waiting() == 0
    assert snapshot(retriever, place) == before
    left = every_byte(place)
    assert b"task 3" not in left
    assert not [name for name in changed if during[name][5] in left]


@pytest.mark.bitwise
def test_an_embedding_does_not_depend_on_the_others(tmp_path: Path) -> None:
    files, texts = items(tmp_path)
    retriever = Retriever(toy_backbone(), "lpi-p", settings=SMALL)
    for task in (0, 2):
        retriever.learn(f"task {task}", pairs(task), settings=QUICK)
    parts = ([0], [5, 3], [*range(39, -1, -1)], [7] * 9, [*range(0, 40, 3)])
    with KernelsByShape():
        for side in SIDES:
            given = files if side == "image" else texts
            keys = retriever.keys(side, given, apart=True)
            routes = retriever.routes(side, keys)
            vectors = retriever.encode(side, given, routes, apart=True)
            for part in parts:
                some = [given[row] for row in part]
                assert torch.equal(retriever.keys(side, some, apart=True), keys[part])
                picked = [routes[row] for row in part]
                assert torch.equal(retriever.encode(side, some, picked, apart=True), vectors[part])
            together = retriever.encode(side, given, routes)
            assert not torch.equal(together, vectors)
            torch.testing.assert_close(together, vectors, atol=1e-3, rtol=1e-3)  # these kernels err a lot


def test_searches_equal_exact_ranking(tmp_path: Path) -> None:
    """Every query in both directions and four depths, against all products of the vectors."""
    files, texts = items(tmp_path)
    retriever = Retriever(toy_backbone(), "lpi-p", settings=SMALL)
    retriever.learn("task 0", pairs(0), settings=QUICK)
    retriever.learn("task 2", pairs(2), settings=QUICK)
    place = tmp_path / "gallery.db"
    retriever.index(files, texts=texts, uri=place, progress=False).close()
    store = Store.open(
        Address.of(str(place)),
        "interplay",
        GalleryCard(retriever.backbone_digest, retriever.identity, retriever.joint),
    )
    entries = list(store.get([entry.id for block in store.scan() for entry in block]).values())
    store.close()
    compared = 0
    with Gallery.open(retriever, place) as gallery:
        for query in [*texts[:12], *files[:12]]:
            vector = gallery._vector("text" if isinstance(query, str) else "image", query)
            for find in SIDES:
                rows = [entry for entry in entries if entry.side == find]
                scores = {entry.source: float(entry.embedding @ vector) for entry in rows}  # type: ignore[operator]
                expected = sorted(scores, key=lambda source: -scores[source])
                for k in (1, 3, 10, 100):
                    hits = gallery.search(query, k=k, find=find)
                    assert len(hits) == min(k, len(rows))
                    for hit, source in zip(hits, expected, strict=False):
                        assert hit.score == pytest.approx(scores[hit.source], abs=1e-6)
                        assert hit.score == pytest.approx(
                            scores[source], abs=1e-6
                        )  # equal ones may change places
                    compared += 1
    assert compared == 192
