"""Recall of 5,000 images and 25,010 captions by counting, beside sorting every row, in one run on one core.

    python benchmarks/ranking.py            # ratios, equality, seconds
    python benchmarks/ranking.py --memory   # peak memory beyond the vectors, each in a process of its own

`row_by_row`: each query is scored against the gallery and its scores are sorted (stable, so that the order of equals
is defined); this is what the target is for. `one_product`: all scores by one product, which `counting` needs as well,
then numpy's quickest sort for each row, which leaves the order of equals open.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from interplay.metrics.recall import DIRECTIONS, KS, Recall, retrieval_recall

IMAGES, TEXTS, WIDTH = 5000, 25_010, 512


def vectors(images: int = IMAGES, texts: int = TEXTS) -> tuple[Tensor, Tensor, Tensor]:
    """Images, five captions each (some six) that resemble them, and the owners; no two vectors are equal."""
    generator = torch.Generator().manual_seed(0)
    image = torch.nn.functional.normalize(torch.randn(images, WIDTH, generator=generator), dim=1)
    owner = torch.arange(texts) % images
    noise = torch.nn.functional.normalize(torch.randn(texts, WIDTH, generator=generator), dim=1)
    return image, torch.nn.functional.normalize(image[owner] + 6 * noise, dim=1), owner


def recall_of(image_ranks: Iterable[int], text_ranks: Iterable[int]) -> Recall:
    """Shares of ranks up to k."""
    found = [np.fromiter(ranks, dtype=np.int64) for ranks in (image_ranks, text_ranks)]
    return {
        d: {k: float((ranks <= k).mean()) for k in KS} for d, ranks in zip(DIRECTIONS, found, strict=True)
    }


def row_by_row(images: Tensor, texts: Tensor, owner: Tensor) -> Recall:
    """One product and one stable sort a query; the rank is the place of the first own item."""
    owners = owner.numpy()

    def order(gallery: Tensor, query: Tensor) -> np.ndarray:
        return np.argsort(-(gallery @ query).numpy(), kind="stable")

    return recall_of(
        (1 + int((owners[order(texts, query)] == image).argmax()) for image, query in enumerate(images)),
        (1 + int((order(images, query) == owners[text]).argmax()) for text, query in enumerate(texts)),
    )


def one_product(images: Tensor, texts: Tensor, owner: Tensor) -> Recall:
    """All scores at once, then one sort a row."""
    scores, owners = (images @ texts.T).neg_().numpy(), owner.numpy()
    columns = np.ascontiguousarray(scores.T)
    return recall_of(
        (1 + int((owners[np.argsort(row)] == image).argmax()) for image, row in enumerate(scores)),
        (1 + int((np.argsort(row) == owners[text]).argmax()) for text, row in enumerate(columns)),
    )


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Recall]] = {
    "counting": retrieval_recall,
    "row_by_row": row_by_row,
    "one_product": one_product,
}


def speed(rounds: int) -> dict[str, object]:
    """Rounds of all ways in turn; medians of the processor's milliseconds and of the ratios round by round."""
    data, warm = vectors(), vectors(100, 500)
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    found = {name: way(*warm) for name, way in WAYS.items()}
    for _ in range(rounds):
        for name, way in WAYS.items():
            start = time.process_time()
            found[name] = way(*data)
            times[name].append(time.process_time() - start)
    middle = statistics.median
    ratios = {
        name: round(middle(b / a for a, b in zip(times["counting"], times[name], strict=True)), 1)
        for name in WAYS
        if name != "counting"
    }
    return {
        "what": f"recall of {IMAGES} images and {TEXTS} captions of width {WIDTH}, both directions, one core",
        **{f"{name}_ms": round(1e3 * middle(taken)) for name, taken in times.items()},
        "times_faster_than": ratios,
        "target": {"row_by_row": 20},
        "equal": all(
            abs(found["counting"][d][k] - other[d][k]) < 1e-12
            for other in found.values()
            for d in DIRECTIONS
            for k in KS
        ),
        "recall": found["counting"],
    }


def peak(which: str) -> float:
    """Peak resident memory in MB beyond what vectors and libraries take, in this process (Linux)."""
    WAYS[which](*vectors(100, 500))
    data = vectors()
    pages = int(Path("/proc/self/statm").read_text().split()[1])  # resident now, not the peak of making them
    WAYS[which](*data)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - pages * resource.getpagesize() / 2**20


def memory() -> dict[str, object]:
    """Peaks, each measured in a fresh process."""
    peaks = {
        f"{which}_mb": round(
            float(subprocess.check_output([sys.executable, __file__, "--peak", which], text=True))
        )
        for which in WAYS
    }
    return {"what": "peak memory beyond the vectors", **peaks, "target_mb": 1000}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", choices=tuple(WAYS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        print(peak(arguments.peak))
        return
    print(json.dumps(memory() if arguments.memory else speed(arguments.rounds)))


if __name__ == "__main__":
    main()
