"""Files of every format, and what can stand in their cells."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from conftest import encoded, picture

from interplay.data import load
from interplay.errors import InterplayError

Write = Callable[..., Path]

ROWS = [
    {"image": f"{at}.png", "text": f"text {at}", "label": "ab"[at % 2], "split": split}
    for at, split in enumerate(("train", "train", "validation", "test"))
]


def test_a_caption_is_cut_only_where_several_are_meant(folder: Write) -> None:
    lines = "\n0.png,Cheap phone | 64 GB\n1.png,b\n"
    assert load(str(folder("image,text" + lines))).texts() == ["Cheap phone | 64 GB", "b"]
    assert load(str(folder("image,caption" + lines))).texts()[0] == "Cheap phone | 64 GB"
    assert load(str(folder("image,captions" + lines))).captions() == [["Cheap phone", "64 GB"], ["b"]]
    titled = str(folder("image,title" + lines))
    assert load(titled, columns={"text": "title"}).texts()[0] == "Cheap phone | 64 GB"
    assert load(titled, columns={"captions": "title"}).captions() == [["Cheap phone", "64 GB"], ["b"]]
    with pytest.raises(InterplayError, match="row 1: the text is empty"):
        load(str(folder("image,captions\n0.png,a||b\n1.png,b\n")))


def test_tab_separated(folder: Write) -> None:
    table = load(folder('image\ttext\tlabel\n0.png\tone, two\ta\n1.png\t"x"\tb\n', "pairs.TSV"))
    assert table.texts() == ["one, two", "x"]
    assert load(folder("file_name\ttext\n0.png\ta\n", "metadata.tsv").parent).texts() == ["a"]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_and_lines_in_a_json_file(folder: Write, indent: int | None) -> None:
    assert load(folder(json.dumps(ROWS, indent=indent), "pairs.json")).splits()["train"] == 2
    assert len(load(folder("\n".join(map(json.dumps, ROWS)), "pairs.json"))) == 4


def test_broken_json_arrays(folder: Write) -> None:
    for text, reason in (
        (json.dumps([ROWS[0], 7]), "row 2: it is not a JSON object"),
        (json.dumps(ROWS)[:-5], "row 1: it is not valid JSON"),
        ("[" * 100_000, "row 1: .*nested too deep"),
        ("[]", "holds no rows"),
        ('{"image": "0.png", "text": "a", "label": "a", "label": "b"}', "the column 'label' is there twice"),
    ):
        with pytest.raises(InterplayError, match=reason):
            load(folder(text, "pairs.json"))


def class_folder(base: Path, names: str = "ab", count: int = 5) -> Path:
    for at, name in enumerate(names):
        (base / name / "deeper").mkdir(parents=True)
        for number in range(count):
            place = base / name / ("deeper" if number == 0 else "")
            (place / f"{number}.png").write_bytes(encoded(picture(10 * at + number)))
    (base / ".hidden").mkdir()
    (base / "notes.txt").write_text("not data")
    return base


def test_one_folder_a_class(tmp_path: Path) -> None:
    table = load(class_folder(tmp_path))
    assert (table.kind, table.classes, len(table)) == ("single", ("a", "b"), 10)
    assert table.ids()[0] == "a/1.png"
    assert set(table.texts()) == {"a picture"}
    assert table.image(0).tobytes() == picture(1).tobytes()
    assert any("has no texts" in note for note in table.notes)
    (tmp_path / "a" / "1.txt").write_text(" one ")
    with pytest.raises(
        InterplayError, match=r"2\.png, row 1: it has no text: other pictures have one, 2\.txt"
    ):
        load(tmp_path)
    assert load(tmp_path, on_bad_row="skip").texts() == ["one"]


def test_split_folders_of_one_folder_a_class(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        class_folder(tmp_path / split)
    assert load(tmp_path).splits() == {"train": 10, "validation": 10, "test": 10}


def test_folders_that_are_no_classes(folder: Write, tmp_path: Path) -> None:
    class_folder(tmp_path / "one", "a")
    with pytest.raises(InterplayError, match="no folders of two and more classes"):
        load(tmp_path / "one")
    folder("image,text\n")
    with pytest.raises(InterplayError, match=r"but pairs\.csv: give that file"):
        load(tmp_path)


def test_linked_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    class_folder(tmp_path / "elsewhere", "ab")
    (tmp_path / "data").mkdir()
    for name in "ab":
        (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere" / name)
    (tmp_path / "elsewhere" / "a" / "circle").symlink_to(tmp_path / "elsewhere" / "a")
    assert len(load(tmp_path / "data")) == 10


def test_further_files_for_validation_and_test(folder: Write) -> None:
    base = folder("image,text,label\n0.png,zero,a\n1.png,one,b\n", "train.csv").parent
    folder("image,text,label\n2.png,two,a\n0.png,again,b\n", "other.csv")
    whole = load(base / "train.csv", validation=base / "other.csv", test=base / "other.csv")
    assert whole.splits() == {"train": 2, "validation": 2, "test": 2}
    assert whole.ids() == [
        "train/0.png",
        "train/1.png",
        "validation/2.png",
        "validation/0.png",
        "test/2.png",
        "test/0.png",
    ]
    assert whole.split("test").texts() == ["two", "again"]
    assert load(base / "train.csv", validation=base / "other.csv").splits() == {"train": 2, "validation": 2}
    many = "".join(f"{at % 4}.png,t{at},a\n" for at in range(4))
    tested = load(
        folder("image,text,label\n" + many, "train.csv"), test=base / "other.csv", on_bad_row="skip"
    )
    assert tested.splits() == {"train": 3, "validation": 1, "test": 1}
    folder("image,text,label,split\n2.png,two,a,test\n3.png,x,b,train\n", "other.csv")
    folder("image,text,label\n0.png,zero,a\n1.png,one,b\n", "train.csv")
    assert load(base / "train.csv", test=base / "other.csv").split("test").texts() == ["two"]


def test_further_files_that_do_not_fit(folder: Write) -> None:
    base = folder("image,text,label,split\n0.png,a,x,train\n1.png,b,x,test\n").parent
    folder("image,text\n2.png,c\n", "other.csv")
    folder("image,text,label,split\n2.png,c,x,train\n", "train.csv")
    with pytest.raises(InterplayError, match=r"other\.csv, given for validation, .* 'label'"):
        load(base / "pairs.csv", validation=base / "other.csv")
    with pytest.raises(InterplayError, match=r"pairs\.csv has test rows of its own"):
        load(base / "pairs.csv", test=base / "train.csv")
    with pytest.raises(InterplayError, match=r"train\.csv was given for validation, and its column 'split'"):
        load(base / "pairs.csv", validation=base / "train.csv")
    with pytest.raises(InterplayError, match="has splits and columns of its own"):
        load("openmoji/relation", test=base / "other.csv")
    with pytest.raises(InterplayError, match="cannot be one split of other data"):
        load(base / "other.csv", test="openmoji/relation")


def test_shares_of_the_default_split(folder: Write) -> None:
    lines = [f"{n}.png,caption {n},class {n % 4}" for n in range(60)]
    file = folder("image,text,label\n" + "\n".join(lines), pictures=60)
    half = load(file, shares=(50, 25, 25))
    assert 20 < half.splits()["train"] < 40
    assert "split 50/25/25 by a hash" in half.notes[0]
    assert load(file, shares=(0.8, 0.1, 0.1)).rows["split"][:] == load(file).rows["split"][:]
    assert "test" not in load(file, shares=(9, 1, 0)).splits()
    for wrong in ((1, 2), (0, 1, 1), (-1, 1, 1), (float("nan"), 1, 1), ("a", 1, 1)):
        with pytest.raises(InterplayError, match="shares of a split are three numbers"):
            load(file, shares=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(6))
def test_few_rows_are_split_so_that_they_can_be_learnt(folder: Write, seed: int) -> None:
    file = folder("image,text,label\n" + "".join(f"{n}.png,t,{'ab'[n % 2]}\n" for n in range(4)))
    table = load(file, seed=seed)
    assert table.splits() == {"train": 2, "validation": 1, "test": 1}
    assert set(table.split("train").rows["label"]) == {"a", "b"}


CELLS = {
    "a list": (
        '"label": ["cat"]',
        r"the label is not one name but \['cat'\]; several labels go into a column",
    ),
    "a mapping": ('"label": {"a": 1}', "the label is not one name"),
    "null": ('"label": null', "the label is missing"),
    "NaN": ('"label": NaN', "the label is missing"),
    "half a character": ('"label": "\\ud800"', "the label holds half of a character"),
    "null among labels": ('"labels": ["a", null]', "the labels hold one that is missing"),
    "a list among labels": ('"labels": [["a"]]', "the labels hold one that is not one name"),
    "labels as a text": ('"labels": "a|b"', r"the labels are not a list but 'a\|b'"),
    "half a text": ('"label": "a", "text": "\\udc80"', "the text holds half of a character"),
    "NaN as text": ('"label": "a", "text": NaN', "the text is empty"),
    "half a path": ('"label": "a", "image": "\\ud800.png"', "half of a character"),
    "zero in a path": ('"label": "a", "image": "a\\u0000.png"', "zero byte"),
    "a number as picture": ('"label": "a", "image": 7', "a picture is a path.*not of the type int"),
    "a list as picture": ('"label": "a", "image": [1]', "not of the type list"),
    "half a task": ('"label": "a", "task": "\\ud800"', "the task holds half"),
    "a list as task": ('"label": "a", "task": ["x"]', "the task is not one name"),
    "half a split": ('"label": "a", "split": "\\ud800"', "the split holds half"),
    "digits": (f'"label": {"1" * 5000}', "it is not valid JSON"),
    "deep": (f'"label": {"[" * 50_000}', "nested too deep"),
}


@pytest.mark.parametrize("case", CELLS)
def test_what_cannot_stand_in_a_cell(folder: Write, case: str) -> None:
    cell, reason = CELLS[case]
    row = '{"image": "1.png", "text": "b", ' + cell + "}"
    good = '{"image": "0.png", "text": "a", "label": "a"}' if '"labels"' not in cell else ""
    good = good or '{"image": "0.png", "text": "a", "labels": ["a"]}'
    if '"task"' in cell:
        good = good.replace("}", ', "task": "t"}')
    if '"split"' in cell:
        good = good.replace("}", ', "split": "train"}')
    row = row.replace('"image": "1.png", ', "") if '"image": ' in cell else row
    row = row.replace('"text": "b", ', "") if '"text": ' in cell else row
    with pytest.raises(InterplayError, match=rf"row 2: .*{reason}") as caught:
        load(folder(good + "\n" + row + "\n", "pairs.jsonl"))
    assert len(str(caught.value)) < 450
    str(caught.value).encode()
    assert len(load(folder(good + "\n" + row + "\n", "pairs.jsonl"), on_bad_row="skip")) == 1


def test_columns_that_are_there_twice(folder: Write) -> None:
    with pytest.raises(InterplayError, match=r"pairs\.csv: the column 'text' is there twice"):
        load(folder("image,text,text\n0.png,a,b\n"))
    assert len(load(folder("image,text,,\n0.png,a,,\n1.png,b,,\n"))) == 2  # empty columns of a spreadsheet


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["pairs.csv", "pairs.jsonl", "pairs.json"])
def test_other_encodings(tmp_path: Path, encoding: str, name: str) -> None:
    text = "image,text\n0.png,a\n" if name.endswith("csv") else json.dumps(ROWS[0])
    (tmp_path / name).write_bytes(text.encode(encoding))
    with pytest.raises(InterplayError, match="Save it as UTF-8 text"):
        load(tmp_path / name)


@pytest.mark.timeout(20)
def test_pipes_are_neither_data_nor_pictures(folder: Write, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InterplayError, match="neither a file nor a folder"):
        load(tmp_path / "pipe.csv")
    os.mkfifo(tmp_path / "pipe.png")
    for verify in (True, False):
        with pytest.raises(InterplayError, match=r"row 1: the image file '.*pipe\.png'"):
            load(folder("image,text\npipe.png,a\n"), verify=verify)


def test_parquet_of_other_types(tmp_path: Path) -> None:
    def stored(image: object) -> Path:
        rows = {"image": image, "text": ["a", "b"], "label": ["x", "y"]}
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "p.parquet")
        return tmp_path / "p.parquet"

    with pytest.raises(InterplayError, match="holds values of the type int64, no pictures"):
        load(stored([1, 2]))
    with pytest.raises(InterplayError, match="row 1: an array of the shape"):
        load(stored([[1, 2], [3, 4]]))
    with pytest.raises(InterplayError, match="row 1: the image is missing"):
        load(stored([None, None]))
    with pytest.raises(InterplayError, match="not a mapping of a"):
        load(stored([{"a": 1}, {"a": 2}]))
    with pytest.raises(InterplayError, match="not of the type int"):
        load(stored([{"bytes": 1, "path": "a"}, {"bytes": 2, "path": "b"}]))


def test_folders_with_arrays(tmp_path: Path) -> None:
    pixels = [np.asarray(picture(at, (8, 8))) for at in range(3)]
    rows = {"image": pixels, "text": ["a", "b", "c"], "label": ["x", "y", "x"]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "lists")
    fixed = datasets.Features(
        {
            "image": datasets.Array3D((8, 8, 3), "uint8"),
            "text": datasets.Value("string"),
            "label": datasets.Value("string"),
        }
    )
    datasets.Dataset.from_dict(rows, features=fixed).save_to_disk(tmp_path / "arrays")
    for name in ("lists", "arrays"):
        table = load(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(table.image(1)), pixels[1])
    (tmp_path / "arrays" / "state.json").write_text("[]")
    with pytest.raises(InterplayError, match="cannot be read as a saved data set"):
        load(tmp_path / "arrays")


def test_names_that_are_too_long(folder: Write) -> None:
    for verify in (True, False):
        with pytest.raises(InterplayError, match=r"row 1: the image file .*File name too long"):
            load(folder(f"image,text\n{'x' * 5000}.png,a\n"), verify=verify)
    with pytest.raises(
        InterplayError, match=r"The path 'x+' cannot be used \(File name too long\)"
    ) as caught:
        load("x" * 5000)
    assert len(str(caught.value)) < 200
