"""What a training run leaves in its folder: checkpoints and the history of its epochs, each file whole or not there."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pickle
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, TQDMProgressBar
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor

from interplay.errors import InterplayError
from interplay.files import write_atomically, write_text
from interplay.training.report import BEST, LAST, Epoch
from interplay.training.settings import PAIRS_A_STEP, pairs_a_step

_DECISIVE = "course"
"""What checkpoints call the settings that the weights depend on."""


def check_plain(value: Any, where: str = "checkpoint") -> None:
    """Make sure that a value holds tensors, numbers, strings and containers of them alone.

    Raises:
        TypeError: names the first thing that would have to be pickled.
    """
    if isinstance(value, Mapping) and type(value).__name__ in ("dict", "OrderedDict"):
        for key, item in value.items():
            check_plain(key, where)
            check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for i, item in enumerate(value):
            check_plain(item, f"{where}[{i}]")
    elif type(value) not in (Tensor, torch.nn.Parameter, int, float, bool, str, type(None)):
        raise TypeError(
            f"{where} is a {type(value).__name__}: checkpoints hold tensors and plain values only"
        )


def read_checkpoint(path: Path, device: Any = "cpu") -> dict[str, Any]:
    """Load a checkpoint without running any code that is in it.

    Raises:
        InterplayError: it is missing, damaged, or holds pickled objects.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise InterplayError(f"There is no checkpoint {path}.") from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as problem:
        raise InterplayError(
            f"{path} is no checkpoint of interplay, or it is damaged ({type(problem).__name__}). Delete it to start "
            "again."
        ) from None
    return state


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's way to the disk: atomic, flushed, and free of pickled objects."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint atomically."""
        check_plain(checkpoint)
        buffer = io.BytesIO()  # torch.save itself hides a full disk behind a RuntimeError
        torch.save(checkpoint, buffer)

        def write(part: Path) -> None:
            part.write_bytes(buffer.getbuffer())

        write_atomically(Path(path), write)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint with `weights_only=True`, whatever is asked for."""
        return read_checkpoint(Path(path), map_location if map_location is not None else "cpu")

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


@dataclass
class History:
    """The epochs of a run so far, and what follows from them.

    Attributes:
        decisive: the settings that the weights depend on, and the sizes of the data.
        epochs: one record an epoch: epoch (from 1), step, train_loss, learning_rate, validation_…, seconds.
        best_epoch: from 1; 0 before the first.
        best_value: the monitored value of that epoch.
        outputs: of each epoch the outputs on validation, where they are kept.
    """

    decisive: dict[str, Any]
    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = math.nan
    outputs: list[Tensor] = field(default_factory=list)

    def add(self, record: Epoch, value: float, *, larger_is_better: bool) -> bool:
        """Add an epoch; whether it is the best one so far (the first one of equals, and never NaN)."""
        self.epochs.append(record)
        better = value > self.best_value if larger_is_better else value < self.best_value
        if better or math.isnan(self.best_value):
            self.best_epoch, self.best_value = len(self.epochs), value
        return self.best_epoch == len(self.epochs)

    def out_of_patience(self, patience: int) -> bool:
        """Whether the last `patience` epochs brought nothing better; never when it is 0."""
        return 0 < patience <= len(self.epochs) - self.best_epoch

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {_DECISIVE if name == "decisive" else name: value for name, value in vars(self).items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> History:
        """The history that `state` described."""
        return cls(**{"decisive" if name == _DECISIVE else name: value for name, value in state.items()})


class RunRecorder(Checkpoint):
    """At the end of every epoch: the history, the best and the last checkpoint, the loggers, early stopping.

    `last.ckpt` is what counts: it is written after `best.ckpt` and holds the history, from which the other files
    are made anew, so an epoch that a kill cut short is trained again and nothing comes twice.

    Args:
        run: the run's folder.
        history: where the run stands.
        monitor: the key of an epoch's record that decides which one is best.
        larger_is_better: which way.
        patience: epochs without a better value before training stops; 0 for never.
        csv_table: write `metrics.csv` beside `metrics.jsonl`.
        keeps_outputs: keep the outputs on validation of every epoch in the history.
    """

    def __init__(
        self,
        run: Path,
        history: History,
        monitor: str,
        *,
        larger_is_better: bool,
        patience: int,
        csv_table: bool,
        keeps_outputs: bool = False,
    ) -> None:
        self.run = run
        self.history = history
        self.monitor = monitor
        self.larger_is_better = larger_is_better
        self.patience = patience
        self.csv_table = csv_table
        self.keeps_outputs = keeps_outputs
        self._began = 0.0

    @property
    def state_key(self) -> str:
        """Where a checkpoint keeps the history."""
        return "history"

    def state_dict(self) -> dict[str, Any]:
        """The history, for the last checkpoint."""
        return self.history.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Back to the history of the last checkpoint."""
        self.history = History.from_state(state_dict)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the epoch and save."""
        record: Epoch = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            **pl_module.epoch_values(),  # type: ignore[operator]
            "seconds": time.perf_counter() - self._began,
        }
        best = self.history.add(record, float(record[self.monitor]), larger_is_better=self.larger_is_better)
        if self.keeps_outputs:
            self.history.outputs.append(pl_module.outputs)  # type: ignore[arg-type]
        if best:
            trainer.save_checkpoint(self.run / BEST, weights_only=True)
        trainer.save_checkpoint(self.run / LAST, weights_only=False)
        if trainer.is_global_zero:
            write_history(self.run, self.history.epochs, csv_table=self.csv_table)
        for logger in trainer.loggers:
            logger.log_metrics(
                {k: float(v) for k, v in record.items() if k != "epoch"}, step=len(self.history.epochs)
            )
            logger.save()
        if self.history.out_of_patience(self.patience):
            trainer.should_stop = True


def write_history(run: Path, epochs: Sequence[Epoch], *, csv_table: bool) -> None:
    """Write `metrics.jsonl` (one line an epoch) and, if wanted, `metrics.csv`, each as a whole."""
    lines = "".join(json.dumps(epoch) + "\n" for epoch in epochs)
    write_text(run / "metrics.jsonl", lines)
    if csv_table and epochs:
        table = io.StringIO()
        writer = csv.DictWriter(table, fieldnames=list(epochs[0]))
        writer.writeheader()
        writer.writerows(epochs)
        write_text(run / "metrics.csv", table.getvalue())


def resumable(run: Path, decisive: dict[str, Any]) -> History | None:
    """The history of the run in a folder; None when no epoch of it was finished.

    Raises:
        InterplayError: the checkpoint is damaged, or was made by a run with other settings or data.
    """
    if not (run / LAST).exists():
        return None
    state = read_checkpoint(run / LAST)
    try:
        history = History.from_state(state["callbacks"]["history"])
    except (KeyError, TypeError):
        raise InterplayError(f"{run / LAST} is not the checkpoint of a training run of interplay.") from None
    begun = {PAIRS_A_STEP: pairs_a_step(history.decisive)} | history.decisive
    for name, value in decisive.items():
        if begun.get(name) != value:
            raise InterplayError(
                f"The run in {run} was started with {name} = {begun.get(name)}, now it is {value}: resume "
                "with the same settings and data, or train into another folder."
            )
    return history


def make_loggers(names: Sequence[str], run: Path) -> list[Logger] | bool:
    """Lightning's loggers by name, writing into the run's folder; `csv` needs none of them.

    Raises:
        InterplayError: the package of a logger is not installed.
    """
    made: list[Logger] = []
    for name in names:
        if name == "csv":
            continue
        if find_spec(name) is None:
            raise InterplayError(f"The logger '{name}' needs the package '{name}': pip install {name}.")
        if name == "tensorboard":
            made.append(TensorBoardLogger(run, name="tensorboard", version=""))
        elif name == "wandb":
            made.append(WandbLogger(name=run.name, save_dir=run, project="interplay"))
        else:
            # MLflow 3 no longer writes plain folders; a server of the user's own goes first
            place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(run / 'mlflow.db').absolute()}"
            made.append(MLFlowLogger(experiment_name="interplay", run_name=run.name, tracking_uri=place))
    return made or False


class TrainingBar(TQDMProgressBar):
    """Lightning's bar (time left in the epoch) with the last epoch's values and the time left in the whole run.

    Args:
        recorder: knows the epochs so far.
    """

    def __init__(self, recorder: RunRecorder) -> None:
        super().__init__(leave=False)
        self._recorder = recorder

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The text after the bar."""
        epochs = self._recorder.history.epochs
        if not epochs:
            return {}
        monitor = self._recorder.monitor
        average = sum(epoch["seconds"] for epoch in epochs) / len(epochs)
        left = average * ((trainer.max_epochs or 0) - trainer.current_epoch)
        value = f"{epochs[-1][monitor]:.4f}"
        return {"loss": f"{epochs[-1]['train_loss']:.4f}", monitor: value, "left": f"<= {left / 60:.1f} min"}
