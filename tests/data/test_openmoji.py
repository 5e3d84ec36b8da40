from __future__ import annotations

import multiprocessing
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from interplay.data import load, openmoji, pictures
from interplay.data.emoji import Emoji, all_emoji, words
from interplay.data.images import decode
from interplay.data.paths import cache_folder
from interplay.errors import InterplayError

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def emoji() -> list[Emoji]:
    return all_emoji()


@pytest.fixture(scope="module")
def relation(emoji: list[Emoji]) -> list[openmoji.Row]:
    return openmoji.relation_rows(emoji)


def test_names_and_categories(emoji: list[Emoji]) -> None:
    assert len(emoji) > 1800
    assert len({one.category for one in emoji}) == 9
    assert 95 <= len({one.subcategory for one in emoji}) <= 100
    assert len({one.code for one in emoji}) == len({one.name for one in emoji}) == len(emoji)
    assert all(one.name == one.name.lower() and one.name.strip() for one in emoji)
    assert all(one.name not in one.paraphrases for one in emoji)


def test_shares_of_the_splits(emoji: list[Emoji]) -> None:
    count = Counter(one.split for one in emoji)
    assert 0.68 <= count["train"] / len(emoji) <= 0.74
    assert 0.08 <= count["validation"] / len(emoji) <= 0.12
    assert 0.17 <= count["test"] / len(emoji) <= 0.22


def test_variants_never_straddle_a_split(emoji: list[Emoji]) -> None:
    split_of: dict[str, set[str]] = {}
    for one in emoji:
        split_of.setdefault(one.family, set()).add(one.split)
    assert all(len(splits) == 1 for splits in split_of.values())
    family = {one.name: one.family for one in emoji}
    for variants in (
        ("firefighter", "man firefighter", "woman firefighter"),
        ("person with white cane", "man with white cane facing right"),
        ("man: red hair", "woman: bald", "adult", "older woman"),
        ("family: man, woman, boy", "kiss: woman, man", "family", "two men holding hands"),
        ("keycap 0", "hash key", "keycap ten"),
        ("pregnant woman", "pregnant man", "pregnant person"),
        ("prince", "princess"),
        ("merman", "mermaid", "merperson"),
        ("cat", "cat face", "black cat"),
        ("person in tuxedo", "man in tuxedo"),
        ("waving black flag", "pirate flag", "wales flag"),
    ):
        assert len({family[name] for name in variants}) == 1, variants
    for one, other in (("france flag", "germany flag"), ("clock face one oclock", "clock face two oclock")):
        assert family[one] != family[other]


def test_everything_is_the_same_in_another_process(emoji: list[Emoji], relation: list[openmoji.Row]) -> None:
    code = (
        "import zlib; from interplay.data import openmoji as o, emoji as e; m = e.all_emoji();"
        "print(zlib.crc32(repr([o.relation_rows(m), o.attribute_rows(m), o.subgroup_rows(m)]).encode()))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = [relation, openmoji.attribute_rows(emoji), openmoji.subgroup_rows(emoji)]
    assert int(other.stdout) == zlib.crc32(repr(ours).encode())


@pytest.mark.parametrize("split", SPLITS)
def test_relation_text_alone_and_picture_alone_are_at_chance(
    relation: list[openmoji.Row], split: str
) -> None:
    rows = [row for row in relation if row.emoji.split == split]
    for key in (lambda row: row.text, lambda row: row.emoji.code):
        count = Counter((key(row), row.labels[0]) for row in rows)
        assert all(
            count[value, label] == count[value, "same"]
            for value, _ in list(count)
            for label in openmoji.RELATIONS
        )
    assert set(Counter(row.text for row in rows).values()) == {3}


def test_relation_pairs_are_what_their_labels_say(emoji: list[Emoji], relation: list[openmoji.Row]) -> None:
    owners: dict[str, list[Emoji]] = {}
    for one in emoji:
        for text in (one.name, *one.paraphrases):
            owners.setdefault(text, []).append(one)
    assert len({(row.emoji.code, row.text) for row in relation}) == len(relation)
    for row in relation:
        (owner,) = owners[row.text]
        assert owner.split == row.emoji.split
        own_names = (row.emoji.name, *row.emoji.paraphrases)
        match row.labels[0]:
            case "same":
                assert row.text in own_names
            case "sibling":
                assert owner.subcategory == row.emoji.subcategory
                assert owner.family != row.emoji.family
            case "unrelated":
                assert owner.category != row.emoji.category
        if row.labels[0] != "same":
            assert not any(set(words(row.text)) <= set(words(name)) for name in own_names)
    assert 4000 <= sum(row.emoji.split == "train" for row in relation) <= 6000


def test_attributes_do_not_stand_in_the_text(emoji: list[Emoji]) -> None:
    rows = openmoji.attribute_rows(emoji)
    labels = {label for row in rows for label in row.labels}
    assert len(labels) == openmoji.ATTRIBUTES
    for split in SPLITS:
        assert {label for row in rows if row.emoji.split == split for label in row.labels} == labels
    for row in rows:
        assert row.labels
        assert row.text
        left = row.text.split()
        assert not set(left) & (
            labels | {label + "s" for label in labels} | {"men", "women", "male", "female"}
        )
        assert not any(len(label) >= 4 and label in word for label in labels for word in left)
        assert set(row.labels) <= {openmoji._singular(word) for word in words(row.emoji.name)}


def test_subgroup_classes_occur_in_every_split(emoji: list[Emoji]) -> None:
    rows = openmoji.subgroup_rows(emoji)
    classes = {row.labels for row in rows}
    assert len(classes) >= 60
    for split in SPLITS:
        assert {row.labels for row in rows if row.emoji.split == split} == classes


@pytest.mark.usefixtures("fake_pictures")
def test_the_four_tables() -> None:
    relation = load("openmoji/relation")
    assert relation.kind == "single"
    assert relation.classes == openmoji.RELATIONS
    test = relation.split("test")
    assert test.targets().bincount().tolist() == [len(test) // 3] * 3
    assert len(set(relation.ids())) == len(relation)
    assert relation.image(0).size == (20, 14)
    subgroup = load("openmoji/subgroup")
    assert subgroup.targets().max() == len(subgroup.classes) - 1
    assert "face smiling" in subgroup.class_texts()
    attributes = load("openmoji/attributes")
    assert attributes.kind == "multi"
    assert attributes.targets().shape == (len(attributes), 23)
    assert (attributes.targets().sum(1) >= 1).all()
    continual = load("openmoji/continual")
    assert continual.kind == "pairs"
    assert len(set(continual.tasks())) == 9
    with pytest.raises(InterplayError, match="has no labels"):
        continual.targets()


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(InterplayError, match="Did you mean 'openmoji/relation'"):
        load("openmoji/relations")


def test_rendering_is_done_once_and_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = ["1F600", "2764", "1F1EB-1F1F7", "no such code"]
    first = pictures.openmoji_pictures(codes)
    assert list(first) == codes[:3]
    image = decode(first["1F600"], "here")
    assert image.size == (pictures.PIXELS, pictures.PIXELS)
    pixels = np.asarray(image)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[48, 20].tolist() != [255, 255, 255]
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "_render", lambda _: pytest.fail("rendered again"))
        assert pictures.openmoji_pictures(codes) == first
    (file,) = cache_folder().glob("openmoji/*.arrow")
    for damage in (b"", file.read_bytes()[: file.stat().st_size // 2], b"junk" * 100):
        file.write_bytes(damage)
        assert pictures.openmoji_pictures(codes) == first


@pytest.mark.slow
def test_two_processes_render_at_once() -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        one, other = pool.map(pictures.openmoji_pictures, [["1F600", "1F601"]] * 2)
    assert one == other
    assert len(list(cache_folder().glob("openmoji/*"))) == 2  # the file and its lock: nothing half done


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INTERPLAY_CACHE", str(tmp_path / "file"))
    with pytest.raises(InterplayError, match=r"cannot be written.*INTERPLAY_CACHE"):
        pictures.openmoji_pictures(["1F600"])


@pytest.mark.slow
def test_every_emoji_is_drawn(emoji: list[Emoji]) -> None:
    assert len(pictures.openmoji_pictures([one.code for one in emoji])) == len(emoji)
