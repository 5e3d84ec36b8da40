"""Encoding and exact search from many threads beside one thread; exact search in a million vectors.

    python -m benchmarks.search                     (ratios in one run; 1,000,000 x 512 float32, 2 GB of disk)
    python -m benchmarks.search --vectors 100000

Threads of a program share its cores: what is asked is that eight of them get no less done than one. With
OMP_NUM_THREADS=1 they use the cores that one leaves free.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.inputs import photograph
from interplay.embeddings import Manifest, Record, write_partition
from interplay.retrieval.exact_search import ExactSearch
from interplay.retrieval.retriever import Retriever

THREADS = 8
WIDTH, PARTITION = 512, 100_000


def both(work: Callable[[int], object], jobs: Sequence[int], rounds: int) -> dict[str, float]:
    """Jobs a second in one thread and in `THREADS`, in turn, and the median of their ratios."""
    work(jobs[0])
    pairs = []
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in range(rounds):
            marks = [time.perf_counter()]
            for job in jobs:
                work(job)
            marks.append(time.perf_counter())
            list(threads.map(work, jobs))
            marks.append(time.perf_counter())
            pairs.append((marks[1] - marks[0], marks[2] - marks[1]))
    return {
        "one_per_s": round(len(jobs) / statistics.median(one for one, _ in pairs), 2),
        "threads_per_s": round(len(jobs) / statistics.median(many for _, many in pairs), 2),
        "ratio": round(statistics.median(one / many for one, many in pairs), 3),
        "target": 1.0,
    }


def show(what: str, found: dict[str, float]) -> None:
    """One line of JSON as soon as it is measured."""
    print(json.dumps({"what": what, **found}), flush=True)


def encoding(rounds: int) -> None:
    """Calls with 8 pictures or 32 texts each, of a retriever with two sessions."""
    retriever = Retriever("tiny", "lpi-m")
    for name in ("a", "b"):
        retriever.method.sessions.begin(name, torch.zeros(retriever.joint))
    files = [photograph(seed) for seed in range(8)]
    texts = [f"a photograph of object number {number}" for number in range(32)]
    jobs = range(2 * THREADS)
    show("encode_images, calls of 8", both(lambda _: retriever.encode_images(files), jobs, rounds))
    show("encode_texts, calls of 32", both(lambda _: retriever.encode_texts(texts), jobs, rounds))


def write(folder: Path, count: int) -> None:
    """Random vectors of length 1 in partitions."""
    made = Manifest("random", "none", "none", WIDTH, ("image",))
    made.write(folder)
    random = np.random.default_rng(0)
    for number, first in enumerate(range(0, count, PARTITION)):
        rows = min(PARTITION, count - first)
        vectors = random.standard_normal((rows, WIDTH), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        names = [f"{row:09}" for row in range(first, first + rows)]
        record = Record(number, "random", rows, 0)
        write_partition(folder, record, {"key": names, "image_path": names}, {"img_emb": vectors})


def searching(count: int, rounds: int) -> None:
    """Single queries, batches, and both from threads."""
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch), count)
        before = _private_mb()
        began = time.perf_counter()
        search = ExactSearch(scratch)
        opened = time.perf_counter() - began
        queries = torch.nn.functional.normalize(torch.randn(256, WIDTH), dim=1)
        search.nearest(queries[:1])
        times = []
        for query in queries[: 20 * rounds]:
            began = time.perf_counter()
            search.nearest(query[None])
            times.append(1e3 * (time.perf_counter() - began))
        batches = []
        for _ in range(rounds):
            began = time.perf_counter()
            search.nearest(queries)
            batches.append(1e3 * (time.perf_counter() - began) / len(queries))
        row = {
            "open_s": round(opened, 2),
            "p50_ms": round(statistics.median(times), 1),
            "p99_ms": round(float(np.percentile(times, 99)), 1),
            "ms_per_query_of_256": round(statistics.median(batches), 2),
            "private_mb": round(_private_mb() - before),
        }
        show(f"exact search in {count:,} x {WIDTH}", row)
        jobs = range(THREADS)
        show(
            "exact search, single queries",
            both(lambda at: search.nearest(queries[at][None]), jobs, rounds),
        )


def _private_mb() -> float:
    """Memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    encoding(given.rounds)
    searching(given.vectors, given.rounds)


if __name__ == "__main__":
    main()
