"""Bulk embedding beside the bare tower, and its memory as the number of items grows.

    python -m benchmarks.embed                              (throughput: ViT-B/32 and tiny, pictures of 500 x 375)
    python -m benchmarks.embed --memory 200000              (memory after 10,000 items and at the end)
    python -m benchmarks.embed --device cuda --precision bfloat16 --workers 15 --geometry clip-vit-large-patch14

Throughput is compared round by round: each round times one partition of `embed` as it comes in, decoding included, and
then the tower alone on as many decoded pictures, while the workers wait. Memory is that of the process and its
workers, shared pages counted once; the pictures are small and few, and a tower of two narrow layers reads them.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPModel

from benchmarks.inputs import photograph
from interplay.bulk.embed import PARTITION_SIZE
from interplay.bulk.encoder import Encoder, Precision
from interplay.bulk.items import Folder
from interplay.bulk.making import Making
from interplay.bulk.plan import Share, listed_partitions, tar_partitions
from interplay.bulk.tars import tars_of
from interplay.embeddings import Embeddings
from interplay.retrieval.retriever import Retriever
from interplay.towers.backbone import (
    Backbone,
    bundled_tokenizer,
    clip_config,
    from_clip,
    load_backbone,
    random_backbone,
)
from interplay.towers.tokens import Shape, TowerShape

ROUND = 64
DISTINCT = 32
FIRST = 10_000


def making(backbone: Backbone, out: Path, workers: int, precision: Precision = "float32") -> Making:
    """What `embed` would do with these settings."""
    encoder = Encoder(Retriever(backbone), adapted=False, precision=precision)
    manifest = encoder.manifest(("image",))
    manifest.write(out)
    return Making(out, encoder, manifest, workers)


def throughput(
    backbone: Backbone, workers: int, rounds: int, size: int, precision: Precision
) -> dict[str, object]:
    """Pictures a second of `embed` and of the tower alone, and the median of their ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        photos, out = Path(scratch, "photos"), Path(scratch, "out")
        photos.mkdir()
        files = [photograph(seed) for seed in range(DISTINCT)]
        for number in range(size * (rounds + 1)):
            (photos / f"{number:06}.jpg").write_bytes(files[number % DISTINCT])
        made = making(backbone, out, workers, precision)
        pixels = torch.randint(0, 256, (size, 3, *[backbone.image_size] * 2), dtype=torch.uint8)
        if backbone.device.type == "cuda":
            pixels = pixels.pin_memory()
        there = Embeddings(out, made.manifest)
        records = made.run(listed_partitions(Folder.of(photos), there, size, Share()))
        next(records)  # workers start, and the first pictures are decoded
        made.encoder.images(pixels)
        pairs = []
        for _ in range(rounds):
            marks = [time.perf_counter()]
            next(records)
            marks.append(time.perf_counter())
            made.encoder.images(pixels)
            marks.append(time.perf_counter())
            pairs.append((marks[1] - marks[0], marks[2] - marks[1]))
    return {
        "what": f"embed / bare tower, {backbone.name}, {workers} workers, {backbone.device.type}",
        "items_per_s": round(size / statistics.median(whole for whole, _ in pairs), 1),
        "bare_per_s": round(size / statistics.median(bare for _, bare in pairs), 1),
        "ratio": round(statistics.median(bare / whole for whole, bare in pairs), 3),
        "target": 0.9,
    }


def narrow() -> Backbone:
    """Two towers of two narrow layers, so that everything but the towers is what is measured."""
    common = {"width": 16, "depth": 2, "heads": 2, "hidden": 32, "joint": 512}
    shape = Shape(
        TowerShape(**common, image_size=32, patch_size=16),
        TowerShape(**common, vocabulary=49408, positions=77, end_token=49407),
    )
    torch.manual_seed(0)
    return from_clip(CLIPModel(clip_config(shape)), bundled_tokenizer(), "narrow")


def small_pictures() -> list[bytes]:
    """Some PNGs of noise."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(DISTINCT):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


def write_tars(folder: Path, items: int) -> None:
    """Tars of `PARTITION_SIZE` samples with a picture and a text each."""
    pictures = small_pictures()
    for shard in range(0, items, PARTITION_SIZE):
        with tarfile.open(folder / f"{shard // PARTITION_SIZE:05}.tar", "w") as archive:
            for number in range(shard, min(items, shard + PARTITION_SIZE)):
                members = {"png": pictures[number % DISTINCT], "txt": b"a picture of number %d" % number}
                for suffix, data in members.items():
                    header = tarfile.TarInfo(f"{number:09}.{suffix}")
                    header.size = len(data)
                    archive.addfile(header, io.BytesIO(data))


def write_files(folder: Path, items: int) -> None:
    """Pictures as files, a thousand a folder."""
    pictures = small_pictures()
    for number in range(items):
        place = folder / f"{number // 1000:05}"
        place.mkdir(exist_ok=True)
        (place / f"{number:09}.png").write_bytes(pictures[number % DISTINCT])


def memory_mb() -> float:
    """Proportional memory of this process and of those that it started."""
    own = Path("/proc/self/task")
    started = [int(pid) for task in own.iterdir() for pid in (task / "children").read_text().split()]
    total = 0
    for process in ("self", *started):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def memory(items: int, workers: int, *, files: bool) -> Iterator[dict[str, object]]:
    """Memory after each partition, and how the highest compares with that after the first."""
    with tempfile.TemporaryDirectory() as scratch:
        data, out = Path(scratch, "data"), Path(scratch, "out")
        data.mkdir()
        (write_files if files else write_tars)(data, items)
        made = making(narrow(), out, workers)
        there = Embeddings(out, made.manifest)
        partitions = (
            listed_partitions(Folder.of(data), there, PARTITION_SIZE, Share())
            if files
            else tar_partitions(tars_of(f"{data}/*.tar"), there, Share())
        )
        found: list[float] = []
        began, done = time.perf_counter(), 0
        for record in made.run(partitions):
            done += record.rows
            found.append(memory_mb())
            if len(found) == 1 or done % (5 * PARTITION_SIZE) == 0 or done == items:
                yield {
                    "what": f"memory, {'files' if files else 'tars'}, {workers} workers",
                    "items": done,
                    "mb": round(found[-1], 1),
                    "highest_to_first": round(max(found) / found[0], 3),
                    "target": 1.05,
                    "items_per_s": round(done / (time.perf_counter() - began)),
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--memory", type=int, help=f"items, a multiple of {FIRST:,}")
    parser.add_argument("--files", action="store_true", help="memory with files in folders, not with tars")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--size", type=int, default=ROUND, help="pictures a round")
    parser.add_argument("--geometry", nargs="*", default=["clip-vit-base-patch32", "tiny"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    given = parser.parse_args()
    if given.memory:
        for row in memory(given.memory, given.workers, files=given.files):
            print(json.dumps(row), flush=True)
        return
    for name in given.geometry:
        backbone = load_backbone(name) if name == "tiny" else random_backbone(name)
        backbone.to(given.device)
        row = throughput(backbone, given.workers, given.rounds, given.size, given.precision)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
