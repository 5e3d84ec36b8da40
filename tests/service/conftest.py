"""A folder of trained runs on a small backbone, and a service of it that is asked in-process."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from interplay import Backbone, Classifier, Retriever, load
from interplay.service.app import make_app
from interplay.service.core import Service
from interplay.service.galleries import Galleries
from interplay.service.models import Models
from interplay.service.settings import ServiceSettings
from interplay.service.tokens import Tokens
from tests.lpi.toy import QUICK, SMALL, pairs, picture

CLASSIFIERS = ("first", "second", "third")
Serve = Callable[..., "contextlib.AbstractContextManager[Asked]"]


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    """The bytes of a picture's file."""
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def uri(content: bytes) -> str:
    """A data URI."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


PICTURE = uri(encoded(picture(3, 100)))
PAIR = {"image": PICTURE, "text": "red"}


class Asked(TestClient):
    """A service that is asked in-process."""

    service: Service

    def say(self, route: str, body: Any, **headers: str) -> Any:
        """The JSON of an answer that must be one."""
        answer = self.post(route, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refusal(self, route: str, body: Any, status: int, **headers: str) -> dict[str, Any]:
        """What an answer says is wrong, which must be that."""
        answer = self.post(route, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()["error"]
        return found


def classifier(backbone: Backbone, folder: Path, seed: int = 0, **arguments: Any) -> Classifier:
    """A trained classifier of two classes, saved."""
    rows: dict[str, Any] = {
        "image": [picture(i, 100 + 10 * i) for i in range(8)],
        "text": ["red", "blue"] * 4,
        "label": ["r", "b"] * 4,
        "split": ["train"] * 4 + ["validation"] * 4,
    }
    found = Classifier(
        backbone, "mitp", settings={"layers": [3], "length": 2, "hidden": 2}, seed=seed, **arguments
    )
    found.fit(load(rows), settings=QUICK)
    found.save_pretrained(folder)
    return found


@pytest.fixture(scope="session")
def runs(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classifiers, two retrievers, and the gallery of one of them."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(CLASSIFIERS):
        classifier(backbone, folder / name, seed, head={"kind": "pair"})
    photos = [folder / f"photos/{i}.png" for i in range(6)]
    photos[0].parent.mkdir()
    for i, path in enumerate(photos):
        picture(i, 20 * i).save(path)
    retriever = Retriever(backbone, "lpi-m", settings=SMALL)
    for task in range(2):
        retriever.learn(f"task {task}", pairs(task), settings=QUICK)
    retriever.save_pretrained(folder / "shop")
    retriever.index(photos, texts=["a cat", "a dog"], uri=folder / "shop/gallery.db", progress=False).close()
    other = Retriever(backbone, "linear_map")
    other.learn("one", pairs(1))
    other.save_pretrained(folder / "deep/map")
    return folder


@pytest.fixture(scope="session")
def serve(runs: Path, backbone: Backbone) -> Serve:
    """A function that serves the runs, or other ones."""

    @contextlib.contextmanager
    def started(
        folder: Path = runs,
        tokens: Tokens | None = None,
        galleries: bool = False,
        page: bool = True,
        root_path: str = "",
        **settings: Any,
    ) -> Iterator[Asked]:
        models = Models(folder, lambda name: backbone)
        service = Service(models, ServiceSettings(**settings), Galleries(served=galleries))
        app = make_app(service, tokens=tokens, page=page)
        with Asked(app, base_url="http://localhost", root_path=root_path) as client:
            client.service = service
            assert client.portal is not None
            client.portal.call(service.start, None)
            try:
                yield client
            finally:
                client.portal.call(service.close)

    return started


@pytest.fixture(scope="module")
def asked(serve: Serve) -> Iterator[Asked]:
    """A service of the runs with the usual limits, and with their galleries."""
    with serve(galleries=True) as client:
        yield client
