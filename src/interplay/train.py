"""Training: a Lightning module around what is trained, with the frozen backbone beside it, and a trainer."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from interplay.checkpoints import (
    BEST,
    LAST,
    LOGGERS,
    AtomicCheckpointIO,
    Epoch,
    History,
    RunRecorder,
    TrainingBar,
    make_loggers,
    read_checkpoint,
    resumable,
    write_history,
)
from interplay.data.batches import (
    Batch,
    BatchLoader,
    BatchSource,
    EncodedTable,
    EpochSampler,
    OrderedSampler,
    to_device,
)
from interplay.errors import InterplayError, unknown
from interplay.metrics import classification_metrics
from interplay.prefix_cache import PrefixCache, behind_front
from interplay.tasks.classify import PairBatch, PairClassifier
from interplay.towers.backbone import Backbone

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
MONITORS = {
    "single": ("accuracy", "macro_accuracy", "f1_macro", "calibration_error", "loss"),
    "multi": ("f1_macro", "f1_micro", "map", "calibration_error", "loss"),
}
_SMALLER_IS_BETTER = ("calibration_error", "loss")
_NO_COURSE = ("accelerator", "strategy", "loggers", "cache_prefix", "progress")


@dataclass(frozen=True)
class TrainSettings:
    """How a method is trained by gradient.

    Attributes:
        epochs: times that all pairs are seen.
        batch_size: pairs a step and device.
        learning_rate: the highest one of the schedule.
        optimizer: `adam` (weight decay joins the gradient) or `adamw` (weight decay stands apart from it).
        weight_decay: factor.
        warmup: share of all steps in which the learning rate rises from 0 in a straight line.
        schedule: after that, `cosine` down to 0, or `constant`.
        patience: epochs without a better validation value before training stops; 0: never.
        gradient_clip: bound on the norm of the gradient; 0: none.
        seed: of the order of the pairs, and of whatever a method draws while it is trained.
        precision: `32-true`; `16-mixed` and `bf16-mixed` are for GPUs.
        accelerator, devices, strategy: as Lightning's Trainer takes them.
        loggers: any of csv, tensorboard, wandb, mlflow; `metrics.jsonl` is always written.
        cache_prefix: keep what leaves the frozen front layers on disk (see `PrefixCache`).
        monitor: the validation metric that decides which epoch is best; by default accuracy, or f1_macro for
            several labels.
        progress: show progress bars.
    """

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 2e-4
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    warmup: float = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    patience: int = 0
    gradient_clip: float = 0.0
    seed: int = 0
    precision: Precision = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    loggers: tuple[str, ...] = ("csv",)
    cache_prefix: bool = False
    monitor: str | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        for name, smallest in (
            ("epochs", 1),
            ("batch_size", 1),
            ("devices", 1),
            ("patience", 0),
            ("seed", 0),
        ):
            if getattr(self, name) < smallest:
                raise InterplayError(f"{name} must be at least {smallest}, not {getattr(self, name)}.")
        for name in ("learning_rate", "weight_decay", "gradient_clip"):
            value = getattr(self, name)
            if not 0 <= value < math.inf or (name == "learning_rate" and value == 0):
                raise InterplayError(f"{name} cannot be {value}.")
        if not 0 <= self.warmup <= 1:
            raise InterplayError(f"warmup is a share of all steps, from 0 to 1, not {self.warmup}.")
        hints = get_type_hints(TrainSettings)
        for name in ("optimizer", "schedule", "precision"):
            if getattr(self, name) not in get_args(hints[name]):
                raise unknown(name, getattr(self, name), get_args(hints[name]))
        for name in self.loggers:
            if name not in LOGGERS:
                raise unknown("logger", name, LOGGERS)


@dataclass(frozen=True)
class FitReport:
    """What came out of a training run.

    Attributes:
        best_epoch: from 1; the model holds its weights.
        best_value: its value of the monitored validation metric.
        monitor: which one.
        history: one record an epoch, as in `metrics.jsonl`.
        seconds: of all epochs, those before a resume included.
        seconds_per_epoch: on average.
        steps: optimizer steps.
        parameters: how many numbers were trained.
    """

    best_epoch: int
    best_value: float
    monitor: str
    history: list[Epoch]
    seconds: float
    seconds_per_epoch: float
    steps: int
    parameters: int


def learning_rate_factor(
    step: int, total: int, warmup: int, schedule: Literal["cosine", "constant"]
) -> float:
    """The factor on the learning rate of a step (from 0): (step + 1)/(warmup + 1) in the warm-up, 1 behind it.

    Then (1 + cos(π·(step − warmup)/(total − warmup)))/2 with `cosine`.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup)))) / 2


def class_count(model: PairClassifier) -> int:
    """How many classes a prepared classifier tells apart."""
    for rows in (model.head.weight, model.head.class_vectors, model.suffix):
        if rows is not None:
            return len(rows)
    raise ValueError("a class-text head must be prepared first (PairClassifier.prepare)")


def logits_of(model: PairClassifier, backbone: Backbone, pairs: PairBatch) -> Tensor:
    """The one way from a batch to logits, in training and in prediction: front in blocks, then the method."""
    logits: Tensor = model(backbone, behind_front(model, backbone, pairs))
    return logits


class PairTraining(LightningModule):
    """What Lightning drives. The classifier is its only registered module: checkpoints hold what is trained alone.

    Args:
        model: what is trained.
        backbone: frozen; moved to the device, never registered.
        train, validation: encoded pairs with targets.
        settings: how.
        cache: keeps the front layers' tokens, or None.
    """

    def __init__(
        self,
        model: PairClassifier,
        backbone: Backbone,
        train: EncodedTable,
        validation: EncodedTable,
        settings: TrainSettings,
        cache: PrefixCache | None,
    ) -> None:
        super().__init__()
        self.model = model
        self._frozen = (backbone,)  # a tuple, so that it is not registered
        self._tables = (train, validation)
        self._sources: tuple[BatchSource, BatchSource] = (train, validation)
        self._settings = settings
        self._cache = cache
        self._loss_sum, self._loss_rows = 0.0, 0
        self._logits: list[tuple[list[int], Tensor]] = []
        self._values: dict[str, float] = {}
        self._order: EpochSampler | None = None

    @property
    def backbone(self) -> Backbone:
        """The frozen towers."""
        return self._frozen[0]

    def on_fit_start(self) -> None:
        """Bring the backbone to the device, and fill the prefix cache there."""
        self.backbone.to(self.device)
        if self._cache is None:
            return
        for fill in (True, False):
            if fill == (self.trainer.local_rank == 0):
                self._sources = tuple(  # type: ignore[assignment]
                    self._cache.open(
                        table, self.model, self.backbone, fill=fill, progress=self._settings.progress
                    )
                    for table in self._tables
                )
            self.trainer.strategy.barrier()

    def train_dataloader(self) -> BatchLoader:
        """The pairs of an epoch, this process's share of them."""
        self._order = EpochSampler(
            self._sources[0].text_lengths,
            self._settings.batch_size,
            self._settings.seed,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        return BatchLoader(self._sources[0], self._order)

    def val_dataloader(self) -> BatchLoader:
        """The validation pairs, this process's share of them."""
        rank, size = self.trainer.global_rank, self.trainer.world_size
        lengths = self._sources[1].text_lengths
        return BatchLoader(
            self._sources[1], OrderedSampler(lengths, self._settings.batch_size, rank=rank, world_size=size)
        )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Pixels, ids or waiting tokens to the device."""
        return Batch(batch.rows, to_device(batch.pairs, device))

    def on_train_epoch_start(self) -> None:
        """All order and randomness is a function of seed, epoch and process."""
        assert self._order is not None
        self._order.set_epoch(self.current_epoch)
        course = np.random.SeedSequence([self._settings.seed, self.current_epoch, self.global_rank])
        torch.manual_seed(int(course.generate_state(1)[0]))
        self._loss_sum, self._loss_rows = 0.0, 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step; stops at a loss that is no number."""
        targets = batch.pairs.targets
        assert targets is not None
        loss = self.model.loss(logits_of(self.model, self.backbone, batch.pairs), targets)
        value = loss.item()
        if not math.isfinite(value):
            raise self._diverged(
                f"The loss became {value} in epoch {self.current_epoch + 1}, step {batch_idx + 1}"
            )
        self._loss_sum += value * len(batch.rows)
        self._loss_rows += len(batch.rows)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logits of a validation batch."""
        self._logits.append((batch.rows, logits_of(self.model, self.backbone, batch.pairs).float()))

    def on_validation_epoch_end(self) -> None:
        """Metrics of the whole validation split, the same in every process."""
        targets = self._tables[1].targets
        assert targets is not None
        logits = torch.zeros(len(targets), class_count(self.model), device=self.device)
        for rows, part in self._logits:
            logits[rows] = part
        self._logits.clear()
        logits = self._summed(logits).cpu()
        if not logits.isfinite().all():
            raise self._diverged(
                f"The weights were no numbers any more at the end of epoch {self.current_epoch + 1}"
            )
        values = {"loss": self.model.loss(logits, targets).item()}
        values |= classification_metrics(self.model.probabilities(logits), targets, self.model.kind)
        self._values = {f"validation_{name}": value for name, value in values.items()}

    def epoch_values(self) -> dict[str, float]:
        """Losses, learning rate and validation metrics of the epoch that has just ended."""
        sums = self._summed(torch.tensor([self._loss_sum, self._loss_rows], device=self.device))
        rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        return {"train_loss": (sums[0] / sums[1]).item(), "learning_rate": rate, **self._values}

    def _summed(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        total: Tensor = self.trainer.strategy.reduce(values, reduce_op="sum")
        return total

    def _diverged(self, what: str) -> InterplayError:
        return InterplayError(
            f"{what}. The checkpoint of the last epoch that went well is kept. Lower learning_rate (it is "
            f"{self._settings.learning_rate:g}), set gradient_clip (1.0 is a usual value), or use a longer warmup; and "
            "if precision is not 32-true, try that."
        )

    def configure_optimizers(self) -> Any:
        """The optimizer, with the schedule step by step."""
        s = self._settings
        kind = torch.optim.Adam if s.optimizer == "adam" else torch.optim.AdamW
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = kind(trained, lr=s.learning_rate, weight_decay=s.weight_decay)
        total = s.epochs * len(self.train_dataloader())
        warmup = round(s.warmup * total)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, total, warmup, s.schedule)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def predict(model: PairClassifier, backbone: Backbone, source: BatchSource, batch_size: int = 64) -> Tensor:
    """Logits of all pairs in the order of the table, on the CPU: (N, classes). Nothing random, no gradient.

    Args:
        model, backbone: on one device; the model is used as in evaluation.
        source: an `EncodedTable`, or one behind its prefix.
        batch_size: pairs at a time; batches hold texts of about one length.
    """
    logits = torch.zeros(len(source), class_count(model))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in BatchLoader(source, OrderedSampler(source.text_lengths, batch_size)):
                pairs = to_device(batch.pairs, backbone.device)
                logits[batch.rows] = logits_of(model, backbone, pairs).float().cpu()
    finally:
        model.train(was_training)
    return logits


def evaluate(
    model: PairClassifier, backbone: Backbone, source: BatchSource, batch_size: int = 64
) -> dict[str, float]:
    """`classification_metrics` of a table with targets.

    Raises:
        InterplayError: the table has no targets.
    """
    if source.targets is None:
        raise InterplayError("These pairs have no labels, so there is nothing to compare predictions with.")
    probabilities = model.probabilities(predict(model, backbone, source, batch_size))
    return classification_metrics(probabilities, source.targets, model.kind)


def fit(
    model: PairClassifier,
    backbone: Backbone,
    train: EncodedTable,
    validation: EncodedTable,
    settings: TrainSettings,
    run: Path,
    *,
    resume: bool = False,
    cache: PrefixCache | None = None,
) -> FitReport:
    """Train a prepared classifier; afterwards it holds the weights of the epoch that was best on validation.

    The run's folder gets `last.ckpt`, `best.ckpt`, `metrics.jsonl` and what the loggers write. A run that was
    killed goes on behind its last finished epoch with `resume`, given a model that was built with the same seed, and
    ends with the same weights as an undisturbed one (bit for bit on one CPU thread).

    Args:
        train, validation: pairs with targets.
        run: the folder.
        resume: go on where the run in the folder stands; it starts from the beginning where there is none.
        cache: for `settings.cache_prefix`; by default the one in the program's cache folder.

    Raises:
        InterplayError: nothing to train, no pairs, a folder in use, other settings than before, a loss that is no
            number, a full disk, a logger that is not installed, a device that is not there.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    _check(model, train, validation, parameters)
    course = _course(model, backbone, train, validation, settings)
    found = resumable(run, course) if resume else None
    if not resume and (run / LAST).exists():
        raise InterplayError(
            f"{run} holds a training run already: go on with it (resume), or choose another folder."
        )
    history = found or History(course)
    monitor = _monitor(settings, model)
    name = monitor.removeprefix("validation_")
    recorder = RunRecorder(
        run,
        history,
        monitor,
        larger_is_better=name not in _SMALLER_IS_BETTER,
        patience=settings.patience,
        csv_table="csv" in settings.loggers,
    )
    if len(history.epochs) < settings.epochs and not history.out_of_patience(settings.patience):
        store = (cache or PrefixCache()) if settings.cache_prefix else None
        module = PairTraining(model, backbone, train, validation, settings, store)
        _run(module, recorder, settings, run / LAST if found else None)
        history = resumable(run, course) or history  # other processes may have done the training
    write_history(run, history.epochs, csv_table=recorder.csv_table)
    weights = read_checkpoint(run / BEST)["state_dict"]
    model.load_state_dict({key.removeprefix("model."): value for key, value in weights.items()})
    seconds = sum(float(epoch["seconds"]) for epoch in history.epochs)
    return FitReport(
        best_epoch=history.best_epoch,
        best_value=history.best_value,
        monitor=name,
        history=history.epochs,
        seconds=seconds,
        seconds_per_epoch=seconds / len(history.epochs),
        steps=int(history.epochs[-1]["step"]),
        parameters=parameters,
    )


def _check(model: PairClassifier, train: EncodedTable, validation: EncodedTable, parameters: int) -> None:
    if not parameters:
        raise InterplayError(
            f"The method '{model.method.name}' with the head '{model.head.settings.kind}' has no parameters to train."
        )
    for table, role in ((train, "train on"), (validation, "validate on")):
        if not len(table) or table.targets is None:
            raise InterplayError(f"{table.name} has no labelled pairs to {role}.")
        if table.kind != model.kind:
            raise InterplayError(
                f"{table.name} has {table.kind}-label targets, but the model was built for {model.kind} labels."
            )
        classes = table.targets.shape[1] if model.kind == "multi" else int(table.targets.max()) + 1
        if classes > class_count(model) or (model.kind == "multi" and classes != class_count(model)):
            raise InterplayError(f"{table.name} has {classes} classes, the model {class_count(model)}.")


def _course(
    model: PairClassifier,
    backbone: Backbone,
    train: EncodedTable,
    validation: EncodedTable,
    settings: TrainSettings,
) -> dict[str, Any]:
    """What decides about the weights: a run goes on with all of it as it was."""
    course = {key: value for key, value in asdict(settings).items() if key not in _NO_COURSE}
    return course | {
        "method": f"{model.method.name} {model.method.settings}",
        "head": str(model.head.settings),
        "loss": f"{model.kind} {model.multi_loss}",
        "backbone": f"{backbone.name} {backbone.digest}",
        "training pairs": len(train),
        "validation pairs": len(validation),
    }


def _monitor(settings: TrainSettings, model: PairClassifier) -> str:
    known = MONITORS[model.kind]
    name = settings.monitor or known[0]
    if name not in known:
        raise unknown("validation metric", name, known)
    return f"validation_{name}"


def _run(
    module: PairTraining, recorder: RunRecorder, settings: TrainSettings, checkpoint: Path | None
) -> None:
    """Drive Lightning, quietly; afterwards model and backbone are where they were."""
    model, backbone = module.model, module.backbone
    place, was_training = backbone.device, model.training
    model.train()
    try:
        with _quiet(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            _trainer(recorder, settings).fit(module, ckpt_path=checkpoint, weights_only=True)
    except OSError as problem:
        raise InterplayError(
            f"The training run in {recorder.run} could not go on ({problem}). What was saved before is intact: "
            "mend that, and go on with resume."
        ) from problem
    finally:
        backbone.to(place)
        model.to(place).train(was_training)


def _trainer(recorder: RunRecorder, settings: TrainSettings) -> Trainer:
    callbacks: list[Callback] = [recorder]
    if settings.progress:
        callbacks.append(TrainingBar(recorder))
    try:
        return Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            strategy=settings.strategy,
            precision=settings.precision,
            max_epochs=settings.epochs,
            gradient_clip_val=settings.gradient_clip or None,
            logger=make_loggers(settings.loggers, recorder.run),
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=recorder.run,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            enable_model_summary=False,
            enable_progress_bar=settings.progress,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError) as problem:
        raise InterplayError(f"Lightning cannot train with these settings: {problem}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's notes about devices and tips."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Lightning 2.6 makes tree leaves in a way that torch 2.13 no longer likes.
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
