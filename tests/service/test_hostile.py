"""Requests that mean harm, or are merely wrong: each is refused, says why, and the next request is answered."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from interplay.service.tokens import Tokens, new_token
from tests.lpi.toy import picture

from .conftest import PAIR, Asked, Serve, encoded, uri

OWN = "first"


@pytest.fixture(scope="module")
def strict(serve: Serve) -> Iterator[Asked]:
    """A service with small limits."""
    with serve(most_items=4, most_bytes=300_000, most_text=200, most_pixels=1_000_000) as client:
        yield client


def png(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG file whose header says any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("../../etc/passwd", "root")
    return file.getvalue()


GOOD = encoded(picture(3, 100))
BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "one pixel": encoded(Image.new("RGB", (1, 1))),
    "one pixel high": encoded(Image.new("RGB", (500, 1))),
    "too many pixels": encoded(Image.new("1", (1001, 1000))),
    "a hundred megapixels": encoded(Image.new("1", (10_000, 10_000))),
    "a header that lies of its size": png(60_000, 60_000, zlib.compress(b"\0" * 100)),
    "a header that lies of a small size": png(900, 900, zlib.compress(b"\0" * 10)),
    "a decompression bomb": png(900, 900, zlib.compress(b"\0" * 50_000_000, 9)[:2000]),
    "cut off": GOOD[: len(GOOD) // 2],
    "only a header": GOOD[:30],
    "text": b"this is no picture",
    "a zip archive": archive(),
    "a gzip file": gzip.compress(GOOD),
    "an SVG that reads a file": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    "a pickle": b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "a TIFF": encoded(Image.new("RGB", (9, 9)), "TIFF"),
    "a PDF": b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_picture_is_named_and_the_next_request_is_answered(strict: Asked, kind: str) -> None:
    body = {"model": OWN, "pairs": [PAIR, {"image": uri(BROKEN[kind]), "text": "red"}]}
    found = strict.refusal("/v1/classify", body, 422)
    assert found["param"] == "pairs[1].image"
    assert strict.say("/v1/classify", {"model": OWN, "pairs": [PAIR]})["results"]


SOURCES = {
    "a path": "/etc/passwd",
    "a path up": "../../../etc/passwd",
    "a file address": "file:///etc/passwd",
    "a web address": "http://example.com/cat.png",
    "a loopback address": "http://127.0.0.1:8000/metrics",
    "a cloud's own address": "http://169.254.169.254/latest/meta-data/",
    "ftp": "ftp://example.com/cat.png",
    "gopher": "gopher://127.0.0.1:6379/_FLUSHALL",
    "a script": "javascript:alert(1)",
    "a data URI of HTML": "data:text/html;base64,PGI+",
    "a data URI without base64": "data:image/png,abc",
    "no base64": "data:image/png;base64,????",
    "a zero byte": "photos/\0.png",
}


@pytest.mark.parametrize("kind", SOURCES)
def test_no_path_is_read_and_no_address_is_fetched(strict: Asked, kind: str) -> None:
    found = strict.refusal(
        "/v1/classify", {"model": OWN, "pairs": [{"image": SOURCES[kind], "text": "red"}]}, 422
    )
    assert found["param"] == "pairs[0].image"
    assert "root:" not in json.dumps(found)


BODIES: dict[str, tuple[str, Any, int, str]] = {
    "a model by its path": ("/v1/classify", {"model": "../first", "pairs": [PAIR]}, 404, "model"),
    "a model by an absolute path": ("/v1/classify", {"model": "/etc", "pairs": [PAIR]}, 404, "model"),
    "a model with a zero byte": ("/v1/classify", {"model": "first\0", "pairs": [PAIR]}, 404, "model"),
    "a model that is half a character": ("/v1/classify", {"model": "\ud800", "pairs": [PAIR]}, 404, "model"),
    "loading a path": ("/v1/models", {"model": "../../tmp/evil"}, 404, "model"),
    "a retriever that classifies": ("/v1/classify", {"model": "shop", "pairs": [PAIR]}, 409, "model"),
    "a classifier that embeds": ("/v1/embeddings", {"model": OWN, "input": "red"}, 409, "model"),
    "no pairs": ("/v1/classify", {"model": OWN, "pairs": []}, 422, "pairs"),
    "too many pairs": ("/v1/classify", {"model": OWN, "pairs": [PAIR] * 5}, 413, "pairs"),
    "a pair of nothing": ("/v1/classify", {"model": OWN, "pairs": [{}]}, 422, "pairs[0].image"),
    "an empty text": ("/v1/embeddings", {"model": "shop", "input": [" "]}, 422, "input[0].text"),
    "a long text": ("/v1/embeddings", {"model": "shop", "input": ["x" * 201]}, 413, "input[0].text"),
    "half a character": ("/v1/embeddings", {"model": "shop", "input": ["a\ud800"]}, 422, "input[0].text"),
    "token ids": ("/v1/embeddings", {"model": "shop", "input": [1, 2]}, 422, "input"),
    "dimensions": ("/v1/embeddings", {"model": "shop", "input": "x", "dimensions": 7}, 422, "dimensions"),
    "an unknown key": ("/v1/classify", {"model": OWN, "pairs": [PAIR], "path": "/etc"}, 422, "path"),
    "abstaining above 1": (
        "/v1/classify",
        {"model": OWN, "pairs": [PAIR], "abstain_below": 2},
        422,
        "abstain_below",
    ),
    "no gallery": ("/v1/search", {"model": "deep/map", "query": "red"}, 404, "model"),
    "no hits wanted": ("/v1/search", {"model": "shop", "query": "red", "k": 0}, 422, "k"),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_request_that_cannot_be_answered_says_which_part(strict: Asked, kind: str) -> None:
    route, body, status, param = BODIES[kind]
    answer = strict.post(
        route, content=json.dumps(body).encode("ascii"), headers={"content-type": "application/json"}
    )
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"].startswith(param)


RAW: dict[str, tuple[bytes, dict[str, str], int]] = {
    "a body that is too large": (b"x" * 300_001, {}, 413),
    "nested without end": (b"[" * 100_000, {}, 400),
    "a number of ten thousand digits": (b'{"model": ' + b"9" * 10_000 + b"}", {}, 400),
    "no JSON": (b"{", {}, 422),
    "not a number": (b'{"model": "first", "pairs": [{"text": "a"}], "abstain_below": NaN}', {}, 422),
    "no UTF-8": (b'{"model": "\xff\xfe"}', {}, 400),
    "another content type": (
        json.dumps({"model": OWN, "pairs": [PAIR]}).encode(),
        {"content-type": "text/plain"},
        422,
    ),
    "a length that is none": (b"{}", {"content-length": "x"}, 413),
    "a page of another site": (b"{}", {"origin": "https://evil.example"}, 403),
    "another host's name": (b"{}", {"host": "rebound.evil.example"}, 403),
    "a host that is none": (b"{}", {"host": "[::1"}, 403),
}


@pytest.mark.parametrize("kind", RAW)
def test_raw_bytes_and_headers_are_refused(strict: Asked, kind: str) -> None:
    content, headers, status = RAW[kind]
    answer = strict.post(
        "/v1/classify", content=content, headers={"content-type": "application/json"} | headers
    )
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]


def test_a_body_without_a_length_is_cut_off_at_the_limit(strict: Asked) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    answer = strict.post("/v1/classify", content=body(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert "300,000" in answer.json()["error"]["message"]


@pytest.fixture(scope="module")
def locked(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Asked, str, str]]:
    """A service with tokens: one for a single model, one that manages all."""
    file = tmp_path_factory.mktemp("tokens") / "tokens.txt"
    shop, operator = new_token(file, "shop", "use", [OWN]), new_token(file, "operator", "manage", [])
    assert shop not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    with serve(tokens=Tokens.read(file)) as client:
        yield client, shop, operator


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer wrong", "Basic {}", "{}", "Bearer {} x", "bearer {}x", "Bearer *"],
)
def test_without_a_token_nothing_is_answered(locked: tuple[Asked, str, str], header: str) -> None:
    client, shop, _ = locked
    headers = {"authorization": header.format(shop)} if header else {}
    for route in ("/v1/models", "/metrics"):
        assert client.get(route, headers=headers).status_code == 401
    found = client.refusal("/v1/classify", {"nonsense": 1}, 401, **headers)
    assert "nonsense" not in json.dumps(found)
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_a_token_uses_its_own_models_alone(locked: tuple[Asked, str, str]) -> None:
    client, shop, operator = locked
    mine = {"authorization": f"Bearer {shop}"}
    assert client.say("/v1/classify", {"model": OWN, "pairs": [PAIR]}, **mine)["results"]
    assert [one["id"] for one in client.get("/v1/models", headers=mine).json()["data"]] == [OWN]
    for route, body in (
        ("/v1/classify", {"model": "second", "pairs": [PAIR]}),
        ("/v1/embeddings", {"model": "shop", "input": "red"}),
        ("/v1/embeddings", {"model": "shop:text", "input": "red"}),
        ("/v1/search", {"model": "shop", "query": "red"}),
        ("/v1/models", {"model": "second"}),
        ("/v1/galleries/shop/entries", {"entries": [{"text": "x"}]}),
        ("/v1/galleries/shop/refresh", {}),
    ):
        hidden = client.refusal(route, body, 404, **mine)
        missing = client.refusal(
            route.replace("shop", "gone"), {**body, "model": "gone"} if "model" in body else body, 404, **mine
        )
        assert hidden["message"].replace("second", "gone").replace("shop", "gone") == missing["message"]
    assert client.get("/v1/models/second", headers=mine).status_code == 404
    assert client.get(f"/v1/galleries/shop/thumbnails/{'0' * 64}", headers=mine).status_code == 404
    assert client.delete("/v1/models/second", headers=mine).status_code == 404
    assert client.delete(f"/v1/models/{OWN}", headers=mine).status_code == 403
    client.refusal("/v1/models", {"model": OWN}, 403, **mine)
    assert len(client.get("/v1/models", headers={"authorization": f"Bearer {operator}"}).json()["data"]) == 5


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/../../etc/passwd",
        "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/v1/models//etc/passwd",
        "/v1/galleries/shop/thumbnails/..%2f..%2fetc%2fpasswd",
        "/v1/galleries/shop/thumbnails/%00",
        "/static/../../etc/passwd",
        "/v1/galleries/shop/thumbnails/" + "g" * 64,
    ],
)
def test_paths_lead_nowhere(asked: Asked, path: str) -> None:
    answer = asked.get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text


def test_metrics_count_routes_and_not_what_was_asked_for(asked: Asked) -> None:
    for number in range(30):
        asked.get(f"/v1/nothing/{number}")
        asked.get(f"/v1/models/none-{number}")
    text = asked.get("/metrics").text
    assert "none-" not in text
    assert "nothing" not in text


def test_pictures_of_every_kind_that_is_read_are_read(strict: Asked) -> None:
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        body = {"model": OWN, "pairs": [{"image": uri(encoded(picture(1, 90), form)), "text": "red"}]}
        assert strict.say("/v1/classify", body)["results"]
    bare = base64.b64encode(GOOD).decode()
    assert strict.say("/v1/classify", {"model": OWN, "pairs": [{"image": bare, "text": "red"}]})["results"]
