"""The bench of small data: each set is what it says that it is."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch

from benchmarks.small_data.catalogue import sets, streams
from benchmarks.small_data.choices import choices_report, folds, nested
from benchmarks.small_data.drafts import Draft, with_splits, with_wrong_labels
from benchmarks.small_data.folders import described, folder, made, stream, table
from interplay import load
from interplay.classification.starts import PairVectors
from interplay.data.schema import PairTable
from interplay.errors import InterplayError

HERE = [name for name, one in (sets() | streams()).items() if not one.downloads]
FETCHED = [
    pytest.param(name, marks=pytest.mark.slow) for name, one in (sets() | streams()).items() if one.downloads
]


def test_they_differ() -> None:
    """At least 14 sets and 6 streams; all that can decide, and several labels, are in both halves."""
    assert len(sets()) >= 14
    assert len(streams()) >= 6
    for half in ("development", "held out"):
        members = [one for one in sets().values() if one.half == half]
        assert {one.decides for one in members} == {"picture", "text", "both", "mixed"}
        assert {one.kind for one in members} == {"single", "multi"}
        assert sum(one.half == half for one in streams().values()) >= 3


@pytest.mark.parametrize("name", [*HERE, *FETCHED])
def test_a_set_is_as_it_says(name: str) -> None:
    """Splits share no family and no picture; test has no class that train lacks; what decides is true by counting."""
    rows = made(name).rows
    for shared in ("family", "picture"):
        splits: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            splits[getattr(row, shared)].add(row.split)
        assert all(len(one) == 1 for one in splits.values()), shared
    assert {row.split for row in rows} == {"train", "validation", "test"}
    groups = {
        split: {group for row in rows if row.split == split for group in (row.labels or (row.task,))}
        for split in ("train", "validation", "test")
    }
    assert groups["validation"] | groups["test"] <= groups["train"]
    assert all(text.strip() and "|" not in text for row in rows for text in row.texts)
    one, figures = (sets() | streams())[name], described(name)
    if one.kind == "pairs":
        assert groups["train"] == groups["test"]
        assert len(groups["test"]) >= 6
        sizes = Counter((row.task, row.split) for row in rows)
        assert min(sizes.values()) >= 2
        pictures = [row.picture for row in rows]
        assert len(set(pictures)) == len(pictures)
        return
    assert isinstance(classes := figures["classes"], int)
    assert 2 <= classes <= 66
    assert 60 <= sum(row.split != "test" for row in rows) <= 6000
    if one.decides == "mixed":
        assert "text" not in figures
        return
    text, picture, commonest = figures["text"], figures["picture"], figures["commonest"]
    assert isinstance(text, float)
    assert isinstance(picture, float)
    assert isinstance(commonest, float)
    if one.decides == "picture":
        assert text < 0.25 or text < commonest + 0.01
        assert picture > 0.9
    elif one.decides == "text":
        assert picture == pytest.approx(1 / classes)
        assert text > 0.9
    else:
        assert text <= 0.5
        assert picture <= 0.5
        together = {(row.picture_fact, row.text_fact): row.labels for row in rows}
        assert all(together[row.picture_fact, row.text_fact] == row.labels for row in rows)


def test_a_set_is_made_the_same_each_time() -> None:
    """Rows, splits and pixels follow from the name alone."""
    for name in ("shapes-order", "letter-hints", "digits-wrong-labels"):
        one, again = made(name), sets()[name].make(name)
        assert one is not again
        assert one.rows == again.rows
        picture = one.rows[5].picture
        assert one.draw(picture) == again.draw(picture)
    rows = [Draft(str(number), ("a",), ("b",), str(number)) for number in range(40)]
    assert with_splits("one", rows) == with_splits("one", rows) != with_splits("another", rows)


def test_words_are_drawn_apart_from_the_split() -> None:
    """What texts are made of is the same in train and test: where a word stands in one, it stands in the other."""
    for name in ("reviews", "complaints"):
        words = {
            split: {
                word for row in made(name).rows if row.split == split for word in row.texts[0].split()[2:]
            }
            for split in ("train", "test")
        }
        names = {word for row in made(name).rows for word in row.texts[0].split(" was ")[0].split()}
        assert words["test"] - words["train"] <= names
    firsts = [row.texts[0].split(" was ")[1].split(" and ") for row in made("reviews").rows]
    assert all(first != second for first, second in firsts)
    kinds = {
        split: {
            tuple(pair) for row, pair in zip(made("reviews").rows, firsts, strict=True) if row.split == split
        }
        for split in ("train", "test")
    }
    assert len(kinds["test"] & kinds["train"]) > 0.3 * len(kinds["train"])


def test_wrong_labels_are_as_many_as_said_and_none_is_in_test() -> None:
    """A tenth of train and of validation."""
    rows = [Draft(str(number), ("a",), (str(number % 3),), str(number)) for number in range(400)]
    right = with_splits("noise", rows)
    wrong = with_wrong_labels("noise", right, 0.1)
    changed = [a.split for a, b in zip(right, wrong, strict=True) if a.labels != b.labels]
    sizes = {split: sum(row.split == split for row in right) for split in ("train", "validation")}
    assert {split: changed.count(split) for split in sizes} == {
        split: round(0.1 * size) for split, size in sizes.items()
    }
    assert len(changed) == sum(changed.count(split) for split in sizes)


def test_the_folder_is_what_a_user_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`load` reads it as any folder; the second call writes nothing; other names are refused."""
    monkeypatch.setenv("INTERPLAY_CACHE", str(tmp_path))
    place = folder("glyph-scripts")
    loaded, rows = load(place), made("glyph-scripts").rows
    assert loaded.kind == "single"
    assert len(loaded) == len(rows)
    assert loaded.labels() == [list(row.labels) for row in rows]
    assert loaded.rows["split"] == [row.split for row in rows]
    assert loaded.texts() == [row.texts[0] for row in rows]
    before = (place / "metadata.csv").stat().st_mtime_ns
    assert folder("glyph-scripts") == place
    assert (place / "metadata.csv").stat().st_mtime_ns == before
    assert table("glyph-scripts").labels() == loaded.labels()
    with pytest.raises(InterplayError, match="no set called 'glyph-script'"):
        table("glyph-script")
    with pytest.raises(InterplayError, match="no stream called"):
        stream("glyph-scripts")


def test_the_choice_of_a_head_is_measured_on_pairs_that_it_never_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = PairTable.split
    monkeypatch.setattr(PairTable, "split", lambda one, name: (read.append(name), real(one, name))[1])
    found = nested("emoji-few")
    assert read == ["train", "validation"]
    assert found.rows == 60
    assert sum(found.chosen.values()) == 5
    assert {*found.values} == {"vectors", "hidden"}
    assert all(0 < value < 1 for value in found.values.values())
    pairs = PairVectors(torch.randn(40, 2), torch.arange(80.0).view(40, 2), torch.arange(40) % 4)
    tested = []
    for train, validation, test in folds(pairs, 1):
        parts = [{*part.text[:, 0].tolist()} for part in (train, validation, test)]
        assert [len(part) for part in parts] == [28, 4, 8]
        assert len(set.union(*parts)) == 40
        tested.append(parts[2])
    assert len(set.union(*tested)) == 40
    assert choices_report([found]).count("\n") == 3
