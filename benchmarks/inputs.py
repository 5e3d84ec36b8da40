"""What short captions and kept pictures save, each beside the plain way in one run.

python benchmarks/inputs.py
"""

from __future__ import annotations

import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable

import datasets
import numpy as np
import torch
from PIL import Image

from interplay.data.image_cache import ImageCache
from interplay.data.images import decode
from interplay.data.schema import PairTable
from interplay.towers.backbone import random_backbone
from interplay.towers.preprocessing import to_square
from interplay.towers.walk import encode

ROUNDS = 9


def ratio(slow: Callable[[], object], fast: Callable[[], object]) -> tuple[float, float, float]:
    """Median milliseconds of both, in turn, and the median of slow / fast round by round."""
    slow(), fast()
    pairs = []
    for _ in range(ROUNDS):
        marks = [time.perf_counter()]
        for call in (slow, fast):
            call()
            marks.append(time.perf_counter())
        pairs.append((1e3 * (marks[1] - marks[0]), 1e3 * (marks[2] - marks[1])))
    middle = statistics.median
    return middle(a for a, _ in pairs), middle(b for _, b in pairs), middle(a / b for a, b in pairs)


def captions() -> dict[str, object]:
    """64 captions of 12 tokens on ViT-B/32's text tower: cut to 12 against padded to 77."""
    backbone = random_backbone("clip-vit-base-patch32")
    end = backbone.text.shape.end_token
    short = torch.randint(0, 49000, (64, 12))
    short[:, -1] = end
    padded = torch.nn.functional.pad(short, (0, 65), value=end)
    with torch.no_grad():
        slow, fast, times = ratio(
            lambda: encode(backbone.text, "text", padded), lambda: encode(backbone.text, "text", short)
        )
        apart = (encode(backbone.text, "text", padded) - encode(backbone.text, "text", short)).abs().max()
    return {
        "what": "12-token captions against padded to 77",
        "padded_ms": round(slow, 1),
        "cut_ms": round(fast, 1),
        "times_faster": round(times, 2),
        "target": 3,
        "largest_difference": float(apart),
    }


def photograph(seed: int) -> bytes:
    """A JPEG of 500 x 375 pixels with structure at several scales."""
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
        (500, 375), Image.Resampling.BICUBIC
    )
    grain = random.integers(-20, 20, (375, 500, 3))
    pixels = np.clip(np.asarray(image).astype(int) + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def pictures() -> dict[str, object]:
    """32 JPEGs at 224 pixels: from the image cache against decoded and resized again."""
    sources = [photograph(seed) for seed in range(32)]
    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": source, "path": None} for source in sources], "text": ["x"] * len(sources)}
    ).cast_column("image", datasets.Image(decode=False))
    table = PairTable("photographs", "pairs", (), rows)
    with tempfile.TemporaryDirectory() as folder:
        cache = ImageCache(folder, 224)
        slow, fast, times = ratio(
            lambda: [to_square(decode(source, "x"), 224) for source in sources],
            lambda: cache.get_many(table, range(len(sources))),
        )
    return {
        "what": "a cached picture against decoding it again",
        "decode_ms": round(slow / len(sources), 3),
        "cached_ms": round(fast / len(sources), 3),
        "times_faster": round(times, 2),
        "target": 5,
    }


if __name__ == "__main__":
    for row in (captions(), pictures()):
        print(json.dumps(row))
