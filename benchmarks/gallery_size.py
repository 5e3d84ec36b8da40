"""A gallery of many vectors on Milvus Lite and on a Milvus server: build time, p50 and p99 of a search, recall@10.

    python benchmarks/gallery_size.py --rows 100000
    python benchmarks/gallery_size.py --rows 1000000 --place http://localhost:19530 --consistency Bounded

The vectors are of a mixture: centres on the sphere, and around each a cloud in 32 random directions, as encoders of
pictures spread what they see (their spectra fall fast). Vectors without any structure, `--directions 0`, are the worst
case of every approximate index, and no encoder's. Queries come from the same mixture and are in no gallery. Exact is a
product with all vectors in blocks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from interplay.gallery.address import Address, ServerSettings
from interplay.gallery.entry import Entry, GalleryCard
from interplay.gallery.store import Store

Array = npt.NDArray[np.float32]

CENTRES, DIRECTIONS = 2000, 32
BLOCK = 1000


def mixture(count: int, width: int, directions: int, seed: int) -> Iterator[Array]:
    """Blocks of unit vectors, (BLOCK, width)."""
    shape = np.random.default_rng(0)
    centres = shape.normal(size=(CENTRES, width)).astype(np.float32) / np.sqrt(width)
    basis = shape.normal(size=(max(directions, 1), width)).astype(np.float32) / np.sqrt(width)
    draw = np.random.default_rng(seed)
    for start in range(0, count, BLOCK):
        rows = min(BLOCK, count - start)
        if directions:
            cloud = draw.normal(size=(rows, directions)).astype(np.float32) @ basis / np.sqrt(directions)
            vectors = centres[draw.integers(CENTRES, size=rows)] + 0.7 * cloud
            vectors += 0.1 * draw.normal(size=(rows, width)).astype(np.float32) / np.sqrt(width)
        else:
            vectors = draw.normal(size=(rows, width)).astype(np.float32)
        yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def exact(queries: Array, count: int, directions: int, k: int) -> npt.NDArray[np.int64]:
    """(queries, k): the rows with the greatest inner product, block by block."""
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    rows = np.zeros((len(queries), k), dtype=np.int64)
    for at, block in enumerate(mixture(count, queries.shape[1], directions, 1)):
        scores = np.concatenate([best, queries @ block.T], axis=1)
        numbers = np.concatenate(
            [rows, np.broadcast_to(at * BLOCK + np.arange(len(block)), (len(queries), len(block)))], axis=1
        )
        top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        best, rows = np.take_along_axis(scores, top, 1), np.take_along_axis(numbers, top, 1)
    return rows


def entries(count: int, width: int, directions: int) -> Iterator[list[Entry]]:
    """The gallery's entries, a block at a time; a key costs as much as it does, whatever it holds."""
    for at, block in enumerate(mixture(count, width, directions, 1)):
        yield [
            Entry(
                hashlib.sha256(str(at * BLOCK + row).encode()).hexdigest(),
                "image",
                f"/pictures/{at * BLOCK + row}.jpg",
                "",
                "1",
                vector,
                vector,
            )
            for row, vector in enumerate(block)
        ]


def measure(store: Store, queries: Array, expected: npt.NDArray[np.int64], k: int) -> dict[str, float]:
    """p50, p99 in milliseconds and recall@k of one search after the other."""
    seconds, found = [], 0
    for query, rows in zip(queries, expected, strict=True):
        began = time.perf_counter()
        hits = store.search(query, k, "image", None)
        seconds.append(time.perf_counter() - began)
        numbers = {int(Path(entry.source).stem) for entry, _ in hits}
        found += len(numbers & set(rows.tolist()))
    p50, p99 = 1000 * np.percentile(seconds, [50, 99])
    return {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "recall": round(found / expected.size, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--place", help="a server's address; by default Milvus Lite")
    parser.add_argument("--index", default="HNSW")
    parser.add_argument("--index-parameters", default="")
    parser.add_argument("--search-parameters", nargs="*", default=[""], help="each is measured")
    parser.add_argument("--consistency", default="Bounded")
    parser.add_argument("--directions", type=int, default=DIRECTIONS)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("-k", type=int, default=10)
    chosen = parser.parse_args()
    queries = np.concatenate(list(mixture(chosen.queries, chosen.width, chosen.directions, 2)))
    card = GalleryCard("b" * 64, "benchmark", chosen.width)
    with TemporaryDirectory() as folder:
        address = Address.of(chosen.place or str(Path(folder) / "gallery.db"))

        def opened(search: str = "") -> Store:
            settings = ServerSettings(
                timeout=600.0,
                index=chosen.index,
                index_parameters=chosen.index_parameters,
                search_parameters=search,
                consistency=chosen.consistency,
            )
            return Store.open(address, "benchmark", card, settings)

        store = opened()
        began = time.perf_counter()
        if not store.count():
            for block in entries(chosen.rows, chosen.width, chosen.directions):
                store.upsert(block)
        written = time.perf_counter() - began
        store.settle()
        store.build_index()
        built = time.perf_counter() - began
        assert store.count() == chosen.rows
        expected = exact(queries, chosen.rows, chosen.directions, chosen.k)
        about = {
            "rows": chosen.rows,
            "width": chosen.width,
            "write_s": round(written, 1),
            "build_s": round(built, 1),
        }
        for words in chosen.search_parameters if chosen.place else [""]:
            store.close()
            store = opened(words)
            measure(store, queries[:50], expected[:50], chosen.k)  # what is read for the first time
            print(
                json.dumps({**about, "search": words, **measure(store, queries, expected, chosen.k)}),
                flush=True,
            )
        store.close()


if __name__ == "__main__":
    main()
