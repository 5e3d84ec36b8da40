"""`load_scenes`: the name of a task in, its table out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from interplay.data.benchmarks import settings_in
from interplay.data.scenes import bind, confound, entail, pick, where
from interplay.data.scenes.objects import things
from interplay.data.scenes.scene import Block
from interplay.data.scenes.shards import drawn
from interplay.data.scenes.sprites import Sprites
from interplay.data.schema import PairTable
from interplay.data.splits import SPLITS, Split
from interplay.errors import InterplayError, unknown

if TYPE_CHECKING:
    import datasets

PREFIX = "scenes/"
PAIRS: dict[Split, int] = {"train": 24_000, "validation": 4_000, "test": 12_000}
"""Rows of each split at full size."""


@dataclass(frozen=True)
class Task:
    """One of the tasks.

    Args:
        blocks: makes the blocks of a split, one after the other, always the same.
        labels: the classes.
        scenes: of a block.
        texts: that are put to each scene.
    """

    blocks: Callable[[Split], Iterator[Block]]
    labels: tuple[str, ...]
    scenes: int = 2
    texts: int = 2

    def count(self, split: Split, train: int) -> int:
        """The blocks of a split where `train` pairs are wanted in train: whole blocks, rounded down, at least one."""
        pairs = train * PAIRS[split] // PAIRS["train"]
        return max(1, pairs // (self.scenes * self.texts))


_TASKS = {
    "scenes/bind": Task(bind.bind, bind.LABELS),
    "scenes/where": Task(where.where, where.LABELS),
    "scenes/pick": Task(pick.pick, pick.LABELS),
    "scenes/entail": Task(entail.entail, entail.LABELS, scenes=4, texts=3),
    "scenes/confound": Task(confound.confound, confound.LABELS),
}

SCENES: tuple[str, ...] = tuple(_TASKS)
"""The names of the tasks."""


def load_scenes(source: str) -> PairTable:
    """One of the tasks on scenes, one label a row, with fixed splits: 24,000 / 4,000 / 12,000 pairs.

    | name | picture and text | labels |
    |---|---|---|
    | `scenes/bind` | two objects in two colours; "a red house and a blue star", or its swap | `true`, `false` |
    | `scenes/where` | two objects; "the dog is left of the apple", or the other way round | `true`, `false` |
    | `scenes/pick` | 1, 2, 4, 6 or 9 objects; "the star is blue" | `true`, `false` |
    | `scenes/entail` | three objects and a curtain; "the star is blue" | `entailment`, `neutral`, `contradiction` |
    | `scenes/confound` | an object in red or blue; "a red dog", whatever the object | `same`, `different` |

    The first call draws the pictures (a minute or two a task) into `scenes/` in the cache folder. Rows come in blocks
    within which every picture and every text occurs equally often under each label. Beside those of every table
    there are the columns `block` (its name), `case` (kinds of questions, see the task), and, one entry for each object
    that can be seen, `objects` (as `red house`) and `boxes` ([left, top, right, bottom] in pixels from the left upper
    corner of the picture, which has 96 × 96; right and bottom lie just outside).

    Args:
        source: the name, for a smaller set followed by the number of training pairs, as `scenes/bind?train=2400`;
            the other splits shrink alike, and every smaller set is contained in every larger one.

    Raises:
        InterplayError: there is no such task or setting, the number is not from 1 to 24,000, or the cache folder
            cannot be written.
    """
    import datasets

    name, _, query = source.partition("?")
    if name not in _TASKS:
        raise unknown("data set", name, _TASKS)
    task, train = _TASKS[name], _train(source, name, query)
    sprites = Sprites(thing.code for thing in things())
    parts = []
    for split in SPLITS:
        blocks = list(islice(task.blocks(split), task.count(split, train)))
        scenes = [scene for block in blocks for scene in block.scenes]
        pictures = drawn(f"{name.removeprefix(PREFIX)}/{split}", scenes, sprites.png)
        parts += [
            datasets.concatenate_datasets([pictures, _cells(rows_of(blocks, split, at))], axis=1)
            for at in range(task.texts)
        ]
    return PairTable(
        name=source, kind="single", classes=task.labels, rows=datasets.concatenate_datasets(parts)
    )


def _train(source: str, name: str, query: str) -> int:
    """The training pairs that are asked for."""
    given = settings_in(query, source, name, ["train"]).get("train", str(PAIRS["train"]))
    if not (given.isascii() and given.isdecimal() and 1 <= int(given[:9]) <= PAIRS["train"]):
        raise InterplayError(
            f"The setting 'train' of {name} is a whole number from 1 to {PAIRS['train']:,}, not '{given}'."
        )
    return int(given)


def rows_of(blocks: Sequence[Block], split: Split, at: int) -> list[dict[str, Any]]:
    """The rows of a table but for their pictures, for the text number `at` of every scene."""
    return [
        {
            "id": f"{split}-{number}-{which}-{at}",
            "text": said[at].text,
            "label": said[at].label,
            "split": split,
            "block": f"{split}-{number}",
            "case": block.case,
            "objects": [placed.words for placed in scene.objects],
            "boxes": [list(placed.box) for placed in scene.objects],
        }
        for number, block in enumerate(blocks)
        for which, (scene, said) in enumerate(zip(block.scenes, block.said, strict=True))
    ]


def _cells(rows: Sequence[dict[str, Any]]) -> datasets.Dataset:
    import datasets

    features = datasets.Features({column: datasets.Value("string") for column in rows[0]})
    features["objects"] = datasets.List(datasets.Value("string"))
    features["boxes"] = datasets.List(datasets.List(datasets.Value("int16"), length=4))
    return datasets.Dataset.from_dict(
        {column: [row[column] for row in rows] for column in features}, features=features
    )
