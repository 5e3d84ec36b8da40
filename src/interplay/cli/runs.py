"""How commands open what they are given: backbones, data, and the folders of finished runs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interplay.cli.data_options import Reading
from interplay.cli.result import note
from interplay.errors import InterplayError
from interplay.locks import writing

if TYPE_CHECKING:
    from interplay.artifacts import Task
    from interplay.classification.classifier import Classifier
    from interplay.data.schema import PairTable
    from interplay.retrieval.retriever import Retriever
    from interplay.towers.backbone import Backbone

_NO_FOLDER = (
    "There is no folder '{}': give the one that 'interplay train --out' or 'interplay continual --out' wrote."
)
_RANDOM = re.compile(r"(.+) \(random weights, seed (\d+)\)")


def open_backbone(name: str, *, random_weights: bool = False, seed: int = 0) -> Backbone:
    """Load a backbone; with random weights it says so loudly.

    Args:
        name: as `load_backbone` takes it, or the name that a backbone with random weights goes by.
    """
    from interplay.towers.backbone import load_backbone

    if found := _RANDOM.fullmatch(name):
        name, seed, random_weights = found[1], int(found[2]), True
    if random_weights:
        note(
            f"WARNING: {name} runs with RANDOM WEIGHTS (seed {seed}). It was never trained: its results mean nothing, "
            "only its speed and memory do."
        )
    return load_backbone(name, random_weights=random_weights, seed=seed)


def open_table(
    data: str, on_bad_row: Literal["error", "skip"] = "error", reading: Reading | None = None
) -> PairTable:
    """Load data, and tell what the reader decided and left out.

    Args:
        reading: what was said of the data beside their name.

    Raises:
        InterplayError: as `interplay.data.load`.
    """
    from interplay.data import load

    if not data.strip():
        raise InterplayError("--data is empty: name a file, a folder or a data set.")
    table = load(data, on_bad_row=on_bad_row, **(reading or Reading()).options())
    for sentence in table.remarks():
        note(sentence)
    return table


def open_run(folder: str, backbone: str | None = None) -> Classifier:
    """The trained classifier of a run folder.

    Args:
        backbone: another place to load the backbone from; by default the one that the run names.

    Raises:
        InterplayError: there is no such folder, no trained method in it, or it was made for another backbone.
    """
    _check_task(folder, "classification")
    from interplay.classification.artifact import read_card
    from interplay.classification.classifier import Classifier

    named = backbone or read_card(Path(folder)).backbone
    found: Classifier = Classifier.from_pretrained(folder, backbone=open_backbone(named))
    return found


def open_retriever(folder: str, backbone: str | None = None) -> Retriever:
    """The trained retriever of a run folder; arguments and errors are those of `open_run`."""
    _check_task(folder, "retrieval")
    from interplay.retrieval.card import read_card
    from interplay.retrieval.retriever import Retriever

    named = backbone or read_card(Path(folder)).backbone
    found: Retriever = Retriever.from_pretrained(folder, backbone=open_backbone(named))
    return found


def note_depth(settings: Mapping[str, Any], backbone: Backbone) -> None:
    """Say so where more layers are to be prompted than the towers have: the methods prompt all that there are."""
    shape, depth = backbone.shape, settings.get("depth")
    layers = min(shape.image.depth, shape.text.depth)
    if isinstance(depth, int) and depth > layers:
        note(
            f"depth = {depth} stands for {layers} here: the shallower tower of {backbone.name} has no more layers."
        )


def task_of(folder: str) -> Task:
    """What the trained method of a run folder was made for.

    Raises:
        InterplayError: there is no such folder, or no trained method in it.
    """
    if not Path(folder).is_dir():
        raise InterplayError(_NO_FOLDER.format(folder))
    from interplay.artifacts import read_header

    task: Task = read_header(Path(folder)).get("task", "classification")
    return task


def _check_task(folder: str, task: Task) -> None:
    """Refuse a run that was made for the other task.

    Raises:
        InterplayError: it was, or as `task_of`.
    """
    found = task_of(folder)
    if found != task:
        holds, usable = {
            "classification": ("a classifier", "'interplay evaluate' and 'interplay predict' use it"),
            "retrieval": (
                "a retriever",
                "'interplay evaluate', 'interplay index' and 'interplay search' use it",
            ),
        }[found]
        raise InterplayError(f"{folder} holds {holds}, which this command has no use for: {usable}.")


def changing(run: str) -> contextlib.AbstractContextManager[None]:
    """A run's folder, held while a command changes what is in it; waits for another writer, and says so.

    Raises:
        InterplayError: there is no such folder; it cannot be written into.
    """
    if not Path(run).is_dir():
        raise InterplayError(_NO_FOLDER.format(run))
    return writing(Path(run), waiting=note)
