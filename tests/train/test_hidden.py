"""Heads that read hidden states: the pooling against transformers', the choice by evidence, every way they serve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPModel

import interplay.towers.walk as walk
from interplay.classification import starts as starts_module
from interplay.classification.adapter_bank import AdapterBank
from interplay.classification.classifier import Classifier
from interplay.classification.evidence import Monitor
from interplay.classification.model import PairClassifier
from interplay.classification.ridge import Ridge, directions
from interplay.classification.solving import solve
from interplay.classification.starts import Answer, Candidate, PairVectors, Starts, vectors_of
from interplay.encoding.batches import EncodedTable
from interplay.encoding.predict import predict
from interplay.encoding.prefix_cache import PrefixCache
from interplay.encoding.trainable import PairBatch
from interplay.errors import InterplayError
from interplay.methods.registry import choices, choose
from interplay.metrics.classification import f1
from interplay.parts.heads import Head, HeadSettings
from interplay.parts.hidden_map import HiddenMap
from interplay.towers.backbone import Backbone, from_clip
from interplay.towers.hidden import HiddenStates, hidden_layers, hidden_widths, summary
from interplay.towers.presets import PRESETS
from interplay.towers.tokens import SIDES, Side, Tokens
from interplay.towers.walk import Start, Vectors, encode_pair, front
from interplay.training.settings import TrainSettings
from tests.conftest import LetterTokenizer, random_clip, small_shape
from tests.train.toy import toy_backbone, toy_model, toy_table

Tables = tuple[EncodedTable, EncodedTable]
TEXTS = ["cat", "a dog", "green apple pie", "x"]
LINEAR = Candidate(HeadSettings(kind="linear", features="concat", readout="hidden"))
KERNEL = Candidate(HeadSettings(kind="kernel", features="concat", readout="hidden"), 1.0)
BY_GRADIENT = sorted(name for name in choices() if choose(name).method.traits.solver.by_gradient)


@pytest.fixture(scope="module")
def towers() -> Backbone:
    return toy_backbone()


@pytest.fixture(scope="module")
def tables(towers: Backbone) -> Tables:
    return toy_table(towers, 40, 1), toy_table(towers, 48, 2)


def pictures() -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (len(TEXTS), 3, 32, 32), dtype=torch.uint8, generator=random)


def test_hidden_states_are_those_of_transformers_pooled_by_plain_loops() -> None:
    clip: CLIPModel = random_clip(small_shape())
    backbone = from_clip(clip, LetterTokenizer(), "small")
    ids = backbone.tokenize(TEXTS)
    layers = {side: hidden_layers(backbone.shape.side(side)) for side in SIDES}
    assert layers == {"image": (1, 2, 4), "text": (1, 2, 3)}
    found = encode_pair(backbone, pictures(), ids, hidden=layers).hidden
    assert found is not None
    with torch.no_grad():
        pixels = backbone.image.normalised(pictures())
        image = clip.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
        text = clip.text_model(input_ids=ids, output_hidden_states=True).hidden_states
    ends = [row.tolist().index(backbone.text.shape.end_token) for row in ids]
    for at in range(len(TEXTS)):
        expected = torch.cat([torch.cat([image[k][at, 0], image[k][at].mean(0)]) for k in layers["image"]])
        torch.testing.assert_close(found.asked("image")[at], expected, atol=2e-5, rtol=1e-4)
        end = ends[at]
        expected = torch.cat(
            [torch.cat([text[k][at, end], text[k][at, : end + 1].mean(0)]) for k in layers["text"]]
        )
        torch.testing.assert_close(found.asked("text")[at], expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("padded", [False, True])
def test_prompt_slots_and_padding_are_left_out_of_the_mean(padded: bool) -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(3, 6, 4, generator=random)
    tokens = Tokens(x, lengths=torch.tensor([6, 4, 2]) if padded else None)
    prompted = tokens.put(torch.randn(2, 4, generator=random))
    assert prompted.x.shape[1] == 8
    torch.testing.assert_close(summary(prompted), summary(tokens))
    moved = replace(tokens, x=torch.where(torch.arange(6)[:, None] == 5, x + 1, x))
    changed = (summary(moved) != summary(tokens)).any(1).tolist()
    assert changed == ([True, False, False] if padded else [True] * 3)


def test_layers_are_a_quarter_a_half_and_three_quarters_of_any_depth() -> None:
    shape = PRESETS["clip-vit-large-patch14"]
    assert hidden_layers(shape.image) == (6, 12, 18)
    assert hidden_layers(shape.text) == (3, 6, 9)
    assert hidden_widths(shape) == {"image": 6 * 1024, "text": 6 * 768}
    assert [hidden_layers(replace(shape.text, depth=depth)) for depth in (1, 2, 3)] == [(), (1,), (1, 2)]


def test_a_walk_from_after_the_front_hears_the_same_and_none_that_is_past(towers: Backbone) -> None:
    ids, layers = towers.tokenize(TEXTS), {"image": (2, 4), "text": (2, 3)}
    whole = encode_pair(towers, pictures(), ids, hidden=layers).hidden
    late = encode_pair(
        towers, front(towers.image, pictures(), 2), front(towers.text, ids, 2), hidden=layers
    ).hidden
    assert whole is not None
    assert late is not None
    for side in SIDES:
        torch.testing.assert_close(late.asked(side), whole.asked(side))
    with pytest.raises(ValueError, match="start after a layer"):
        encode_pair(towers, front(towers.image, pictures(), 3), ids, hidden=layers)


def test_who_asks_for_nothing_pays_nothing(towers: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def heard(*_: Any) -> None:
        raise AssertionError("somebody listens")

    monkeypatch.setattr(walk, "Listener", heard)
    model = toy_model(towers, "mitp", HeadSettings(kind="pair"))
    batch = PairBatch(pictures(), towers.tokenize(TEXTS))
    assert model(towers, batch).shape == (4, 3)
    assert model.front_layers() == {side: model.method.first_layer(side) for side in SIDES}
    model.head = Head(LINEAR.settings, towers.shape.joint, 3, 1.0, hidden=hidden_widths(towers.shape))
    with pytest.raises(AssertionError, match="somebody listens"):
        model(towers, batch)


def test_standardised_hidden_states_are_their_formula() -> None:
    random = torch.Generator().manual_seed(0)
    states = HiddenStates(torch.randn(9, 6, generator=random) * 5 + 2, torch.randn(9, 4, generator=random))
    assert states.image is not None
    states.image[:, 3] = 7.0  # says nothing, and is not blown up
    found = HiddenMap({"image": 6, "text": 4})
    found.fit(states)
    psi = found(states)
    for side, part in zip(SIDES, psi.split([6, 4], dim=1), strict=True):
        for column in range(part.shape[1]):
            values = states.asked(side)[:, column]
            if (side, column) == ("image", 3):
                assert part[:, column].abs().max() < 1e-3
                continue
            expected = (values - values.mean()) / values.std(correction=0) / part.shape[1] ** 0.5
            torch.testing.assert_close(part[:, column], expected)


def starts_of(model: PairClassifier, **changes: Any) -> Starts:
    return Starts(model, Monitor(model, model.monitors[0]), **changes)


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_under_every_method_training_starts_at_the_head_on_hidden_states(
    name: str, towers: Backbone, tables: Tables
) -> None:
    """Logits at step 0 are those of the head in closed form, on pairs that it was fitted on and on others."""
    model = toy_model(towers, name)
    starts = starts_of(model)
    seen, held_out = (vectors_of(model, towers, table) for table in tables)
    for candidate in (LINEAR, KERNEL):
        answer = list(starts.answers(candidate, seen, held_out))[5]
        model.head = starts.fit(answer, seen)
        found = predict(model, towers, tables[1])
        torch.testing.assert_close(found, answer.logits, atol=2e-3, rtol=2e-3)  # logits up to 100
        with torch.no_grad():
            torch.testing.assert_close(found, model.head(held_out.vectors), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("method", ["lora", "p_clip"])
def test_training_changes_what_the_head_reads(method: str, towers: Backbone, tables: Tables) -> None:
    model = toy_model(towers, method)
    starts = starts_of(model)
    seen = vectors_of(model, towers, tables[0])
    model.head = starts.fit(next(iter(starts.answers(LINEAR, seen, seen))), seen)
    assert model.head.weight is not None
    with torch.no_grad():
        model.head.weight[:, : 2 * towers.shape.joint] = 0  # the vectors alone are not read
    model.training_loss(towers, tables[0].collate(range(8))).backward()
    largest = max(float(p.grad.abs().max()) for p in model.method.parameters() if p.grad is not None)
    assert largest > 0
    assert model.head.hidden is not None
    assert not list(model.head.hidden.parameters())


def planted(rows: int, hidden: bool, seed: int = 0) -> PairVectors:
    """Pairs whose class stands in the hidden states alone, or in the vectors alone."""
    random = torch.Generator().manual_seed(seed)
    image, text = (torch.randn(rows, 8, generator=random) for _ in range(2))
    states = [torch.randn(rows, 40, generator=random) for _ in range(2)]
    source = states[0][:, 0] if hidden else image[:, 0]
    return PairVectors(image, text, (source > 0).long() + (source > 1), HiddenStates(*states))


@pytest.mark.parametrize(("hidden", "expected"), [(True, "hidden"), (False, "vectors")])
def test_the_readout_is_chosen_by_evidence(hidden: bool, expected: str, towers: Backbone) -> None:
    model = toy_model(towers, "head_only")
    model.head.class_vectors = torch.randn(3, 8, generator=torch.Generator().manual_seed(3))
    choice = starts_of(model).choose(planted(90, hidden), planted(30, hidden, 1))
    assert choice.crossed
    assert choice.best.candidate.settings.readout == expected
    kinds = {(one.candidate.settings.kind, one.candidate.settings.readout) for one in choice.answers}
    wide = {("linear", "hidden"), ("kernel", "hidden")}
    assert wide | {("class_text", "vectors"), ("bilinear", "vectors")} < kinds


def test_answers_that_others_beat_are_let_go_and_none_that_could_be_chosen(towers: Backbone) -> None:
    model = toy_model(towers, "head_only")
    model.head.class_vectors = torch.randn(3, 8, generator=torch.Generator().manual_seed(3))
    starts, pairs = starts_of(model, kinds=("linear", "kernel")), planted(90, hidden=True)
    none = planted(30, hidden=True, seed=1)
    both = pairs.and_(none)
    whole = [[*starts.answers(c, both, None)] for c in starts._candidates(hidden=True)]
    choice = starts.choose(pairs, none)

    def chosen(answers: list[Answer]) -> tuple[float, float]:
        top = max(one.value for one in answers)
        near = top - 0.5 * (top * (1 - top) / 120) ** 0.5
        best = min((one for one in answers if one.value >= near), key=lambda one: one.loss)
        return best.value, best.loss

    assert (choice.best.value, choice.best.loss) == chosen([one for own in whole for one in own])
    assert [(one.value, one.loss) for one in choice.answers] == [chosen(own) for own in whole]
    for own in whole:
        kept = starts_module._undominated(own)
        assert len({one.merit for one in kept}) == len({one.loss for one in kept})
        assert len(kept) < len(own) == 10


def test_too_many_hidden_states_are_not_kept_and_a_head_that_needs_them_says_so(
    towers: Backbone, tables: Tables, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(starts_module, "HELD", 40 * sum(hidden_widths(towers.shape).values()))
    model = toy_model(towers, "head_only")
    seen, held_out = (vectors_of(model, towers, table) for table in tables)
    assert seen.hidden is not None
    assert held_out.hidden is None  # of 48 pairs, not 40
    readouts = {one.candidate.settings.readout for one in starts_of(model).choose(seen, held_out).answers}
    assert readouts == {"vectors"}
    model = toy_model(towers, "lora")
    model.head = Head(LINEAR.settings, towers.shape.joint, 3, 1.0, hidden=hidden_widths(towers.shape))
    with pytest.raises(InterplayError, match=r"too many to fit a head with: set head\.readout = vectors"):
        solve(model, towers, lambda _: tables, TrainSettings(preset="fast"), tmp_path, resume=False)


@pytest.mark.parametrize(("rows", "features"), [(12, 40), (40, 12)])
def test_the_dual_form_is_the_primal_one(rows: int, features: int) -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(rows, features, generator=random).double()
    y = torch.rand(rows, 3, generator=random).double()
    weight, bias = Ridge(x, y).solution(0.3)
    centred = x - x.mean(0)
    normal = centred.T @ centred + 0.3 * torch.eye(features).double()
    plain = torch.linalg.solve(normal, centred.T @ (y - y.mean(0))).T
    torch.testing.assert_close(weight, plain)
    torch.testing.assert_close(bias, y.mean(0) - plain @ x.mean(0))


def test_wide_and_long_is_bounded_and_still_a_linear_head(
    towers: Backbone, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression in the span of some rows is one on the inputs themselves, whose weights the head gets."""
    monkeypatch.setattr("interplay.classification.ridge.MOST", 20)
    model = toy_model(towers, "head_only")
    starts = starts_of(model)
    seen, held_out = (vectors_of(model, towers, table) for table in tables)
    head = starts.empty(LINEAR, seen)
    with torch.no_grad():
        inputs = head.inputs(seen.vectors)
    base = directions(inputs)
    assert base is not None
    assert base.shape == (inputs.shape[1], 20)
    torch.testing.assert_close(base.T @ base, torch.eye(20), atol=1e-5, rtol=0)
    assert directions(inputs[:20]) is None
    for answer in starts.answers(LINEAR, seen, held_out):
        fitted = starts.fit(answer, seen)
        with torch.no_grad():
            torch.testing.assert_close(fitted(held_out.vectors), answer.logits, atol=2e-3, rtol=2e-3)


def test_a_head_is_asked_for_by_name_and_what_cannot_be_is_refused(
    towers: Backbone, tables: Tables, tmp_path: Path
) -> None:
    model = toy_model(towers, "head_only")
    starts = starts_of(model, kinds=("linear",), readouts=("hidden",))
    seen, held_out = (vectors_of(model, towers, table) for table in tables)
    answers = starts.choose(seen, held_out).answers
    assert [one.candidate.settings.features for one in answers] == ["text", "image", "concat"]
    assert HeadSettings(kind="linear", readout="hidden").fitted_first
    for wrong in ({"kind": "pair"}, {"kind": "bilinear"}, {"kind": "linear", "features": "sum"}, {}):
        with pytest.raises(InterplayError, match=r"head\.readout = hidden needs"):
            HeadSettings(readout="hidden", **wrong)  # type: ignore[arg-type]
    with pytest.raises(InterplayError, match="fitted in closed form"):
        HeadSettings(kind="linear", readout="hidden", start="probe")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Classifier]:
    """Trained classifiers on one backbone, with heads on hidden states and on vectors, by their folders."""
    backbone, folder = toy_backbone(), tmp_path_factory.mktemp("served")
    heads: dict[str, dict[str, Any]] = {
        "linear": {"kind": "linear", "readout": "hidden"},
        "kernel": {"kind": "kernel", "readout": "hidden"},
        "vectors": {"kind": "kernel"},
    }
    found = {}
    for name, head in heads.items():
        classifier = Classifier(backbone, "lora", head=head, settings={"rank": 2})
        rows = [
            {"image": pictures()[at % 4], "text": TEXTS[at % 4], "label": "ab"[at % 2], "split": split}
            for split, count in (("train", 24), ("validation", 12))
            for at in range(count)
        ]
        classifier.fit(rows, settings={"preset": "fast"}, run=folder / name)
        found[str(folder / name)] = classifier
    return found


def test_an_artefact_brings_its_hidden_readout_back(served: dict[str, Classifier]) -> None:
    for folder, classifier in served.items():
        again = Classifier.from_pretrained(folder, backbone=classifier.backbone)
        assert again.model is not None
        assert (again.model.head.hidden is None) == folder.endswith("vectors")
        found, expected = (one.predict_proba(list(pictures()), TEXTS) for one in (again, classifier))
        assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))
        alone = torch.as_tensor(again.predict_proba([pictures()[1]], TEXTS[1:2]))
        torch.testing.assert_close(alone[0], torch.as_tensor(expected)[1], atol=1e-4, rtol=1e-3)


def test_adapters_with_different_readouts_share_a_batch(served: dict[str, Classifier]) -> None:
    folders = list(served)
    bank = AdapterBank(served[folders[0]].backbone)
    for folder in folders:
        bank.attach(folder, folder)
    mixed = [folders[0], folders[2], folders[1], folders[0]]
    found = bank.predict_proba(list(pictures()), TEXTS, mixed)
    for row, (folder, value) in enumerate(zip(mixed, found, strict=True)):
        alone = torch.as_tensor(served[folder].predict_proba([pictures()[row]], [TEXTS[row]]))[0]
        torch.testing.assert_close(value, alone, atol=1e-4, rtol=1e-3)


def test_a_prefix_cache_ends_where_the_head_begins_to_read(
    towers: Backbone, tables: Tables, tmp_path: Path
) -> None:
    model = toy_model(towers, "head_only")
    starts = starts_of(model)
    seen = vectors_of(model, towers, tables[0])
    text = replace(LINEAR, settings=replace(LINEAR.settings, features="text"))
    model.head = starts.fit(next(iter(starts.answers(text, seen, seen))), seen)
    assert model.hidden == {"text": (1, 2, 3)}
    assert model.front_layers() == {"image": model.method.first_layer("image"), "text": 1}
    assert model.method.first_layer("text") > 1
    expected = predict(model, towers, tables[1])
    cached = PrefixCache(tmp_path).open(tables[1], model, towers, fill=True, progress=False)
    batch = cached.collate(range(4))
    assert isinstance(batch.texts, Start)
    assert batch.texts.layer == 1
    assert torch.equal(predict(model, towers, cached), expected)


def test_the_threshold_has_the_best_figure_that_decides() -> None:
    random = torch.Generator().manual_seed(0)
    outputs = torch.rand(30, 4, generator=random).double() * torch.tensor([1.0, 0.5, 0.3, 0.1])
    targets = (
        outputs + 0.2 * torch.rand(30, 4, generator=random) > torch.tensor([0.6, 0.5, 0.4, 0.15])
    ).float()
    model: Any = type("Model", (), {"kind": "multi"})()
    for name, average in (("f1_macro", "macro"), ("f1_micro", "micro")):
        monitor = Monitor(model, name)
        chosen = monitor.threshold(outputs, targets)
        values = outputs.flatten().sort().values
        best = max(
            f1((outputs > cut).float(), targets, average)  # type: ignore[arg-type]
            for cut in ((values[1:] + values[:-1]) / 2).tolist()
        )
        assert f1((outputs > chosen).float(), targets, average) == pytest.approx(best)  # type: ignore[arg-type]


@pytest.mark.parametrize("monitor", ["accuracy", "macro_accuracy", "f1_macro"])
def test_classes_are_balanced_where_the_figure_counts_them_alike(monitor: str, towers: Backbone) -> None:
    model = toy_model(towers, "head_only")
    random = torch.Generator().manual_seed(0)
    targets = torch.tensor([0] * 100 + [1] * 12 + [2] * 8)
    image = torch.randn(120, 8, generator=random)
    image[torch.arange(120), targets] += 1.0
    pairs = PairVectors(image, torch.randn(120, 8, generator=random), targets)
    starts = Starts(model, Monitor(model, monitor), kinds=("linear",))
    answers: list[Answer] = list(starts.answers(Candidate(HeadSettings(kind="linear")), pairs, None))
    balanced = [one for one in answers if isinstance(one.threshold, Tensor)]
    if monitor == "accuracy":
        assert not balanced
        return
    assert len(balanced) == len(answers) / 2
    plain = [one for one in answers if one not in balanced]
    shares = (torch.tensor([101, 13, 9]) / 123).double().log()
    for one, other in zip(balanced, plain, strict=True):
        torch.testing.assert_close(
            (other.logits - one.logits).double(), shares.expand(120, -1), atol=1e-4, rtol=1e-4
        )
    assert max(one.value for one in balanced) > max(one.value for one in plain)
    head = starts.fit(balanced[3], pairs)
    with torch.no_grad():
        apart = starts.fit(plain[3], pairs)(pairs.vectors) - head(pairs.vectors)
    torch.testing.assert_close(apart.double(), shares.expand(120, -1), atol=1e-4, rtol=1e-4)


def test_a_side_that_no_head_reads_is_not_listened_to(towers: Backbone) -> None:
    sides: dict[str, tuple[Side, ...]] = {
        "image": ("image",),
        "text": ("text",),
        "concat": SIDES,
        "pair": SIDES,
    }
    model = toy_model(towers, "head_only")
    for features, expected in sides.items():
        settings = HeadSettings(kind="linear", features=features, readout="hidden")  # type: ignore[arg-type]
        model.head = Head(settings, towers.shape.joint, 3, 1.0, hidden=hidden_widths(towers.shape))
        assert tuple(model.hidden) == expected
        vectors = model.vectors(towers, PairBatch(pictures(), towers.tokenize(TEXTS)))
        assert vectors.hidden is not None
        assert [vectors.hidden.side(side) is not None for side in SIDES] == [s in expected for s in SIDES]
        counted = Head.parameter_count(settings, towers.shape.joint, 3, hidden=hidden_widths(towers.shape))
        assert counted == sum(parameter.numel() for parameter in model.head.parameters())
        assert isinstance(vectors, Vectors)
