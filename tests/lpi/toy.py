"""A stream of three small tasks: pictures of one shade with words."""

from __future__ import annotations

import datasets
import numpy as np
from PIL import Image

from interplay.data.schema import PairTable
from interplay.data.sessions import Session
from interplay.training.settings import TrainSettings

QUICK = TrainSettings(epochs=1, batch_size=8, learning_rate=0.01, progress=False, loggers=())
SMALL = {"depth": 2, "length": 2, "rank": 2, "centres": 2}
WORDS = ("cat", "dog", "pie", "moon", "car", "hat", "sun", "bus", "fox", "tea", "owl", "key", "sea", "bee")


def picture(seed: int, shade: int) -> Image.Image:
    """Noise of one shade."""
    random = np.random.default_rng([seed, shade])
    return Image.fromarray(random.integers(shade, shade + 80, (32, 32, 3)).astype(np.uint8))


def pairs(task: int, *, captions: int = 1, rows: int = 14) -> PairTable:
    """Up to eight pictures to train, then four to validate and two to test."""
    texts = [[f"{WORDS[i]} {task} {c}" for c in range(captions)] for i in range(rows)]
    rows_of = {
        "image": [picture(i, 50 * task) for i in range(rows)],
        "text": texts if captions > 1 else [text[0] for text in texts],
        "split": ["train"] * (rows - 6) + ["validation"] * 4 + ["test"] * 2,
    }
    table = datasets.Dataset.from_dict(rows_of).cast_column("image", datasets.Image(decode=False))
    return PairTable(f"task {task}", "pairs", (), table)


def stream(tasks: int = 3) -> list[Session]:
    """The tasks one after the other."""
    return [Session(f"task {task}", pairs(task)) for task in range(tasks)]
