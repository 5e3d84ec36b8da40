"""The tasks on scenes: balanced by counting, true by an oracle that reads the boxes, nothing of test in training."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interplay.data import PairTable, load
from interplay.data.paths import cache_folder
from interplay.data.scenes import SCENES, objects, shards
from interplay.data.scenes import table as tables
from interplay.data.scenes.scene import PIXELS, Placed, Scene
from interplay.data.scenes.sprites import Sprites
from interplay.data.scenes.table import _TASKS, PAIRS
from interplay.data.splits import SPLITS, Split
from interplay.errors import InterplayError

COLOURED = ("scenes/bind", "scenes/pick", "scenes/entail")
CODES = {  # zlib.crc32 of all rows of the full-size sets without their pictures
    "scenes/bind": 3017158863,
    "scenes/where": 1569671654,
    "scenes/pick": 513481991,
    "scenes/entail": 3137440174,
    "scenes/confound": 4191588545,
}


def rows_of(name: str, split: Split, train: int = PAIRS["train"]) -> list[dict[str, Any]]:
    """The rows of a set without their pictures; `picture` numbers them, `scene` is what it shows."""
    task = _TASKS[name]
    blocks = list(islice(task.blocks(split), task.count(split, train)))
    scenes = [scene for block in blocks for scene in block.scenes]
    return [
        {**row, "picture": number, "scene": scene}
        for at in range(task.texts)
        for number, (row, scene) in enumerate(zip(tables.rows_of(blocks, split, at), scenes, strict=True))
    ]


@pytest.fixture(scope="module")
def full() -> dict[tuple[str, Split], list[dict[str, Any]]]:
    return {(name, split): rows_of(name, split) for name in SCENES for split in SPLITS}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, PairTable]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERPLAY_CACHE", str(tmp_path_factory.mktemp("scenes")))
        yield {name: load(f"{name}?train=48") for name in SCENES}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", SCENES)
def test_every_picture_and_every_text_is_equally_often_under_each_label(
    full: dict[tuple[str, Split], list[dict[str, Any]]], name: str, split: Split
) -> None:
    rows, labels = full[name, split], _TASKS[name].labels
    expected = PAIRS[split] - (4 if (name, split) == ("scenes/entail", "validation") else 0)
    assert len(rows) == len({row["id"] for row in rows}) == expected
    for key in ("picture", "text", "block"):
        count = Counter((row[key], row["label"]) for row in rows)
        assert all(
            count[value, label] == count[value, labels[0]] for value, _ in list(count) for label in labels
        )
    assert {row["label"] for row in rows} == set(labels)


@pytest.mark.parametrize("name", ["scenes/bind", "scenes/where", "scenes/pick", "scenes/confound"])
def test_blocks_are_quadruples(full: dict[tuple[str, Split], list[dict[str, Any]]], name: str) -> None:
    blocks: dict[str, list[dict[str, Any]]] = {}
    for row in full[name, "test"]:
        blocks.setdefault(row["block"], []).append(row)
    for rows in blocks.values():
        assert len(rows) == 4
        assert len({(row["picture"], row["text"]) for row in rows}) == 4
        assert len({row["picture"] for row in rows}) == len({row["text"] for row in rows}) == 2


@pytest.mark.parametrize("name", ["scenes/bind", "scenes/where"])
def test_both_scenes_and_both_sentences_of_a_quadruple_have_the_same_parts(
    full: dict[tuple[str, Split], list[dict[str, Any]]], name: str
) -> None:
    parts: dict[str, set[object]] = {}
    for row in full[name, "test"]:
        words = Counter(word for phrase in row["objects"] for word in phrase.split())
        said = Counter(re.sub(r"\ban\b", "a", row["text"]).split())
        squares = frozenset(placed.square for placed in row["scene"].objects)
        parts.setdefault(row["block"], set()).add(
            (str(sorted(words.items())), str(sorted(said.items())), squares)
        )
    assert all(len(kinds) == 1 for kinds in parts.values())


def answer(name: str, row: dict[str, Any]) -> str:
    """The right label by what the boxes show, found in another way than the generator's."""
    shown = dict(zip(row["objects"], row["boxes"], strict=True))
    text = re.sub(r"\b(the|a|an) ", "", row["text"])
    if name == "scenes/bind":
        return "true" if all(phrase in shown for phrase in text.split(" and ")) else "false"
    if name == "scenes/where":
        one, relation, other = re.fullmatch(r"(.+) (?:is )(left of|right of|above|below) (.+)", text).groups()  # type: ignore[union-attr]
        axis = 0 if relation in ("left of", "right of") else 1
        before = shown[one][axis + 2] <= shown[other][axis]
        after = shown[other][axis + 2] <= shown[one][axis]
        assert before != after
        return "true" if before == (relation in ("left of", "above")) else "false"
    if name == "scenes/confound":
        return "same" if text.split()[0] == row["objects"][0].split()[0] else "different"
    thing, colour = text.split(" is ")
    colours = [phrase.split(" ", 1)[0] for phrase in shown if phrase.split(" ", 1)[1] == thing]
    if name == "scenes/pick":
        return "true" if colours == [colour] else "false"
    return "neutral" if not colours else "entailment" if colours == [colour] else "contradiction"


@pytest.mark.parametrize("name", SCENES)
def test_labels_are_true(full: dict[tuple[str, Split], list[dict[str, Any]]], name: str) -> None:
    for split in SPLITS:
        assert [answer(name, row) for row in full[name, split]] == [row["label"] for row in full[name, split]]


def combinations_in(name: str, rows: list[dict[str, Any]]) -> set[object]:
    """What is joined in a row: object and colour, shown or said; two objects; the shown and the named one."""
    if name == "scenes/where":
        return {frozenset(row["objects"]) for row in rows}
    if name == "scenes/confound":
        return {(row["objects"][0].split(" ", 1)[1], row["text"].split(" ", 2)[2]) for row in rows}
    said = {
        f"{colour} {thing}" for row in rows for thing, colour in re.findall(r"the (.+) is (\w+)", row["text"])
    }
    said |= {phrase for row in rows for phrase in re.findall(r"\ban? (\w+ [\w ]+?)(?= and |$)", row["text"])}
    return said | {phrase for row in rows for phrase in row["objects"]}


@pytest.mark.parametrize("name", SCENES)
def test_no_combination_is_in_two_splits(
    full: dict[tuple[str, Split], list[dict[str, Any]]], name: str
) -> None:
    found = {split: combinations_in(name, full[name, split]) for split in SPLITS}
    assert all(len(combinations) > 100 for combinations in found.values())
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not found[one] & found[other]  # type: ignore[index]


def test_a_colour_is_held_out_for_all_tasks_alike(
    full: dict[tuple[str, Split], list[dict[str, Any]]],
) -> None:
    by_name = {thing.name: thing for thing in objects.things()}
    for name in COLOURED:
        for split in SPLITS:
            for phrase in combinations_in(name, full[name, split]):
                colour, thing = str(phrase).split(" ", 1)
                assert objects.split_of_colour(by_name[thing], colour) == split
    for split in SPLITS:
        shown = {colour for number in range(objects.GROUPS) for colour in objects.colours_of(number, split)}
        assert shown == set(objects.COLOURS)


def test_scenes_of_pick(full: dict[tuple[str, Split], list[dict[str, Any]]]) -> None:
    for split in SPLITS:
        rows = full["scenes/pick", split]
        sizes = Counter(len(row["objects"]) for row in rows)
        assert sizes == dict.fromkeys((1, 2, 4, 6, 9), len(rows) // 5)
        for row in rows:
            names = [phrase.split(" ", 1)[1] for phrase in row["objects"]]
            assert len(set(names)) == len(names)
            asked = row["text"].split()[-1]
            if row["label"] == "false":
                there = any(phrase.startswith(f"{asked} ") for phrase in row["objects"])
                assert there == (row["case"] == "swapped")
    cases = Counter((len(row["objects"]), row["case"]) for row in full["scenes/pick", "test"])
    assert all(cases[size, "swapped"] == cases[size, "recoloured"] for size in (2, 4, 6, 9))


def test_scenes_of_entail_show_both_colours_whatever_the_label(
    full: dict[tuple[str, Split], list[dict[str, Any]]],
) -> None:
    for row in full["scenes/entail", "test"]:
        assert row["text"].split()[-1] in {phrase.split()[0] for phrase in row["objects"]}
        assert len(row["objects"]) == 3
        assert row["scene"].curtain is not None


@pytest.mark.parametrize("name", SCENES)
def test_rows_are_what_they_were(full: dict[tuple[str, Split], list[dict[str, Any]]], name: str) -> None:
    rows = [
        {key: value for key, value in row.items() if key not in ("picture", "scene")}
        for split in SPLITS
        for row in full[name, split]
    ]
    assert zlib.crc32(repr(rows).encode()) == CODES[name]


@pytest.mark.parametrize("name", SCENES)
def test_the_table(small: dict[str, PairTable], name: str) -> None:
    table = small[name]
    assert table.kind == "single"
    assert table.classes == _TASKS[name].labels
    pairs = _TASKS[name].scenes * _TASKS[name].texts
    assert table.splits() == {"train": 48, "validation": max(pairs, 8), "test": 24}
    targets = table.split("test").targets()
    assert targets.bincount().tolist() == [24 // len(table.classes)] * len(table.classes)
    pictures = Counter(
        (table.sources([row])[0]["bytes"], label[0]) for row, label in enumerate(table.labels())
    )
    assert set(pictures.values()) == {1}
    assert [row["id"] for row in table.split("test").rows] == [row["id"] for row in rows_of(name, "test", 48)]


@pytest.mark.parametrize("name", SCENES)
def test_boxes_frame_what_is_drawn(small: dict[str, PairTable], name: str) -> None:
    table = small[name].split("test")
    for row, one in enumerate(rows_of(name, "test", 48)):
        assert table.rows[row]["boxes"] == one["boxes"]
        ink = (np.asarray(table.image(row)) < 235).any(axis=2)
        assert ink.shape == (PIXELS, PIXELS)
        for left, top, right, bottom in one["boxes"]:
            assert 0 <= left < right <= PIXELS
            assert 0 <= top < bottom <= PIXELS
            inside = ink[top:bottom, left:right]
            edges = (inside[:3], inside[-3:], inside[:, :3], inside[:, -3:])
            assert all(edge.any() for edge in edges), (one["objects"], row)
        if one["scene"].curtain is not None:
            left, top, right, bottom = one["scene"].curtain
            assert ink[top:bottom, left:right].all()
            ink[top:bottom, left:right] = False
        for left, top, right, bottom in one["boxes"]:
            ink[top:bottom, left:right] = False
        assert not ink.any()


def test_objects_have_the_colour_that_is_said(small: dict[str, PairTable]) -> None:
    table = small["scenes/pick"]
    colours = {
        name: np.array([int(code[at : at + 2], 16) for at in (1, 3, 5)])
        for name, code in objects.COLOURS.items()
    }
    for row in range(len(table)):
        pixels = np.asarray(table.image(row)).astype(int)
        for phrase, (left, top, right, bottom) in zip(
            table.rows[row]["objects"], table.rows[row]["boxes"], strict=True
        ):
            inside = pixels[top:bottom, left:right].reshape(-1, 3)
            darkest = inside[inside.sum(1).argmin()]
            nearest = min(colours, key=lambda name: np.abs(colours[name] - darkest).sum())
            assert nearest == phrase.split()[0]


def test_a_smaller_set_is_contained_in_a_larger_one(small: dict[str, PairTable]) -> None:
    for name in ("scenes/bind", "scenes/entail"):
        larger, smaller = small[name], load(f"{name}?train=12")
        rows = {row["id"]: row for row in larger.rows}
        assert all(rows[row["id"]] == row for row in smaller.rows)


def test_another_process_draws_the_same() -> None:
    code = "import zlib; from interplay.data import load; t = load('scenes/bind?train=12');"
    code += "print(zlib.crc32(repr(t.rows[:]).encode()))"
    ours = zlib.crc32(repr(load("scenes/bind?train=12").rows[:]).encode())
    for path in cache_folder().glob("scenes/**/*.arrow"):
        path.unlink()
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == ours


def scene(at: int) -> Scene:
    return Scene((Placed(objects.things()[0], "red", (at, 0, 40)),))


def test_a_drawing_that_was_ended_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 2)
    scenes = [scene(at) for at in range(5)]
    calls: list[Scene] = []

    def drawing(one: Scene) -> bytes:
        calls.append(one)
        return repr(one).encode()

    def killed(one: Scene) -> bytes:
        if len(calls) == 3:
            raise KeyboardInterrupt
        return drawing(one)

    with pytest.raises(KeyboardInterrupt):
        shards.drawn("some", scenes, killed)
    assert len(list(cache_folder().glob("scenes/some/*.arrow"))) == 1
    half_done = cache_folder() / "scenes/some/.000002-0.arrow.1.tmp"
    half_done.write_bytes(b"what a kill leaves")
    calls.clear()
    whole = shards.drawn("some", scenes, drawing)
    assert calls == scenes[2:]
    assert not half_done.exists()
    assert [row["image"]["bytes"] for row in whole] == [repr(one).encode() for one in scenes]
    assert len(whole.cache_files) == 3  # memory maps, nothing in memory
    for damage in (b"", b"junk" * 100):
        path = sorted(cache_folder().glob("scenes/some/*.arrow"))[1]
        path.write_bytes(damage)
        calls.clear()
        shards.drawn("some", scenes, drawing)
        assert calls == scenes[2:4]


def test_what_is_no_task_and_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InterplayError, match="Did you mean 'scenes/bind'"):
        load("scenes/bond")
    for size in ("0", "24001", "many", "1e3", "-4", "", "9" * 5000):
        with pytest.raises(InterplayError, match="a whole number from 1 to 24,000"):
            load(f"scenes/bind?train={size}")
    with pytest.raises(InterplayError, match="Did you mean 'train'"):
        load("scenes/bind?trian=4")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INTERPLAY_CACHE", str(tmp_path / "file"))
    with pytest.raises(InterplayError, match=r"cannot be written.*INTERPLAY_CACHE"):
        load("scenes/bind?train=4")


@pytest.mark.slow
def test_the_sizes_of_objects_are_those_of_their_drawings() -> None:
    sprites = Sprites(thing.code for thing in objects.things())
    for thing in objects.things():
        assert sprites.glyph(thing.name, thing.code).size == thing.glyph
        if thing.code:
            assert sprites.picture(thing.code).size == thing.picture


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_full_size(name: str) -> None:
    table = load(name)
    assert sum(table.splits().values()) == 40_000 - (4 if name == "scenes/entail" else 0)
    count: Counter[tuple[int, str]] = Counter()
    for start in range(0, len(table), 1000):
        part = range(start, min(start + 1000, len(table)))
        labels = [label for (label,) in table.select(list(part)).labels()]
        count.update(
            (zlib.crc32(source["bytes"]), label)
            for source, label in zip(table.sources(part), labels, strict=True)
        )
    for picture, _ in list(count):
        assert len({count[picture, label] for label in table.classes}) == 1


def test_objects_are_written_by_their_script() -> None:
    text = (Path(objects.__file__).parent / "objects.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert (
        len({row["name"] for row in rows})
        == len({row["code"] or row["name"] for row in rows})
        == len(rows)
        == 224
    )
    for number in range(objects.GROUPS):
        kinds = Counter(thing.kind for thing in objects.group(number))
        assert kinds == {"animal": 16, "food": 9, "thing": 28, "shape": 3}
