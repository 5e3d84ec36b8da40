"""What the routes answer, beside what Python says."""

from __future__ import annotations

import base64
import concurrent.futures
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interplay import AdapterBank, Backbone, Classifier, Gallery, Retriever
from interplay.retrieval.mixed import encode_mixed
from tests.lpi.toy import picture

from .conftest import CLASSIFIERS, PAIR, PICTURE, Asked, Serve, encoded, uri

PICTURES = [uri(encoded(picture(i, 30 * i))) for i in range(8)]
WORDS = ["red", "a blue car", "green", "moon", "x", "a long text of words", "tea", "owl"]


def by_name(classifier: Classifier, row: torch.Tensor) -> dict[str, float]:
    return dict(zip(classifier.labels or (), row.tolist(), strict=True))


def test_pairs_are_classified_as_python_does(asked: Asked, runs: Path, backbone: Backbone) -> None:
    classifier = Classifier.from_pretrained(runs / "first", backbone=backbone)
    images = [picture(i, 30 * i) for i in range(8)]
    pairs = [{"image": one, "text": text} for one, text in zip(PICTURES, WORDS, strict=True)]
    found = asked.say("/v1/classify", {"model": "first", "pairs": pairs})
    assert found["model"] == "first"
    expected = classifier.predict_proba(images, WORDS)
    for result, row, label in zip(found["results"], expected, classifier.predict(images, WORDS), strict=True):
        assert result["probabilities"] == pytest.approx(by_name(classifier, row), abs=1e-5)
        assert (result["labels"], result["abstained"]) == ([label], False)


def test_an_unsure_classifier_abstains(asked: Asked) -> None:
    (found,) = asked.say("/v1/classify", {"model": "first", "pairs": [PAIR], "abstain_below": 0.999})[
        "results"
    ]
    assert (found["labels"], found["abstained"]) == ([], True)
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_requests_for_different_models_share_batches_and_answer_as_alone(asked: Asked) -> None:
    """120 requests from 16 clients; some batch must hold more than one request."""
    draw = random.Random(0)
    requests: list[tuple[str, dict[str, Any]]] = []
    for _ in range(120):
        image, text = draw.choice(PICTURES), draw.choice(WORDS)
        if draw.random() < 0.6:
            requests.append(
                (
                    "/v1/classify",
                    {"model": draw.choice(CLASSIFIERS), "pairs": [{"image": image, "text": text}]},
                )
            )
        else:
            model = draw.choice(["shop", "deep/map"])
            requests.append(("/v1/embeddings", {"model": model, "input": [draw.choice([image, text])]}))
    alone = {str(request): asked.say(*request) for request in requests}
    sizes: list[int] = []
    asked.service.batcher.observe = lambda size, seconds: sizes.append(size)
    with concurrent.futures.ThreadPoolExecutor(16) as clients:
        together = list(clients.map(lambda request: asked.say(*request), requests))
    assert sum(sizes) == 120
    assert max(sizes) > 1
    for request, answer in zip(requests, together, strict=True):
        expected = alone[str(request)]
        if "results" in answer:
            assert answer["results"][0]["probabilities"] == pytest.approx(
                expected["results"][0]["probabilities"], abs=1e-5
            )
        else:
            assert (
                np.abs(np.subtract(answer["data"][0]["embedding"], expected["data"][0]["embedding"])).max()
                < 1e-5
            )


def test_embeddings_are_those_of_the_retriever(asked: Asked, runs: Path, backbone: Backbone) -> None:
    for name in ("shop", "deep/map"):
        retriever = Retriever.from_pretrained(runs / name, backbone=backbone)
        texts = asked.say("/v1/embeddings", {"model": name, "input": WORDS})
        vectors = torch.tensor([one["embedding"] for one in texts["data"]])
        assert torch.allclose(vectors, retriever.encode_texts(WORDS), atol=1e-5)
        assert [one["index"] for one in texts["data"]] == list(range(8))
        packed = asked.say(
            "/v1/embeddings", {"model": f"{name}:image", "input": PICTURES, "encoding_format": "base64"}
        )
        rows = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in packed["data"]]
        images = retriever.encode_images([picture(i, 30 * i) for i in range(8)])
        assert torch.allclose(torch.from_numpy(np.stack(rows)), images, atol=1e-5)


def test_an_item_of_both_is_their_normalised_mean(asked: Asked) -> None:
    items = [PICTURE, "red", {"text": "red", "image_url": {"url": PICTURE}}]
    image, text, both = (
        np.array(one["embedding"])
        for one in asked.say("/v1/embeddings", {"model": "shop", "input": items})["data"]
    )
    assert np.allclose(both, (image + text) / np.linalg.norm(image + text), atol=1e-5)


def test_a_mixed_batch_of_retrievers_has_the_vectors_of_each(runs: Path, backbone: Backbone) -> None:
    shop, other = (Retriever.from_pretrained(runs / name, backbone=backbone) for name in ("shop", "deep/map"))
    mixed = encode_mixed("text", WORDS, [shop, other] * 4)
    assert torch.allclose(mixed[::2], shop.encode_texts(WORDS[::2]), atol=1e-5)
    assert torch.allclose(mixed[1::2], other.encode_texts(WORDS[1::2]), atol=1e-5)


def test_class_texts_that_continue_a_text_share_a_batch_too(runs: Path, backbone: Backbone) -> None:
    from .conftest import classifier

    joint = classifier(
        backbone, runs.parent / "joint", head={"kind": "class_text", "class_text": "joint", "query": "image"}
    )
    bank = AdapterBank(backbone)
    bank.attach("joint", joint)
    bank.attach("first", runs / "first")
    images = [picture(i, 30 * i) for i in range(4)]
    found = bank.predict_proba(images, WORDS[:4], ["joint", "first"] * 2)
    assert torch.allclose(torch.stack(found[::2]), joint.predict_proba(images[::2], WORDS[:4:2]), atol=1e-5)
    assert torch.allclose(
        torch.stack(found[1::2]), bank["first"].predict_proba(images[1::2], WORDS[1:4:2]), atol=1e-5
    )


def test_a_search_finds_what_the_gallery_does(
    serve: Serve, runs: Path, backbone: Backbone, tmp_path: Path
) -> None:
    shutil.copytree(runs / "shop", tmp_path / "shop")
    retriever = Retriever.from_pretrained(tmp_path / "shop", backbone=backbone)
    with Gallery.open(retriever, tmp_path / "shop/gallery.db") as gallery:
        expected = gallery.search("a cat", 4)
    with serve(tmp_path, galleries=True) as client:
        found = client.say("/v1/search", {"model": "shop", "query": "a cat", "k": 4})
        both = client.say("/v1/search", {"model": "shop", "query": PICTURE, "k": 1, "find": "text"})
    assert [hit["key"] for hit in found["hits"]] == [hit.key for hit in expected]
    assert [hit["score"] for hit in found["hits"]] == pytest.approx([hit.score for hit in expected], abs=1e-5)
    assert found["hits"][0]["source"] == Path(expected[0].source).name  # no path leaves the machine
    assert both["hits"][0]["source"] in ("a cat", "a dog")


def test_models_are_listed_with_what_is_known_of_them(asked: Asked) -> None:
    found = {one["id"]: one for one in asked.get("/v1/models").json()["data"]}
    assert sorted(found) == sorted(["deep/map", *CLASSIFIERS, "shop"])
    assert found["first"]["labels"] == ["b", "r"]
    assert found["shop"]["sessions"] == ["task 0", "task 1"]
    assert (found["shop"]["entries"], found["deep/map"]["entries"]) == (8, None)
    assert asked.get("/v1/models/deep/map").json()["task"] == "retrieval"
    assert asked.get("/healthz").text == "ok"
    assert asked.get("/readyz").text == "ready"
    assert "interplay_requests_total" in asked.get("/metrics").text
