"""What users bring first: data, pictures and texts of every kind, one side alone, devices, and figures by class."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pytest
import torch

from interplay import AdapterBank, Backbone, Classifier, InterplayError, Retriever, load, load_backbone
from interplay.classification.model import PairClassifier
from interplay.encoding.inputs import pairs_of
from interplay.encoding.trainable import PairBatch
from interplay.methods.registry import choices, choose
from interplay.parts.heads import Head, HeadSettings

from .contract.world import CLASSES, Subject, towers
from .test_estimators import COLOURS, picture

ROWS = 30


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERPLAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pandas.DataFrame:
    """Colours of squares, as a user has them in pandas; `pairs.csv` lies beside the pictures."""
    folder = tmp_path_factory.mktemp("colours")
    names = list(COLOURS)
    rows = []
    for at in range(ROWS):
        path = folder / f"{at}.png"
        picture(names[at % 3], at).save(path)
        split = "train" if at < 18 else "validation" if at < 24 else "test"
        rows.append({"image": str(path), "text": f"a square {at}", "label": names[at % 3], "split": split})
    rows[19]["label"], rows[20]["label"] = (
        rows[20]["label"],
        rows[19]["label"],
    )  # no classifier gets these right
    table = pandas.DataFrame(rows)
    table.to_csv(folder / "pairs.csv", index=False)
    return table


@pytest.fixture(scope="module")
def file(frame: pandas.DataFrame) -> Path:
    return Path(frame["image"][0]).parent / "pairs.csv"


@pytest.fixture(scope="module")
def trained(tiny: Backbone, file: Path) -> Classifier:
    classifier = Classifier(tiny, "linear_probe")
    classifier.fit(file)
    return classifier


def rows_of(frame: pandas.DataFrame) -> list[dict[str, Any]]:
    return frame.to_dict("records")  # type: ignore[no-any-return]


KINDS: dict[str, Callable[[pandas.DataFrame, Path], Any]] = {
    "text": lambda frame, file: str(file),
    "DataFrame": lambda frame, file: frame,
    "Dataset": lambda frame, file: datasets.Dataset.from_pandas(frame),
    "rows": lambda frame, file: rows_of(frame),
    "generator": lambda frame, file: (row for row in rows_of(frame)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_fit_evaluate_predict_and_calibrate_take_data_of_every_kind(
    kind: str, frame: pandas.DataFrame, file: Path, trained: Classifier, tiny: Backbone
) -> None:
    made = KINDS[kind]
    other = Classifier(tiny, "linear_probe")
    other.fit(made(frame, file))
    assert other.evaluate(made(frame, file), "all") == trained.evaluate(file, "all")
    probabilities = other.predict_proba(made(frame, file))
    assert torch.equal(probabilities, trained.predict_proba(list(frame["image"]), list(frame["text"])))
    assert other.predict(made(frame, file)) == trained.predict(frame["image"], frame["text"])
    assert other.calibrate(made(frame, file)).rows == 6


PICTURES: dict[str, Callable[[str, int], Any]] = {
    "Path": lambda path, at: Path(path),
    "bytes": lambda path, at: Path(path).read_bytes(),
    "file": lambda path, at: io.BytesIO(Path(path).read_bytes()),
    "Pillow": lambda path, at: picture(list(COLOURS)[at % 3], at),
    "array": lambda path, at: np.asarray(picture(list(COLOURS)[at % 3], at)),
    "tensor": lambda path, at: torch.from_numpy(
        np.asarray(picture(list(COLOURS)[at % 3], at)).transpose(2, 0, 1).copy()
    ),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_of_every_kind_are_predicted_and_retrieved(
    kind: str, frame: pandas.DataFrame, trained: Classifier, tiny: Backbone
) -> None:
    paths, texts = list(frame["image"][:3]), list(frame["text"][:3])
    made = [PICTURES[kind](path, at) for at, path in enumerate(paths)]
    expected = trained.predict_proba(paths, texts)
    assert torch.equal(trained.predict_proba(iter(made), iter(texts)), expected)
    made = [PICTURES[kind](path, at) for at, path in enumerate(paths)]
    retriever = Retriever(tiny, "zero_shot")
    assert torch.equal(retriever.encode_images(iter(made)), retriever.encode_images(paths))


def test_stacked_pictures(frame: pandas.DataFrame, trained: Classifier) -> None:
    stack = np.stack([np.asarray(picture(list(COLOURS)[at], at)) for at in range(3)])
    expected = trained.predict_proba(list(frame["image"][:3]), list(frame["text"][:3]))
    for same in (stack, torch.from_numpy(stack.transpose(0, 3, 1, 2).copy())):
        assert torch.equal(trained.predict_proba(same, list(frame["text"][:3])), expected)


def test_a_single_pair_needs_no_lists(frame: pandas.DataFrame, trained: Classifier, tiny: Backbone) -> None:
    path, text = frame["image"][0], frame["text"][0]
    many = trained.predict_proba([path], [text])
    for image in (path, Path(path), Path(path).read_bytes()):
        assert torch.equal(trained.predict_proba(image, text), many)
    assert trained.predict(path, text) == trained.predict([path], [text])
    bank = AdapterBank(tiny)
    bank.attach("one", trained)
    torch.testing.assert_close(bank.predict_proba(path, text, "one")[0], many[0])
    retriever = Retriever(tiny, "zero_shot")
    assert torch.equal(retriever.encode_texts(text), retriever.encode_texts([text]))
    assert torch.equal(retriever.encode_images(Path(path)), retriever.encode_images([path]))


def test_probabilities_with_class_names(frame: pandas.DataFrame, file: Path, trained: Classifier) -> None:
    found = trained.predict_proba(file, frame=True)
    assert list(found.columns) == list(trained.labels or ())
    assert list(found.index) == load(file).ids()
    np.testing.assert_array_equal(found.to_numpy(), trained.predict_proba(file).numpy())
    assert list(trained.predict_proba(list(frame["image"][:2]), ["a", "b"], frame=True).index) == [0, 1]
    assert trained.predict([], []) == []
    assert trained.predict_proba([], [], frame=True).shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda c, f: c.fit(7), r"^data takes a path or name, .* not something of the type int\.$"),
        (lambda c, f: c.fit(None), r"^data takes .* not nothing \(None\)\.$"),
        (lambda c, f: c.evaluate(7), "^data takes"),
        (lambda c, f: c.calibrate(7), "^data takes"),
        (lambda c, f: c.fit(f, settings=[1]), "^settings takes TrainSettings, or a mapping of some of them"),
        (lambda c, f: c.fit(f, settings={"epoch": 1}), "Did you mean 'epochs'"),
        (lambda c, f: c.predict(7, "x"), r"^images takes a picture .* not something of the type int\.$"),
        (lambda c, f: c.predict([7], ["x"]), "^image 1: a picture is a path.* not of the type int"),
        (lambda c, f: c.predict("a.png", 7), "^texts takes a text or several, not something of the type int"),
        (lambda c, f: c.predict(["a.png"], [7]), "^texts: number 1 is not a text but of the type int"),
        (lambda c, f: c.predict("a.png", ["x", "y"]), "got 1 images, 2 texts"),
        (lambda c, f: c.predict(), "reads the image and the text of a pair: give images too"),
        (lambda c, f: c.predict("a.png"), "method 'linear_probe' with this head reads .*: give texts too"),
        (lambda c, f: c.predict(texts="x"), "give images too"),
        (lambda c, f: c.predict(f, batch_size=0), "batch_size must be at least 1"),
        (lambda c, f: c.predict(f, batch_size="8"), "^batch_size takes a whole number, not"),
        (lambda c, f: c.predict(f, abstain_below="8"), "^abstain_below takes a number, not"),
        (
            lambda c, f: c.predict(rows_of(load(f).rows.to_pandas())[:1], "x"),
            "pairs in rows, .*leave texts out",
        ),
        (lambda c, f: c.predict("x" * 5000), "give texts too"),
        (lambda c, f: c.evaluate(f, 7), "^split takes one of test, train, validation, not"),
        (lambda c, f: c.fit(f, run=7), "^run takes a folder, not"),
        (lambda c, f: Classifier(c.backbone, method=7), "^method takes a text, not"),
        (lambda c, f: load(f, columns=7), "^columns takes a mapping"),
        (lambda c, f: load(f, shares=7), "^shares takes three numbers"),
        (lambda c, f: load(f, on_bad_row=7), "^way to treat bad rows takes one of error, skip, not"),
        (lambda c, f: c.to("gpu"), "There is no device called 'gpu'"),
        (lambda c, f: c.to("xpu:7"), "The device 'xpu:7' is not there"),
        (lambda c, f: c.to(None), "There is no device called None"),
        (lambda c, f: Classifier(7), "^backbone takes a name, a folder or a loaded Backbone, not"),
        (lambda c, f: Classifier(c.backbone, labels=7), "^labels takes"),
        (lambda c, f: Classifier(c.backbone, settings=[1]), "^settings takes a mapping"),
        (lambda c, f: Classifier(c.backbone, head="pair"), "^head takes a mapping"),
        (lambda c, f: Retriever(c.backbone, "zero_shot").encode_images(7), "^images takes a picture"),
        (lambda c, f: Retriever(c.backbone, "zero_shot").encode_texts(7), "^texts takes a text"),
        (lambda c, f: Retriever(c.backbone, "zero_shot").learn("x", 7), "^pairs takes a path or name"),
    ],
)
def test_a_wrong_type_is_a_sentence_that_names_the_argument(
    call: Callable[[Classifier, Path], Any], sentence: str, trained: Classifier, file: Path
) -> None:
    with pytest.raises(InterplayError, match=sentence):
        call(trained, file)
    assert trained.predict(file)  # as good as before


def test_training_settings_as_a_mapping(tiny: Backbone, file: Path) -> None:
    classifier = Classifier(tiny, "p_clip", head={"kind": "pair"})
    classifier.fit(file, settings={"epochs": 1, "progress": False})
    assert classifier.card is not None
    assert classifier.card.training["epochs"] == 1


HEADS = [
    *({"kind": "learned", "query": query} for query in ("image", "text", "image+text")),
    *({"kind": "linear", "features": features} for features in ("image", "text", "pair")),
    {"kind": "class_text", "class_text": "prompted", "query": "image"},
    {"kind": "class_text", "class_text": "prompted", "query": "text"},
    {"kind": "class_text", "class_text": "joint", "query": "image"},
]


def model_of(subject: Subject, head: dict[str, Any]) -> PairClassifier | None:
    """A method under a head with random weights; None where the two do not go together."""
    layer = Head(HeadSettings(**head), subject.backbone.shape.joint, CLASSES, subject.backbone.scale)
    if layer.weight is not None:
        torch.nn.init.normal_(layer.weight)
    model = PairClassifier(subject.method(), layer).eval()
    try:
        model.prepare(subject.backbone, ["cat", "dog", "elk"])
    except InterplayError:
        return None
    return model


@pytest.mark.parametrize("name", [name for name, choice in choices().items() if not choice.preset])
def test_the_side_that_a_head_does_not_read_changes_nothing(name: str) -> None:
    subject = Subject(choose(name), towers())
    backbone, batch = subject.backbone, subject.batch(slice(3))
    assert isinstance(batch.images, torch.Tensor)
    others = {
        "image": PairBatch(batch.images, backbone.tokenize(["picture"] * len(batch.images))),
        "text": PairBatch(torch.zeros_like(batch.images), batch.texts),
    }
    apart = {"image": False, "text": False}
    for head in HEADS:
        model = model_of(subject, head)
        if model is None:
            continue
        with torch.no_grad():
            logits = model(backbone, batch)
            for side, other in others.items():
                same = torch.allclose(model(backbone, other), logits, atol=1e-5, rtol=1e-5)
                enough = model.reads == (side,)
                assert same or not enough, (head, side)
                assert enough or not same or model.method.traits.coupled, (head, side)
                apart[side] |= enough
    method = subject.method()
    assert apart["image"] or (method.traits.coupled and not method.traits.routed_by_image)


@pytest.mark.parametrize(
    ("method", "head", "side"),
    [
        ("image_probe", {}, "image"),
        ("text_probe", {}, "text"),
        ("zero_shot", {"query": "image"}, "image"),
        ("zero_shot", {"query": "text"}, "text"),
    ],
)
def test_one_side_is_enough_for_a_head_that_reads_it_alone(
    method: str, head: dict[str, str], side: str, tiny: Backbone, frame: pandas.DataFrame, file: Path
) -> None:
    classifier = Classifier(tiny, method, head=head)
    classifier.fit(file)
    images, texts = list(frame["image"][:4]), list(frame["text"][:4])
    both = classifier.predict_proba(images, texts)
    alone = classifier.predict_proba(images) if side == "image" else classifier.predict_proba(texts=texts)
    torch.testing.assert_close(alone, both, atol=1e-5, rtol=1e-5)
    with pytest.raises(InterplayError, match=f"reads the {side} of a pair: give {side}s too"):
        classifier.predict(texts=texts) if side == "image" else classifier.predict(images)


def test_batches_of_any_size_on_a_device(
    trained: Classifier, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    forward = PairClassifier.forward

    def seen(model: PairClassifier, backbone: Backbone, batch: PairBatch) -> torch.Tensor:
        logits = forward(model, backbone, batch)
        sizes.append(len(logits))
        return logits

    expected = trained.evaluate(file, "all")
    monkeypatch.setattr(PairClassifier, "forward", seen)
    assert trained.to("cpu") is trained
    assert trained.evaluate(file, "all", batch_size=7) == pytest.approx(expected, abs=1e-5)
    assert sizes == [7, 7, 7, 7, 2]
    sizes.clear()
    trained.predict(file, batch_size=20)
    trained.calibrate(file, batch_size=4)
    assert sizes == [20, 10, 4, 2]


def test_the_method_follows_the_backbone_to_another_device(tiny: Backbone, file: Path) -> None:
    classifier = Classifier(load_backbone("tiny"), "linear_probe")
    classifier.fit(file)
    classifier.backbone.to("meta")  # a device without numbers, which every machine has
    assert all(parameter.is_meta for parameter in classifier._ready().parameters())


def test_a_report_by_class(trained: Classifier, file: Path) -> None:
    found = trained.report(file, "all")
    assert found.metrics == trained.evaluate(file, "all")
    assert list(found.classes.index) == list(trained.labels or ())
    assert found.classes["rows"].tolist() == [10, 10, 10]
    assert found.confusion is not None
    assert int(found.confusion.to_numpy().sum()) == ROWS
    np.testing.assert_array_equal(found.confusion.sum(axis=1), found.classes["rows"])
    np.testing.assert_array_equal(found.confusion.sum(axis=0), found.classes["predicted"])
    assert found.classes["recall"].mean() == pytest.approx(found.metrics["macro_accuracy"])
    assert found.classes["f1"].mean() == pytest.approx(found.metrics["f1_macro"])


def test_what_a_reader_decided_is_logged(
    frame: pandas.DataFrame, trained: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    trained.evaluate(frame.drop(columns="split"), "all")
    assert "the DataFrame has no split column: its rows were split 80/10/10" in caplog.text


def test_an_open_file_is_read_once() -> None:
    buffer = io.BytesIO(b"x")
    assert pairs_of(buffer, "text").images == [b"x"]
    with pytest.raises(InterplayError, match="images, number 1: the open file is at its end"):
        pairs_of(buffer, "text")
