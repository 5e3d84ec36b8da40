"""Temperature scaling: properties of the fit, and classifiers that carry a temperature."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from interplay import AdapterBank, Classifier, InterplayError, load_backbone
from interplay.artifacts import CONFIG, WEIGHTS
from interplay.metrics.calibration import Calibration, fit_calibration
from interplay.metrics.classification import Kind, accuracy, f1, negative_log_likelihood
from interplay.towers.backbone import Backbone

from .test_estimators import QUICK, colour_table, some_pairs

KINDS: tuple[Kind, Kind] = ("single", "multi")
seeds = st.integers(0, 9999)


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERPLAY_CACHE", str(tmp_path / "cache"))


def noisy(seed: int, kind: Kind, samples: int = 120, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Logits that say something of the targets and are wrong now and then."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, classes, generator=g) * 2
    noise = logits + 2 * torch.randn(samples, classes, generator=g)
    return logits, noise.argmax(dim=1) if kind == "single" else (noise > 0).float()


def loop_nll(logits: Tensor, targets: Tensor, kind: Kind, temperature: float, shift: float = 0.0) -> float:
    """The negative log-likelihood, written out."""
    total, count = 0.0, 0
    for row, target in zip((logits.double() / temperature + shift).tolist(), targets.tolist(), strict=True):
        if kind == "single":
            exponentials = [math.exp(z) for z in row]
            total -= math.log(exponentials[target] / sum(exponentials))
            count += 1
        else:
            for z, y in zip(row, target, strict=True):
                p = 1 / (1 + math.exp(-z))
                total -= math.log(p if y else 1 - p)
                count += 1
    return total / count


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from(KINDS))
def test_the_temperature_is_where_the_likelihood_is_best(seed: int, kind: Kind) -> None:
    logits, targets = noisy(seed, kind, 40)
    found = fit_calibration(logits, targets, kind)
    best = loop_nll(logits, targets, kind, found.temperature, found.shift)
    assert best == pytest.approx(negative_log_likelihood(found(logits.double()), targets), abs=1e-9)
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
        assert best < loop_nll(logits, targets, kind, found.temperature * factor, found.shift)


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from(KINDS), st.floats(0.01, 100))
def test_scaled_logits_get_a_scaled_temperature(seed: int, kind: Kind, factor: float) -> None:
    logits, targets = noisy(seed, kind)
    plain, scaled = (fit_calibration(z, targets, kind) for z in (logits.double(), logits.double() * factor))
    assert scaled.temperature == pytest.approx(plain.temperature * factor, rel=1e-6)
    assert scaled.shift == pytest.approx(plain.shift, rel=1e-5, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(1, 6), min_size=3, max_size=3), min_size=1, max_size=5))
def test_what_is_calibrated_stays_as_it_is(counts: list[list[int]]) -> None:
    """Each group has logits log(share), and its targets come in just these shares."""
    if all(len(set(group)) == 1 for group in counts):
        return
    logits, targets = [], []
    for group in counts:
        shares = torch.tensor(group).double() / sum(group)
        for target, count in enumerate(group):
            logits += [shares.log()] * count
            targets += [target] * count
    found = fit_calibration(torch.stack(logits), torch.tensor(targets), "single")
    assert found.temperature == pytest.approx(1.0, rel=1e-6)
    shares = torch.tensor([[0.2], [0.6], [0.9]]).double()
    outcomes = torch.cat([torch.tensor([1.0] * k + [0.0] * (10 - k))[:, None] for k in (2, 6, 9)])
    both = fit_calibration(shares.logit().repeat_interleave(10, dim=0), outcomes, "multi")
    assert (both.temperature, both.shift) == (pytest.approx(1.0, rel=1e-6), 0.0)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_accuracy_and_the_order_of_classes_stay(seed: int) -> None:
    logits, targets = noisy(seed, "single")
    found = fit_calibration(logits, targets, "single")
    assert found.shift == 0.0
    calibrated = found(logits).softmax(dim=1)
    assert torch.equal(calibrated.argsort(dim=1), logits.softmax(dim=1).argsort(dim=1))
    assert accuracy(calibrated, targets) == accuracy(logits.softmax(dim=1), targets)


def test_a_shift_that_costs_micro_f1_is_left_out() -> None:
    """Rare labels: the likelihood wants every probability low, and then nothing is predicted any more."""
    generator = torch.Generator().manual_seed(3)
    targets = (torch.rand(400, 8, generator=generator) < 0.08).float()
    logits = 1.2 * targets + 0.9 * torch.randn(400, 8, generator=generator) - 0.6
    found = fit_calibration(logits, targets, "multi")
    before, after = (f1(one.sigmoid(), targets, "micro") for one in (logits, found(logits)))
    assert before > 0.3
    assert after == before


def test_a_shift_joins_where_it_is_worth_its_place() -> None:
    logits, targets = noisy(3, "multi", 400)
    assert fit_calibration(logits, targets, "multi").shift == 0.0
    found = fit_calibration(logits * 3 - 4, targets, "multi")
    plain = fit_calibration(logits, targets, "multi")
    assert found.temperature == pytest.approx(3 * plain.temperature, rel=0.02)
    assert found.shift == pytest.approx(4 / found.temperature, abs=0.15)
    best = loop_nll(logits * 3 - 4, targets, "multi", found.temperature, found.shift)
    for change in (-0.05, 0.05):
        assert best < loop_nll(logits * 3 - 4, targets, "multi", found.temperature, found.shift + change)


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0, 2), st.floats(0.01, 0.5), st.sampled_from([1.0, 1e-3, 1e3]))
def test_with_a_shift_both_slopes_are_zero(seed: int, signal: float, share: float, factor: float) -> None:
    """Also where one logit is far from all others, and where the labels are rare."""
    g = torch.Generator().manual_seed(seed)
    targets = (torch.rand(60, 3, generator=g) < share).double()
    logits = factor * (signal * targets + torch.randn(60, 3, generator=g) - 3)
    logits[0, 0] *= 1 + 100 * (seed % 2)
    with contextlib.suppress(InterplayError):
        found = fit_calibration(logits, targets, "multi")
        missed = found(logits).sigmoid() - targets
        assert (missed * logits).mean().abs() < 1e-10 * logits.square().mean().sqrt()
        assert missed.mean().abs() < (1e-10 if found.shift else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_where_no_temperature_is_the_best_it_says_so(kind: Kind) -> None:
    logits = torch.tensor([[2.0, -1.0], [-0.5, 1.0]])
    right = torch.tensor([0, 1]) if kind == "single" else (logits > 0).float()
    wrong = 1 - right
    with pytest.raises(InterplayError, match="All 2 pairs are classified right"):
        fit_calibration(logits, right, kind)
    with pytest.raises(InterplayError, match="no more of the classes than chance"):
        fit_calibration(logits, wrong, kind)
    with pytest.raises(InterplayError, match="no more of the classes than chance"):
        fit_calibration(torch.zeros(2, 2), right, kind)
    with pytest.raises(InterplayError, match="at least one pair"):
        fit_calibration(logits[:0], right[:0], kind)
    with pytest.raises(InterplayError, match="above 0"):
        Calibration(0.0)


def misleading(seed: int = 0) -> Classifier:
    """A trained classifier whose head answers at random, so that it is neither all right nor at chance."""
    classifier = Classifier("tiny", "p_clip", head={"kind": "pair"}, seed=seed)
    classifier.fit(colour_table(), settings=QUICK)
    assert classifier.model is not None
    weight = classifier.model.head.weight
    assert weight is not None
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)) * 30)
    return classifier


def usable() -> Classifier:
    """One that can be calibrated on the toy's few validation pairs."""
    for seed in range(20):
        classifier = misleading(seed)
        logits, targets = classifier.logits(colour_table(), "validation")
        try:
            fit_calibration(logits, targets, "single")
        except InterplayError:
            continue
        return classifier
    raise AssertionError("no seed gives a classifier that is right now and then")


@pytest.fixture(scope="module")
def untuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of such a classifier, not calibrated."""
    folder = tmp_path_factory.mktemp("untuned")
    usable().save_pretrained(folder)
    return folder


def test_a_calibrated_classifier_is_saved_and_loaded_bit_for_bit(
    untuned: Path, tiny: Backbone, tmp_path: Path
) -> None:
    classifier = Classifier.from_pretrained(str(untuned), backbone=tiny)
    table, pairs = colour_table(), some_pairs()
    bare, test = classifier.predict_proba(*pairs), classifier.evaluate(table)
    report = classifier.calibrate(table)
    assert report.after["nll"] < report.before["nll"]
    assert report.after["accuracy"] == report.before["accuracy"]
    assert report.rows == 6
    calibrated = classifier.predict_proba(*pairs)
    assert not torch.equal(calibrated, bare)
    torch.testing.assert_close(
        calibrated, F.softmax(bare.double().log() / report.calibration.temperature, dim=1).float()
    )
    assert classifier.evaluate(table)["accuracy"] == test["accuracy"]
    assert classifier.evaluate(table)["calibration_error"] != test["calibration_error"]
    classifier.save_pretrained(tmp_path)
    again = Classifier.from_pretrained(str(tmp_path), backbone=tiny)
    assert torch.equal(again.predict_proba(*pairs), calibrated)
    assert again.evaluate(table) == classifier.evaluate(table)
    written = json.loads((tmp_path / CONFIG).read_text())
    assert written["temperature"] == report.calibration.temperature
    assert "calibrated" in (tmp_path / "README.md").read_text()
    assert again.calibrate(table) == report  # it starts from the bare logits


def test_an_artefact_from_before_there_were_temperatures_opens(
    untuned: Path, tiny: Backbone, tmp_path: Path
) -> None:
    with safe_open(untuned / WEIGHTS, framework="pt") as file:
        header = json.loads(file.metadata()["interplay"])
    for name in ("temperature", "shift"):
        del header[name]
    save_file(load_file(untuned / WEIGHTS), tmp_path / WEIGHTS, metadata={"interplay": json.dumps(header)})
    old, new = (Classifier.from_pretrained(str(at), backbone=tiny) for at in (tmp_path, untuned))
    assert torch.equal(old.predict_proba(*some_pairs()), new.predict_proba(*some_pairs()))


def test_adapters_with_temperatures_share_a_batch(untuned: Path, tiny: Backbone) -> None:
    bank = AdapterBank(tiny)
    for name in ("bare", "calibrated"):
        bank.attach(name, untuned)
    bank["calibrated"].calibrate(colour_table())
    images, texts = some_pairs()
    wanted = ["calibrated", "bare", "calibrated"]
    mixed = bank.predict_proba(images, texts, wanted)
    for at, name in enumerate(wanted):
        alone = bank[name].predict_proba(images[at : at + 1], texts[at : at + 1])[0]
        torch.testing.assert_close(mixed[at], alone, atol=1e-5, rtol=1e-4)
    bare = bank["bare"].predict_proba(images, texts)
    assert not torch.allclose(mixed[0], bare[0], atol=1e-4)


def test_calibrating_reads_no_other_split(
    untuned: Path, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = Classifier.from_pretrained(str(untuned), backbone=tiny)
    table = colour_table()
    whole, asked = type(table).split, []
    monkeypatch.setattr(type(table), "split", lambda self, name: asked.append(name) or whole(self, name))
    classifier.calibrate(table)
    assert asked == ["validation"]


def test_abstaining(untuned: Path, tiny: Backbone) -> None:
    classifier = Classifier.from_pretrained(str(untuned), backbone=tiny)
    pairs = some_pairs()
    highest = classifier.predict_proba(*pairs).max(dim=1).values
    middle = highest.median().item()
    plain = classifier.predict(*pairs)
    expected = ["" if p < middle else label for p, label in zip(highest.tolist(), plain, strict=True)]
    assert expected.count("") == (highest < middle).sum().item() > 0
    assert classifier.predict(*pairs, abstain_below=middle) == expected  # what is not below is answered
    for wrong in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(InterplayError, match="above 0 and up to 1"):
            classifier.predict(*pairs, abstain_below=wrong)
    classifier.kind = "multi"
    with pytest.raises(InterplayError, match="with one label a pair"):
        classifier.predict(*pairs, abstain_below=0.5)


def test_informative_logits_far_from_their_place_are_moved() -> None:
    torch.manual_seed(0)
    targets = (torch.rand(200, 4) < 0.2).float()
    logits = 3 * targets + torch.randn(200, 4) + 2
    found = fit_calibration(logits, targets, "multi")
    assert negative_log_likelihood(found(logits), targets) < negative_log_likelihood(logits, targets) / 2
    with pytest.raises(InterplayError, match="no more of the classes than chance"):
        fit_calibration(torch.randn(200, 4) + 2, targets, "multi")
