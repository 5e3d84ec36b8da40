"""What a run's folder says of itself: what ran (`config.yaml`) and on what (`env.json`)."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from interplay.artifacts import WEIGHTS
from interplay.errors import InterplayError
from interplay.files import read_text, read_yaml, write_text
from interplay.locks import writing
from interplay.ranks import follows
from interplay.training.report import ATTEMPTS, LAST, OPTIONS, SESSIONS
from interplay.training.settings import EXECUTION, PAIRS_A_STEP, SPREAD, pairs_a_step

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


def begin_run(folder: Path, config: Mapping[str, Any], *, resume: bool) -> None:
    """Write what is about to run, before it runs.

    Args:
        config: options of the command and their values; `--config` reads the file again.

    Raises:
        InterplayError: the folder holds a run and it is not to go on, or it began with other options.
    """
    path = folder / OPTIONS
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


def add_remark(folder: Path, remark: str) -> None:
    """A line at the end of a run's options that people read, and `--config` does not.

    Raises:
        InterplayError: the file cannot be read or written.
    """
    path = folder / OPTIONS
    write_text(path, f"{read_text(path)}# {remark}\n")


@contextlib.contextmanager
def recorded_run(folder: Path, config: Mapping[str, Any], *, resume: bool) -> Iterator[None]:
    """`begin_run`, and the folder held; what is refused before anything was learned leaves no record there.

    Where a launcher has started several processes, the further ones leave all that to the first one.

    Raises:
        InterplayError: as `begin_run`; another process writes into the folder.
    """
    if follows(config.get("devices", 1) * config.get("num_nodes", 1)):
        yield
        return
    with writing(folder):
        begin_run(folder, config, resume=resume)
        try:
            yield
        except InterplayError:
            if not _begun(folder):
                for name in (OPTIONS, ENVIRONMENT):
                    (folder / name).unlink(missing_ok=True)
            raise


def _begun(folder: Path) -> bool:
    """Whether anything was learned in a folder."""
    return any((folder / name).exists() for name in (WEIGHTS, LAST, SESSIONS, ATTEMPTS))


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
    before, config = ({**one, PAIRS_A_STEP: pairs_a_step(one)} for one in (before, config))
    for key in dict.fromkeys([*before, *config]):
        if key not in (*EXECUTION, *SPREAD, "on_bad_row") and before.get(key) != config.get(key):
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
