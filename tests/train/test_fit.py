"""Training: what is learned, kept, restored, logged, and said when it goes wrong."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from interplay.classification.evaluation import evaluate
from interplay.classification.model import PairClassifier
from interplay.encoding.batches import EncodedTable
from interplay.encoding.predict import predict
from interplay.encoding.prefix_cache import behind_front
from interplay.encoding.trainable import PairBatch
from interplay.errors import InterplayError
from interplay.parts.heads import HeadSettings
from interplay.towers.backbone import Backbone
from interplay.training.checkpoints import AtomicCheckpointIO, read_checkpoint
from interplay.training.report import BEST, LAST, FitReport
from interplay.training.settings import TrainSettings, learning_rate_factor
from interplay.training.train import fit
from tests.train.toy import toy_backbone, toy_model, toy_table

Tables = tuple[EncodedTable, EncodedTable]


@pytest.fixture(scope="module")
def towers() -> Backbone:
    return toy_backbone()


@pytest.fixture(scope="module")
def tables(towers: Backbone) -> Tables:
    return toy_table(towers, 40, 1), toy_table(towers, 20, 2)


def quick(**changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 0.01,
        "accelerator": "cpu",
        "progress": False,
    }
    return TrainSettings(**(values | changes))


def weights(model: PairClassifier) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def train(towers: Backbone, tables: Tables, run: Path, **changes: Any) -> tuple[PairClassifier, FitReport]:
    model = toy_model(towers)
    return model, fit(model, towers, *tables, quick(**changes), run)


def test_learns_and_reports(towers: Backbone, tables: Tables, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in towers.state_dict().items()}
    model, report = train(
        towers, tables, tmp_path, epochs=6, learning_rate=0.03, loggers=("csv", "tensorboard")
    )
    losses = [epoch["train_loss"] for epoch in report.history]
    assert losses[-1] < 0.8 * losses[0]
    assert report.steps == 6 * 5
    assert report.parameters == sum(p.numel() for p in model.parameters())
    for name, value in towers.state_dict().items():
        assert torch.equal(value, before[name]), name
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == report.history
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 7
    assert list((tmp_path / "tensorboard").iterdir())
    assert evaluate(model, towers, tables[1])["accuracy"] == pytest.approx(report.best_value)


def test_holds_the_best_epoch(towers: Backbone, tables: Tables, tmp_path: Path) -> None:
    model, report = train(towers, tables, tmp_path, epochs=4, learning_rate=0.05, monitor="loss")
    values = [epoch["validation_loss"] for epoch in report.history]
    assert report.best_value == min(values)
    assert report.best_epoch == values.index(min(values)) + 1
    assert report.validation["loss"] == min(values)
    loss = model.loss(predict(model, towers, tables[1]), tables[1].targets)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(report.best_value, abs=1e-5)


def test_the_head_has_a_learning_rate_of_its_own(towers: Backbone, tables: Tables, tmp_path: Path) -> None:
    one_step = {"epochs": 1, "batch_size": 40, "warmup": 0.0, "schedule": "constant"}
    moved: dict[float, dict[str, torch.Tensor]] = {}
    for factor in (1.0, 0.5, 0.0):
        model = toy_model(towers, head=HeadSettings(kind="learned"))
        start = weights(model)
        settings = quick(head_learning_rate_factor=factor, **one_step)
        report = fit(model, towers, *tables, settings, tmp_path / str(factor))
        moved[factor] = {name: value - start[name] for name, value in weights(model).items()}
        assert report.history[0]["learning_rate"] == 0.01
    assert all(full.abs().max() > 1e-3 for name, full in moved[1.0].items() if name.startswith("head."))
    for name, full in moved[1.0].items():
        for factor in (0.5, 0.0):
            expected = full * factor if name.startswith("head.") else full
            torch.testing.assert_close(moved[factor][name], expected, atol=1e-6, rtol=1e-4)


def test_checkpoints_hold_only_what_is_trained(towers: Backbone, tables: Tables, tmp_path: Path) -> None:
    model, _ = train(towers, tables, tmp_path)
    for name in (BEST, LAST):
        state = read_checkpoint(tmp_path / name)
        assert state["state_dict"].keys() == {f"model.{key}" for key in model.state_dict()}
    assert not list(tmp_path.glob(".*"))


def test_stops_when_validation_does_not_improve(
    towers: Backbone, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.3, 0.5, 0.4, 0.5, 0.2])
    monkeypatch.setattr(
        "interplay.classification.model.classification_metrics", lambda *_: {"accuracy": next(scores)}
    )
    _, report = train(towers, tables, tmp_path, epochs=9, patience=2)
    assert (len(report.history), report.best_epoch, report.best_value) == (4, 2, 0.5)
    model = toy_model(towers)
    again = fit(model, towers, *tables, quick(epochs=9, patience=2), tmp_path, resume=True)
    assert again == report


@pytest.mark.bitwise
@pytest.mark.parametrize("kind", ["single", "multi"])
def test_two_runs_are_equal_and_seeds_differ(kind: Any, towers: Backbone, tmp_path: Path) -> None:
    data = toy_table(towers, 24, 1, kind), toy_table(towers, 10, 2, kind)
    found = []
    for i, seed in enumerate((0, 0, 1)):
        model = toy_model(towers, kind=kind)
        torch.rand(i)  # the state of the global generator must not matter
        fit(model, towers, *data, quick(seed=seed, monitor="loss"), tmp_path / str(i))
        found.append(weights(model))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not all(torch.equal(found[0][name], found[2][name]) for name in found[0])


def test_leaves_the_global_generator_alone(towers: Backbone, tables: Tables, tmp_path: Path) -> None:
    model = toy_model(towers)
    state = torch.random.get_rng_state()
    fit(model, towers, *tables, quick(epochs=1), tmp_path)
    assert torch.equal(state, torch.random.get_rng_state())


def test_says_where_the_loss_went_wrong(
    towers: Backbone, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calls = toy_model(towers), 0
    real = model.loss

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += model.training
        return real(logits, targets) * (math.nan if calls == 8 else 1)

    monkeypatch.setattr(model, "loss", loss)
    with pytest.raises(InterplayError, match=r"nan in epoch 2, step 3.*learning_rate"):
        fit(model, towers, *tables, quick(epochs=3), tmp_path)
    assert read_checkpoint(tmp_path / LAST)["epoch"] == 0
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_weights_that_are_no_numbers_are_not_saved(towers: Backbone, tables: Tables, tmp_path: Path) -> None:
    with pytest.raises(InterplayError, match=r"epoch 1"):
        train(towers, tables, tmp_path, learning_rate=1e30, batch_size=40, warmup=0.0)
    assert not (tmp_path / LAST).exists()


@pytest.mark.bitwise
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_full_disk_keeps_the_last_checkpoint(
    call: str, towers: Backbone, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = toy_model(towers)
    real, full = getattr(os, call), False

    def failing(*arguments: Any, **named: Any) -> Any:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **named)

    forward = model.forward

    def fills_the_disk(backbone: Backbone, batch: PairBatch) -> torch.Tensor:
        nonlocal full
        full = full or (tmp_path / "metrics.jsonl").exists()
        return forward(backbone, batch)

    monkeypatch.setattr(os, call, failing)
    monkeypatch.setattr(model, "forward", fills_the_disk)
    with pytest.raises(InterplayError, match=r"No space left.*intact"):
        fit(model, towers, *tables, quick(monitor="loss"), tmp_path)
    assert read_checkpoint(tmp_path / LAST)["epoch"] == 0
    assert not list(tmp_path.glob(".*"))
    monkeypatch.undo()
    resumed = toy_model(towers)
    fit(resumed, towers, *tables, quick(monitor="loss"), tmp_path, resume=True)
    undisturbed = toy_model(towers)
    fit(undisturbed, towers, *tables, quick(monitor="loss"), tmp_path / "other")
    assert all(torch.equal(value, undisturbed.state_dict()[name]) for name, value in weights(resumed).items())


def test_a_folder_in_use_and_other_settings_are_refused(
    towers: Backbone, tables: Tables, tmp_path: Path
) -> None:
    train(towers, tables, tmp_path, epochs=1)
    with pytest.raises(InterplayError, match="holds a training run already"):
        train(towers, tables, tmp_path, epochs=1)
    with pytest.raises(InterplayError, match=r"epochs = 1, now it is 2"):
        fit(toy_model(towers), towers, *tables, quick(), tmp_path, resume=True)
    with pytest.raises(InterplayError, match=r"started with method = mitp"):
        fit(toy_model(towers, "epic"), towers, *tables, quick(epochs=1), tmp_path, resume=True)
    (tmp_path / LAST).write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(InterplayError, match="damaged"):
        fit(toy_model(towers), towers, *tables, quick(epochs=1), tmp_path, resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": math.nan}, "learning_rate cannot be nan"),
        ({"head_learning_rate_factor": -0.1}, "head_learning_rate_factor cannot be -0.1"),
        ({"warmup": 2.0}, "share of all steps"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"loggers": ("tensorbord",)}, "Did you mean 'tensorboard'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InterplayError, match=message):
        TrainSettings(**settings)


def test_each_device_needs_a_pair_to_validate_on(
    towers: Backbone, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    few = tables[0], toy_table(towers, 1, 3)
    with pytest.raises(InterplayError, match="toy 3 has 1 pairs to validate on, and each of the 2 devices"):
        train(towers, few, tmp_path / "run", devices=2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loggers": ("wandb",)}, "pip install wandb"),
        ({"monitor": "acuracy"}, "Did you mean 'accuracy'"),
        ({"accelerator": "gpu"}, "cannot train with accelerator = gpu"),
        ({"accelerator": "gppu"}, "cannot train with accelerator = gppu"),
        ({"accelerator": "tpu"}, "cannot train with accelerator = tpu"),
        ({"accelerator": "cpu", "devices": 9999}, "9999 asks for 9999 processes"),
        ({"accelerator": "cpu", "precision": "16-mixed"}, "16-mixed needs a GPU"),
    ],
)
def test_what_is_not_there_is_named(
    changes: dict[str, Any], message: str, towers: Backbone, tables: Tables, tmp_path: Path
) -> None:
    if torch.cuda.is_available() and changes.get("accelerator") == "gpu":
        pytest.skip("there is a GPU")
    with pytest.raises(InterplayError, match=message):
        train(towers, tables, tmp_path, **changes)


def test_nothing_to_train_is_said(towers: Backbone, tables: Tables, tmp_path: Path) -> None:
    model = toy_model(towers, "zero_shot")
    with pytest.raises(InterplayError, match="no parameters to train"):
        fit(model, towers, *tables, quick(), tmp_path)


def test_labels_that_do_not_fit_the_model_are_refused(
    towers: Backbone, tables: Tables, tmp_path: Path
) -> None:
    with pytest.raises(InterplayError, match="built for multi labels"):
        fit(toy_model(towers, kind="multi"), towers, *tables, quick(), tmp_path)


def test_checkpoints_hold_no_pickled_objects(tmp_path: Path) -> None:
    io = AtomicCheckpointIO()
    with pytest.raises(TypeError, match=r"checkpoint\['a'\]\[1\] is a PosixPath"):
        io.save_checkpoint({"a": [1, tmp_path]}, tmp_path / "x.ckpt")
    torch.save({"a": tmp_path}, tmp_path / "y.ckpt")
    with pytest.raises(InterplayError, match="no checkpoint of interplay"):
        io.load_checkpoint(tmp_path / "y.ckpt")


def test_schedule() -> None:
    factors = [learning_rate_factor(step, 20, 4, "cosine") for step in range(20)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[12] == pytest.approx(0.5)
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert 0 < factors[-1] < 0.02
    assert [learning_rate_factor(step, 20, 0, "constant") for step in (0, 19)] == [1, 1]


def test_prediction_order_and_batch_size(towers: Backbone, tables: Tables) -> None:
    model = toy_model(towers)
    one = predict(model, towers, tables[0], 1)
    for size in (7, 64):
        torch.testing.assert_close(predict(model, towers, tables[0], size), one, atol=1e-4, rtol=1e-5)
    rows = [31, 4, 0]
    batch = tables[0].collate(rows)
    with torch.no_grad():
        torch.testing.assert_close(model(towers, batch), one[rows], atol=1e-4, rtol=1e-5)
    assert model.training


def test_no_gradient_in_front_of_the_first_prompted_layer(towers: Backbone, tables: Tables) -> None:
    model = toy_model(towers)
    batch = behind_front(model, towers, tables[0].collate([0, 1]))
    assert not isinstance(batch.images, torch.Tensor)
    assert batch.images.layer == 1
    assert not batch.images.tokens.x.requires_grad


@pytest.fixture
def interruptible() -> Iterator[object]:
    """Python's own handler of SIGINT, which a shell's background jobs start without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("number", "ended", "code"),
    [(signal.SIGTERM, SystemExit, 143), (signal.SIGINT, KeyboardInterrupt, None)],
)
def test_a_signal_ends_a_training_as_it_ends_any_program(
    towers: Backbone,
    tables: Tables,
    tmp_path: Path,
    number: int,
    ended: type[BaseException],
    code: int | None,
    interruptible: object,
) -> None:
    model = toy_model(towers)
    forward = model.forward

    def signalled(backbone: Backbone, batch: PairBatch) -> torch.Tensor:
        os.kill(os.getpid(), number)
        return forward(backbone, batch)

    model.forward = signalled  # type: ignore[method-assign]
    with pytest.raises(ended) as found:
        fit(model, towers, *tables, quick(), tmp_path)
    assert getattr(found.value, "code", None) == code
    assert signal.getsignal(signal.SIGINT) == interruptible
