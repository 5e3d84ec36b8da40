"""CoOp: its sequences are those that `transformers.CLIPModel` reads when the context is part of its vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import CLIPModel

from interplay import AdapterBank, Classifier, InterplayError, Retriever, TrainSettings, load_backbone
from interplay.encoding.trainable import PairBatch
from interplay.methods.registry import choose
from interplay.towers.backbone import Backbone, from_clip
from interplay.towers.presets import PRESETS
from interplay.towers.walk import encode
from tests.conftest import END, LetterTokenizer, random_clip, small_shape
from tests.methods.toy import CLASSES, prompted
from tests.test_estimators import colour_table, some_pairs

B16 = PRESETS["clip-vit-base-patch16"]
START = END - 1
QUICK = TrainSettings(epochs=1, batch_size=9, learning_rate=3e-3, progress=False)


def sequence(words: list[int], context: list[int], position: str) -> list[int]:
    """Start token, context and words in their order, end token."""
    half = len(context) // 2
    inner = {
        "end": context + words,
        "middle": context[:half] + words + context[half:],
        "front": words + context,
    }[position]
    return [START, *inner, END]


def with_context(model: CLIPModel, context: Tensor) -> None:
    """Put context vectors after the vocabulary of a CLIP model, so that they have ids."""
    embeddings = model.text_model.embeddings
    rows = torch.cat([embeddings.token_embedding.weight.detach(), context])
    embeddings.token_embedding = nn.Embedding.from_pretrained(rows)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("length", [1, 4, 5])
def test_the_text_tower_reads_what_hugging_face_reads(position: str, length: int, texts: list[str]) -> None:
    backbone = from_clip(random_clip(small_shape()), LetterTokenizer(), "small")
    torch.manual_seed(1)
    method = choose("coop").build(backbone.shape, {"length": length, "position": position})
    with torch.no_grad():
        method.prompts.mul_(30)
        found = encode(backbone.text, "text", backbone.tokenize(texts, reserve=length), method)
        reference = random_clip(small_shape())
        with_context(reference, method.prompts.detach())
        context = list(range(END + 1, END + 1 + length))
        for row, words in enumerate(LetterTokenizer()(texts)["input_ids"]):
            ids = torch.tensor([sequence(words[1:-1], context, position)])
            expected = reference.get_text_features(ids).pooler_output[0]
            torch.testing.assert_close(found[row], expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_logits_are_cosines_with_the_prompted_class_names(
    position: str, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    model = prompted(backbone, "coop", {"position": position})
    found = model(backbone, PairBatch(pixels, backbone.tokenize(texts)))
    reference = random_clip(small_shape())
    with_context(reference, model.method.prompts.detach())  # type: ignore[arg-type]
    image = encode(backbone.image, "image", pixels)
    for at, name in enumerate(CLASSES):
        words = [ord(letter) % 97 for letter in f"{name}."]
        ids = torch.tensor([sequence(words, [100, 101, 102], position)])
        expected = reference.get_text_features(ids).pooler_output
        cosines = torch.cosine_similarity(image, expected, dim=-1)
        torch.testing.assert_close(found[:, at], backbone.scale * cosines, atol=1e-4, rtol=1e-4)


def test_every_context_token_acts_and_images_are_left_alone(
    backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    model = prompted(backbone, "coop", {"length": 4, "position": "middle"})
    batch = PairBatch(pixels, backbone.tokenize(texts), torch.arange(7) % 3)
    model.training_loss(backbone, batch).backward()
    (context,) = model.method.parameters()
    assert context.grad is not None
    assert (context.grad.abs().amax(dim=1) > 0).all()
    with torch.no_grad():
        alone = encode(backbone.image, "image", pixels, model.method)
        torch.testing.assert_close(alone, encode(backbone.image, "image", pixels))


def test_counts_are_the_published_ones() -> None:
    choice = choose("coop")
    assert choice.method.parameter_count(B16, choice.settings()) == 8_192


def test_the_context_starts_from_words(backbone: Backbone) -> None:
    method = choose("coop").build(backbone.shape, {"length": 4, "init": "dog x"})
    method.start_from(backbone)
    ids = torch.tensor([ord(letter) % 97 for letter in "dog "])
    assert torch.equal(method.prompts, backbone.text.words(ids))
    short = choose("coop").build(backbone.shape, {"length": 4, "init": "dog"})
    with pytest.raises(InterplayError, match=r"'dog' has 3 tokens.*set length = 3"):
        short.start_from(backbone)
    with pytest.raises(InterplayError, match="takes 38 of the 40 positions"):
        choose("coop").build(backbone.shape, {"length": 38})
    with pytest.raises(InterplayError, match="length >= 1"):
        choose("coop").settings({"length": 0})


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


HEAD = {"class_text": "prompted", "query": "image", "template": "a square that is {}."}


def test_words_are_there_before_training_and_the_artefact_holds_the_context_alone(
    tiny: Backbone, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"length": 4, "init": "a photo of a", "position": "middle"}
    classifier = Classifier(tiny, "coop", settings=settings, head=HEAD)
    table = colour_table()
    classifier.fit(table, settings=QUICK, run=tmp_path / "run")
    assert classifier.model is not None
    words = tiny.text.words(tiny.tokenize(["a photo of a"])[0, 1:5])
    moved = (classifier.model.method.prompts - words).abs().max()  # type: ignore[operator]
    assert 0 < moved < 0.1  # a few steps from the words, and not from N(0, 0.02²)
    with safe_open(tmp_path / "run" / "method.safetensors", framework="pt") as file:
        assert {name: tuple(file.get_tensor(name).shape) for name in file.keys()} == {  # noqa: SIM118
            "method.prompts": tuple(words.shape)
        }
    again = Classifier.from_pretrained(str(tmp_path / "run"), backbone=tiny)
    assert torch.equal(again.predict_proba(*some_pairs()), classifier.predict_proba(*some_pairs()))
    assert again.evaluate(table) == classifier.evaluate(table)
    assert Retriever(tiny, "coop", settings=settings).method.prompts.equal(words)


def test_long_texts_leave_room_for_the_context_everywhere(tiny: Backbone) -> None:
    classifier = Classifier(tiny, "coop", head={"kind": "pair"})
    table = colour_table()
    long = table.rows.map(lambda row: {"text": row["text"] + " or not" * 60})
    table = type(table)(table.name, table.kind, table.classes, long)
    classifier.fit(table, settings=QUICK)
    classifier.evaluate(table)
    images, texts = some_pairs()
    texts = [text + " or not" * 60 for text in texts]
    alone = classifier.predict_proba(images, texts)
    other = Classifier(tiny, "p_clip", head={"kind": "pair"})
    other.fit(colour_table(), settings=QUICK)
    bank = AdapterBank(tiny)
    bank.attach("context", classifier)
    bank.attach("deep", other)
    mixed = bank.predict_proba(images, texts, ["context", "deep", "context"])
    torch.testing.assert_close(mixed[0], alone[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mixed[2], alone[2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mixed[1], other.predict_proba(images, texts)[1], atol=1e-5, rtol=1e-4)
    bank.detach("deep")
    torch.testing.assert_close(bank.predict_proba(images, texts, ["context"] * 3)[1], alone[1])


def test_a_head_that_the_context_cannot_reach_is_named(tiny: Backbone) -> None:
    classifier = Classifier(tiny, "coop", head={"query": "image"})
    with pytest.raises(InterplayError, match="choose class_text = prompted"):
        classifier.fit(colour_table(), settings=QUICK)
