"""Data that a program has in memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pytest
import torch
from conftest import encoded, picture

from interplay.data import load
from interplay.data.readers import as_table, is_table
from interplay.errors import InterplayError

TEXTS = ["zero", "one", "two", "three"]
LABELS = ["a", "b", "a", "b"]
SPLITS = ["train", "train", "test", "val"]


def columns(images: list[Any]) -> dict[str, list[Any]]:
    return {"image": images, "text": TEXTS, "label": LABELS, "split": SPLITS}


def rows(images: list[Any]) -> list[dict[str, Any]]:
    return [
        dict(zip(columns(images), cells, strict=True))
        for cells in zip(*columns(images).values(), strict=True)
    ]


SOURCES: dict[str, Callable[[list[Any]], Any]] = {
    "DataFrame": lambda images: pandas.DataFrame(columns(images)),
    "Dataset": lambda images: datasets.Dataset.from_dict(columns(images)),
    "columns": columns,
    "rows": rows,
    "generator": lambda images: (row for row in rows(images)),
    "IterableDataset": lambda images: datasets.Dataset.from_dict(columns(images)).to_iterable_dataset(),
}
PICTURES: dict[str, Callable[[int, Path], Any]] = {
    "paths": lambda at, folder: str(folder / f"{at}.png"),
    "bytes": lambda at, _: encoded(picture(at)),
    "Pillow": lambda at, _: picture(at),
}
OWN_PICTURES: dict[str, Callable[[int, Path], Any]] = {
    **PICTURES,
    "Path": lambda at, folder: folder / f"{at}.png",
    "arrays": lambda at, _: np.asarray(picture(at)),
    "tensors": lambda at, _: torch.from_numpy(np.asarray(picture(at)).transpose(2, 0, 1).copy()),
    "files": lambda at, _: io.BytesIO(encoded(picture(at))),
}
CASES = [(source, kind) for source in ("DataFrame", "rows") for kind in OWN_PICTURES] + [
    (source, kind) for source in ("Dataset", "columns", "generator", "IterableDataset") for kind in PICTURES
]


@pytest.mark.parametrize(("source", "kind"), CASES)
def test_every_source_with_every_picture(source: str, kind: str, tmp_path: Path) -> None:
    for at in range(4):
        (tmp_path / f"{at}.png").write_bytes(encoded(picture(at)))
    table = load(SOURCES[source]([OWN_PICTURES[kind](at, tmp_path) for at in range(4)]))
    assert table.texts() == TEXTS
    assert table.targets().tolist() == [0, 1, 0, 1]
    assert table.splits() == {"train": 2, "validation": 1, "test": 1}
    for at in range(4):
        np.testing.assert_array_equal(np.asarray(table.image(at)), np.asarray(picture(at)))


def test_a_table_comes_back_and_splits_of_a_dictionary_count() -> None:
    one = datasets.Dataset.from_dict({"image": [encoded(picture(0))], "text": ["a"], "label": ["x"]})
    table = load(datasets.DatasetDict({"train": one, "test": one}))
    assert table.splits() == {"train": 1, "test": 1}
    assert load(table) is table
    assert as_table(table) is table


def test_a_format_of_a_dataset_changes_nothing() -> None:
    given = datasets.Dataset.from_dict(
        {
            "image": [encoded(picture(at)) for at in range(2)],
            "text": ["a", "b"],
            "label": [3, 4],
            "split": ["train"] * 2,
        }
    ).cast_column("image", datasets.Image())
    for kind in (None, "torch", "numpy", "pandas"):
        for one in (given.with_format(kind), datasets.DatasetDict({"train": given.with_format(kind)})):
            table = load(one)
            assert table.classes == ("3", "4")
            np.testing.assert_array_equal(np.asarray(table.image(1)), np.asarray(picture(1)))


def test_a_frame_is_what_its_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(2):
        (tmp_path / f"{at}.png").write_bytes(encoded(picture(at)))
    (tmp_path / "pairs.csv").write_text("image,captions,labels,split\n0.png,a|b,x|y,train\n1.png,c,y,train\n")
    monkeypatch.chdir(tmp_path)
    of_file, of_frame = load("pairs.csv"), load(pandas.read_csv("pairs.csv"))
    for call in ("captions", "labels", "ids", "splits"):
        assert getattr(of_file, call)() == getattr(of_frame, call)()


def test_equal_pictures_stay_in_one_split() -> None:
    table = load({"image": [picture(at % 8) for at in range(80)], "text": [f"t{at}" for at in range(80)]})
    splits = table.rows["split"][:]
    assert all(len({splits[at] for at in range(first, 80, 8)}) == 1 for first in range(8))


@pytest.mark.parametrize("empty", [None, float("nan"), np.nan, np.float32("nan"), pandas.NA, pandas.NaT])
def test_missing_labels(empty: object) -> None:
    with pytest.raises(InterplayError, match="the given rows, row 2: the label is missing"):
        load({"image": [picture(0), picture(1)], "text": ["a", "b"], "label": ["x", empty]})
    with pytest.raises(InterplayError, match="row 2: the image is missing"):
        load({"image": [picture(0), empty], "text": ["a", "b"]})


def test_further_rows_with_cells_of_any_kind() -> None:
    rows = {"image": [picture(0)], "text": ["a"], "id": ["x"]}
    for cell in (pandas.NA, 10**5000, ["test"]):
        for column in ("id", "split"):
            with pytest.raises(InterplayError, match=rf"row 1: .*{column}"):
                load({**rows, column: [cell]}, test={**rows, "id": ["y"]})
    with pytest.raises(InterplayError, match="was given for test, and its column 'split' has no such rows"):
        load(rows, test={**rows, "split": [10**5000]})
    assert load(rows, test={**rows, "id": ["y"]}).ids() == ["x", "y"]


def test_labels_of_other_types() -> None:
    def labelled(column: str, *labels: object) -> list[list[str]]:
        return load({"image": [picture(0)], "text": ["a"], column: list(labels)}).labels()

    assert labelled("label", np.int64(3)) == [["3"]]
    assert labelled("label", np.str_("x")) == [["x"]]
    for several in (("x", "y"), np.array(["x", "y"]), ["x", "y"]):
        assert labelled("labels", several) == [["x", "y"]]
    with pytest.raises(InterplayError, match="the label is a number of thousands of digits"):
        labelled("label", 10**5000)
    with pytest.raises(InterplayError, match="the label is not one name but b'x'"):
        labelled("label", b"x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (7, "^pairs takes a path or name, .* not something of the type int"),
        (None, r"not nothing \(None\)"),
        (b"pairs.csv", "of the type bytes"),
        (np.array(7), "of the type ndarray"),
        (torch.zeros(()), "of the type Tensor"),
        ("", "^pairs is empty"),
        (" ", "^pairs is empty"),
        (["pairs.csv"], "the given rows, row 1 is not a mapping of columns to values but of the type str"),
        ([], "the given rows holds no rows"),
        ({"image": ["a.png"], "text": ["a", "b"]}, "columns are not equally long: image 1, text 2"),
        ({"image": "a.png", "text": "a"}, "the column 'image' takes a list of values"),
        (
            pandas.DataFrame([[1, 2]], columns=["text", "text"]),
            "the DataFrame: the column 'text' is there twice",
        ),
        (
            pandas.DataFrame({"imag": [1], "text": [2]}),
            "the DataFrame: There is no column called 'image'. Did",
        ),
        ([{"image": 7, "text": "a"}], "row 1: a picture is a path"),
        (
            [{"image": np.zeros((2, 2)) + 7, "text": "a"}],
            "row 1: an array of floats holds values from 0 to 1",
        ),
        (Path("gone"), "There is no file or folder 'gone'"),
    ],
)
def test_what_is_no_data(data: object, reason: str) -> None:
    with pytest.raises(InterplayError, match=reason):
        as_table(data, "pairs")  # type: ignore[arg-type]


def test_what_is_a_table_and_what_a_picture(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"image": ["a.png"], "text": ["a"]})
    for table in (
        frame,
        [{"image": "a.png", "text": "a"}],
        "p.csv",
        Path("p.parquet"),
        tmp_path,
        "openmoji/relation",
    ):
        assert is_table(table)
    for image in ("a.png", Path("a.jpg"), b"x", picture(0), ["a.png"], [{"bytes": b"x", "path": None}], []):
        assert not is_table(image)
