"""Files of every kind where a command expects a table, a picture, metadata or texts; and what blocks or never ends."""

from __future__ import annotations

import csv
import gzip
import os
import random
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import World
from .judge import QUICK_AND_WHOLE, Tally, some

TABLES = {
    "nothing": "",
    "a space": " ",
    "one line": "image,text,label\n",
    "a header alone": "image,text,label",
    "no columns": "\n\n\n",
    "other columns": "a,b\n1,2\n",
    "a column twice": "image,image,text,label\n0.png,0.png,x,y\n",
    "too few cells": "image,text,label\n0.png\n",
    "too many cells": "image,text,label\n0.png,x,y,z,w\n",
    "an open quote": 'image,text,label\n0.png,"x,y\n',
    "a quote in the middle": 'image,text,label\n0.png,a"b"c,y\n',
    "a zero byte": "image,text,label\n0.png,a\0b,y\n",
    "semicolons": "image;text;label\n0.png;x;y\n",
    "no text": "image,text,label\n0.png,,y\n",
    "blank text": "image,text,label\n0.png,   ,y\n",
    "no image": "image,text,label\n,x,y\n",
    "an image that is a folder": "image,text,label\n.,x,y\n",
    "an image that is a device": "image,text,label\n/dev/zero,x,y\n",
    "an image of the net": "image,text,label\nhttp://localhost/0.png,x,y\n",
    "an image with a zero byte": "image,text,label\na\0b.png,x,y\n",
    "an image with a long name": f"image,text,label\n{'x' * 5000},x,y\n",
    "a text that never ends": f"image,text,label\n0.png,{'x ' * 200_000},y\n",
    "a split that is none": "image,text,label,split\n0.png,x,y,tset\n",
    "one class": "image,text,label,split\n" + "0.png,x,y,train\n" * 3 + "0.png,x,y,validation\n",
    "one row": "image,text,label\n0.png,x,y\n",
    "a thousand columns": ",".join(f"c{at}" for at in range(1000)) + "\n",
    "carriage returns": "image,text,label\r0.png,x,y\r",
    "byte order mark in the middle": "image,text,label\n\ufeff0.png,x,y\n",
    "right to left": "image,text,label\n0.png,\u202eabc,\u202ey\n",
    "a class of 9,000 letters": f"image,text,label\n0.png,x,{'y' * 9000}\n",
    "9,000 classes": "image,text,label,split\n" + "".join(f"0.png,x,c{a},test\n" for a in range(90)),
    "ids twice": "id,image,text,label\n1,0.png,x,y\n1,0.png,x,z\n",
}
"""CSV files beside `0.png`."""
LINES = (
    "",
    "{}",
    "[]",
    "null",
    "1",
    '"x"',
    "{",
    '{"image": 1, "text": 2, "label": 3}',
    '{"image": null, "text": "x", "label": "y"}',
    '{"image": "0.png", "text": ["x"], "label": "y"}',
    '{"image": "0.png", "text": "x", "label": null}',
    '{"image": "0.png", "text": "x", "label": NaN}',
    '{"image": "0.png", "text": "x", "label": ["y"]}',
    '{"image": "0.png", "text": "x", "label": {"y": 1}}',
    '{"image": "0.png", "text": "x", "labels": "y"}',
    '{"image": "0.png", "text": "x", "labels": [null]}',
    '{"image": "0.png", "text": "x", "labels": [[]]}',
    '{"image": "0.png", "text": "\\ud800", "label": "y"}',
    '{"image": "\\ud800.png", "text": "x", "label": "y"}',
    '{"image": "\\u0000", "text": "x", "label": "y"}',
    '{"image": ["0.png"], "text": "x", "label": "y"}',
    '{"image": {"bytes": "x"}, "text": "x", "label": "y"}',
    '{"image": "0.png", "text": "x", "label": "y", "split": 1}',
    '{"image": "0.png", "text": "x", "label": "y", "task": []}',
    '{"image": "0.png", "text": "x", "label": "y", "id": {}}',
    '{"image": "0.png", "image": "1.png", "text": "x", "label": "y"}',
    '{"image": "0.png", "text": "x", "label": ' + "9" * 5000 + "}",
    '{"image": "0.png", "text": "x", "label": ' + "[" * 50_000 + "}",
)
"""JSONL files of one line."""


def png(width: int, height: int, colour: int = 2, depth: int = 8, body: bytes = b"") -> bytes:
    """A PNG file that says so of itself, whatever its body holds."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


def pictures(whole: bytes) -> dict[str, bytes]:
    """Files that are no pictures, or bad ones."""
    found = {
        "empty": b"",
        "text": b"not a picture",
        "zeros": bytes(5000),
        "a header alone": whole[:33],
        "a bomb": png(60_000, 60_000),
        "no pixels": png(0, 0),
        "a line": png(1, 9),
        "one pixel": png(1, 1, body=b"\0\1\2\3"),
        "a wide line": png(4_000_000, 1),
        "another colour type": png(9, 9, colour=5),
        "another depth": png(9, 9, depth=7),
        "gif": b"GIF89a" + bytes(40),
        "bmp": b"BM" + bytes(60),
        "tiff": b"II*\0" + bytes(60),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "pdf": b"%PDF-1.4",
        "webp": b"RIFF\x10\0\0\0WEBPVP8 ",
        "jpeg": b"\xff\xd8\xff\xe0" + bytes(20) + b"\xff\xd9",
        "gzip": gzip.compress(whole),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }
    return found | {f"cut at {at}": whole[:at] for at in range(1, len(whole), max(1, len(whole) // 20))}


def readers(world: World, table: Path, out: Path) -> list[list[object]]:
    """Commands that read a table, each in another way."""
    return [
        ["data", "show", table],
        ["data", "show", table, "--on-bad-row", "skip", "--out", out.with_suffix(".png")],
        ["predict", world.run, "--table", table],
        ["evaluate", world.run, "--data", table, "--split", "all"],
        ["train", "--method", "text_probe", "--data", table, "--out", out, "--on-bad-row", "skip"],
        ["learn", world.retriever, "--task", "new", "--data", table, "--epochs", 1],
    ]


@QUICK_AND_WHOLE
def test_tables(every: int, world: World, folder: Path, tally: Tally) -> None:
    files = {f"{at}.csv": text for at, text in enumerate(TABLES.values())}
    files |= {f"{at}.jsonl": text + "\n" for at, text in enumerate(LINES)}
    files |= {f"{at}.json": f"[{text}]" for at, text in enumerate(LINES)}
    files |= {f"{at}.tsv": text.replace(",", "\t") for at, text in enumerate(list(TABLES.values())[:6])}
    calls = []
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
        calls += readers(world, folder / name, folder / "out")[:5]
    for at in some(len(calls), every):
        tally.command(calls[at])
    tally.check()


@QUICK_AND_WHOLE
def test_bytes_that_are_no_table(every: int, world: World, folder: Path, tally: Tally) -> None:
    rows = "image,text,label\n0.png,ä,y\n"
    contents = [
        rows.encode("utf-16"),
        rows.encode("latin-1"),
        rows.encode("utf-32"),
        b"\xef\xbb\xbf" + rows.encode(),
        bytes(range(256)) * 20,
        b"PAR1" + bytes(100) + b"PAR1",
        b"PK\3\4" + bytes(60),
        gzip.compress(rows.encode()),
        bytes(100_000),
    ]
    calls = []
    for at, content in enumerate(contents):
        for suffix in ("csv", "jsonl", "json", "tsv", "parquet"):
            path = folder / f"{at}.{suffix}"
            path.write_bytes(content)
            calls += readers(world, path, folder / "out")[:3]
    for at in some(len(calls), every):
        tally.command(calls[at])
    tally.check()


CELLS = st.sampled_from(
    [
        "0.png",
        "1.png",
        "",
        " ",
        "x",
        "y|z",
        "|",
        "null",
        "nan",
        "train",
        "1",
        "1e9",
        "é",
        '"',
        "'",
        "a\nb",
        "=1+1",
        "\t",
    ]
)
NAMES = st.sampled_from(
    ["image", "text", "label", "labels", "captions", "split", "task", "id", "file_name", "", "x"]
)


@pytest.mark.parametrize("times", [2, pytest.param(300, marks=pytest.mark.slow)])
def test_tables_of_any_cells(times: int, world: World, folder: Path, tally: Tally) -> None:
    path = folder / "table.csv"

    @settings(max_examples=times, deadline=None, derandomize=True, database=None)
    @given(st.lists(NAMES, min_size=1, max_size=6), st.lists(st.lists(CELLS, max_size=7), max_size=6))
    def tried(header: list[str], rows: list[list[str]]) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        tally.command(["predict", world.run, "--table", path])
        tally.command(["data", "show", path])

    tried()
    tally.check()


@QUICK_AND_WHOLE
def test_pictures(every: int, world: World, folder: Path, tally: Tally) -> None:
    made = pictures(world.picture.read_bytes())
    calls: list[tuple[str, list[object]]] = []
    for at, (what, content) in enumerate(made.items()):
        path = folder / f"{at}.png"
        path.write_bytes(content)
        must = "refused" if what not in ("one pixel", "a line", "a wide line") and "cut" not in what else ""
        calls += [
            (must, ["predict", world.run, "--image", path, "--text", "x"]),
            (must, ["search", world.retriever, "--image", path]),
            (must, ["index", world.retriever, "--images", path, "--gallery", folder / "gallery.db"]),
        ]
    for at in some(len(calls), every):
        tally.command(calls[at][1], must=calls[at][0])
    tally.check()


@pytest.mark.slow
@pytest.mark.parametrize("times", [120])
def test_pictures_with_flipped_bytes(times: int, world: World, folder: Path, tally: Tally) -> None:
    whole = world.picture.read_bytes()
    draw = random.Random(0)
    for at in range(times):
        broken = bytearray(whole)
        for _ in range(1 + at % 4):
            broken[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        (folder / "broken.png").write_bytes(broken)
        tally.command(["predict", world.run, "--image", folder / "broken.png", "--text", "x"])
    tally.check()


@pytest.mark.slow
def test_what_blocks_or_never_ends(world: World, folder: Path, tally: Tally) -> None:
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe.csv")
    pipe, table = folder / "pipe.png", folder / "pipe.csv"
    (folder / "with-pipe.csv").write_text("image,text,label\npipe.png,x,y\n0.png,x,z\n")
    (folder / "zero.csv").symlink_to("/dev/zero")
    for words in (
        ["predict", world.run, "--image", pipe, "--text", "x"],
        ["predict", world.run, "--table", table],
        ["predict", world.run, "--table", folder / "with-pipe.csv"],
        ["data", "show", table],
        ["data", "show", folder / "zero.csv"],
        ["evaluate", world.run, "--data", folder / "with-pipe.csv"],
        ["search", world.retriever, "--image", pipe],
        ["index", world.retriever, "--images", pipe, "--gallery", folder / "g"],
        ["index", world.retriever, "--texts", table, "--gallery", folder / "g"],
        ["index", world.retriever, "--images", world.picture, "--metadata", table, "--gallery", folder / "g"],
        ["train", "--config", table, "--data", world.toy, "--out", folder / "out"],
        ["compare", "--grid", table, "--out", folder / "out"],
        ["info", "--method", "mitp", "--set", "length=100000"],
        ["train", "--method", "mitp", "--data", world.toy, "--out", folder / "out", "--set", "length=100000"],
        [
            "train",
            "--method",
            "mitp",
            "--data",
            world.toy,
            "--out",
            folder / "out",
            "--set",
            "layers=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        ],
        ["info", "--method", "mitp", "--set", "hidden=10000000"],
    ):
        tally.command(words, must="refused")
    tally.check()
