"""The page under `/ui`: its handlers asked directly, and its way in over HTTP."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Awaitable
from html import unescape
from pathlib import Path
from typing import Any, TypeVar

import pytest

from interplay.service.page import markup
from interplay.service.page.handlers import Handlers
from interplay.service.requests import Found
from interplay.service.tokens import ANYONE, Holder, Tokens, new_token

from .conftest import PICTURE, Asked, Serve

T = TypeVar("T")
READER = Holder("reader", ("first",), "use")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.*")


class Paged:
    """Handlers that are asked on the event loop of their service."""

    def __init__(self, asked: Asked) -> None:
        self.counted: list[tuple[str, int]] = []
        self.handlers = Handlers(asked.service, lambda model, items: self.counted.append((model, items)))
        self._asked = asked

    def say(self, answer: Awaitable[T]) -> T:
        async def waited() -> T:
            return await answer

        assert self._asked.portal is not None
        return self._asked.portal.call(waited)


@pytest.fixture
def paged(asked: Asked) -> Paged:
    return Paged(asked)


def words(html: str) -> str:
    """The text of an answer."""
    return " ".join(unescape(re.sub("<[^>]+>", " ", html)).split())


def test_classify_shows_a_bar_a_class_what_decided_and_abstains(paged: Paged, asked: Asked) -> None:
    found = paged.say(paged.handlers.classify(ANYONE, "first", PICTURE, "red", 0))
    (result,) = asked.say("/v1/classify", {"model": "first", "pairs": [{"image": PICTURE, "text": "red"}]})[
        "results"
    ]
    for label, share in result["probabilities"].items():
        assert f"{label} {share:.1%}" in words(found)
    assert "Decided by the picture and the text." in words(found)
    assert paged.counted == [("first", 1)]
    assert "Abstained" in paged.say(paged.handlers.classify(ANYONE, "first", PICTURE, "red", 100))


def test_search_shows_hits_with_scores_routes_and_thumbnails(paged: Paged) -> None:
    found = paged.say(paged.handlers.search(ANYONE, "shop", "a cat", "", "Pictures", 3, ""))
    assert found.count("data:image/jpeg;base64,") == 3
    assert words(found).count("score ") == words(found).count("route ") == 3
    by_picture = paged.say(paged.handlers.search(ANYONE, "shop", "", PICTURE, "Texts", 2, ""))
    assert "a cat" in words(by_picture)
    assert "<img" not in by_picture
    filtered = paged.say(paged.handlers.search(ANYONE, "shop", "a cat", "", "Pictures", 3, "price < 0"))
    assert "no column of metadata called &#x27;price&#x27;" in filtered
    assert "Nothing found" in markup.hits(Found([], []), [])


def test_what_cannot_be_answered_is_said_in_the_pages_words_and_escaped(paged: Paged) -> None:
    say, page = paged.say, paged.handlers
    assert "Choose a classifier first." in say(page.classify(ANYONE, "", PICTURE, "red", 0))
    assert "The picture is no" in say(page.classify(ANYONE, "first", "data:image/png;base64,AAAA", "red", 0))
    assert "The question has no image" in say(page.classify(ANYONE, "first", "", "red", 0))
    assert "&lt;b&gt;" in say(page.classify(ANYONE, "<b>", "", "red", 0))
    assert "has no gallery" in say(page.search(ANYONE, "deep/map", "a cat", "", "Pictures", 3, ""))


def test_a_holder_sees_and_asks_its_own_models_alone(paged: Paged) -> None:
    say, page = paged.say, paged.handlers
    assert page.models(READER) == page.classifiers(READER) == ["first"]
    assert page.galleries(READER) == page.retrievers(READER) == []
    assert "second" not in page.table(READER)
    assert "There is no model 'shop'." in words(
        say(page.search(READER, "shop", "a cat", "", "Pictures", 3, ""))
    )
    assert "There is no model 'shop'." in words(say(page.gallery(READER, "shop")))
    for change in (page.load, page.unload):
        assert "may use models, not load" in say(change(READER, "first"))


def test_gallery_shows_entries_and_sessions_and_refreshes(paged: Paged) -> None:
    shown = words(paged.say(paged.handlers.gallery(ANYONE, "shop")))
    assert shown.startswith("8 entries.")
    assert "1 task 0 2 task 1" in shown

    async def all_of() -> list[str]:
        return [one async for one in paged.handlers.refresh(ANYONE, "shop")]

    *during, last = paged.say(all_of())
    assert all("Refreshing for" in one for one in during)
    assert during
    assert "8 entries seen" in last
    (refused,) = paged.say(all_of_reader(paged))
    assert "There is no model" in refused


async def all_of_reader(paged: Paged) -> list[str]:
    said = [one async for one in paged.handlers.refresh(READER, "shop")]
    return said[-1:]


def test_models_are_loaded_and_unloaded(paged: Paged) -> None:
    say, page = paged.say, paged.handlers
    assert "second is unloaded." in say(page.unload(ANYONE, "second"))
    assert "on disk" in page.table(ANYONE)
    assert "second is loaded." in say(page.load(ANYONE, "second"))
    assert "it stays loaded" in say(page.unload(ANYONE, "shop"))


def test_the_page_answers_under_a_prefix_with_nothing_from_outside(serve: Serve) -> None:
    with serve(root_path="/shop") as client:
        answer = client.get("/shop/ui/")
        assert answer.status_code == 200
        assert "fonts.googleapis" not in answer.text
        config = client.get("/shop/ui/config").json()
        assert config["analytics_enabled"] is False
        assert config["root"].endswith("/shop/ui")
        labels = {one["props"].get("label") for one in config["components"] if one["type"] == "tabitem"}
        assert labels == {"Classify", "Search", "Gallery and sessions", "Models"}


EVENT = {"fn_index": 1, "session_hash": "abc", "data": ["first", "", "red", 0]}


def test_gradios_further_routes_and_files_in_events_are_refused(serve: Serve) -> None:
    with serve() as client:
        for route in (
            "proxy=http://127.0.0.1/",
            "file=/etc/passwd",
            "upload",
            "stream/x",
            "run/x",
            "call/x",
            "runs",
        ):
            assert client.get(f"/ui/gradio_api/{route}").status_code == 404
            assert client.post(f"/ui/gradio_api/{route}").status_code == 404
        file = {"path": "http://127.0.0.1/x", "meta": {"_type": "gradio.FileData"}}
        for data in ([file, "", "red", 0], [[file], "", "red", 0], {"a": file}, None):
            client.refusal("/ui/gradio_api/queue/join", EVENT | {"data": data}, 422)
        assert client.post("/ui/gradio_api/queue/join", content=b"[" * 9000).status_code == 422


def test_an_event_is_answered_over_http(serve: Serve) -> None:
    with serve() as client:
        client.say("/ui/gradio_api/queue/join", _event(client, "classify", ["first", PICTURE, "red", 0]))
        assert "Decided by" in client.get("/ui/gradio_api/queue/data?session_hash=abc").text


def _event(client: Asked, button: str, data: list[Any]) -> dict[str, Any]:
    """What the page sends when a button is pressed."""
    config = client.get("/ui/config").json()
    (at,) = [one["id"] for one in config["components"] if one["props"].get("elem_id") == button]
    (event,) = [one["id"] for one in config["dependencies"] if [at, "click"] in one["targets"]]
    return {"fn_index": event, "session_hash": "abc", "data": data, "trigger_id": at}


def test_with_tokens_the_page_asks_for_one_and_shows_its_models_alone(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "tokens.txt"
    token = new_token(file, "reader", "use", ["first"])
    with serve(tokens=Tokens.read(file)) as client:
        client.follow_redirects = False
        for closed in ("/ui/config", "/ui/assets/index.js", "/ui/gradio_api/info"):
            assert client.get(closed).status_code == 401
        assert client.post("/ui/gradio_api/queue/join", json=EVENT).status_code == 401
        assert client.get("/ui/").headers["location"] == "/ui/login"
        assert 'type="password"' in client.get("/ui/login").text
        assert client.post("/ui/login", data={"token": "wrong"}).status_code == 401
        entered = client.post("/ui/login", data={"token": token})
        assert entered.headers["location"] == "/ui/"
        assert {"HttpOnly", "SameSite=strict", "Path=/ui"} <= set(entered.headers["set-cookie"].split("; "))
        assert client.get("/ui/").status_code == 200
        for model, said in (("first", "Decided by"), ("second", "There is no model")):
            client.say("/ui/gradio_api/queue/join", _event(client, "classify", [model, PICTURE, "red", 0]))
            assert said in client.get("/ui/gradio_api/queue/data?session_hash=abc").text
        other = {"origin": "http://localhost:3000"}
        assert client.post("/ui/gradio_api/queue/join", json=EVENT, headers=other).status_code == 403
        cookie = {"cookie": f"interplay_token={token}"}
        assert client.get("/v1/models", headers=cookie).status_code == 401  # it opens the page alone
        client.cookies.clear()
        stale = client.get("/ui/", headers={"cookie": "interplay_token=gone"})
        assert stale.headers["location"] == "/ui/login"


def test_a_service_without_the_page_has_none_and_one_with_it_imports_gradio_when_it_is_opened(
    serve: Serve,
) -> None:
    with serve(page=False) as client:
        assert client.get("/ui/").status_code == 404
    code = "import interplay.service.run, sys; print('gradio' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout == "False\n"


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of two colours, `#rrggbb`."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


TEXT = [
    ("body-text-color", "body-background-fill"),
    ("body-text-color", "background-fill-primary"),
    ("body-text-color", "input-background-fill"),
    ("body-text-color-subdued", "body-background-fill"),
    ("body-text-color-subdued", "background-fill-primary"),
    ("block-title-text-color", "block-background-fill"),
    ("block-label-text-color", "block-label-background-fill"),
    ("block-info-text-color", "block-background-fill"),
    ("input-placeholder-color", "input-background-fill"),
    ("button-primary-text-color", "button-primary-background-fill"),
    ("button-primary-text-color-hover", "button-primary-background-fill-hover"),
    ("button-secondary-text-color", "button-secondary-background-fill"),
    ("button-secondary-text-color-hover", "button-secondary-background-fill-hover"),
    ("checkbox-label-text-color", "checkbox-label-background-fill"),
    ("checkbox-label-text-color-selected", "checkbox-label-background-fill-selected"),
]
PARTS = [("input-border-color", "input-background-fill"), ("color-accent", "body-background-fill")]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(mode: str) -> None:
    from interplay.service.page.looks import theme

    light, dark = theme()._get_theme_css().split(".dark", 1)
    values = dict(re.findall(r"--([\w-]+): ([^;]+);", light))
    if mode == "dark":
        values |= dict(re.findall(r"--([\w-]+): ([^;]+);", dark))

    def colour(name: str) -> str:
        value = values[name].strip()
        while value.startswith("var(--"):
            value = values[value[6:-1]].strip()
        return {"white": "#ffffff", "black": "#000000"}.get(value, value)

    for pairs, least in ((TEXT, 4.5), (PARTS, 3.0)):
        for front, back in pairs:
            assert contrast(colour(front), colour(back)) >= least, (front, back)
    assert contrast("#777777", "#ffffff") < 4.5 < contrast("#767676", "#ffffff")


def test_under_a_prefix_the_ways_in_are_the_same_and_the_parts_of_the_page_are_not_counted(
    serve: Serve, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.txt"
    token = new_token(file, "reader", "use", ["first"])
    with serve(tokens=Tokens.read(file), root_path="/shop", rate="2/minute") as client:
        client.follow_redirects = False
        assert client.get("/shop/healthz").status_code == 200
        assert client.get("/shop/ui/").headers["location"] == "/shop/ui/login"
        entered = client.post("/shop/ui/login", data={"token": token})
        assert entered.headers["location"] == "/shop/ui/"
        assert "Path=/shop/ui" in entered.headers["set-cookie"].split("; ")
        assert {client.get("/shop/ui/").status_code for _ in range(4)} == {200}
        client.cookies.clear()
        tried = [client.post("/shop/ui/login", data={"token": "guess"}).status_code for _ in range(3)]
        assert tried == [401, 429, 429]  # the first of two was right
