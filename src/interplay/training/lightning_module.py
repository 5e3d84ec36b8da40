"""What Lightning drives: the model as its only registered module, the frozen backbone beside it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from interplay.encoding.batches import (
    Batch,
    BatchLoader,
    BatchSource,
    EncodedTable,
    EpochSampler,
    OrderedSampler,
    TrainingLoader,
    to_device,
)
from interplay.encoding.prefix_cache import PrefixCache, behind_front
from interplay.encoding.trainable import PairBatch, Trainable
from interplay.errors import Diverged
from interplay.towers.backbone import Backbone
from interplay.training.gathering import gathered
from interplay.training.settings import TrainSettings, learning_rate_factor


class PairTraining(LightningModule):
    """What Lightning drives. The model is its only registered module: checkpoints hold what is trained alone.

    Args:
        model: what is trained.
        backbone: frozen; moved to the device, never registered.
        train, validation: encoded pairs with targets.
        settings: how.
        cache: keeps the front layers' tokens, or None.
    """

    def __init__(
        self,
        model: Trainable,
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
        self._outputs: list[tuple[list[int], Tensor]] = []
        self._values: dict[str, float] = {}
        self.outputs = torch.zeros(0)
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

    def train_dataloader(self) -> TrainingLoader:
        """The pairs of an epoch, this process's share of them."""
        self._order = EpochSampler(
            self._sources[0].text_lengths,
            self._settings.batch_size,
            self._settings.seed,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        return TrainingLoader(self._sources[0], self._order)

    def val_dataloader(self) -> BatchLoader:
        """The validation pairs, this process's share of them."""
        rank, size = self.trainer.global_rank, self.trainer.world_size
        lengths = self._sources[1].text_lengths
        return BatchLoader(
            self._sources[1], OrderedSampler(lengths, self._settings.batch_size, rank=rank, world_size=size)
        )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Pixels, ids or waiting tokens to the device."""
        return Batch(batch.rows, to_device(batch.pairs, device), batch.counts)

    def on_train_epoch_start(self) -> None:
        """All order and randomness is a function of seed, epoch and process."""
        assert self._order is not None
        self._order.set_epoch(self.current_epoch)
        stream = np.random.SeedSequence([self._settings.seed, self.current_epoch, self.global_rank])
        torch.manual_seed(int(stream.generate_state(1)[0]))
        self._loss_sum, self._loss_rows = 0.0, 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step, whose loss is that of the whole batch in every process; stops at a loss that is no number."""
        pairs = self._entered(batch)
        if self.trainer.world_size == 1:
            loss = self.model.training_loss(self.backbone, pairs)
        else:
            loss = self.model.training_loss(self.backbone, pairs, partial(gathered, counts=batch.counts))
        value = loss.item()
        if not math.isfinite(value):
            raise self._diverged(
                f"The loss became {value} in epoch {self.current_epoch + 1}, step {batch_idx + 1}"
            )
        self._loss_sum += value * sum(batch.counts)
        self._loss_rows += sum(batch.counts)
        return loss

    def on_after_backward(self) -> None:
        """A method that no gradient has reached is not trained, whatever the head learns."""
        if self.global_step:
            return
        own = [p for p in self.model.method.parameters() if p.requires_grad]
        if own and all(p.grad is None for p in own):
            raise self.model.unreached()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Outputs of a validation batch."""
        self._outputs.append((batch.rows, self.model(self.backbone, self._entered(batch)).float()))

    def _entered(self, batch: Batch) -> PairBatch:
        """The pairs after the frozen front, in training and in validation alike."""
        return behind_front(self.model, self.backbone, batch.pairs)

    def on_validation_epoch_end(self) -> None:
        """Metrics of the whole validation split, the same in every process."""
        targets = self._tables[1].targets
        assert targets is not None
        outputs = torch.zeros(len(targets), self.model.output_width, device=self.device)
        for rows, part in self._outputs:
            outputs[rows] = part
        self._outputs.clear()
        outputs = self._summed(outputs).cpu()
        if not outputs.isfinite().all():
            raise self._diverged(
                f"The weights were no numbers any more at the end of epoch {self.current_epoch + 1}"
            )
        self.outputs = outputs
        values = self.model.validation_values(outputs, targets)
        self._values = {f"validation_{name}": value for name, value in values.items()}

    def epoch_values(self) -> dict[str, float]:
        """Losses, learning rate and validation metrics of the epoch that has just ended."""
        rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        return {"train_loss": self._loss_sum / self._loss_rows, "learning_rate": rate, **self._values}

    def _summed(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        total: Tensor = self.trainer.strategy.reduce(values, reduce_op="sum")
        return total

    def _diverged(self, what: str) -> Diverged:
        return Diverged(
            f"{what}. The checkpoint of the last epoch that went well is kept. Lower learning_rate (it is "
            f"{self._settings.learning_rate:g}), set gradient_clip (1.0 is a usual value), or use a longer warmup; and "
            "if precision is not 32-true, try that."
        )

    def configure_optimizers(self) -> Any:
        """The optimizer, with the schedule step by step; the head has a learning rate of its own."""
        s = self._settings
        assert s.epochs is not None
        assert s.learning_rate is not None
        kind = torch.optim.Adam if s.optimizer == "adam" else torch.optim.AdamW
        owned = {id(parameter) for parameter in self.model.method.parameters()}
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        method = [parameter for parameter in trained if id(parameter) in owned]
        head = [parameter for parameter in trained if id(parameter) not in owned]
        groups = [
            {"params": method, "lr": s.learning_rate},
            {"params": head, "lr": s.learning_rate * s.head_learning_rate_factor},
        ]
        optimizer = kind(groups, weight_decay=s.weight_decay)
        total = s.epochs * len(self.train_dataloader())
        warmup = round(s.warmup * total)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, total, warmup, s.schedule)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
