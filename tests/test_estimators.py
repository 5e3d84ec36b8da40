"""The Python API on the bundled backbone and toy data: colours of squares, named or misnamed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch
from PIL import Image

from interplay import AdapterBank, Classifier, InterplayError, Retriever, TrainSettings, load_backbone
from interplay.data.schema import PairTable
from interplay.encoding.inputs import encode_table, pairs_of
from interplay.towers.backbone import Backbone

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (40, 60, 220)}
QUICK = TrainSettings(epochs=2, batch_size=8, learning_rate=3e-3, progress=False)


def picture(colour: str, at: int) -> Image.Image:
    image = Image.new("RGB", (40, 40), "white")
    image.paste(COLOURS[colour], (at % 5, at % 7, 30 + at % 9, 32))
    return image


def colour_table(kind: str = "single") -> PairTable:
    names = list(COLOURS)
    rows: dict[str, list[object]] = {"image": [], "text": [], "split": [], "id": []}
    column = "label" if kind == "single" else "labels"
    rows[column] = []
    for at in range(30):
        colour = names[at % 3]
        rows["image"].append(picture(colour, at))
        rows["text"].append(f"a {colour} square" if at % 2 else "a square")
        rows[column].append(colour if kind == "single" else [colour, "square"])
        rows["split"].append("train" if at < 18 else "validation" if at < 24 else "test")
        rows["id"].append(str(at))
    classes = tuple(sorted(COLOURS)) if kind == "single" else (*sorted(COLOURS), "square")
    features = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image(decode=False))
    return PairTable("colours", kind, classes, features)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERPLAY_CACHE", str(tmp_path / "cache"))


def some_pairs() -> tuple[list[Image.Image], list[str]]:
    return [picture(colour, at) for at, colour in enumerate(COLOURS)], ["a square"] * 3


@pytest.mark.parametrize("method", ["mitp", "p_clip", "linear_probe-pair", "text_probe", "zero_shot"])
@pytest.mark.parametrize("kind", ["single", "multi"])
def test_fit_evaluate_predict_save_load(method: str, kind: str, tiny: Backbone, tmp_path: Path) -> None:
    table = colour_table(kind)
    classifier = Classifier(tiny, method, head={"kind": "pair"})
    report = classifier.fit(table, settings=QUICK, run=tmp_path / "run")
    assert report.best_epoch >= 1
    metrics = classifier.evaluate(table)
    assert all(0 <= value <= 1 for value in metrics.values())
    images, texts = some_pairs()
    probabilities = classifier.predict_proba(images, texts)
    assert probabilities.shape == (3, len(table.classes))
    predicted = classifier.predict(images, texts)
    assert len(predicted) == 3
    again = Classifier.from_pretrained(str(tmp_path / "run"), backbone=tiny)
    assert torch.equal(again.predict_proba(images, texts), probabilities)
    assert again.labels == table.classes
    assert again.evaluate(table) == metrics
    card = (tmp_path / "run" / "README.md").read_text()
    assert "validation_" in card
    assert str(tmp_path) not in card


def test_class_text_and_learned_heads_work_through_the_api(tiny: Backbone) -> None:
    table = colour_table()
    for head in (
        {"kind": "class_text"},
        {"kind": "learned", "query": "image"},
        {"kind": "class_text", "class_text": "joint", "query": "image"},
    ):
        classifier = Classifier(tiny, "mitp", head=head)
        classifier.fit(table, settings=QUICK)
        assert classifier.predict_proba(*some_pairs()).shape == (3, 3)


def test_the_penalty_of_the_starting_probe_reaches_the_head(tiny: Backbone) -> None:
    table = colour_table()
    lengths = []
    for penalty in (0.01, 1.0):
        head = {"kind": "pair", "start": "probe", "start_penalty": penalty}
        classifier = Classifier(tiny, "mitp", head=head)
        settings = TrainSettings(**{**vars(QUICK), "epochs": 1, "head_learning_rate_factor": 0.0})
        classifier.fit(table, settings=settings)
        assert classifier.model is not None
        assert classifier.model.head.weight is not None
        lengths.append(classifier.model.head.weight.norm().item())
    assert 0 < 5 * lengths[0] < lengths[1]
    for wrong in ({"start": "zero", "start_penalty": 1.0}, {"start": "probe", "start_penalty": 0.0}):
        with pytest.raises(InterplayError, match="start_penalty is a number above 0"):
            Classifier(tiny, "mitp", head={"kind": "pair", **wrong})


def test_the_prefix_cache_changes_no_bit(tiny: Backbone) -> None:
    table, threads = colour_table(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        states = []
        for cached in (False, True, True):
            classifier = Classifier(tiny, "mitp", head={"kind": "pair"})
            classifier.fit(table, settings=TrainSettings(**{**vars(QUICK), "cache_prefix": cached}))
            assert classifier.model is not None
            states.append(classifier.model.state_dict())
    finally:
        torch.set_num_threads(threads)
    for state in states[1:]:
        assert all(torch.equal(states[0][name], value) for name, value in state.items())


def test_many_adapters_share_one_backbone_and_one_batch(tiny: Backbone, tmp_path: Path) -> None:
    table = colour_table()
    bank = AdapterBank(tiny)
    for name, method in (("memory", "mitp"), ("deep", "p_clip"), ("probe", "linear_probe")):
        classifier = Classifier(tiny, method, head={"kind": "pair"})
        classifier.fit(table, settings=QUICK)
        classifier.save_pretrained(tmp_path / name)
        bank.attach(name, tmp_path / name)
    assert bank.names == ["memory", "deep", "probe"]
    assert all(bank[name].backbone is tiny for name in bank.names)
    images, texts = some_pairs()
    wanted = ["probe", "memory", "deep"]
    mixed = bank.predict_proba(images, texts, wanted)
    for at, name in enumerate(wanted):
        alone = bank[name].predict_proba(images[at : at + 1], texts[at : at + 1])[0]
        torch.testing.assert_close(mixed[at], alone, atol=1e-5, rtol=1e-4)
    bank.detach("deep")
    with pytest.raises(InterplayError, match="no attached adapter called 'deep'"):
        bank.predict_proba(images, texts, wanted)
    assert bank.predict_proba([], [], []) == []
    with pytest.raises(InterplayError, match="attached already"):
        bank.attach("probe", tmp_path / "probe")


def test_an_adapter_of_another_backbone_is_refused(
    tiny: Backbone, backbone: Backbone, tmp_path: Path
) -> None:
    classifier = Classifier(tiny, "linear_probe")
    classifier.fit(colour_table())
    classifier.save_pretrained(tmp_path)
    with pytest.raises(InterplayError, match="was trained on the backbone 'tiny'"):
        Classifier.from_pretrained(str(tmp_path), backbone=backbone)


def test_mistakes_are_told_in_one_sentence(tiny: Backbone, tmp_path: Path) -> None:
    with pytest.raises(InterplayError, match="Did you mean 'mitp'"):
        Classifier(tiny, "mipt")
    with pytest.raises(InterplayError, match="Did you mean 'layers'"):
        Classifier(tiny, "mitp", settings={"layer": (4,)})
    with pytest.raises(InterplayError, match="cannot be 'cosin'"):
        Classifier(tiny, "mitp", settings={"similarity": "cosin"})
    with pytest.raises(InterplayError, match="Did you mean 'kind'"):
        Classifier(tiny, "mitp", head={"kin": "pair"})
    for method, head in (("zero_shot", {"tempalte": "{}"}), ("linear_probe", {"kid": "pair"})):
        with pytest.raises(InterplayError, match="Did you mean"):
            Classifier(tiny, method, head=head)
    with pytest.raises(InterplayError, match="no multi_loss called 'BCE'"):
        Classifier(tiny, multi_loss="BCE")  # type: ignore[arg-type]
    with pytest.raises(InterplayError, match="Did you mean 'tiny'"):
        Classifier("tinny")
    with pytest.raises(InterplayError, match="not trained yet"):
        Classifier(tiny).predict(*some_pairs())
    with pytest.raises(InterplayError, match="was made for"):
        Classifier(tiny, labels=["a", "b"]).fit(colour_table())
    with pytest.raises(InterplayError, match="image and a text"):
        pairs_of([picture("red", 0)], ["a", "b"])
    with pytest.raises(InterplayError, match="empty text"):
        pairs_of([picture("red", 0)], [" "]).encode(tiny)
    with pytest.raises(InterplayError, match="neither a folder"):
        load_backbone("nobody/nothing")
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(InterplayError, match="pickled"):
        Classifier.from_pretrained(str(tmp_path))


def test_a_damaged_artefact_is_named(tiny: Backbone, tmp_path: Path) -> None:
    classifier = Classifier(tiny, "linear_probe")
    classifier.fit(colour_table())
    classifier.save_pretrained(tmp_path)
    whole = (tmp_path / "method.safetensors").read_bytes()
    (tmp_path / "method.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InterplayError, match="damaged"):
        Classifier.from_pretrained(str(tmp_path), backbone=tiny)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, tiny: Backbone, tmp_path: Path) -> None:
    classifier = Classifier(tiny, "linear_probe")
    classifier.fit(colour_table())
    assert classifier.model is not None
    with torch.no_grad():
        next(classifier.model.parameters())[0] = value
    classifier.save_pretrained(tmp_path)
    with pytest.raises(InterplayError, match=r"method\.safetensors holds values that are no numbers"):
        Classifier.from_pretrained(tmp_path, backbone=tiny)


@pytest.mark.parametrize(
    "config", [None, "", '{"method": "lin', "[]", '{"backbone": "nonsense", "method": "x", "seed": 7}']
)
def test_the_header_alone_counts_and_not_its_copy_for_people(
    config: str | None, tiny: Backbone, tmp_path: Path
) -> None:
    classifier = Classifier(tiny, "linear_probe")
    classifier.fit(colour_table())
    classifier.save_pretrained(tmp_path / "classifier")
    retriever = Retriever(tiny, "zero_shot", seed=3)
    retriever.save_pretrained(tmp_path / "retriever")
    for name in ("classifier", "retriever"):
        path = tmp_path / name / "config.json"
        path.unlink() if config is None else path.write_text(config)
    again = Classifier.from_pretrained(tmp_path / "classifier")
    assert torch.equal(again.predict_proba(*some_pairs()), classifier.predict_proba(*some_pairs()))
    assert again.backbone.name == "tiny"
    found = Retriever.from_pretrained(tmp_path / "retriever")
    assert (found.identity, found.seed, found.backbone.name) == (retriever.identity, 3, "tiny")
    again.save_pretrained(tmp_path / "classifier")
    assert (tmp_path / "classifier" / "config.json").read_text().startswith('{\n  "method": "linear_probe"')


def test_an_artefact_from_the_hub(tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Retriever(tiny, "zero_shot").save_pretrained(tmp_path / "retriever")
    asked: list[tuple[str, dict[str, object]]] = []

    def download(name: str, **options: object) -> str:
        asked.append((name, options))
        return str(tmp_path / "retriever")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    Retriever.from_pretrained("owner/name", revision="v1", cache_dir=tmp_path, backbone=tiny)
    assert asked == [
        (
            "owner/name",
            {"revision": "v1", "cache_dir": tmp_path, "local_files_only": False, "force_download": False},
        )
    ]
    monkeypatch.undo()
    for name in ("owner/name", "no id at all"):
        with pytest.raises(InterplayError, match=f"There is no folder '{name}', and no such model"):
            Classifier.from_pretrained(name, local_files_only=True)


def test_an_artefact_of_the_other_kind_names_what_opens_it(tiny: Backbone, tmp_path: Path) -> None:
    classifier = Classifier(tiny, "linear_probe")
    classifier.fit(colour_table())
    classifier.save_pretrained(tmp_path / "classifier")
    with pytest.raises(InterplayError, match=r"made for classification: open it with Classifier\.from_pretr"):
        Retriever.from_pretrained(tmp_path / "classifier", backbone=tiny)
    Retriever(tiny, "zero_shot").save_pretrained(tmp_path / "retriever")
    with pytest.raises(InterplayError, match=r"made for retrieval: open it with Retriever\.from_pretrained"):
        Classifier.from_pretrained(tmp_path / "retriever", backbone=tiny)


def test_long_texts_are_cut_and_counted(tiny: Backbone) -> None:
    before = tiny.truncated
    ids = tiny.tokenize(["word " * 20_000, "short"])
    assert ids.shape[1] == tiny.text.shape.positions
    assert ids[0, -1] == tiny.text.shape.end_token
    assert tiny.truncated == before + 1


def test_a_table_with_long_texts_says_so(tiny: Backbone, caplog: pytest.LogCaptureFixture) -> None:
    table = colour_table()
    long = table.rows.map(
        lambda row, at: {"text": "word " * 90 if at == 2 else row["text"]}, with_indices=True
    )
    encode_table(table, tiny)
    assert not caplog.records
    encode_table(replace(table, rows=long), tiny, reserve=4)
    assert [record.getMessage() for record in caplog.records] == [
        "colours: 1 of 30 texts were cut to 60 tokens."
    ]


def test_labels_decide_the_order_of_the_logits(tiny: Backbone, tmp_path: Path) -> None:
    labels = ["red", "blue", "green"]
    classifier = Classifier(tiny, "linear_probe", labels)
    classifier.fit(colour_table())
    assert classifier.labels == tuple(labels)
    sorted_ones = Classifier(tiny, "linear_probe")
    sorted_ones.fit(colour_table())
    images, texts = some_pairs()
    expected = sorted_ones.predict_proba(images, texts)[:, [sorted(labels).index(label) for label in labels]]
    torch.testing.assert_close(classifier.predict_proba(images, texts), expected, atol=1e-3, rtol=1e-3)
    assert classifier.evaluate(colour_table())["accuracy"] == sorted_ones.evaluate(colour_table())["accuracy"]
    classifier.save_pretrained(tmp_path)
    loaded = Classifier.from_pretrained(str(tmp_path), backbone=tiny)
    assert loaded.evaluate(colour_table()) == classifier.evaluate(colour_table())


def test_a_failed_fit_leaves_the_classifier_as_it_was(tiny: Backbone) -> None:
    table = colour_table()
    bare = replace(table, rows=table.rows.filter(lambda row: row["split"] != "validation"))
    fresh = Classifier(tiny, "linear_probe")
    with pytest.raises(InterplayError, match="validation"):
        fresh.fit(bare)
    with pytest.raises(InterplayError, match="not trained yet"):
        fresh.predict(*some_pairs())
    fresh.fit(colour_table("multi"))  # nothing of the failed kind is left
    trained = Classifier(tiny, "linear_probe")
    trained.fit(table)
    before = trained.predict_proba(*some_pairs())
    with pytest.raises(InterplayError, match="validation"):
        trained.fit(bare)
    assert torch.equal(trained.predict_proba(*some_pairs()), before)


@pytest.mark.parametrize("method", ["coop", "prompt_fuse"])
def test_a_method_that_no_gradient_reaches_is_refused(method: str, tiny: Backbone) -> None:
    classifier = Classifier(tiny, method, head={"kind": "learned", "query": "image"}, settings={"length": 4})
    with pytest.raises(InterplayError, match=f"Nothing that the method '{method}' trains reaches the logits"):
        classifier.fit(colour_table(), settings=QUICK)


def test_joint_class_texts_are_refused_where_final_vectors_are_fused(tiny: Backbone) -> None:
    joint = {"kind": "class_text", "class_text": "joint", "query": "image"}
    for method in ("late_fusion", "cma_clip"):
        with pytest.raises(InterplayError, match="without an end"):
            Classifier(tiny, method, head=joint).fit(colour_table())


def test_a_table_without_some_of_the_classes_can_be_measured(tiny: Backbone) -> None:
    table = colour_table()
    classifier = Classifier(tiny, "linear_probe")
    classifier.fit(table)
    fewer = table.rows.filter(lambda row: row["label"] != "blue")
    part = replace(table, rows=fewer, classes=("red", "green"))
    assert classifier.evaluate(part) == classifier.evaluate(replace(table, rows=fewer))
    with pytest.raises(InterplayError, match="this classifier knows"):
        classifier.evaluate(replace(table, classes=(*table.classes, "mauve")))
    bare = replace(table, kind="pairs", classes=(), rows=table.rows.remove_columns("label"))
    several = colour_table("multi")
    for refused, sentence in (
        (bare, "colours has no labels"),
        (several, "has several labels a row, this classifier was trained for one label"),
    ):
        for call in (classifier.evaluate, classifier.calibrate):
            with pytest.raises(InterplayError, match=sentence):
                call(refused)
