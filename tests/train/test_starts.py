"""Heads in closed form: the formulas against plain ones, the choice, and what is kept where training does not help."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge as ScikitRidge

from interplay.classification import attempts, from_start
from interplay.classification.budget import passes
from interplay.classification.evaluation import evaluate
from interplay.classification.evidence import Monitor, resampled, wilson
from interplay.classification.model import PairClassifier
from interplay.classification.ridge import Ridge
from interplay.classification.solving import solve
from interplay.classification.starts import Candidate, PairVectors, Starts, vectors_of
from interplay.comparison.grid import GridCell
from interplay.comparison.run import classifier_of, training_of
from interplay.encoding.batches import EncodedTable
from interplay.encoding.predict import predict
from interplay.errors import Diverged, InterplayError
from interplay.methods.registry import choices, choose
from interplay.parts.heads import HeadSettings
from interplay.parts.kernel_map import KernelMap
from interplay.towers.backbone import Backbone
from interplay.training.report import FitReport
from interplay.training.settings import TrainSettings
from tests.contract.world import Subject
from tests.train.toy import toy_backbone, toy_model, toy_table

Tables = tuple[EncodedTable, EncodedTable]
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 16, "accelerator": "cpu", "progress": False}


@pytest.fixture(scope="module")
def towers() -> Backbone:
    return toy_backbone()


@pytest.fixture(scope="module")
def tables(towers: Backbone) -> Tables:
    return toy_table(towers, 40, 1), toy_table(towers, 48, 2)


def drawn(rows: int, features: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return (
        torch.randn(rows, features, generator=random).double(),
        torch.rand(rows, classes, generator=random).double(),
    )


@pytest.mark.parametrize(("rows", "features"), [(12, 5), (6, 30)])
@pytest.mark.parametrize("penalty", [1e-2, 3.0])
def test_ridge_is_the_one_of_scikit_learn_and_leaves_each_fold_out(
    rows: int, features: int, penalty: float
) -> None:
    x, y = drawn(rows, features, 3)
    ridge = Ridge(x, y)
    plain = ScikitRidge(alpha=penalty).fit(x.numpy(), y.numpy())
    weight, bias = ridge.solution(penalty)
    np.testing.assert_allclose(weight.numpy(), plain.coef_, atol=1e-8)
    np.testing.assert_allclose(bias.numpy(), plain.intercept_, atol=1e-8)
    folds = [torch.arange(rows)[at::4] for at in range(4)]
    found = ridge.left_out(penalty, folds)
    for fold in folds:
        others = [i for i in range(rows) if i not in fold.tolist()]
        again = ScikitRidge(alpha=penalty).fit(x[others].numpy(), y[others].numpy())
        np.testing.assert_allclose(found[fold].numpy(), again.predict(x[fold].numpy()), atol=1e-6)


def vectors(rows: int, seed: int) -> PairVectors:
    random = torch.Generator().manual_seed(seed)
    image, text = (torch.randn(rows, 8, generator=random) for _ in range(2))
    return PairVectors(image, text, (image[:, 0] * text[:, 0] > 0).long())


def test_a_kernel_map_is_its_formula_and_whole_with_a_landmark_a_pair() -> None:
    pairs = vectors(9, 0)
    kernel = KernelMap(8, "concat", 9)
    kernel.fit(pairs.image, pairs.text, sharpness=0.5)
    x, t = (side / side.norm(dim=1, keepdim=True) for side in (pairs.image, pairs.text))
    x, t = x - x.mean(0), t - t.mean(0)
    u = torch.cat([x / x.norm(dim=1, keepdim=True), t / t.norm(dim=1, keepdim=True)], dim=1)
    apart = torch.tensor([[float(((a - b) ** 2).sum()) for b in u] for a in u])
    middle = torch.stack([apart[i, j] for i in range(9) for j in range(i)]).median()
    near = torch.exp(-apart * 0.5 / middle)
    found = kernel(pairs.image, pairs.text)
    torch.testing.assert_close(found @ found.T, near, atol=1e-4, rtol=1e-4)


def test_a_kernel_head_is_kernel_ridge_regression(towers: Backbone, tables: Tables) -> None:
    model = toy_model(towers, "head_only")
    pairs = vectors_of(model, towers, tables[0])
    starts = Starts(model, Monitor(model, "accuracy"))
    candidate = Candidate(HeadSettings(kind="kernel", features="concat"), sharpness=1.0)
    (answer,) = [a for a in starts.answers(candidate, pairs, None) if a.penalty == 1.0]
    head = starts.fit(answer, pairs)
    assert head.map is not None
    near = head.map.near(head.map.moved(pairs.image, pairs.text)).double()
    centred = near - near.mean(0) - near.mean(1, keepdim=True) + near.mean()
    shares = torch.nn.functional.one_hot(pairs.targets, 3).double()
    plain = KernelRidge(alpha=1.0, kernel="precomputed").fit(
        centred.numpy(), (shares - shares.mean(0)).numpy()
    )
    expected = answer.scale * (torch.from_numpy(plain.predict(centred.numpy())) + shares.mean(0))
    found = head.inputs(pairs.vectors) @ head.weight.T + head.bias  # type: ignore[union-attr]
    torch.testing.assert_close(found.double(), expected, atol=2e-3, rtol=1e-3)


def test_class_texts_beside_the_vectors_make_a_linear_head(towers: Backbone, tables: Tables) -> None:
    model = toy_model(towers, "head_only")
    pairs, held_out = (vectors_of(model, towers, table) for table in tables)
    starts = Starts(model, Monitor(model, "accuracy"))
    candidate = Candidate(HeadSettings(kind="linear", features="concat"), class_texts=True)
    for answer in starts.answers(candidate, pairs, held_out):
        head = starts.fit(answer, pairs)
        found = head.inputs(held_out.vectors) @ head.weight.T + head.bias  # type: ignore[union-attr]
        torch.testing.assert_close(found, answer.logits, atol=1e-3, rtol=1e-4)


def start_from(
    towers: Backbone, tables: Tables, run: Path, method: str = "lora", **changes: Any
) -> tuple[PairClassifier, FitReport]:
    model = toy_model(towers, method, kind=tables[0].kind)  # type: ignore[arg-type]
    settings = TrainSettings(**(QUICK | changes))
    return model, solve(model, towers, lambda _: tables, settings, run, resume=False)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_training_starts_exactly_at_the_head_in_closed_form(
    kind: Any, towers: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = toy_table(towers, 40, 1, kind), toy_table(towers, 48, 2, kind)
    started: list[torch.Tensor] = []

    def caught(model: PairClassifier, backbone: Backbone, *_: Any, **__: Any) -> FitReport:
        started.append(predict(model, backbone, tables[1]))
        raise Diverged("caught")

    monkeypatch.setattr(attempts, "fit", caught)
    start_from(towers, tables, tmp_path)
    monkeypatch.undo()
    found = []
    for method in ("head_only", "lora"):
        model = toy_model(towers, method, kind=kind)
        seen, held_out = (vectors_of(model, towers, table) for table in tables)
        starts = Starts(model, Monitor(model, model.monitors[0]))
        if method == "head_only":
            best = starts.choose(seen, held_out).best
        model.head = starts.fit(best, seen)
        found.append(predict(model, towers, tables[1]))
    for one in found:
        torch.testing.assert_close(started[0], one, atol=1e-3, rtol=1e-4)  # logits up to 50


def test_harmful_training_keeps_the_start(towers: Backbone, tables: Tables, tmp_path: Path) -> None:
    start, untrained = start_from(towers, tables, tmp_path / "fast", preset="fast")
    model, report = start_from(towers, tables, tmp_path / "harmed", learning_rate=10.0)
    assert torch.equal(predict(model, towers, tables[1]), predict(start, towers, tables[1]))
    assert (model.method.name, start.method.name) == ("head_only", "head_only")
    assert report.best_epoch == untrained.best_epoch == 0
    assert report.steps > 0 or "came to no numbers" in report.notes[-1]
    assert "the start is kept" in report.notes[-1]
    assert report.validation == untrained.validation
    assert report.parameters == untrained.parameters
    assert report.best_value == report.validation["accuracy"]


CLASSIFIERS = [
    name
    for name, one in choices().items()
    if one.method.traits.solver.classifies and one.method.traits.solver.by_gradient
]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_no_method_ends_below_the_bare_towers(
    name: str, towers: Backbone, tables: Tables, tmp_path: Path
) -> None:
    """Also one that cannot start as the frozen model; at this learning rate none of them is of use."""
    choice = choose(name)
    settings = Subject(choice, towers).settings
    model = toy_model(towers, name, settings=choice.starting_frozen(settings))
    training = TrainSettings(**QUICK | {"learning_rate": 0.3})
    report = solve(model, towers, lambda _: tables, training, tmp_path, resume=False)
    bare = toy_model(towers, "head_only")
    seen, held_out = (vectors_of(bare, towers, table) for table in tables)
    starts = Starts(bare, Monitor(bare, "accuracy"))
    best = starts.choose(seen, held_out).best
    bare.head = starts.fit(best, seen if report.best_epoch else seen.and_(held_out))
    found, start = (evaluate(one, towers, tables[1])["accuracy"] for one in (model, bare))
    if report.best_epoch:
        assert found > start
    else:
        assert (found, report.best_value, model.method.name) == (start, best.value, "head_only")
        assert "the start is kept" in report.notes[-1]


def test_training_that_helps_is_kept(
    towers: Backbone, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = attempts.fit
    monkeypatch.setattr(attempts, "fit", lambda *args, **named: real(*args, **{**named, "start": None}))
    monkeypatch.setattr(from_start, "logits_of", lambda *_: torch.zeros(48, 3))
    monkeypatch.setattr(Monitor, "noise", lambda *_: 0.0)
    model, report = start_from(towers, tables, tmp_path, learning_rate=0.003)
    assert report.best_epoch > 0
    assert evaluate(model, towers, tables[1])["accuracy"] == pytest.approx(report.best_value)
    assert report.table[-1].value == pytest.approx(report.best_value)
    assert report.table[-1].rows == 48
    assert "Training gained" in report.notes[-1]
    assert model.method.name == "lora"


def noisy(
    rows: int, seed: int, changed: float, count: int
) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Logits of answers that are no better than another one, each other on a share of the rows; its own; targets."""
    random = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (rows,), generator=random)
    theirs = torch.nn.functional.one_hot(torch.randint(3, (rows,), generator=random), 3).float()
    ours = []
    for _ in range(count):
        other = torch.nn.functional.one_hot(torch.randint(3, (rows,), generator=random), 3).float()
        rows_changed = torch.rand(rows, 1, generator=random) < changed
        ours.append(torch.where(rows_changed, other, theirs))
    return ours, theirs, targets


def test_the_best_of_many_answers_that_are_no_better_is_within_noise(
    towers: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One standard error of the best one's gain, the bound for a single answer, is passed nearly always."""
    monkeypatch.setattr("interplay.classification.evidence.RESAMPLES", 100)
    monitor = Monitor(toy_model(towers, "head_only"), "accuracy")
    naive = bounded = 0
    for seed in range(30):
        ours, theirs, targets = noisy(80, seed, 0.2, 12)
        best = max(ours, key=lambda logits: monitor.value(logits, targets))
        gain, error = monitor.gain(best, theirs, targets)
        naive += gain > error
        bounded += gain > monitor.noise(ours, theirs, targets)
    assert naive >= 18
    assert bounded <= 7
    right = torch.nn.functional.one_hot(targets, 3).float()
    assert monitor.gain(right, theirs, targets)[0] > monitor.noise([*ours, right], theirs, targets)


def test_one_answer_has_to_gain_one_standard_error(towers: Backbone) -> None:
    monitor = Monitor(toy_model(towers, "head_only"), "accuracy")
    ours, theirs, targets = noisy(400, 0, 0.3, 1)
    error = monitor.gain(ours[0], theirs, targets)[1]
    assert monitor.noise(ours, theirs, targets) == pytest.approx(error, rel=0.15)


def test_thorough_tries_rates_and_lengths_and_auto_methods(
    towers: Backbone, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On labels that are noise the start is kept, whatever is tried."""
    random = torch.Generator().manual_seed(0)
    noise = tuple(
        replace(table, targets=torch.randint(3, (len(table),), generator=random)) for table in tables
    )
    monkeypatch.setattr("interplay.training.settings.UPDATES", 6)
    monkeypatch.setattr("interplay.training.settings.PATIENCE", 2)
    model = toy_model(towers, "lora")
    settings = TrainSettings(preset="thorough", accelerator="cpu", progress=False, batch_size=32)
    report = solve(
        model, towers, lambda _: noise, settings, tmp_path, resume=False, rivals=("lora", "mitp", "p_clip")
    )
    assert model.method.name == "head_only"
    assert report.best_epoch == 0
    assert (
        "The best of 7 trainings (" in report.notes[-1]
    )  # MITP's layers are more than the toy's towers have
    tried = sorted(path.name for path in (tmp_path / "attempts").iterdir())
    assert [name.partition("-")[2] for name in tried[:6]] == ["lora"] * 3 + ["p_clip"] * 3
    rates = [
        json.loads((tmp_path / "attempts" / name / "metrics.jsonl").read_text().splitlines()[0])[
            "learning_rate"
        ]
        for name in tried[:6]
    ]
    assert [round(rates[at + 1] / rates[at], 6) for at in (1, 4)] == [9.0, 9.0]
    assert (tmp_path / "metrics.jsonl").exists()
    again = toy_model(towers, "lora")
    resumed = solve(
        again, towers, lambda _: noise, settings, tmp_path, resume=True, rivals=("lora", "mitp", "p_clip")
    )
    assert resumed.notes == report.notes


def test_the_best_of_several_methods_is_kept(
    towers: Backbone, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_start, "logits_of", lambda *_: torch.zeros(48, 3))
    monkeypatch.setattr(Monitor, "noise", lambda *_: 0.0)
    real = attempts.fit

    def fit(model: PairClassifier, *args: Any, **named: Any) -> FitReport:
        if model.method.name == "lora":
            raise Diverged("caught")
        return real(model, *args, **{**named, "start": None})

    monkeypatch.setattr(attempts, "fit", fit)
    model = toy_model(towers, "lora")
    settings = TrainSettings(**QUICK)
    report = solve(
        model, towers, lambda _: tables, settings, tmp_path, resume=False, rivals=("lora", "p_clip")
    )
    assert model.method.name == "p_clip"
    assert report.training is not None
    assert report.training.learning_rate == choose("p_clip").method.traits.learning_rate
    assert evaluate(model, towers, tables[1])["accuracy"] == pytest.approx(report.table[-1].value)


def test_a_preset_says_what_it_takes(towers: Backbone) -> None:
    fast, usual, thorough = (TrainSettings(preset=name) for name in ("fast", "auto", "thorough"))  # type: ignore[arg-type]
    assert passes(fast, 1, 600, 100) == 1400
    assert passes(usual, 1, 600, 100) == 1400 + 7 * (4 * 600 + 150)
    assert passes(thorough, 1, 600, 100) == 1400 + 7 * 7 * (4 * 600 + 150)
    assert passes(thorough, 3, 600, 100) == 1400 + 13 * 7 * (4 * 600 + 150)
    fixed = TrainSettings(preset="thorough", epochs=2, learning_rate=0.1)
    assert passes(fixed, 1, 600, 100) == 1400 + 2 * (4 * 600 + 150)


def test_the_table_says_what_simple_answers_are_worth(
    towers: Backbone, tables: Tables, tmp_path: Path
) -> None:
    _, report = start_from(towers, tables, tmp_path, preset="fast")
    assert [one.name for one in report.table] == [
        "zero-shot",
        "text alone",
        "image alone",
        "linear probe",
        "start",
        "this run",
    ]
    for one in report.table:
        assert one.low <= one.value <= one.high
        assert one.rows == 88
    assert max(one.value for one in report.table) - report.table[-1].value < 0.05
    assert "over the 88 pairs" in report.notes[0]


def test_many_validation_pairs_are_measured_by_a_fit_on_train(
    towers: Backbone, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interplay.classification.starts.FEW", 48)
    model = toy_model(towers, "head_only")
    seen, held_out = (vectors_of(model, towers, table) for table in tables)
    starts = Starts(model, Monitor(model, "accuracy"))
    choice = starts.choose(seen, held_out)
    assert not choice.crossed
    model.head = starts.fit(choice.best, seen)
    torch.testing.assert_close(predict(model, towers, tables[1]), choice.best.logits, atol=1e-3, rtol=1e-4)


def test_the_number_of_updates_is_settled_by_the_pairs() -> None:
    few, many = (TrainSettings().settled(pairs, 1e-3) for pairs in (60, 60_000))
    assert few.epochs is not None
    assert many.epochs is not None
    assert few.epochs * 2 == 120
    assert many.epochs == 3
    given = TrainSettings(epochs=5, learning_rate=0.1, patience=0)
    assert given.settled(60, 1e-3) == given


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_figures_of_drawn_rows_are_those_of_the_rows_themselves(kind: str) -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(30, 4, generator=random)
    targets = torch.randint(0, 3, (30,), generator=random)  # nobody has the last class, and few are said to
    logits[:, 3] -= 2
    if kind == "multi":
        targets = (torch.rand(30, 4, generator=random) > 0.8).float()
    model: Any = type("Model", (), {"kind": kind})()
    for name in ("accuracy", "macro_accuracy", "f1_macro", "f1_micro")[2 if kind == "multi" else 0 :]:
        monitor = Monitor(model, name)
        plain = [monitor.value(logits[rows], targets[rows]) for rows in resampled(30)[:60]]
        torch.testing.assert_close(
            monitor.resampled(logits, targets)[:60], torch.tensor(plain).double(), atol=1e-6, rtol=0
        )
        assert len(set(plain)) > 5


def test_wilson_is_the_published_interval() -> None:
    low, high = wilson(0.5, 10)
    assert (low, high) == (pytest.approx(0.2366, abs=1e-3), pytest.approx(0.7634, abs=1e-3))
    low, high = wilson(1.0, 10)
    assert low == pytest.approx(0.7225, abs=1e-3)
    assert high == pytest.approx(1.0)


def test_cells_without_a_head_mean_what_they_meant(towers: Backbone) -> None:
    cell = GridCell(row="lora", method="lora", data="openmoji/subgroup", seed=0)
    assert classifier_of(cell, towers).head == {"kind": "class_text"}
    training = training_of(cell, towers.shape, {})
    assert (training.epochs, training.learning_rate) == (20, 2e-4)


def test_a_head_that_reads_class_texts_is_no_other() -> None:
    assert HeadSettings().kind == "auto"
    assert HeadSettings(query="image").kind == "class_text"
    assert HeadSettings(class_text="prompted").kind == "class_text"
    with pytest.raises(InterplayError, match="landmarks"):
        HeadSettings(kind="linear", landmarks=3)


def test_a_method_with_gates_starts_as_the_frozen_model_under_a_fitted_head() -> None:
    assert choose("p_clip").starting_frozen({"length": 2}) == {"length": 2, "start": "frozen"}
    assert choose("p_clip").starting_frozen({"start": "paper"}) == {"start": "paper"}
    assert choose("lora").starting_frozen({"rank": 2}) == {"rank": 2}
    assert choose("maple-released").starting_frozen({}) == {}  # its form has no such start


@pytest.mark.parametrize("name", ["mitp", "p_clip", "lora"])
def test_what_starts_frozen_starts_at_the_head_of_the_bare_towers(
    name: str, towers: Backbone, tables: Tables
) -> None:
    choice = choose(name)
    bare = vectors_of(toy_model(towers, "head_only"), towers, tables[1])
    settings = choice.starting_frozen(choice.method.tiny())
    found = vectors_of(toy_model(towers, name, settings=settings), towers, tables[1])
    torch.testing.assert_close(found.image, bare.image, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.text, bare.text, atol=1e-5, rtol=1e-5)


def test_nothing_is_trained_where_validation_cannot_tell(
    towers: Backbone, tables: Tables, tmp_path: Path
) -> None:
    _, report = start_from(towers, (tables[0], toy_table(towers, 39, 3)), tmp_path)
    assert (report.steps, report.best_epoch) == (0, 0)
    assert "39 validation pairs are too few" in report.notes[-1]


@pytest.mark.parametrize("monitor", ["accuracy", "loss", "calibration_error"])
def test_the_best_answer_of_a_sort_is_the_best_by_whatever_decides(
    towers: Backbone, tables: Tables, monitor: str
) -> None:
    model = toy_model(towers, "head_only")
    choice = Starts(model, Monitor(model, monitor)).choose(
        *(vectors_of(model, towers, table) for table in tables)
    )
    linear = [a for a in choice.answers if a.candidate.settings.kind == "linear"]
    best = (max if monitor == "accuracy" else min)(answer.value for answer in linear)
    found = choice.among("text", "image", "concat", "pair", kinds=("linear",))
    assert found is not None
    assert found.value == best
    assert len({answer.value for answer in linear}) > 1
