"""What is exported computes what PyTorch computes, for every method; oracles call the estimators, never the graphs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from interplay.classification import artifact
from interplay.classification.classifier import Classifier
from interplay.classification.evidence import Monitor
from interplay.classification.model import PairClassifier
from interplay.classification.starts import Candidate, Starts, vectors_of
from interplay.encoding.predict import predict
from interplay.errors import InterplayError
from interplay.export import export as export_module
from interplay.export.export import TOLERANCE, to_onnx
from interplay.methods.registry import choices, choose
from interplay.parts.heads import Head, HeadSettings
from interplay.parts.prompt_bank import PromptBank
from interplay.retrieval.retriever import Retriever
from interplay.towers.backbone import Backbone, from_clip
from interplay.towers.hidden import hidden_widths
from tests.conftest import LetterTokenizer, random_clip, small_shape
from tests.contract.world import Subject
from tests.lpi.toy import QUICK, picture, stream
from tests.train.toy import toy_table

TEXTS = ["cat", "a dog", "green apple pie", "x", "the moon tonight"]
PICTURES = [picture(at, 40 * at) for at in range(5)]
REFUSED: dict[str, str] = {"cma_clip": "cannot be written as ONNX with a free batch size"}
"""Methods that cannot be exported as a classifier, with what they say (PyTorch's own transformer layer)."""


def towers(image_depth: int = 4, text_depth: int = 3) -> Backbone:
    """Towers of unequal width and depth, shallow because tracing takes its time for each layer."""
    return from_clip(random_clip(small_shape(image_depth, text_depth)), LetterTokenizer(), "small")


def ran(path: Path, **inputs: Any) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, {name: np.asarray(value) for name, value in inputs.items()})
    return found


def normalised(pixels: Tensor, backbone: Backbone) -> Tensor:
    """Pixels as export.json says that they are prepared, written anew."""
    return ((pixels.double() / 255 - backbone.image.mean) / backbone.image.deviation).float()


def padded(ids: Tensor, by: int, end: int) -> Tensor:
    return torch.cat([ids, torch.full((len(ids), by), end)], dim=1)


def subject_of(name: str, backbone: Backbone | None, start: str = "") -> Subject:
    """The contract's method, with gates where it is to start as the frozen model."""
    choice = choose(name)
    preset = {**choice.preset, "start": start} if start else choice.preset
    return Subject(replace(choice, preset=preset), backbone or towers())


def classifier_of(name: str, backbone: Backbone, start: str = "") -> Classifier:
    """A classifier as if it had been trained: the contract's method under a head with random weights."""
    subject = subject_of(name, backbone, start)
    settings = subject.settings
    made = Classifier(backbone, name, ["one", "two", "three"], kind="single", settings=settings)
    made.model = subject.classifier().eval()
    made.card = artifact.ClassifierCard(
        method=name,
        settings=settings,
        head={},
        labels=("one", "two", "three"),
        class_texts=("one", "two", "three"),
        kind="single",
        multi_loss="bce",
        backbone=backbone.name,
        backbone_digest=backbone.digest,
    )
    return made


def check_classifier(
    name: str, folder: Path, *, encoders: bool, backbone: Backbone | None = None, start: str = ""
) -> None:
    """`check_exported` of the contract's method."""
    check_exported(classifier_of(name, backbone or towers(), start), folder, encoders=encoders)


def check_exported(made: Classifier, folder: Path, *, encoders: bool) -> None:
    """Batches of five and of one, padded and not, against `predict`."""
    model, backbone = made.model, made.backbone
    assert model is not None
    to_onnx(made, folder, encoders=encoders)
    table = toy_table(backbone, 5, 3)
    pixels = normalised(torch.from_numpy(table.pixels(range(5))), backbone)
    ids = table.texts.batch(range(5))
    logits = predict(model, backbone, table)
    wanted = model.probabilities(logits).numpy()
    assert np.ptp(wanted, axis=0).max() > 0.01, "all samples alike: this would compare nothing"
    found = ran(folder / "pair.onnx", pixels=pixels, ids=ids)
    assert np.abs(found[1] - wanted).max() < TOLERANCE
    assert np.abs(found[0] - logits.numpy()).max() < 1e-3
    longer = padded(ids, 6, backbone.text.shape.end_token)
    assert np.abs(ran(folder / "pair.onnx", pixels=pixels, ids=longer)[1] - wanted).max() < TOLERANCE
    for at in range(5):
        one = ran(folder / "pair.onnx", pixels=pixels[at : at + 1], ids=table.texts.batch([at]))[1]
        assert np.abs(one[0] - wanted[at]).max() < TOLERANCE
    if encoders:
        (image,) = ran(folder / "image.onnx", pixels=pixels)
        (text,) = ran(folder / "text.onnx", ids=longer)
        apart = ran(folder / "head.onnx", image=image, text=text)[1]
        assert np.abs(apart - wanted).max() < TOLERANCE


def retriever_of(name: str, sessions: int, backbone: Backbone | None = None, start: str = "") -> Retriever:
    """A retriever after some sessions, its prompts large enough to be seen."""
    settings = subject_of(name, backbone, start).settings
    made = Retriever(backbone or towers(), name, settings=settings)
    for task in stream(sessions):
        made.learn(task.name, task.table, settings=QUICK)
    with torch.no_grad():
        for parameter in made.method.parameters():
            parameter.mul_(5)
    for part in made.method.modules():
        if isinstance(part, PromptBank):
            part._held.clear()
    return made


def check_retriever(made: Retriever, folder: Path) -> None:
    """Both sides against `encode_images` and `encode_texts`, in batches of five and of one."""
    to_onnx(made, folder)
    backbone = made.backbone
    images, texts = made.encode_images(PICTURES).numpy(), made.encode_texts(TEXTS).numpy()
    pixels = normalised(made.prepare("image", PICTURES).read(range(5)), backbone)
    ids = backbone.tokenize(TEXTS, reserve=made.method.traits.reserve)
    longer = padded(ids, 5, backbone.text.shape.end_token)
    for name, wanted, inputs in (
        ("image", images, {"pixels": pixels}),
        ("text", texts, {"ids": ids}),
        ("text", texts, {"ids": longer}),
    ):
        assert np.abs(ran(folder / f"{name}.onnx", **inputs)[0] - wanted).max() < TOLERANCE
        for at in range(5):
            alone = {key: value[at : at + 1] for key, value in inputs.items()}
            assert np.abs(ran(folder / f"{name}.onnx", **alone)[0][0] - wanted[at]).max() < TOLERANCE


def routed(made: Retriever, items: Sequence[Any]) -> set[str]:
    return set(made.routes("image", made.keys("image", items)))


@pytest.mark.parametrize("name", ["mitp", "blind_prompt"])  # prompts that see all, and prompts that see none
def test_a_classifier_whose_prompts_have_a_view_of_their_own(name: str, tmp_path: Path) -> None:
    coupled = choose(name).method.traits.coupled
    check_classifier(name, tmp_path / "out", encoders=not coupled, backbone=towers(3, 3))


def test_a_retriever_with_a_set_of_prompts_a_task_routes_inside_the_graph(tmp_path: Path) -> None:
    made = retriever_of("s_prompts", 2, towers(2, 1))
    assert len(routed(made, PICTURES)) == 2, "both tasks' prompts must be asked for"
    check_retriever(made, tmp_path / "out")
    about = json.loads((tmp_path / "out" / "export.json").read_text("utf-8"))
    assert about["sessions"] == ["task 0", "task 1"]
    assert about["text"]["context"] == 40 - 2
    assert about["text"]["tokenizer"] is None


def classifies(name: str) -> bool:
    return choose(name).method.traits.solver.classifies


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mitp", "coop", "p_clip", "prompt_fuse"])
def test_gates_export_with_a_classifier(name: str, tmp_path: Path) -> None:
    coupled = choose(name).method.traits.coupled
    check_classifier(name, tmp_path / "out", encoders=not coupled, backbone=towers(3, 3), start="frozen")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lpi-m", "maple", "dual-prompt-both"])
def test_gates_export_with_a_retriever(name: str, tmp_path: Path) -> None:
    """A gate of its own for each sample, by its route."""
    check_retriever(retriever_of(name, 2, start="frozen"), tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in sorted(choices()) if classifies(name)])
def test_every_method_exports_as_a_classifier(name: str, tmp_path: Path) -> None:
    if name in REFUSED:
        with pytest.raises(InterplayError, match=REFUSED[name]):
            check_classifier(name, tmp_path / "out", encoders=False)
        return
    check_classifier(name, tmp_path / "out", encoders=not choose(name).method.traits.coupled)


def retrieves(name: str) -> bool:
    choice = choose(name)
    return choice.method.traits.solver.retrieves and not choice.method.traits.coupled


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in sorted(choices()) if retrieves(name)])
def test_every_method_that_retrieves_exports_its_sides(name: str, tmp_path: Path) -> None:
    check_retriever(retriever_of(name, 2), tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora", "p_clip"])
def test_a_head_on_hidden_states_exports_whole_and_not_in_sides(name: str, tmp_path: Path) -> None:
    made = classifier_of(name, towers())
    assert made.model is not None
    made.model.head = fitted_on_hidden_states(made.model, made.backbone)
    check_exported(made, tmp_path / "out", encoders=False)
    with pytest.raises(InterplayError, match="reads hidden states of the towers"):
        to_onnx(made, tmp_path / "sides", encoders=True)


def fitted_on_hidden_states(model: PairClassifier, backbone: Backbone) -> Head:
    """A linear head on the hidden states of both towers, fitted to a few pairs."""
    settings = HeadSettings(kind="linear", readout="hidden")
    model.head = Head(settings, backbone.shape.joint, 3, 1.0, hidden=hidden_widths(backbone.shape))
    pairs = vectors_of(model, backbone, toy_table(backbone, 24, 1))
    starts = Starts(model, Monitor(model, "accuracy"))
    return starts.fit(list(starts.answers(Candidate(settings), pairs, None))[4], pairs)


def test_what_cannot_be_exported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = towers()
    with pytest.raises(InterplayError, match="not trained yet"):
        to_onnx(Classifier(backbone), tmp_path / "out")
    with pytest.raises(InterplayError, match="opset 18 to 21, not 9"):
        to_onnx(Classifier(backbone), tmp_path / "out", opset=9)
    with pytest.raises(InterplayError, match="reads image and text together"):
        to_onnx(classifier_of("mitp", backbone), tmp_path / "out", encoders=True)
    pairs = Retriever(backbone, "lpi", settings={"fusion": "pair", "depth": 2, "length": 2})
    with pytest.raises(InterplayError, match="encodes true pairs"):
        to_onnx(pairs, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InterplayError, match="not an empty folder"):
        to_onnx(Retriever(backbone, "lpi-m"), tmp_path / "full")
    monkeypatch.setattr(export_module, "find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(InterplayError, match=r"needs onnx: pip install onnx"):
        to_onnx(Retriever(backbone, "lpi-m"), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]
