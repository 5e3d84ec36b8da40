"""How a method is trained by gradient: every setting with its meaning, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from interplay.errors import InterplayError, unknown, wrong_type
from interplay.ranges import Choice, Ranges, Real, Whole
from interplay.seeds import check_seed, shown
from interplay.settings import make_settings
from interplay.typed import check_fields

Preset = Literal["fast", "auto", "thorough"]
UPDATES = 120
"""Steps that training takes where nobody says how many."""
PATIENCE = 20
"""Steps without a better validation value after which training from a head in closed form stops."""
RATES = (1.0, 1 / 3, 3.0)
"""Learning rates that `thorough` tries, over the one that suits the method."""
LONGER = 4
"""Length of the last training that `thorough` tries, over that of the others."""
_LEAST, _MOST = 3, 120
"""Bounds on the epochs that these come to."""
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")
SMALLER_IS_BETTER = ("calibration_error", "loss")
EXECUTION = ("accelerator", "strategy", "loggers", "cache_prefix", "progress")
"""Settings that say where a run is computed and what is shown of it; the result is the same with any of them."""


SPREAD = ("batch_size", "devices", "num_nodes")
"""Settings whose product is the pairs of a step; how it comes about makes no difference."""
PAIRS_A_STEP = "batch_size × devices × num_nodes"
"""What messages call that product."""


def pairs_a_step(settings: Mapping[str, Any]) -> int:
    """How many pairs all devices see in a step; settings that are not there are 1."""
    return math.prod(int(settings.get(name, 1)) for name in SPREAD)


def split_execution(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Training settings as those that the result depends on, and those that it does not (`EXECUTION`)."""
    free = {key: value for key, value in settings.items() if key in EXECUTION}
    return {key: value for key, value in settings.items() if key not in free}, free


@dataclass(frozen=True)
class TrainSettings:
    """How a method is trained by gradient.

    Attributes:
        preset: how much may be tried where the head is fitted in closed form (`auto`, `kernel`, `bilinear`): `fast`
            stops there, after the time of about 2 forward passes of all pairs; `auto` trains the method from there, and
            keeps what is better, in the time of at most 16,000 forward passes of a pair or 15 of all pairs, whichever
            is more; `thorough` also tries a third and three times the learning rate, and the best training once more at
            four times the length, in at most seven times that time. With `method = auto`, which tries three methods,
            `auto` takes three times as long and `thorough` thirteen times.
        epochs: times that all pairs are seen; by default as many as come to about 120 steps, from 3 to 120.
        batch_size: pairs a step and device: 32 on 2 devices train as 64 on 1 do, to the last digits.
        learning_rate: the highest one of the schedule; by default the method's own, which suits what it trains.
        head_learning_rate_factor: the head's learning rate over that of the method; 0 leaves the head as it starts.
        optimizer: `adam` (weight decay joins the gradient) or `adamw` (weight decay stands apart from it).
        weight_decay: factor.
        warmup: share of all steps in which the learning rate rises from 0 in a straight line.
        schedule: after that, `cosine` down to 0, or `constant`.
        patience: epochs without a better validation value before training stops; 0: never. By default as many as
            come to about 20 steps where training starts from a head in closed form, and at least 2; else never.
        gradient_clip: bound on the norm of the gradient; 0: none.
        seed: of the order of the pairs, and of whatever a method draws while it is trained.
        precision: `32-true`; `bf16-mixed`; `16-mixed`, for GPUs alone.
        accelerator, strategy: as Lightning's Trainer takes them; `auto` on several devices is DDP.
        devices: GPUs of this machine, or on the processor processes.
        num_nodes: machines, on each of which a launcher (`torchrun`, SLURM) starts the same command.
        loggers: any of csv, tensorboard, wandb, mlflow; `metrics.jsonl` is always written.
        cache_prefix: keep what leaves the frozen front layers on disk, so that later epochs skip them.
        monitor: the validation metric that decides which epoch is best; by default accuracy, or f1_macro for
            several labels.
        progress: show progress bars, where stderr is a terminal.
    """

    preset: Preset = "auto"
    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    head_learning_rate_factor: float = 1.0
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    warmup: float = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    patience: int | None = None
    gradient_clip: float = 0.0
    seed: int = 0
    precision: Precision = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    loggers: tuple[str, ...] = ("csv",)
    cache_prefix: bool = False
    monitor: str | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        for name, smallest in (
            ("epochs", 1),
            ("batch_size", 1),
            ("devices", 1),
            ("num_nodes", 1),
            ("patience", 0),
        ):
            if getattr(self, name) is not None and getattr(self, name) < smallest:
                raise InterplayError(f"{name} must be at least {smallest}, not {shown(getattr(self, name))}.")
        check_seed(self.seed)
        for name in ("learning_rate", "head_learning_rate_factor", "weight_decay", "gradient_clip"):
            value = getattr(self, name)
            if value is None:
                continue
            if not 0 <= value < math.inf or (name == "learning_rate" and value == 0):
                raise InterplayError(f"{name} cannot be {value}.")
        if not 0 <= self.warmup <= 1:
            raise InterplayError(f"warmup is a share of all steps, from 0 to 1, not {self.warmup}.")
        for name in self.loggers:
            if name not in LOGGERS:
                raise unknown("logger", name, LOGGERS)

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self.devices * self.num_nodes

    def settled(self, pairs: int, learning_rate: float) -> TrainSettings:
        """The same with what nobody chose filled in.

        Args:
            pairs: to train on.
            learning_rate: that suits the method.
        """
        steps = -(-pairs // (self.batch_size * self.processes))
        epochs = min(max(-(-UPDATES // max(steps, 1)), _LEAST), _MOST)
        rate = learning_rate if self.learning_rate is None else self.learning_rate
        return replace(
            self,
            epochs=epochs if self.epochs is None else self.epochs,
            learning_rate=rate,
            patience=self.patience or 0,
        )

    def rates(self) -> tuple[float, ...]:
        """Learning rates to try, over the one that suits a method or was chosen."""
        return RATES if self.preset == "thorough" and self.learning_rate is None else (1.0,)

    def lengthens(self) -> bool:
        """Whether the best training is tried once more, longer."""
        return self.preset == "thorough" and self.epochs is None

    def patient(self, pairs: int) -> TrainSettings:
        """The same, with a patience where nobody chose one.

        Args:
            pairs: to train on.
        """
        if self.patience is not None:
            return self
        steps = -(-pairs // (self.batch_size * self.processes))
        return replace(self, patience=max(2, -(-PATIENCE // max(steps, 1))))


FORMER = {"epochs": 20, "learning_rate": 2e-4}
"""What training was by default before it was settled by the data; cells that do not say otherwise mean this."""

RETRIEVAL_TRAINING = TrainSettings(epochs=5, batch_size=64, learning_rate=0.01, warmup=0.0)
"""LPI's own settings (§5.1): Adam, learning rate 0.01, 5 epochs, cosine without a warm-up; batch 64 from the released
configuration, which differs otherwise (SGD at 0.05, 10 epochs)."""


def monitored(settings: TrainSettings, known: Sequence[str]) -> str:
    """The validation metric that decides: the one that was asked for, else the first known.

    Raises:
        InterplayError: it is not among the known ones.
    """
    name = settings.monitor or known[0]
    if name not in known:
        raise unknown("validation metric", name, known)
    return name


TRAINING_RANGES: Ranges = {
    "learning_rate": Real(1e-5, 5e-2, log=True),
    "head_learning_rate_factor": Real(0.03, 10.0, log=True),
    "epochs": Whole(3, 30, log=True),
    "batch_size": Choice((16, 32, 64)),
    "weight_decay": Real(1e-6, 1e-1, log=True),
    "warmup": Real(0.0, 0.3),
}
"""Where the settings of training are worth searching, for every method."""


def training_settings(settings: TrainSettings | Mapping[str, Any] | None, seed: int) -> TrainSettings:
    """Training settings from what was given.

    Raises:
        InterplayError: it is of another type, or holds something that training has no setting for.
    """
    if isinstance(settings, TrainSettings):
        return settings
    if not isinstance(settings, Mapping | None):
        raise wrong_type("settings", "TrainSettings, or a mapping of some of them", settings)
    made: TrainSettings = make_settings(TrainSettings, {"seed": seed, **(settings or {})}, "training")
    return made


def learning_rate_factor(
    step: int, total: int, warmup: int, schedule: Literal["cosine", "constant"]
) -> float:
    """The factor on the learning rate of a step (from 0): (step + 1)/(warmup + 1) in the warm-up, 1 after it.

    Then (1 + cos(π·(step − warmup)/(total − warmup)))/2 with `cosine`.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup)))) / 2
