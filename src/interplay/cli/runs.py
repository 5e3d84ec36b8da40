"""The run folder's record of itself, `config.yaml` and `env.json`, and how a finished run is opened again."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from interplay.cli.data_options import Reading
from interplay.cli.result import note
from interplay.errors import InterplayError
from interplay.files import read_yaml, write_text
from interplay.locks import writing
from interplay.ranks import follows
from interplay.training.settings import EXECUTION

if TYPE_CHECKING:
    from interplay.artifacts import Task
    from interplay.classification.classifier import Classifier
    from interplay.data.schema import PairTable
    from interplay.retrieval.retriever import Retriever
    from interplay.towers.backbone import Backbone

CONFIG = "config.yaml"
ENVIRONMENT = "env.json"
_LIBRARIES = (
    "interplay",
    "torch",
    "transformers",
    "lightning",
    "datasets",
    "scikit-learn",
    "numpy",
    "pillow",
)
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
    for sentence in (*table.notes, *(f"Left out: {row}." for row in table.skipped)):
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


def begin_run(folder: Path, config: Mapping[str, Any], *, resume: bool) -> None:
    """Write what is about to run, before it runs.

    Args:
        config: options of the command and their values; `--config` reads the file again.

    Raises:
        InterplayError: the folder holds a run and it is not to go on, or it began with other options.
    """
    path = folder / CONFIG
    begun = _begun(folder)
    if begun and not resume:
        raise InterplayError(
            f"{folder} holds a training run already: go on with it by --resume, or choose another folder for --out."
        )
    mine = next((name for name in ("README.md", "config.json") if (folder / name).exists()), None)
    if mine and not begun and not path.exists():
        raise InterplayError(
            f"{folder} holds a {mine} that no training run wrote, which would be replaced: choose another folder for "
            "--out."
        )
    if begun and path.exists():
        _same_run(path, config)
    write_text(path, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    write_text(folder / ENVIRONMENT, json.dumps(environment(), indent=2) + "\n")


@contextlib.contextmanager
def recorded_run(folder: Path, config: Mapping[str, Any], *, resume: bool) -> Iterator[None]:
    """`begin_run`, and the folder held; what is refused before anything was learned leaves no record there.

    The further processes of a training on several devices leave all that to the first one.

    Raises:
        InterplayError: as `begin_run`; another process writes into the folder.
    """
    if follows(config.get("devices", 1)):
        yield
        return
    with writing(folder):
        begin_run(folder, config, resume=resume)
        try:
            yield
        except InterplayError:
            if not _begun(folder):
                for name in (CONFIG, ENVIRONMENT):
                    (folder / name).unlink(missing_ok=True)
            raise


def changing(run: str) -> contextlib.AbstractContextManager[None]:
    """A run's folder, held while a command changes what is in it; waits for another writer, and says so.

    Raises:
        InterplayError: there is no such folder; it cannot be written into.
    """
    if not Path(run).is_dir():
        raise InterplayError(_NO_FOLDER.format(run))
    return writing(Path(run), waiting=note)


def _begun(folder: Path) -> bool:
    """Whether anything was learned in a folder."""
    from interplay.artifacts import WEIGHTS
    from interplay.retrieval.run_folder import SESSIONS
    from interplay.training.report import LAST

    return any((folder / name).exists() for name in (WEIGHTS, LAST, SESSIONS))


def _same_run(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse to go on with other options than a run began with."""
    try:
        before = read_yaml(path)
    except InterplayError:
        before = None
    if not isinstance(before, dict):
        raise InterplayError(
            f"{path} cannot be read, so the run cannot go on: choose another folder for --out."
        )
    for key in dict.fromkeys([*before, *config]):
        if key not in (*EXECUTION, "on_bad_row") and before.get(key) != config.get(key):
            raise InterplayError(
                f"{path} says {key} = {before.get(key)}, now it is {config.get(key)}: a run goes on only as it began. "
                f"Use --config {path} --out {path.parent} --resume, or another folder for --out."
            )


def environment() -> dict[str, Any]:
    """Versions and facts of the machine that results may depend on; no names, no paths."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "libraries": {library: version(library) for library in _LIBRARIES},
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
    }
