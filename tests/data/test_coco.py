from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import encoded, picture

from interplay.data import load
from interplay.data.coco import SUPERCATEGORIES, CocoSettings, parse_source
from interplay.data.schema import PairTable
from interplay.data.sessions import sessions_of
from interplay.data.splits import unit_hash
from interplay.errors import InterplayError
from tests.published import write_coco_set

CATEGORIES = {
    1: ("person", "person"),
    3: ("vehicle", "car"),
    18: ("animal", "dog"),
    78: ("appliance", "microwave"),
}
PERSON, CAR, DOG, MICROWAVE = CATEGORIES

TRAIN: dict[int, list[tuple[int, float]]] = {
    9: [(PERSON, 30.0), (DOG, 20.0), (DOG, 15.5)],  # animal by area and by count
    25: [(PERSON, 100.0), (CAR, 10.0), (CAR, 10.0)],  # person by area, vehicle by count
    30: [(MICROWAVE, 5.0)],
    34: [(MICROWAVE, 7.0), (PERSON, 6.5)],
    36: [(DOG, 8.0), (PERSON, 8.0)],  # a tie: animal comes before person
    42: [],  # nothing annotated
}
VAL: dict[int, list[tuple[int, float]]] = {
    139: [(CAR, 3.0)],
    285: [(PERSON, 2.0)],
    632: [(MICROWAVE, 1.0)],
    724: [],
}


def write_set(root: Path, name: str, objects: dict[int, list[tuple[int, float]]], folder: str = "") -> None:
    """One set in the structure of the published files, its pictures noise."""
    write_coco_set(
        root, name, objects, CATEGORIES, lambda image: encoded(picture(image), "JPEG"), folder=folder
    )


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    write_set(tmp_path, "train2017", TRAIN)
    write_set(tmp_path, "val2017", VAL)
    return tmp_path


def change(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    stored = json.loads(file.read_text())
    edit(stored)
    file.write_text(json.dumps(stored))


def tasks_of(table: PairTable) -> dict[str, str]:
    return dict(zip(table.ids(), table.tasks(), strict=True))


def test_pictures_belong_to_the_super_category_with_the_largest_area(coco: Path) -> None:
    table = load(f"coco:{coco}?validation=0")
    assert (table.kind, table.name, table.skipped) == ("pairs", f"coco:{coco}?validation=0", ())
    assert tasks_of(table) == {
        "train2017/000000000030.jpg": "appliance",
        "train2017/000000000034.jpg": "appliance",
        "val2017/000000000632.jpg": "appliance",
        "val2017/000000000139.jpg": "vehicle",
        "train2017/000000000009.jpg": "animal",
        "train2017/000000000036.jpg": "animal",
        "train2017/000000000025.jpg": "person",
        "val2017/000000000285.jpg": "person",
    }
    assert list(dict.fromkeys(table.tasks())) == ["appliance", "vehicle", "animal", "person"]
    assert table.splits() == {"train": 5, "test": 3}
    assert table.split("test").ids()[1] == "val2017/000000000139.jpg"


def test_or_with_the_largest_number_of_objects(coco: Path) -> None:
    by_area, by_count = load(f"coco:{coco}"), load(f"coco:{coco}?assignment=count")
    changed = {row: task for row, task in tasks_of(by_count).items() if tasks_of(by_area)[row] != task}
    assert changed == {"train2017/000000000025.jpg": "vehicle"}


def test_captions_and_pictures_are_those_of_the_image(coco: Path) -> None:
    table = load(f"coco:{coco}")
    for row, identifier in enumerate(table.ids()):
        image = int(identifier[-16:-4])
        assert table.captions()[row] == [f"Caption {number} of {image}." for number in range(5)]
        assert table.image(row).size == (20, 14)
        path = Path(table.sources([row])[0]["path"])
        assert (path, path.read_bytes()) == (coco / identifier, encoded(picture(image), "JPEG"))


def test_pictures_without_objects_are_counted_and_named(coco: Path) -> None:
    notes = load(f"coco:{coco}").notes
    assert (
        "1 of 6 pictures of train2017 have no annotated object, so they belong to no task and are left out: "
        "000000000042.jpg." in notes
    )
    assert any(note.startswith("1 of 4 pictures of val2017") and "000000000724.jpg" in note for note in notes)


def test_of_many_pictures_without_objects_ten_are_named(tmp_path: Path) -> None:
    write_set(tmp_path, "val2017", {**VAL, **{image: [] for image in range(1000, 1020)}})
    (note,) = (note for note in load(f"coco:{tmp_path}").notes if "no annotated object" in note)
    assert note.startswith("21 of 24 pictures of val2017")
    assert note.endswith("000000001008.jpg and 11 more.")


def test_validation_is_a_share_by_the_hash_of_the_image_id(tmp_path: Path) -> None:
    images = range(100, 400)
    write_set(tmp_path, "train2014", {image: [(DOG, 1.0)] for image in images})
    for share, query in ((0.05, ""), (0.2, "?validation=0.2")):
        table = load(f"coco:{tmp_path}{query}", verify=False)
        chosen = {f"train2014/COCO_train2014_{i:012}.jpg" for i in images if unit_hash(str(i)) < share}
        assert set(table.split("validation").ids()) == chosen
        assert 0.4 * share < len(chosen) / len(images) < 1.6 * share
    assert f"coco:{tmp_path} has no test rows." in load(f"coco:{tmp_path}", verify=False).notes


def test_sets_can_be_chosen_and_lie_in_a_folder_images(coco: Path) -> None:
    write_set(coco, "train2014", {1: [(CAR, 1.0)], 2: [(CAR, 1.0)]}, "images")
    with pytest.raises(
        InterplayError, match=r"several sets that can be train: train2014, train2017\. .*\?train=train2017"
    ):
        load(f"coco:{coco}")
    table = load(f"coco:{coco}?train=train2014&test=val2017&validation=0")
    assert table.split("train").ids() == [f"train2014/COCO_train2014_{image:012}.jpg" for image in (1, 2)]
    assert table.split("test").splits() == {"test": 3}
    swapped = load(f"coco:{coco}?train=val2017&test=train2014&validation=0")
    assert swapped.splits() == {"train": 3, "test": 2}
    with pytest.raises(InterplayError, match="'val2017' cannot be both"):
        load(f"coco:{coco}?train=val2017")
    with pytest.raises(InterplayError, match=r"no COCO set called 'val2014'\. Did you mean 'val2017'"):
        load(f"coco:{coco}?train=train2017&test=val2014")


def test_the_stream_has_the_tasks_in_the_documented_order(tmp_path: Path) -> None:
    shuffled = sorted(SUPERCATEGORIES)
    assert len(shuffled) == 12
    objects = {2 * n + extra + 1: [(DOG, 1.0)] for n in range(13) for extra in range(2)}
    write_set(tmp_path, "train2017", objects)

    def rename(stored: dict[str, Any]) -> None:
        names = ["drawing", *shuffled]  # a super-category that COCO does not have comes last
        stored["categories"] = [
            {"supercategory": name, "id": n, "name": name} for n, name in enumerate(names)
        ]
        for one in stored["annotations"]:
            one["category_id"] = (one["image_id"] - 1) // 2

    change(tmp_path / "annotations" / "instances_train2017.json", rename)
    sessions = sessions_of(load(f"coco:{tmp_path}?validation=0"))
    assert [session.name for session in sessions] == [*SUPERCATEGORIES, "drawing"]


def annotations(coco: Path, kind: str, split: str = "train2017") -> Path:
    return coco / "annotations" / f"{kind}_{split}.json"


def test_missing_files_and_folders(coco: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(InterplayError, match=r"There is no captions_\*\.json in .*docs/guides/data\.md"):
        load(f"coco:{tmp_path_factory.mktemp('empty')}")
    (coco / "val2017").rename(coco / "pictures")
    with pytest.raises(InterplayError, match=r"pictures of val2017: neither .*val2017 nor .*images/val2017"):
        load(f"coco:{coco}")
    annotations(coco, "instances", "val2017").unlink()
    (coco / "pictures").rename(coco / "val2017")
    with pytest.raises(InterplayError, match=r"no file .*instances_val2017\.json"):
        load(f"coco:{coco}")
    for kind in ("captions", "instances"):
        annotations(coco, kind).unlink()
    annotations(coco, "captions", "val2017").rename(annotations(coco, "captions", "dev2017"))
    with pytest.raises(
        InterplayError, match=r"holds the sets dev2017; say what they are for: .*\?test=dev2017"
    ):
        load(f"coco:{coco}")


def test_a_missing_picture(coco: Path) -> None:
    (coco / "train2017" / "000000000030.jpg").unlink()
    with pytest.raises(
        InterplayError,
        match=r"captions_train2017\.json, row 3: .*000000000030\.jpg' cannot be read \(No such",
    ):
        load(f"coco:{coco}", verify=False)
    with pytest.raises(InterplayError, match="row 3"):
        load(f"coco:{coco}")
    table = load(f"coco:{coco}", on_bad_row="skip")
    assert len(table.skipped) == 1
    assert "train2017/000000000030.jpg" not in table.ids()
    assert len(table) == 7


def test_a_picture_that_is_none(coco: Path) -> None:
    (coco / "val2017" / "000000000139.jpg").write_bytes(b"no picture")
    with pytest.raises(InterplayError, match=r"captions_val2017\.json, row 1: "):
        load(f"coco:{coco}")
    assert len(load(f"coco:{coco}", verify=False)) == 8


@pytest.mark.parametrize("kind", ["captions", "instances"])
def test_an_annotation_of_an_unknown_image(coco: Path, kind: str) -> None:
    def edit(stored: dict[str, Any]) -> None:
        stored["annotations"][1]["image_id"] = 555

    change(annotations(coco, kind), edit)
    number = 49 if kind == "captions" else 901
    expected = (
        f"{kind}_train2017.json, row 2: annotation {number} is of image 555, which 'images' does not list"
    )
    with pytest.raises(InterplayError) as caught:
        load(f"coco:{coco}")
    assert expected in str(caught.value)
    table = load(f"coco:{coco}", on_bad_row="skip")
    assert [str(row).endswith(expected) for row in table.skipped] == [True]
    assert len(table) == 8


def test_empty_and_missing_captions(coco: Path) -> None:
    def empty(stored: dict[str, Any]) -> None:
        stored["annotations"][0]["caption"] = " \n"  # of the last picture, which has no objects either

    def without(stored: dict[str, Any]) -> None:
        stored["annotations"] = [one for one in stored["annotations"] if one["image_id"] != 285]

    change(annotations(coco, "captions"), empty)
    with pytest.raises(
        InterplayError, match=r"captions_train2017\.json, row 6: caption 48 is empty\. Mend it"
    ):
        load(f"coco:{coco}")
    change(annotations(coco, "captions", "val2017"), without)
    reasons = [row.reason for row in load(f"coco:{coco}", on_bad_row="skip").skipped]
    assert sorted(reasons) == ["caption 48 is empty", "the picture has no caption"]


def test_an_image_listed_twice(coco: Path) -> None:
    change(annotations(coco, "captions"), lambda stored: stored["images"].append(stored["images"][0]))
    with pytest.raises(InterplayError, match=r"row 7: the image id 9 occurs twice"):
        load(f"coco:{coco}")


def test_captions_of_a_part_of_the_pictures(coco: Path) -> None:
    def fewer(stored: dict[str, Any]) -> None:
        stored["images"] = [one for one in stored["images"] if one["id"] not in (30, 42)]
        stored["annotations"] = [one for one in stored["annotations"] if one["image_id"] not in (30, 42)]

    change(annotations(coco, "captions"), fewer)
    table = load(f"coco:{coco}")
    assert len(table) == 7
    assert (
        "1 pictures of instances_train2017.json are not in captions_train2017.json and are left out."
        in table.notes
    )


@pytest.mark.parametrize(
    ("kind", "edit", "message"),
    [
        (
            "captions",
            lambda s: s.pop("images"),
            "captions_train2017.json is not in COCO's format: it has no list 'images'",
        ),
        (
            "captions",
            lambda s: s["annotations"][2].pop("caption"),
            "entry 3 of 'annotations' has no usable 'caption'",
        ),
        (
            "instances",
            lambda s: s["annotations"][0].update(area="big"),
            "entry 1 of 'annotations' has no usable 'area'",
        ),
        (
            "instances",
            lambda s: s["categories"].pop(),
            "has the category 78, which 'categories' does not list",
        ),
        ("instances", lambda s: s["categories"].insert(0, 5), "entry 1 of 'categories' has no usable 'id'"),
    ],
)
def test_files_of_another_format(
    coco: Path, kind: str, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    change(annotations(coco, kind), edit)
    with pytest.raises(InterplayError) as caught:
        load(f"coco:{coco}")
    assert message in str(caught.value)


def test_files_that_are_no_json(coco: Path) -> None:
    annotations(coco, "instances").write_text("[]")
    with pytest.raises(InterplayError, match="it is no JSON object"):
        load(f"coco:{coco}")
    annotations(coco, "instances").write_text('{"images": [')
    with pytest.raises(InterplayError, match=r"instances_train2017\.json cannot be read as JSON"):
        load(f"coco:{coco}")


def test_settings_in_the_name() -> None:
    assert parse_source("coco:a/b") == (Path("a/b"), CocoSettings())
    assert parse_source("coco:/a?assignment=count&validation=0.1&train=x&test=y") == (
        Path("/a"),
        CocoSettings("count", "x", "y", 0.1),
    )
    for source, message in (
        ("coco:", "names no folder"),
        ("coco:a?assignment=size", "There is no assignment .* 'size'"),
        ("coco:a?validation=1", r"must lie in \[0, 1\), not 1"),
        ("coco:a?validation=nan", r"must lie in \[0, 1\), not nan"),
        ("coco:a?validation=few", "must be a number, not 'few'"),
        ("coco:a?valid=0.1", "no setting of coco called 'valid'. Did you mean 'validation'"),
        ("coco:a?count", r"have the form \?name=value"),
    ):
        with pytest.raises(InterplayError, match=message):
            parse_source(source)


def test_names_and_captions_that_are_no_unicode(coco: Path) -> None:
    def edit(stored: dict[str, Any]) -> None:
        stored["images"][0]["file_name"] = "\ud800.jpg"
        stored["images"][1]["file_name"] = "a\0.jpg"
        stored["annotations"][-1]["caption"] = "half \udc80"

    change(annotations(coco, "captions"), edit)
    with pytest.raises(InterplayError, match=r"captions_train2017\.json, row \d: .*half of a character"):
        load(f"coco:{coco}")
    table = load(f"coco:{coco}", on_bad_row="skip")
    assert {row.row for row in table.skipped} >= {1, 2}
    annotations(coco, "captions").write_text("[" * 100_000)
    with pytest.raises(InterplayError, match=r"cannot be read as JSON .*nested too deep"):
        load(f"coco:{coco}")
