"""The Python API, given what nobody means: an `InterplayError` of one sentence, or an answer."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from interplay import AdapterBank, Classifier, Retriever, TrainSettings, load, load_backbone
from interplay.metrics.calibration import Calibration
from interplay.towers.backbone import Backbone

from .conftest import World
from .judge import Tally

THINGS: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    float("nan"),
    10**30,
    10**5000,
    "",
    " ",
    "x",
    "x" * 5000,
    "\0",
    "\ud800",
    b"",
    b"x",
    [],
    [None],
    [1],
    [""],
    ["\ud800"],
    ["x", "x"],
    [["x"]],
    (),
    {},
    {"x": 1},
    {1: 2},
    {"layers": None},
    {"kind": []},
    set(),
    {"x"},
    range(3),
    iter(["x"]),
    object(),
    print,
    Path("none"),
    Path("/dev/null"),
    np.zeros(0),
    np.zeros((3, 3)),
    np.array(["x", None], dtype=object),
    torch.zeros(0),
    torch.zeros(3, 4, 4),
    torch.full((3, 4, 4), float("nan")),
    Image.new("RGB", (1, 1)),
    Image.new("1", (3, 3)),
    io.BytesIO(b""),
    io.StringIO("x"),
    complex(1, 1),
)
"""One of every kind."""


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def classifier(world: World, tiny: Backbone) -> Classifier:
    return Classifier.from_pretrained(world.run, backbone=tiny)


@pytest.fixture(scope="module")
def retriever(world: World, tiny: Backbone) -> Retriever:
    return Retriever.from_pretrained(world.retriever, backbone=tiny)


QUICK_AND_WHOLE = pytest.mark.parametrize("every", [47, pytest.param(1, marks=pytest.mark.slow)])
Calls = dict[str, Callable[[Any], Any]]


def tried(calls: Calls, every: int, tally: Tally) -> None:
    """Every call with every thing, or every so manyth of them."""
    at = 0
    for name, call in calls.items():
        for thing in THINGS:
            at += 1
            if at % every == 0:
                tally.call(f"{name.format(_short(thing))}", lambda call=call, thing=thing: call(thing))  # type: ignore[misc]
    tally.check()


def _short(thing: Any) -> str:
    if isinstance(thing, int) and thing > 10**40:
        return "10**5000"
    return f"{thing!a:.60}"


@QUICK_AND_WHOLE
def test_making(every: int, tiny: Backbone, tally: Tally) -> None:
    tried(
        {
            "Classifier({})": lambda x: Classifier(x),
            "Classifier(method={})": lambda x: Classifier(tiny, x),
            "Classifier(labels={})": lambda x: Classifier(tiny, labels=x),
            "Classifier(kind={})": lambda x: Classifier(tiny, kind=x),
            "Classifier(settings={})": lambda x: Classifier(tiny, settings=x),
            "Classifier(head={})": lambda x: Classifier(tiny, head=x),
            "Classifier(multi_loss={})": lambda x: Classifier(tiny, multi_loss=x),
            "Classifier(seed={})": lambda x: Classifier(tiny, seed=x),
            "Classifier.from_pretrained({})": lambda x: Classifier.from_pretrained(x, backbone=tiny),
            "Retriever({})": lambda x: Retriever(x),
            "Retriever(method={})": lambda x: Retriever(tiny, x),
            "Retriever(settings={})": lambda x: Retriever(tiny, settings=x),
            "Retriever(seed={})": lambda x: Retriever(tiny, seed=x),
            "Retriever.from_pretrained({})": lambda x: Retriever.from_pretrained(x, backbone=tiny),
            "AdapterBank({})": lambda x: AdapterBank(x),
            "load_backbone({})": load_backbone,
        },
        every,
        tally,
    )


@QUICK_AND_WHOLE
def test_settings(every: int, tally: Tally) -> None:
    calls: Calls = {}
    for kind in (TrainSettings, Calibration):
        for field in fields(kind):
            calls[f"{kind.__name__}({field.name}={{}})"] = lambda x, kind=kind, name=field.name: kind(
                **{name: x}
            )
    tried(calls, every, tally)


@QUICK_AND_WHOLE
def test_predicting(every: int, world: World, classifier: Classifier, tally: Tally) -> None:
    picture = str(world.picture)
    tried(
        {
            "predict({}, …)": lambda x: classifier.predict(x, ["a red square"]),
            "predict(…, {})": lambda x: classifier.predict([picture], x),
            "predict([{}], …)": lambda x: classifier.predict([x], ["a red square"]),
            "predict(…, [{}])": lambda x: classifier.predict([picture], [x]),
            "predict_proba({0}, {0})": lambda x: classifier.predict_proba(x, x),
            "predict(abstain_below={})": lambda x: classifier.predict([picture], ["x"], abstain_below=x),
            "evaluate({})": lambda x: classifier.evaluate(x),
            "evaluate(split={})": lambda x: classifier.evaluate(str(world.toy), x),
            "calibrate({})": lambda x: classifier.calibrate(x),
            "to({})": lambda x: classifier.to(x),
        },
        every,
        tally,
    )


@QUICK_AND_WHOLE
def test_fitting(every: int, world: World, tiny: Backbone, tally: Tally, tmp_path: Path) -> None:
    def classifier() -> Classifier:
        return Classifier(tiny, "text_probe")

    tried(
        {
            "fit({})": lambda x: classifier().fit(x),
            "fit(settings={})": lambda x: classifier().fit(str(world.toy), settings=x),
            "fit(run={})": lambda x: classifier().fit(str(world.toy), run=x if isinstance(x, int) else None),
            "load({})": load,
            "load(columns={})": lambda x: load(str(world.toy), columns=x),
            "load(on_bad_row={})": lambda x: load(str(world.toy), on_bad_row=x),
            "load(seed={})": lambda x: load(str(world.toy), seed=x),
        },
        every,
        tally,
    )


@QUICK_AND_WHOLE
def test_retrieving(
    every: int,
    world: World,
    retriever: Retriever,
    tiny: Backbone,
    tally: Tally,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with retriever.index([], uri=world.retriever / "gallery.db") as gallery:
        tried(
            {
                "encode_images({})": retriever.encode_images,
                "encode_images([{}])": lambda x: retriever.encode_images([x]),
                "encode_texts({})": retriever.encode_texts,
                "encode_texts([{}])": lambda x: retriever.encode_texts([x]),
                "encode_texts(task={})": lambda x: retriever.encode_texts(["x"], task=x),
                "learn({})": lambda x: retriever.learn(x, str(world.toy)),
                "learn(…, {})": lambda x: retriever.learn("new", x),
                "forget({})": lambda x: Retriever(tiny).forget(x),
                "search({})": gallery.search,
                "search(k={})": lambda x: gallery.search("red", x),
                "search(where={})": lambda x: gallery.search("red", where=x),
                "search(find={})": lambda x: gallery.search("red", find=x),
                "add_images({})": gallery.add_images,
                "add_images([{}])": lambda x: gallery.add_images([x], progress=False),
                "add_texts([{}])": lambda x: gallery.add_texts([x], progress=False),
                "add_texts(…, [{}])": lambda x: gallery.add_texts(["x"], [x], progress=False),
                "remove({})": gallery.remove,
            },
            every,
            tally,
        )
