"""Galleries that grow and are refreshed while they are served; what is found, and what is not."""

from __future__ import annotations

import io
import shutil
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

from interplay import Backbone, InterplayError, Retriever
from interplay.retrieval.found import Curve, calibrate_found, read_found, save_found
from tests.lpi.toy import QUICK, pairs, picture

from .conftest import Asked, Serve, encoded, uri


@pytest.fixture
def shop(runs: Path, tmp_path: Path) -> Path:
    """A folder of runs with one retriever and its gallery, to be changed."""
    shutil.copytree(runs / "shop", tmp_path / "runs/shop")
    return tmp_path / "runs"


def sources(client: Asked, query: str, **further: object) -> list[str]:
    found = client.say("/v1/search", {"model": "shop", "query": query, **further})
    return [hit["source"] for hit in found["hits"]]


def test_a_gallery_grows_while_it_is_served(serve: Serve, shop: Path) -> None:
    image = encoded(picture(9, 150))
    body = {
        "entries": [
            {"text": "a new boot", "id": "sku-1", "metadata": {"price": 20}},
            {"image": uri(image), "id": "sku-2", "metadata": {"price": 30, "tags": ["red", "new"]}},
        ]
    }
    with serve(shop, galleries=True) as client:
        grown = client.say("/v1/galleries/shop/entries", body)
        again = client.say("/v1/galleries/shop/entries", body)
        assert (grown["added"], grown["entries"]) == (2, 10)
        assert (again["added"], again["present"], again["entries"]) == (0, 2, 10)
        found = client.say(
            "/v1/search", {"model": "shop", "query": uri(image), "k": 1, "where": "price > 20"}
        )
        (hit,) = found["hits"]
        assert (hit["id"], hit["metadata"]) == ("sku-2", {"price": 30, "tags": ["red", "new"]})
        assert hit["score"] == pytest.approx(1, abs=1e-4)
        thumbnail = client.get(f"/v1/galleries/shop/thumbnails/{hit['key']}")
        assert thumbnail.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(thumbnail.content)).size == (32, 32)
        assert "a new boot" in sources(client, "a new boot", find="text")
        wrong = {"entries": [{"text": "fine"}, {"image": uri(b"no picture")}]}
        assert client.refusal("/v1/galleries/shop/entries", wrong, 422)["param"] == "entries[1].image"
        assert client.get("/v1/models/shop").json()["entries"] == 10
        filtered = {"model": "shop", "query": "x", "where": "prize > 20"}
        assert "price" in client.refusal("/v1/search", filtered, 422)["message"]
    (kept,) = (shop / "shop/pictures").iterdir()
    assert kept.read_bytes() == image


def test_searches_see_the_gallery_of_before_or_after_a_refresh_and_never_a_mixture(
    serve: Serve, shop: Path, backbone: Backbone
) -> None:
    query = {"model": "shop", "query": "a cat", "k": 8}

    def scores(client: Asked) -> tuple[tuple[str, float], ...]:
        hits = client.say("/v1/search", query)["hits"]
        return tuple(sorted((hit["key"], round(hit["score"], 4)) for hit in hits))

    def change(learn: bool) -> None:
        retriever = Retriever.from_pretrained(shop / "shop", backbone=backbone)
        if learn:
            retriever.learn("task 2", pairs(2), settings=QUICK)
        else:
            retriever.forget("task 2")
        retriever.save_pretrained(shop / "shop")

    with serve(shop, galleries=True) as client:
        known, seen, done = {scores(client)}, [], threading.Event()
        states = [set(known)]

        def search() -> None:
            while not done.is_set():
                seen.append(scores(client))

        readers = [threading.Thread(target=search) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            for learn in (True, False, True):
                change(learn)
                client.say("/v1/galleries/shop/refresh", {})
                states.append({scores(client)})
        finally:
            done.set()
            for reader in readers:
                reader.join()
        assert client.get("/v1/models/shop").json()["sessions"] == ["task 0", "task 1", "task 2"]
    assert {*seen} <= set.union(*states)
    assert len(set.union(*states)) > 1


def test_nothing_is_found_where_no_hit_is_probably_right(
    serve: Serve, shop: Path, backbone: Backbone
) -> None:
    retriever = Retriever.from_pretrained(shop / "shop", backbone=backbone)
    with serve(shop, galleries=True) as client:
        before = client.say("/v1/search", {"model": "shop", "query": "a cat", "k": 3})
    assert before["found"]
    assert {hit["probability"] for hit in before["hits"]} == {None}
    scores = [hit["score"] for hit in before["hits"]]
    curve = {"slope": 100.0, "queries": 10, "wrong": 0.1}
    middle = (scores[0] + scores[1]) / 2

    def calibrated(border: float) -> None:
        (shop / "shop/found.json").write_text("{}")
        from interplay.retrieval.found import FoundCalibration

        values = {**curve, "intercept": -100 * border}
        save_found(shop / "shop", FoundCalibration(retriever.state(), image=values, text=values))

    calibrated(middle)
    with serve(shop, galleries=True) as client:
        found = client.say("/v1/search", {"model": "shop", "query": "a cat", "k": 3})
        assert [hit["score"] for hit in found["hits"]] == [s for s in scores if s > middle]
        assert found["hits"][0]["probability"] > 0.5
        every = client.say("/v1/search", {"model": "shop", "query": "a cat", "k": 3, "least_probability": 0})
        assert len(every["hits"]) == 3
    calibrated(2.0)
    with serve(shop, galleries=True) as client:
        nothing = client.say("/v1/search", {"model": "shop", "query": "a cat", "k": 3})
    assert (nothing["found"], nothing["hits"]) == (False, [])


def test_the_curve_tells_searches_with_an_answer_from_those_without(
    backbone: Backbone, tmp_path: Path
) -> None:
    retriever = Retriever(backbone, "linear_map")
    table = pairs(1, rows=14)
    retriever.learn("one", table)
    found = calibrate_found(retriever, table.split("train"))
    for by, find in (("text", "image"), ("image", "text")):
        curve = found.curve(by, find)  # type: ignore[arg-type]
        assert curve is not None
        assert curve.probability(1.0) > curve.probability(-1.0)
        assert curve.queries == 8
    assert found.curve("image", "image") is None
    save_found(tmp_path, found)
    assert read_found(tmp_path, retriever) == found
    retriever.learn("two", pairs(2))
    assert read_found(tmp_path, retriever) is None  # of another state
    with pytest.raises(InterplayError, match="at least 4 pairs"):
        calibrate_found(retriever, table.split("test"))


def test_a_curve_never_overflows() -> None:
    curve = Curve(1e9, 0.0, 10, 0.0)
    assert (curve.probability(1.0), curve.probability(-1.0)) == pytest.approx((1, 0))
    assert torch.tensor(curve.probability(0.0)) == 0.5


def test_models_are_unloaded_when_nobody_asks_and_loaded_when_somebody_does(serve: Serve) -> None:
    import time

    def loaded(client: Asked) -> set[str]:
        return {one["id"] for one in client.get("/v1/models").json()["data"] if one["loaded"]}

    with serve(idle=0.2) as client:
        assert len(loaded(client)) == 5
        deadline = time.monotonic() + 20
        while len(loaded(client)) > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(loaded(client)) == 1  # one stays, so that readiness has something to try
        assert client.say("/v1/embeddings", {"model": "deep/map", "input": "red"})["data"]
        assert "deep/map" in loaded(client)
    with serve() as client:
        assert client.delete("/v1/models/first").json() == {"id": "first", "object": "model", "deleted": True}
        assert "first" not in loaded(client)
        assert client.delete("/v1/models/first").json()["deleted"] is False
        assert client.say("/v1/models", {"model": "first"})["loaded"]
