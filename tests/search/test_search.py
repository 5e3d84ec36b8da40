"""The search with methods that really train: what it reads, what it leaves, and what every method declares."""

from __future__ import annotations

import json
import random
import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from interplay import Classifier, InterplayError, load_backbone
from interplay.cli import main
from interplay.cli.command import commands
from interplay.cli.command_line import CommandLine
from interplay.data.schema import PairTable
from interplay.methods.registry import choices, choose
from interplay.ranges import Choice, Range, Real, Whole
from interplay.settings import make_settings
from interplay.towers.backbone import Backbone
from interplay.training.settings import TRAINING_RANGES, TrainSettings
from interplay.tuning.search import ranges_of, search
from tests.cli.conftest import write_toy
from tests.test_estimators import colour_table

SEARCHED = [
    "mitp",
    "epic",
    "p_clip",
    "maple",
    "s_prompts",
    "l2p",
    "dual_prompt",
    "dcp",
    "lora",
    "lpi",
]
QUICK = {"epochs": 1, "batch_size": 32, "warmup": 0.0, "weight_decay": 0.0}


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERPLAY_CACHE", str(tmp_path / "cache"))


def corners(one: Range) -> list[Any]:
    """The ends of a range, or all options."""
    return list(one.options) if isinstance(one, Choice) else [one.low, one.high]


def drawn(one: Range, dice: random.Random) -> Any:
    if isinstance(one, Choice):
        return dice.choice(one.options)
    return dice.randint(one.low, one.high) if isinstance(one, Whole) else dice.uniform(one.low, one.high)


def test_every_method_with_settings_worth_it_declares_ranges() -> None:
    declared = {choice.method for choice in choices().values() if choice.method.Settings.ranges}
    assert declared >= {choose(name).method for name in SEARCHED}
    for choice in choices().values():
        if not choice.method.traits.solver.by_gradient:
            assert not choice.method.Settings.ranges


@pytest.mark.parametrize(
    "name", sorted(name for name, choice in choices().items() if choice.method.Settings.ranges)
)
def test_declared_ranges_build_on_tiny(name: str, tiny: Backbone) -> None:
    choice = choose(name)
    ranges = {key: one for key, one in choice.method.Settings.ranges.items() if key not in choice.preset}
    assert set(ranges) <= {field.name for field in fields(choice.method.Settings)}
    for key, one in ranges.items():
        for value in corners(one):
            choice.settings({**tolerant(name), key: value})
    dice, built = random.Random(name), 0
    for _ in range(4):
        settings = {key: drawn(one, dice) for key, one in ranges.items()}
        try:
            choice.build(tiny.shape, settings)
        except InterplayError:
            continue
        built += 1
    assert built >= 1


def tolerant(name: str) -> dict[str, Any]:
    """Settings beside which every value of a single other one is free."""
    return {"pool": 20, "picked": 1} if name == "l2p" else {}


def test_shared_ranges_are_settings_of_training() -> None:
    for key, one in TRAINING_RANGES.items():
        for value in corners(one):
            make_settings(TrainSettings, {key: value}, "training")


def test_a_range_that_is_none_is_refused() -> None:
    for wrong in (
        lambda: Choice((1,)),
        lambda: Choice((1, 1)),
        lambda: Whole(3, 3),
        lambda: Whole(0, 3, log=True),
        lambda: Real(1.0, 0.5),
        lambda: Real(0.0, 1.0, log=True),
    ):
        with pytest.raises(ValueError, match=r"range|options"):
            wrong()


def test_what_is_given_or_what_a_variant_stands_for_is_not_searched() -> None:
    found = ranges_of(choose("lpi-p"), {"depth": 3}, {"epochs": 2}, head_is_trained=False)
    assert not {
        "method.fusion",
        "method.depth",
        "training.epochs",
        "training.head_learning_rate_factor",
    } & set(found)
    assert {"method.rank", "training.learning_rate"} <= set(found)
    with pytest.raises(InterplayError, match="not trained by gradient"):
        ranges_of(choose("linear_probe"), {}, {})
    with pytest.raises(InterplayError, match="nothing is left to search"):
        ranges_of(choose("p_clip"), {"length": 1, "depth": 1}, dict.fromkeys(TRAINING_RANGES))


class Guarded(PairTable):
    """A table whose test split must not be read."""

    def split(self, name: Any) -> PairTable:
        assert name != "test", "the search has asked for the test split"
        return super().split(name)


def test_a_search_never_reads_the_test_split(tiny: Backbone, tmp_path: Path) -> None:
    table = colour_table()

    def spoil(row: dict[str, Any]) -> dict[str, Any]:
        if row["split"] == "test":
            row["image"] = {"bytes": b"no picture", "path": None}
        return row

    rows = table.rows.map(spoil)
    guarded = Guarded(table.name, table.kind, table.classes, rows)
    with pytest.raises(InterplayError):  # whoever reads the pictures of test cannot go on
        guarded.image(29)
    report = search(
        tiny,
        "p_clip",
        guarded,
        tmp_path,
        minutes=5,
        trials=2,
        settings={"depth": 2},
        head={"kind": "pair"},
        training=QUICK,
    )
    assert [trial.state for trial in report.trials] == ["complete", "complete"]
    assert report.best is not None
    assert report.settings["depth"] == 2
    again = Classifier(tiny, "p_clip", settings=report.settings, head={"kind": "pair"})
    assert again.fit(table, settings=report.training).best_value == report.best.value


def test_contradictions_are_pruned_and_a_loss_that_is_no_number_fails(tiny: Backbone, tmp_path: Path) -> None:
    table, common = colour_table(), {"minutes": 5, "trials": 2, "head": {"kind": "pair"}}
    pruned = search(tiny, "mitp", table, tmp_path / "a", settings={"layers": (40,)}, training=QUICK, **common)
    assert [trial.state for trial in pruned.trials] == ["pruned", "pruned"]
    assert "40" in pruned.trials[0].reason
    assert pruned.best is None
    wild = {**QUICK, "learning_rate": 1e30, "epochs": 3, "batch_size": 4}
    failed = search(tiny, "p_clip", table, tmp_path / "b", settings={"depth": 1}, training=wild, **common)
    assert [trial.state for trial in failed.trials] == ["failed", "failed"]
    assert "learning_rate" in failed.trials[0].reason


def test_mistakes_are_told_before_any_trial(tiny: Backbone, tmp_path: Path) -> None:
    def call(**changes: Any) -> None:
        arguments = {"minutes": 1.0, "training": QUICK} | changes
        search(tiny, "p_clip", colour_table(), tmp_path, **arguments)

    with pytest.raises(InterplayError, match="Did you mean 'accuracy'"):
        call(training={"monitor": "acuracy"})
    with pytest.raises(InterplayError, match="Did you mean 'depth'"):
        call(settings={"deph": 1})
    with pytest.raises(InterplayError, match="minutes above 0"):
        call(minutes=0.0)
    assert not list(tmp_path.glob("*.db"))


def test_the_command_ends_in_settings_that_train_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_toy(tmp_path)
    words = "tune --data pairs.csv --method p_clip --out s --minutes 5 --head kind=pair --set depth=2"
    assert main(shlex.split(f"{words} --epochs 1 --trials 2 --seed 3 --json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trials"] == {"complete": 2, "pruned": 0, "failed": 0}
    assert main(["train", "--config", "s/best.yaml", "--out", "by-config", "--json"]) == 0
    by_config = json.loads(capsys.readouterr().out)["validation"]["accuracy"]
    assert by_config == found["best"]["value"]
    command = shlex.split(found["command"])
    assert command[:2] == ["interplay", "train"]
    line = CommandLine.of(commands()["train"])
    typed, read = line.parse(command[2:])[0], yaml.safe_load(Path("s/best.yaml").read_text())
    built = make_settings(TrainSettings, typed["settings"], "training")
    assert built == make_settings(
        TrainSettings, {k: v for k, v in read.items() if k in vars(built)}, "training"
    )
    assert typed["set"][0].startswith("depth=2")
    assert set(typed["set"]) <= set(read["set"])
    assert set(typed["head"]) <= set(read["head"])


def test_a_database_that_cannot_be_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "search.db").write_bytes(b"no database" * 500)
    write_toy(tmp_path / "toy")
    words = ["tune", "--data", tmp_path / "toy" / "pairs.csv", "--out", tmp_path / "s", "--minutes", 1]
    assert main([str(word) for word in words]) == 2
    assert "search.db cannot be read or written" in capsys.readouterr().err


def test_without_optuna_it_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "interplay.tuning.study" in sys.modules
    assert main(["tune", "--data", "x.csv", "--out", str(tmp_path), "--minutes", "1"]) == 2
    assert "pip install optuna" in capsys.readouterr().err
