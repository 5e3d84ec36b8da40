from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from conftest import encoded, picture

from interplay.data import load
from interplay.errors import InterplayError

Write = Callable[..., Path]

GOOD = (
    "file_name,text,label,split\n0.png,zero,a,train\n1.png,one,b,train\n2.png,two,a,test\n3.png,three,b,val\n"
)


def check(table: object) -> None:
    """What every reader must make of GOOD."""
    assert table.texts() == ["zero", "one", "two", "three"]  # type: ignore[attr-defined]
    assert table.kind == "single"  # type: ignore[attr-defined]
    assert table.classes == ("a", "b")  # type: ignore[attr-defined]
    assert table.targets().tolist() == [0, 1, 0, 1]  # type: ignore[attr-defined]
    assert table.splits() == {"train": 2, "validation": 1, "test": 1}  # type: ignore[attr-defined]
    assert [table.image(row).tobytes() for row in range(4)] == [  # type: ignore[attr-defined]
        picture(row).tobytes() for row in range(4)
    ]


def records() -> list[dict[str, str]]:
    header, *lines = [line.split(",") for line in GOOD.splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_csv(folder: Write) -> None:
    check(load(str(folder(GOOD))))
    check(load(str(folder("\ufeff" + GOOD.replace("\n", "\r\n") + "\r\n"))))


def test_jsonl(folder: Write) -> None:
    check(load(str(folder("\n".join(map(json.dumps, records())), "pairs.jsonl"))))


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_folder_with_metadata(folder: Write, name: str) -> None:
    text = GOOD if name.endswith("csv") else "\n".join(map(json.dumps, records()))
    check(load(str(folder(text, name).parent)))


def test_folder_of_split_folders(folder: Write) -> None:
    base = folder("").parent
    for split, rows in (
        ("train", "0.png,zero,a\n1.png,one,b\n"),
        ("val", "3.png,three,b\n"),
        ("test", "2.png,two,a\n"),
    ):
        (base / split).mkdir()
        for number in range(4):
            shutil.copy(base / f"{number}.png", base / split)
        (base / split / "metadata.csv").write_text("file_name,text,label\n" + rows)
    table = load(str(base))
    assert table.splits() == {"train": 2, "validation": 1, "test": 1}
    assert table.split("test").texts() == ["two"]
    assert table.ids() == ["train/0.png", "train/1.png", "val/3.png", "test/2.png"]


def test_parquet_with_paths_and_with_bytes(folder: Write) -> None:
    base = folder("").parent
    datasets.Dataset.from_list(records()).to_parquet(base / "pairs.parquet")
    check(load(str(base / "pairs.parquet")))
    held = [{**row, "image": encoded(picture(number))} for number, row in enumerate(records())]
    for row in held:
        del row["file_name"]
    datasets.Dataset.from_list(held).to_parquet(base / "bytes.parquet")
    check(load(str(base / "bytes.parquet")))
    with_struct = datasets.Dataset.from_list(held).cast_column("image", datasets.Image())
    with_struct.to_parquet(base / "bytes.parquet")  # the same file again: nothing old may be read
    check(load(str(base / "bytes.parquet")))


def stored() -> datasets.Dataset:
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "caption": datasets.List(datasets.Value("string")),
            "label": datasets.ClassLabel(names=["b", "a", "never"]),
        }
    )
    rows = {
        "image": [picture(number) for number in range(3)],
        "caption": [["zero", "nil"], ["one"], ["two"]],
        "label": [1, 0, 1],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_arrow_folders(tmp_path: Path) -> None:
    stored().save_to_disk(tmp_path / "one")
    one = load(str(tmp_path / "one"))
    assert one.classes == ("b", "a")  # the order of the source
    assert one.targets().tolist() == [1, 0, 1]
    assert one.captions() == [["zero", "nil"], ["one"], ["two"]]
    assert one.texts() == ["zero", "one", "two"]
    assert "no split column" in one.notes[0]
    assert one.image(2).tobytes() == picture(2).tobytes()
    datasets.DatasetDict({"train": stored(), "test": stored()}).save_to_disk(tmp_path / "two")
    two = load(str(tmp_path / "two"))
    assert two.splits() == {"train": 3, "test": 3}
    assert two.notes == ("The class 'b' has one sample in train.", f"{tmp_path}/two has no validation rows.")
    with pytest.raises(
        InterplayError, match=r"no rows in the split 'validation'; its splits are: train \(3\), test"
    ):
        two.split("validation")


def test_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict({"train": stored()}))
    assert len(load("someone/pairs")) == 3

    def offline(_: str) -> None:
        raise ConnectionError("Couldn't reach the Hub\nmore")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(InterplayError, match=r"Did you mean 'openmoji/relation'.*Couldn't reach the Hub\)\."):
        load("openmoj/relation")


def test_several_labels_and_captions_in_csv(folder: Write) -> None:
    table = load(
        str(folder("image,captions,labels,split\n0.png,a|b,x|y,train\n1.png,c,y,train\n2.png,d,x,test\n"))
    )
    assert table.kind == "multi"
    assert table.targets().tolist() == [[1, 1], [0, 1], [1, 0]]
    assert table.captions() == [["a", "b"], ["c"], ["d"]]


def test_columns_by_other_names(folder: Write) -> None:
    file = folder("picture,title,kind\n0.png,zero,a\n1.png,one,a\n")
    names = {"image": "picture", "text": "title", "label": "kind"}
    assert load(str(file), columns=names).classes == ("a",)
    with pytest.raises(InterplayError, match=r"no column of the schema called 'lable'. Did you mean 'label'"):
        load(str(file), columns={**names, "lable": "kind"})
    with pytest.raises(
        InterplayError, match=r"pairs\.csv: There is no column called 'titel'. Did you mean 'title'"
    ):
        load(str(file), columns={**names, "text": "titel"})


def test_split_by_hash_is_fixed_said_and_keeps_classes_and_images_together(folder: Write) -> None:
    lines = [f"{n % 40}.png,caption {n},class {n % 10}" for n in range(80)]
    file = folder("image,text,label\n" + "\n".join(lines), pictures=40)
    table = load(str(file))
    assert table.rows["split"][:] == load(str(file)).rows["split"][:]
    assert table.rows["split"][:] != load(str(file), seed=1).rows["split"][:]
    assert "split 80/10/10 by a hash of seed 0" in table.notes[0]
    assert len(set(table.split("train").rows["label"])) == 10
    split_of: dict[str, set[str]] = {}
    for identifier, split in zip(table.ids(), table.rows["split"], strict=True):
        split_of.setdefault(identifier.split("#")[0], set()).add(split)
    assert len(split_of) == 40
    assert all(len(splits) == 1 for splits in split_of.values())


BAD = {
    "missing image": ("9.png,text,a,train", r"9\.png' cannot be read \(No such file"),
    "no image": (",text,a,train", "the image is missing"),
    "broken image": ("cut.png,text,a,train", "broken or cut off"),
    "no picture": ("pairs.csv,text,a,train", "not an image of a known format"),
    "empty text": ("1.png,,a,train", "the text is empty"),
    "blank text": ("1.png,  ,a,train", "the text is empty"),
    "missing label": ("1.png,text,,train", "the label is missing"),
    "unknown split": ("1.png,text,a,trian", "no split called 'trian'. Did you mean 'train'"),
    "unseen label": ("1.png,text,new,test", "the label 'new' occurs in test but never in train"),
    "too few cells": ("1.png,text,a", "it has 3 cells, the header has 4"),
    "too many cells": ("1.png,text,a,train,x", "it has 5 cells, the header has 4"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows(folder: Write, case: str) -> None:
    line, reason = BAD[case]
    file = folder(GOOD + line + "\n")
    (file.parent / "cut.png").write_bytes(encoded(picture(0, (90, 90)))[:2000])
    with pytest.raises(InterplayError, match=rf"pairs\.csv, row 5: .*{reason}.*--on-bad-row skip"):
        load(str(file))
    table = load(str(file), on_bad_row="skip")
    check(table)
    (bad,) = table.skipped
    assert (bad.row, bad.source) == (5, str(file))


def test_duplicate_ids(folder: Write) -> None:
    file = folder("id,image,text\nx,0.png,zero\ny,1.png,one\nx,2.png,two\n")
    with pytest.raises(InterplayError, match=r"row 3: the id 'x' is already taken by row 1 of .*pairs\.csv"):
        load(str(file))
    assert load(str(file), on_bad_row="skip").ids() == ["x", "y"]


def test_several_bad_rows_are_counted_and_all_bad_is_an_error(folder: Write) -> None:
    file = folder("image,text\n7.png,a\n8.png,b\n9.png,c\n")
    with pytest.raises(InterplayError, match=r"row 1: .* \(and 2 more rows\)"):
        load(str(file))
    with pytest.raises(InterplayError, match=r"has no row that can be used. The first: .*row 1"):
        load(str(file), on_bad_row="skip")


def test_without_verification_only_missing_files_are_found(folder: Write) -> None:
    file = folder("image,text\n0.png,a\nbroken.png,b\n")
    (file.parent / "broken.png").write_bytes(b"junk")
    table = load(str(file), verify=False)
    assert len(table) == 2
    with pytest.raises(InterplayError, match=r"row 'broken\.png': the file is not an image"):
        table.image(1)
    (file.parent / "broken.png").unlink()
    with pytest.raises(InterplayError, match=r"row 2: the image file '.*broken\.png' cannot be read"):
        load(str(file), verify=False)


def test_json_lines_that_cannot_be_used(folder: Write) -> None:
    good = '{"image": "0.png", "text": "zero", "labels": []}\n'
    good += '{"image": "1.png", "text": "one", "labels": ["a"]}\n'
    for line, reason in (
        ('{"image": ', "not valid JSON"),
        ("[1]", "not a JSON object"),
        ('{"image": "2.png", "text": 7, "labels": []}', "the text is not a string but 7"),
        ('{"image": "2.png", "text": "x"}', "the labels are missing"),
    ):
        file = folder(good + line, "pairs.jsonl")
        with pytest.raises(InterplayError, match=f"row 3: .*{reason}"):
            load(str(file))
        assert load(str(file), on_bad_row="skip").labels() == [[], ["a"]]


def test_a_very_long_text_is_kept(folder: Write) -> None:
    long = "word " * 60_000
    assert load(str(folder(f"image,text\n0.png,{long}\n1.png,b\n"))).texts()[0] == long


def test_one_sample_of_a_class_is_allowed_and_said(folder: Write) -> None:
    table = load(str(folder("image,text,label,split\n0.png,z,a,train\n1.png,o,a,train\n2.png,t,b,train\n")))
    assert table.notes[0] == "The class 'b' has one sample in train."


def test_missing_columns_name_those_that_exist(folder: Write) -> None:
    with pytest.raises(
        InterplayError, match=r"no column called 'text'. Did you mean 'texts'\? Known: image, texts"
    ):
        load(str(folder("image,texts\n0.png,a\n")))
    with pytest.raises(InterplayError, match="no column called 'image'"):
        load(str(folder("txt,text\n0.png,a\n")))
    with pytest.raises(InterplayError, match="columns 'label' and 'labels'"):
        load(str(folder("image,text,label,labels\n0.png,a,x,x\n")))
    both = folder("image,text,label,labels\n0.png,a,x,x|y\n")
    assert load(str(both), columns={"labels": "labels"}).kind == "multi"


def test_sources_that_are_none(folder: Write, tmp_path: Path) -> None:
    with pytest.raises(InterplayError, match="There is no file or folder"):
        load("gone.csv")
    with pytest.raises(InterplayError, match="There is no file or folder"):
        load("./gone")
    with pytest.raises(InterplayError, match=r"holds no metadata\.csv or metadata\.jsonl"):
        load(str(tmp_path))
    with pytest.raises(InterplayError, match="not a data file that can be read"):
        load(str(folder("x", "pairs.xlsx")))
    with pytest.raises(InterplayError, match="holds no rows"):
        load(str(folder("image,text\n")))
    with pytest.raises(InterplayError, match="holds no rows"):
        load(str(folder("")))
    (tmp_path / "latin.csv").write_bytes(b"image,text\n0.png,\xff\xfe\n")
    with pytest.raises(InterplayError, match="Save it as UTF-8"):
        load(str(tmp_path / "latin.csv"))
    (tmp_path / "bad.parquet").write_bytes(b"junk")
    with pytest.raises(InterplayError, match="cannot be read as a Parquet file"):
        load(str(tmp_path / "bad.parquet"))
    with pytest.raises(InterplayError, match="way to treat bad rows called 'ignore'"):
        load(str(folder(GOOD)), on_bad_row="ignore")  # type: ignore[arg-type]
