"""Training by gradient: from encoded pairs to the weights of the best epoch, in a run folder."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.utilities.exceptions import SIGTERMException

from interplay.encoding.batches import EncodedTable
from interplay.encoding.prefix_cache import PrefixCache
from interplay.encoding.trainable import Trainable
from interplay.errors import InterplayError
from interplay.locks import writing
from interplay.ranks import follows, launched
from interplay.towers.backbone import Backbone
from interplay.training.checkpoints import (
    AtomicCheckpointIO,
    History,
    RunRecorder,
    TrainingBar,
    make_loggers,
    read_checkpoint,
    resumable,
    write_history,
)
from interplay.training.lightning_module import PairTraining
from interplay.training.processes import Lost, in_processes
from interplay.training.report import BEST, LAST, VALIDATION, FitReport
from interplay.training.settings import (
    PAIRS_A_STEP,
    SMALLER_IS_BETTER,
    SPREAD,
    TrainSettings,
    monitored,
    pairs_a_step,
    split_execution,
)

_LOST = re.compile(r"gloo|nccl|peer", re.IGNORECASE)
"""What the messages of a process say that has lost another one."""


def fit(
    model: Trainable,
    backbone: Backbone,
    train: EncodedTable,
    validation: EncodedTable,
    settings: TrainSettings,
    run: Path,
    *,
    resume: bool = False,
    cache: PrefixCache | None = None,
    start: float | None = None,
) -> FitReport:
    """Train a prepared model; afterwards it holds the weights of the epoch that was best on validation.

    The run's folder gets `last.ckpt`, `best.ckpt`, `metrics.jsonl` and what the loggers write. A run that was
    killed continues after its last finished epoch with `resume`, given a model that was built with the same seed, and
    ends with the same weights as an undisturbed one (bit for bit on one CPU thread).

    With `settings.devices` > 1 the steps are taken in as many processes, which end with the training; everything else
    happens once, in the process that calls. A run may go on with other devices, as long as a step has as many pairs.
    Where a launcher has started several processes, each of them calls this, with the same folder.

    Args:
        train, validation: pairs with targets.
        run: the folder.
        resume: go on where the run in the folder stands; it starts from the beginning where there is none.
        cache: for `settings.cache_prefix`; by default the one in the program's cache folder.
        start: the monitored metric of the model as it is given; it then counts as epoch 0, whose weights the model
            holds afterwards where no epoch is better.

    Raises:
        InterplayError: nothing to train, no pairs, a folder that holds a run or that another process writes into,
            other settings than before, fewer validation pairs than devices, a loss that is no number, a full disk, a
            logger that is not installed, a device that is not there, a process that died.
    """
    settings = settings.settled(len(train), model.method.traits.learning_rate)
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    _check(model, train, validation, parameters)
    decisive = _decisive(model, backbone, train, validation, settings)
    with writing(run):
        found = resumable(run, decisive) if resume else None
        if not resume and (run / LAST).exists():
            raise InterplayError(
                f"{run} holds a training run already: go on with it (resume), or choose another folder."
            )
        begun = {key: value.clone() for key, value in model.state_dict().items()}
        history = found or History(decisive, best_value=math.nan if start is None else start)
        name = monitored(settings, model.monitors)
        monitor = f"{VALIDATION}{name}"
        recorder = RunRecorder(
            run,
            history,
            monitor,
            larger_is_better=name not in SMALLER_IS_BETTER,
            patience=settings.patience or 0,
            csv_table="csv" in settings.loggers,
            keeps_outputs=start is not None,
        )
        assert settings.epochs is not None
        if len(history.epochs) < settings.epochs and not history.out_of_patience(settings.patience or 0):
            _check_machine(settings, validation)
            store = (cache or PrefixCache()) if settings.cache_prefix else None
            module = PairTraining(model, backbone, train, validation, settings, store)
            _train(module, recorder, settings, run / LAST if found else None)
            history = resumable(run, decisive) or history  # other processes may have done the training
        if not follows(settings.processes):
            write_history(run, history.epochs, csv_table=recorder.csv_table)
        model.load_state_dict(begun)
        if history.best_epoch:
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
        training=settings,
        outputs=tuple(history.outputs),
    )


def _check(model: Trainable, train: EncodedTable, validation: EncodedTable, parameters: int) -> None:
    if not parameters:
        raise InterplayError(
            f"There are no parameters to train: {', '.join(f'{k} {v}' for k, v in model.decisive().items())}."
        )
    for table, role in ((train, "train on"), (validation, "validate on")):
        if not len(table) or table.targets is None:
            raise InterplayError(f"{table.name} has no pairs with targets to {role}.")
        model.check(table.name, table.kind, table.targets)


def _decisive(
    model: Trainable,
    backbone: Backbone,
    train: EncodedTable,
    validation: EncodedTable,
    settings: TrainSettings,
) -> dict[str, Any]:
    """What decides about the weights: a run goes on with all of it as it was."""
    decisive, _ = split_execution(asdict(settings))
    return (
        {key: value for key, value in decisive.items() if key not in SPREAD}
        | model.decisive()
        | {
            PAIRS_A_STEP: pairs_a_step(decisive),
            "backbone": f"{backbone.name} {backbone.digest}",
            "training pairs": len(train),
            "validation pairs": len(validation),
        }
    )


def _train(
    module: PairTraining, recorder: RunRecorder, settings: TrainSettings, checkpoint: Path | None
) -> None:
    """Train here, or in processes of their own, one for each device."""
    if settings.devices == 1 or launched():
        _run(module, recorder, settings, checkpoint)
        return
    place = module.backbone.device
    module.backbone.to("cpu")  # every process brings them to its own device
    module.model.to("cpu")
    try:
        shown = replace(settings, progress=settings.progress and sys.stderr.isatty())
        arguments = module, recorder, shown, checkpoint
        in_processes(_run, arguments, settings.devices, f"the training in {recorder.run}")
    finally:
        module.backbone.to(place)
        module.model.to(place)


def _run(
    module: PairTraining, recorder: RunRecorder, settings: TrainSettings, checkpoint: Path | None
) -> None:
    """Drive Lightning, quietly; afterwards model and backbone are where they were."""
    model, backbone = module.model, module.backbone
    place, was_training = backbone.device, model.training
    on_interrupt = signal.getsignal(signal.SIGINT)
    model.train()
    try:
        with _quiet(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            trainer = _trainer(recorder, settings)
            try:
                trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
            finally:
                vars(trainer).clear()  # its parts hold each other, and with them backbone and data
    except SIGTERMException:  # Lightning's own would end the process as if all were well
        raise SystemExit(128 + signal.SIGTERM) from None
    except SystemExit as ended:  # Lightning's answer to an interrupt, which it ignores from then on
        if not isinstance(ended.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None
    except RuntimeError as problem:
        if settings.processes == 1 or not _LOST.search(str(problem)):
            raise
        raise Lost(
            f"Another process of the training in {recorder.run} ended, and this one with it. What was saved before is "
            "intact: go on with resume, or with devices = 1, which tells what is wrong."
        ) from problem
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
    bars = settings.progress and sys.stderr.isatty()  # a file would get one line a step
    if bars:
        callbacks.append(TrainingBar(recorder))
    with _refused(settings):
        return Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=_strategy(settings),
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
            enable_progress_bar=bars,
            use_distributed_sampler=False,
        )


def check_accelerator(settings: TrainSettings) -> None:
    """Refuse a device that is not there, also where nothing will be trained on it.

    Raises:
        InterplayError: Lightning knows no such accelerator, or this machine has none.
    """
    if settings.accelerator in ("auto", "cpu"):
        return
    with _quiet(), _refused(settings):
        Trainer(
            accelerator=settings.accelerator,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )


@contextlib.contextmanager
def _refused(settings: TrainSettings) -> Iterator[None]:
    """Tell in a sentence what Lightning refuses.

    Raises:
        InterplayError: it does.
    """
    try:
        yield
    except (MisconfigurationException, ValueError, ImportError, KeyError) as problem:
        raise InterplayError(
            f"Lightning cannot train with accelerator = {settings.accelerator}, devices = {settings.devices}, "
            f"strategy = {settings.strategy}, precision = {settings.precision} here: {problem}"
        ) from None


def _strategy(settings: TrainSettings) -> Strategy | str:
    """What Lightning takes; DDP leaves alone what a loss does not reach, as a single process does."""
    if settings.processes == 1 or settings.strategy not in ("auto", "ddp"):
        return settings.strategy
    return DDPStrategy(find_unused_parameters=True)


def _check_machine(settings: TrainSettings, validation: EncodedTable) -> None:
    """Refuse what the devices cannot do, before any process starts.

    Raises:
        InterplayError: more processes than processors or validation pairs, a precision that only GPUs have, or
            several machines without a launcher.
    """
    _check_processor(settings)
    if settings.num_nodes > 1 and not launched():
        raise InterplayError(
            f"num_nodes = {settings.num_nodes} needs a launcher that starts this on every machine, as 'torchrun "
            f"--nnodes {settings.num_nodes} --nproc-per-node {settings.devices}' or SLURM's srun: use one, or leave "
            "num_nodes out."
        )
    if len(validation) < settings.processes:
        raise InterplayError(
            f"{validation.name} has {len(validation)} pairs to validate on, and each of the {settings.processes} "
            f"devices needs one: choose devices = {len(validation)} or fewer, or give more pairs."
        )


def _check_processor(settings: TrainSettings) -> None:
    """Refuse what the processor cannot do, where it is what trains."""
    elsewhere = torch.cuda.is_available() or torch.backends.mps.is_available()
    if settings.accelerator != "cpu" and (settings.accelerator != "auto" or elsewhere):
        return
    cores = os.cpu_count() or 1
    if settings.devices > cores:
        raise InterplayError(
            f"devices = {settings.devices} asks for {settings.devices} processes, and this machine has {cores} "
            f"processors: choose at most {cores}."
        )
    if settings.precision == "16-mixed":
        raise InterplayError(
            "precision = 16-mixed needs a GPU, and this training runs on the processor: choose bf16-mixed or 32-true."
        )


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
