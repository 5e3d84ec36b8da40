"""RefCOCO, RefCOCO+ and RefCOCOg in miniature, in exactly the formats of their owners and of MDETR."""

from __future__ import annotations

import json
import math
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import encoded, picture

from interplay.data import load
from interplay.data.boxes import box_fault, inside
from interplay.data.plain_pickle import read_plain
from interplay.data.schema import PairTable
from interplay.errors import InterplayError

CATEGORIES = [
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "kitchen", "id": 47, "name": "cup"},
]
BOXES = {11: (1, 101, [2.5, 3.0, 20.25, 10.0]), 12: (47, 101, [0, 0, 8, 9]), 13: (1, 102, [10, 4, 22.5, 20])}
"""Annotation → category, picture, [left, top, width, height]; pictures are 32 × 24."""
REFS = [
    (11, "train", ["man on the left", "left guy"]),
    (12, "train", ["the cup"]),
    (13, "testA", ["woman in red"]),
    (12, "testB", ["small white cup"]),
    (13, "val", ["her"]),
]


def of_python_2(value: Any) -> bytes:
    """A pickle of protocol 2 as Python 2 writes it: its strings are bytes."""
    if isinstance(value, str):
        raw = value.encode("latin-1")
        return b"U" + bytes([len(raw)]) + raw
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(of_python_2, value)) + b"e"
    assert isinstance(value, dict)
    return b"}(" + b"".join(of_python_2(part) for pair in value.items() for part in pair) + b"u"


def write_pictures(root: Path) -> None:
    (root / "train2014").mkdir(parents=True)
    for number in (101, 102):
        path = root / "train2014" / f"COCO_train2014_{number:012d}.jpg"
        path.write_bytes(encoded(picture(number, (32, 24)), "JPEG"))


def write_refer(root: Path, splits: str = "unc") -> Path:
    write_pictures(root)
    images = [
        {"id": number, "file_name": f"COCO_train2014_{number:012d}.jpg", "height": 24, "width": 32}
        for number in (101, 102)
    ]
    annotations = [
        {"id": at, "image_id": image, "category_id": category, "bbox": box, "area": 5.0, "iscrowd": 0}
        for at, (category, image, box) in BOXES.items()
    ]
    stored = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (root / "instances.json").write_text(json.dumps(stored), "utf-8")
    refs, sent = [], 0
    for at, (annotation, split, sentences) in enumerate(REFS):
        category, image, _ = BOXES[annotation]
        told = []
        for text in sentences:
            told.append({"tokens": text.split(), "raw": text.title(), "sent_id": sent, "sent": text})
            sent += 1
        name = f"COCO_train2014_{image:012d}_{at}.jpg"
        ids = [one["sent_id"] for one in told]
        ref = {"sent_ids": ids, "file_name": name, "ann_id": annotation, "ref_id": at, "image_id": image}
        refs.append(ref | {"split": split, "sentences": told, "category_id": category})
    (root / f"refs({splits}).p").write_bytes(b"\x80\x02" + of_python_2(refs) + b".")
    return root


def write_mdetr(root: Path, name: str = "refcoco") -> Path:
    write_pictures(root)
    number = 0
    for split in ("train", "val", "testA", "testB"):
        images, annotations = [], []
        for annotation, own, sentences in REFS:
            category, image, box = BOXES[annotation]
            for text in sentences if own == split else []:
                begin = text.index(text.split()[-1])
                images.append(
                    {
                        "file_name": f"COCO_train2014_{image:012d}.jpg",
                        "height": 24,
                        "width": 32,
                        "id": number,
                        "original_id": image,
                        "caption": text,
                        "dataset_name": name,
                        "tokens_negative": [[0, len(text)]],
                    }
                )
                annotations.append(
                    {
                        "area": 5.0,
                        "iscrowd": 0,
                        "image_id": number,
                        "category_id": category,
                        "id": number,
                        "original_id": annotation,
                        "bbox": box,
                        "tokens_positive": [[begin, len(text)]],
                    }
                )
                number += 1
        stored = {
            "info": [],
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": CATEGORIES,
        }
        (root / f"finetune_{name}_{split}.json").write_text(json.dumps(stored), "utf-8")
    return root


def rows_of(table: PairTable) -> dict[str, dict[str, Any]]:
    columns = table.rows.remove_columns(["image"])[:]
    return {
        text: {name: column[at] for name, column in columns.items()}
        for at, text in enumerate(columns["text"])
    }


def change(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    stored = json.loads(file.read_text("utf-8"))
    edit(stored)
    file.write_text(json.dumps(stored), "utf-8")


@pytest.mark.parametrize(
    ("name", "splits", "source"),
    [
        ("refcoco", "unc", ""),
        ("refcoco+", "unc", ""),
        ("refcocog", "umd", ""),
        ("refcocog", "google", "?splits=google"),
    ],
)
def test_the_owners_files_are_read(tmp_path: Path, name: str, splits: str, source: str) -> None:
    table = load(f"{name}:{write_refer(tmp_path, splits)}{source}")
    assert (table.kind, len(table), table.skipped) == ("pairs", 6, ())
    assert table.tasks() == ["kitchen", "kitchen", "person", "person", "person", "person"]
    rows = rows_of(table)
    man = rows["man on the left"]
    assert (man["split"], man["part"], man["task"], man["id"]) == ("train", "train", "person", "train/0")
    assert (man["boxes"], man["spans"]) == ([[2.5, 3, 22.75, 13]], [[0, 15]])
    assert rows["small white cup"]["part"] == "testB"
    assert {rows[text]["split"] for text in ("woman in red", "small white cup")} == {"test"}
    assert rows["her"]["split"] == "validation"
    assert rows["her"]["boxes"] == [[10, 4, 32, 24]]  # half a pixel beyond the picture is cut off
    path = table.sources([table.texts().index("left guy")])[0]["path"]
    assert path == str(tmp_path / "train2014" / "COCO_train2014_000000000101.jpg")
    assert "all of a phrase" in table.notes[0]


@pytest.mark.parametrize("name", ["refcoco", "refcoco+", "refcocog"])
def test_mdetr_s_files_say_which_words_name_the_box(tmp_path: Path, name: str) -> None:
    table = load(f"{name}:{write_mdetr(tmp_path, name)}?test=testA")
    rows = rows_of(table)
    assert set(rows) == {"man on the left", "left guy", "the cup", "woman in red", "her"}
    assert rows["left guy"]["spans"] == [[5, 8]]
    assert rows["woman in red"]["boxes"] == [[10, 4, 32, 24]]
    assert rows["the cup"]["task"] == "kitchen"
    assert table.splits() == {"train": 3, "validation": 1, "test": 1}


def test_either_kind_of_files_can_be_asked_for(tmp_path: Path) -> None:
    write_refer(tmp_path)
    with pytest.raises(InterplayError, match="no finetune_refcoco_train"):
        load(f"refcoco:{tmp_path}?files=mdetr")
    for file in write_mdetr(tmp_path / "more").glob("*.json"):
        file.rename(tmp_path / file.name)
    assert rows_of(load(f"refcoco:{tmp_path}"))["left guy"]["spans"] == [[5, 8]]
    assert rows_of(load(f"refcoco:{tmp_path}?files=refer"))["left guy"]["spans"] == [[0, 8]]


def test_phrases_of_a_task_can_be_limited_and_it_is_said(tmp_path: Path) -> None:
    whole = load(f"refcoco:{write_refer(tmp_path)}")
    few = load(f"refcoco:{tmp_path}?most_train=1&most_test=1")
    assert few.splits() == {"train": 2, "validation": 1, "test": 2}
    assert any("5 of 6 phrases are kept: at most 1 of a task in train and 1" in note for note in few.notes)
    assert few.ids() == load(f"refcoco:{tmp_path}?most_train=1&most_test=1").ids()
    assert set(few.ids()) < set(whole.ids())


BAD = [
    ([5, 5, -2, 3], "ends before it begins"),
    ([5, 5, 0, 3], "is empty"),
    ([0.1, 0.2, 0.3, 0.3], "in shares of the picture"),
    ([-9, 2, 12, 5], "reaches beyond its picture of 32 × 24"),
    ([40, 2, 12, 5], "reaches beyond its picture of 32 × 24"),
    ([1, 2, math.nan, 4], "no number"),
    ([1, 2, 3], "not four numbers"),
    (None, "not four numbers"),
    (["1", 2, 3, 4], "not four numbers"),
]


@pytest.mark.parametrize(("box", "said"), BAD)
@pytest.mark.parametrize("kind", ["refer", "mdetr"])
def test_a_box_that_is_none_is_refused_with_its_row(tmp_path: Path, box: Any, said: str, kind: str) -> None:
    if kind == "refer":
        write_refer(tmp_path)
        change(tmp_path / "instances.json", lambda stored: stored["annotations"][1].update(bbox=box))
        row = r"refs\(unc\)\.p, row 3: "
    else:
        write_mdetr(tmp_path)
        file = tmp_path / "finetune_refcoco_train.json"
        change(file, lambda stored: stored["annotations"][2].update(bbox=box))
        row = r"finetune_refcoco_train\.json, row 3: "
    with pytest.raises(InterplayError, match=f"{row}.*{said}"):
        load(f"refcoco:{tmp_path}")
    kept = load(f"refcoco:{tmp_path}", on_bad_row="skip")
    assert "the cup" not in kept.texts()
    assert len(kept.skipped) == 6 - len(kept) > 0
    assert said in str(kept.skipped[-1])


def test_boxes_of_any_order_and_size_are_judged_by_their_picture() -> None:
    assert box_fault([0, 0, 1, 1], 32, 24) != ""
    assert box_fault([0, 0, 1, 1], 1, 1) == ""
    assert box_fault([0, 0, 2, 1], 32, 24) == ""
    assert box_fault([0, 0, 33, 24], 32, 24) == ""
    assert box_fault([-0.5, 0, 3, 24.2], 32, 24) == ""
    assert "beyond" in box_fault([0, 0, 33.5, 24], 32, 24)
    assert "outside" in box_fault([-1, 0, 0, 24], 32, 24)
    assert "not four numbers" in box_fault([True, 0, 3, 4], 32, 24)
    assert inside([-0.5, 0, 3, 24.2], 32, 24) == [0, 0, 3, 24]


def test_spans_outside_of_the_phrase_and_phrases_with_two_boxes_are_refused(tmp_path: Path) -> None:
    file = write_mdetr(tmp_path) / "finetune_refcoco_train.json"
    change(file, lambda stored: stored["annotations"][0].update(tokens_positive=[[3, 99]]))
    with pytest.raises(InterplayError, match="row 1: its tokens_positive are no"):
        load(f"refcoco:{tmp_path}")
    change(file, lambda stored: stored["annotations"][0].update(tokens_positive=[[3, 6]]))
    change(file, lambda stored: stored["annotations"][1].update(image_id=0))
    with pytest.raises(InterplayError, match="row 1: the phrase has 2 boxes"):
        load(f"refcoco:{tmp_path}")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InterplayError, match="has no train2014 or"):
        load(f"refcoco:{tmp_path}")
    write_refer(tmp_path)
    with pytest.raises(InterplayError, match=r"refs\(google\)\.p; there are refs\(unc\)\.p"):
        load(f"refcoco:{tmp_path}?splits=google")
    with pytest.raises(InterplayError, match="test split of RefCOCO"):
        load(f"refcoco:{tmp_path}?test=testC")
    with pytest.raises(InterplayError, match="kind of RefCOCO files"):
        load(f"refcoco:{tmp_path}?files=csv")
    with pytest.raises(InterplayError, match="from 0"):
        load(f"refcoco:{tmp_path}?most_train=-1")
    (tmp_path / "train2014" / "COCO_train2014_000000000102.jpg").unlink()
    with pytest.raises(InterplayError, match=r"row 6: .*000000000102"):
        load(f"refcoco:{tmp_path}?test=testB")
    change(tmp_path / "instances.json", lambda stored: stored["annotations"].pop())
    with pytest.raises(
        InterplayError, match=r"row 6: instances\.json lacks the annotation 13, .*reference 5"
    ):
        load(f"refcoco:{tmp_path}?test=testB")


class Malice:
    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return eval, ("open('/tmp/never', 'w')",)


def test_a_pickle_may_hold_plain_values_alone_and_nothing_in_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "refs(unc).p"
    for damaged in (b"", b"no pickle", b"\x80\x02](U\x05ab", pickle.dumps({"a": 1})[:-3]):
        file.write_bytes(damaged)
        with pytest.raises(InterplayError, match="no pickle of plain lists"):
            read_plain(file)
    for stranger in (Malice(), [Path("x")], {"a": print}, b"}U\x01a\x85b."):
        file.write_bytes(stranger if isinstance(stranger, bytes) else pickle.dumps(stranger, protocol=2))
        with pytest.raises(InterplayError, match="no pickle of plain lists"):
            read_plain(file)
    value = [{"sent": "café", "ids": [1, 2]}]
    file.write_bytes(b"\x80\x02" + of_python_2(value) + b".")
    assert read_plain(file) == value


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({"a": 1}, "no list of references"),
        ([{"ann_id": 1}], "no usable 'image_id'"),
        ([3], "no usable 'ann_id'"),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, stored: Any, said: str) -> None:
    write_refer(tmp_path)
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(stored, protocol=2))
    with pytest.raises(InterplayError, match=said):
        load(f"refcoco:{tmp_path}")
