"""Several devices: two processes with batches of 32 train as one with batches of 64."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from interplay.classification.solving import solve
from interplay.encoding.batches import EncodedTable
from interplay.encoding.predict import predict
from interplay.encoding.prefix_cache import PrefixCache
from interplay.errors import InterplayError
from interplay.parts.heads import HeadSettings
from interplay.towers.backbone import Backbone
from interplay.training.report import LAST, FitReport
from interplay.training.settings import TrainSettings
from interplay.training.train import fit
from tests.train.ranks import BY_GRADIENT, Ending, compare_all, on_two
from tests.train.toy import toy_backbone, toy_model, toy_table

two_processors = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
Tables = tuple[EncodedTable, EncodedTable]

ALIKE = ["mitp", "l2p", "lpi-p"]
"""A method whose objective is the task's loss, one that draws keys to the batch, one that compares prompts."""


def test_two_times_32_have_the_loss_and_gradient_of_64(tmp_path: Path) -> None:
    on_two(compare_all, tmp_path, ALIKE, [64], torch.float32)


def test_in_short_batches_every_pair_weighs_the_same(tmp_path: Path) -> None:
    on_two(compare_all, tmp_path, ["mitp", "l2p"], [1, 5], torch.float64)


@pytest.mark.slow
def test_so_it_is_with_every_method(tmp_path: Path) -> None:
    on_two(compare_all, tmp_path, BY_GRADIENT, [5, 64], torch.float64)


@pytest.fixture(scope="module")
def towers() -> Backbone:
    return toy_backbone()


@pytest.fixture(scope="module")
def tables(towers: Backbone) -> Tables:
    """The last batch of eight has one pair, and there is one batch to validate on."""
    return toy_table(towers, 33, 1), toy_table(towers, 5, 2)


def on(devices: int, **changes: Any) -> TrainSettings:
    """Eight pairs a step on one device or two."""
    values: dict[str, Any] = {
        "epochs": 4,
        "batch_size": 8 // devices,
        "devices": devices,
        "learning_rate": 1e-3,
        "accelerator": "cpu",
        "cache_prefix": True,
        "monitor": "loss",
        "progress": False,
    }
    return TrainSettings(**(values | changes))


def trained(
    towers: Backbone, tables: Tables, run: Path, devices: tuple[int, ...]
) -> tuple[dict[str, torch.Tensor], FitReport]:
    """A training that is stopped in its third epoch where it is to go on with other devices."""
    *before, last = devices
    cache = PrefixCache(run.parent / "cache")
    for at, number in enumerate(before):
        model = toy_model(towers)
        model.loss = Ending(calls=15)  # type: ignore[assignment]
        with pytest.raises(InterplayError, match="The test stops here"):
            fit(model, towers, *tables, on(number), run, resume=bool(at), cache=cache)
        assert (run / LAST).exists()
    model = toy_model(towers)
    report = fit(model, towers, *tables, on(last), run, resume=bool(before), cache=cache)
    return model.state_dict(), report


@two_processors
@pytest.mark.slow
def test_a_run_ends_the_same_on_one_device_and_two_and_goes_on_with_either(
    towers: Backbone, tables: Tables, tmp_path: Path
) -> None:
    weights, report = trained(towers, tables, tmp_path / "one", (1,))
    for devices in ((2,), (2, 1), (1, 2)):
        folder = tmp_path / "-".join(map(str, devices))
        found, told = trained(towers, tables, folder, devices)
        for name, value in weights.items():
            torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-6, msg=f"{devices}: {name}")
        assert (told.best_epoch, told.steps) == (report.best_epoch, report.steps)
        for mine, alone in zip(told.history, report.history, strict=True):
            assert mine.keys() == alone.keys()
            for key in mine.keys() - {"seconds"}:
                assert mine[key] == pytest.approx(alone[key], abs=1e-6), (devices, key)
        assert sorted(os.listdir(folder)) == sorted(os.listdir(tmp_path / "one"))


def test_a_step_has_as_many_pairs_when_a_run_goes_on(
    towers: Backbone, tables: Tables, tmp_path: Path
) -> None:
    model = toy_model(towers)
    model.loss = Ending(calls=8)  # type: ignore[assignment]
    with pytest.raises(InterplayError, match="stops here"):
        fit(model, towers, *tables, on(1), tmp_path)
    with pytest.raises(InterplayError, match=r"batch_size × devices × num_nodes = 8, now it is 16"):
        fit(toy_model(towers), towers, *tables, on(2, batch_size=8), tmp_path, resume=True)


@two_processors
@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_in_a_sentence(
    towers: Backbone, tables: Tables, tmp_path: Path
) -> None:
    model = toy_model(towers)
    model.loss = Ending(calls=9, kills=True)  # type: ignore[assignment]
    with pytest.raises(InterplayError, match=r"Process 2 of 2 of the training in .* died \(SIGKILL"):
        fit(model, towers, *tables, on(2), tmp_path)
    weights, _ = trained(towers, tables, tmp_path / "whole", (1,))
    resumed = toy_model(towers)
    fit(resumed, towers, *tables, on(1), tmp_path, resume=True)
    for name, value in weights.items():
        torch.testing.assert_close(resumed.state_dict()[name], value, atol=1e-6, rtol=1e-6)


@two_processors
@pytest.mark.slow
def test_a_start_in_closed_form_is_chosen_once_and_trained_from_on_two(
    towers: Backbone, tmp_path: Path
) -> None:
    data = toy_table(towers, 40, 1), toy_table(towers, 48, 2)
    found = []
    for devices in (1, 2):
        model = toy_model(towers, head=HeadSettings(kind="auto"))
        report = solve(model, towers, lambda _: data, on(devices), tmp_path / str(devices), resume=False)
        found.append((predict(model, towers, data[1]), report))
    (one, alone), (two, spread) = found
    assert len(alone.history) == len(spread.history) == 4
    assert alone.notes == spread.notes
    assert alone.table == spread.table
    for mine, other in zip(spread.history, alone.history, strict=True):
        for key in mine.keys() - {"seconds"}:
            assert mine[key] == pytest.approx(other[key], abs=1e-6), key
    assert (two - one).abs().max() <= 1e-5 * one.abs().max()
