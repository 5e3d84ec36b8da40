"""What a training run says and leaves, for those who read it and train nothing: no Lightning is imported here."""

from __future__ import annotations

from dataclasses import dataclass

LAST = "last.ckpt"
"""Everything that a run needs to go on, written after every epoch."""
BEST = "best.ckpt"
"""The weights of the epoch with the best validation value."""
SESSIONS = "sessions"
"""Folder for checkpoints and logs of a stream's sessions."""
OPTIONS = "config.yaml"
"""What a command ran with."""
VALIDATION = "validation_"
"""In front of the name of a metric that was taken on validation."""

Epoch = dict[str, float | int]
"""One record of `metrics.jsonl`."""


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

    @property
    def validation(self) -> dict[str, float]:
        """Metrics and loss on validation at the best epoch; of what has no epochs, the monitored metric alone."""
        best = (
            self.history[self.best_epoch - 1]
            if self.history
            else {f"{VALIDATION}{self.monitor}": self.best_value}
        )
        return {
            name.removeprefix(VALIDATION): float(value)
            for name, value in best.items()
            if name.startswith(VALIDATION)
        }
