from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from interplay.data import benchmarks, load
from interplay.data.mm_imdb import GENRES
from interplay.data.splits import unit_hash
from interplay.errors import InterplayError
from tests.published import (
    DISHES,
    FILMS,
    FLICKR,
    JUDGED,
    draw,
    write_food101,
    write_mm_imdb,
    write_snli_ve,
)

WRITERS: dict[str, Callable[[Path], Path]] = {
    "food101": write_food101,
    "mm_imdb": write_mm_imdb,
    "snli_ve": write_snli_ve,
}


@pytest.fixture
def food(tmp_path: Path) -> Path:
    return write_food101(tmp_path)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    return write_mm_imdb(tmp_path)


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    return write_snli_ve(tmp_path)


def test_food101_is_read_with_titles_and_classes(food: Path) -> None:
    table = load(f"food101:{food}?validation=0")
    assert (table.kind, table.classes, table.skipped) == ("single", DISHES, ())
    assert table.splits() == {"train": 12, "test": 6}
    row = table.ids().index("train/pho/pho_2.jpg")
    assert (table.texts()[row], table.labels()[row]) == ("Pho, the 2. best | Recipes", ["pho"])
    assert table.sources([row])[0]["path"] == str(food / "images" / "train" / "pho" / "pho_2.jpg")
    assert "titles of pages" in table.notes[0]


def test_the_validation_split_of_food101_is_a_fixed_part_of_train(food: Path) -> None:
    table = load(f"food101:{food}?validation=0.3")
    splits = dict(zip(table.ids(), table.rows["split"], strict=True))
    assert table.splits()["test"] == 6
    for name, split in splits.items():
        if name.startswith("train/"):
            expected = "validation" if unit_hash(name.split("/")[-1]) < 0.3 else "train"
            assert split == expected, name
    assert Counter(splits.values())["validation"] > 0
    assert any("30.0% of train" in note for note in table.notes)


def test_full_pages_of_food101_are_told_from_titles(food: Path) -> None:
    for split in ("train", "test"):
        for picture in (food / "images" / split).glob("*/*.jpg"):
            page = food / "texts_txt" / picture.parent.name / f"{picture.stem}.txt"
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(f"{picture.stem}\n\n" + "Peel the apples. " * 40)
    assert "titles of pages" in load(f"food101:{food}").notes[0]
    pages = load(f"food101:{food}?text=pages&validation=0")
    assert "full pages" in pages.notes[0]
    assert pages.texts()[pages.ids().index("test/sushi/sushi_10.jpg")].startswith("sushi_10 Peel the apples.")
    shutil.rmtree(food / "texts")
    assert load(f"food101:{food}?validation=0").texts() == pages.texts()
    (food / "texts_txt" / "pho" / "pho_1.txt").unlink()
    with pytest.raises(InterplayError, match=r"images/train, row 6: there is no text .*pho_1\.txt"):
        load(f"food101:{food}")


def test_pages_that_stand_in_the_titles_files_are_called_pages(food: Path) -> None:
    for split in ("train", "test"):
        file = food / "texts" / f"{split}_titles.csv"
        file.write_text(file.read_text().replace("Recipes", "Recipes " * 60))
    assert "full pages" in load(f"food101:{food}").notes[0]


def test_bad_rows_of_food101_are_named_and_can_be_left_out(food: Path) -> None:
    file = food / "texts" / "train_titles.csv"
    lines = file.read_text().splitlines()
    lines[2] = "apple_pie_2.jpg,Apple pie, unquoted,apple_pie"
    file.write_text("\n".join(lines))
    (food / "images" / "test" / "pho" / "pho_11.jpg").write_bytes(b"no picture")
    with pytest.raises(InterplayError, match=r"train_titles.csv, row 3: it has 4 cells.*and 1 more row"):
        load(f"food101:{food}")
    table = load(f"food101:{food}?validation=0", on_bad_row="skip")
    assert table.splits() == {"train": 11, "test": 5}
    assert [(row.row, Path(row.source).name) for row in table.skipped] == [
        (3, "train_titles.csv"),
        (4, "test_titles.csv"),
    ]


def test_films_have_their_longest_plot_and_the_genres_of_the_benchmark(films: Path) -> None:
    table = load(f"mm_imdb:{films}")
    assert table.kind == "multi"
    assert len(GENRES) == 23
    assert table.classes == tuple(
        genre for genre in GENRES if any(genre in named for part in FILMS.values() for _, _, named in part)
    )
    assert table.splits() == {"train": 5, "validation": 2, "test": 2}
    row = table.ids().index("0000001")
    assert (table.texts()[row], table.labels()[row]) == ("A longer plot of love.", ["Drama", "Romance"])
    assert table.labels()[table.ids().index("0000003")] == ["Crime", "Drama"]
    assert "0000005" not in table.ids()
    assert table.notes[0].endswith("News (1), Talk-Show (1).")
    assert "1 films have none of the 23 genres and are left out: 0000005." in table.notes


def test_bad_films_are_named_and_can_be_left_out(films: Path) -> None:
    (films / "dataset" / "0000002.json").write_text("{")
    (films / "dataset" / "0000008.json").unlink()
    (films / "dataset" / "0000009.jpeg").unlink()
    edited = films / "dataset" / "0000010.json"
    edited.write_text(json.dumps(json.loads(edited.read_text()) | {"plot": [" "]}))
    with pytest.raises(InterplayError, match=r"0000002\.json, row 1: it is not valid JSON"):
        load(f"mm_imdb:{films}")
    skipped = load(f"mm_imdb:{films}", on_bad_row="skip").skipped
    reasons = {row.reason.split(" '")[0].split(" /")[0]: row.row for row in skipped}
    assert reasons["there is no file"] == 2
    assert {"the image file", "the film has no plot"} <= set(reasons)


def test_split_lists_that_are_none_are_refused(films: Path) -> None:
    (films / "split.json").write_text('{"train": []}')
    with pytest.raises(InterplayError, match="needs lists of film numbers"):
        load(f"mm_imdb:{films}")


def test_hypotheses_are_read_with_their_pictures(judged: Path) -> None:
    table = load(f"snli_ve:{judged}")
    assert (table.kind, table.classes) == ("single", JUDGED)
    assert table.splits() == {
        "train": 3 * len(FLICKR["train"]),
        "validation": 3 * len(FLICKR["dev"]),
        "test": 3 * len(FLICKR["test"]),
    }
    assert table.texts()[1] == "This is neutral of 36979."
    assert (table.labels()[1], table.ids()[1]) == (["neutral"], "36979.jpg#0r1n")
    assert table.sources([1])[0]["path"].endswith("flickr30k_images/36979.jpg")
    both = load(f"snli_ve:{judged}?text=both")
    assert both.texts()[1] == "Two people stand near 36979 . This is neutral of 36979."


def test_a_picture_of_snli_ve_is_opened_once(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def look(source: dict[str, str]) -> None:
        opened.append(source["path"])

    monkeypatch.setattr(benchmarks, "fault", look)
    load(f"snli_ve:{judged}")
    assert Counter(Path(path).stem for path in opened) == Counter(
        picture for part in FLICKR.values() for picture in part
    )


def test_bad_lines_of_snli_ve_are_named_and_can_be_left_out(judged: Path) -> None:
    file = judged / "snli_ve_train.jsonl"
    lines = file.read_text().splitlines()
    lines[0] = lines[0].replace('"gold_label": "entailment"', '"gold_label": "-"')
    lines[1] = lines[1][:-5]
    lines[2] = lines[2].replace("sentence2", "sentence3")
    file.write_text("\n".join([*lines, ""]))
    draw(judged / "images" / "elsewhere.jpg", 1)
    (judged / "flickr30k_images" / "3563617591.jpg").unlink()
    with pytest.raises(InterplayError, match=r"snli_ve_train\.jsonl, row 1: There is no label of SNLI-VE"):
        load(f"snli_ve:{judged}")
    table = load(f"snli_ve:{judged}", on_bad_row="skip")
    assert table.splits() == {"train": 3, "validation": 3}
    assert [row.row for row in table.skipped] == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("food101", "images/test"),
        ("food101", "texts/train_titles.csv"),
        ("mm_imdb", "split.json"),
        ("mm_imdb", "dataset"),
        ("snli_ve", "snli_ve_dev.jsonl"),
        ("snli_ve", "flickr30k_images"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(name: str, gone: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    path = tmp_path / gone
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(InterplayError) as raised:
        load(f"{name}:{tmp_path}")
    sentence = str(raised.value)
    assert gone in sentence
    assert "https://" in sentence
    assert f"docs/guides/data/{name}.md" in sentence
    assert str(tmp_path) in sentence


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("food101:", "names no folder"),
        ("food101:x?validaton=1", "Did you mean 'validation'"),
        ("food101:x?validation=all", "must be a number"),
        ("food101:x?validation=1", r"must lie in \[0, 1\)"),
        ("food101:x?text=title", "Did you mean 'titles'"),
        ("mm_imdb:x?text=plot", "no setting of mm_imdb"),
        ("snli_ve:x?text=premise", "no text of snli_ve"),
        ("snli_ve:x?text", "have the form"),
    ],
)
def test_settings_that_do_not_exist_are_named(source: str, said: str) -> None:
    with pytest.raises(InterplayError, match=said):
        load(source)


def test_published_files_that_are_no_unicode_or_too_deep(judged: Path, films: Path) -> None:
    file = next(judged.glob("**/*train*.jsonl"))
    lines = file.read_text().splitlines()
    first = json.loads(lines[0])
    lines[0] = json.dumps(first | {"Flickr30K_ID": "\ud800"})
    lines[1] = json.dumps(json.loads(lines[1]) | {"sentence2": "half \udc80"})
    lines.append("[" * 100_000)
    file.write_text("\n".join(lines))
    with pytest.raises(InterplayError, match=r"row 1: .*(half of a character|the image is missing)"):
        load(f"snli_ve:{judged}")
    skipped = load(f"snli_ve:{judged}", on_bad_row="skip").skipped
    assert {row.row for row in skipped} == {1, 2, len(lines)}
    next((films / "dataset").glob("*.json")).write_text("[" * 100_000)
    with pytest.raises(InterplayError, match="nested too deep"):
        load(f"mm_imdb:{films}")
