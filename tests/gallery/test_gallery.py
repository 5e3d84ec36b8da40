"""Adding, searching and removing, in a Milvus Lite folder and through a server's address."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from interplay.errors import InterplayError
from interplay.gallery import store as gallery_store
from interplay.gallery.gallery import Gallery
from interplay.towers.tokens import Side
from tests.gallery.conftest import Opener
from tests.gallery.fake import Fake, make_pictures, picture_bytes

TEXTS = ["cat", "a dog", "green apple pie", "x", "the moon tonight"]


def fill(gallery: Gallery, pictures: list[Path]) -> None:
    prices = [{"price": 3 * at, "brand": "xyz"[at % 3]} for at in range(len(pictures))]
    gallery.add_images(pictures, prices, progress=False)
    gallery.add_texts(TEXTS, progress=False)


def ranking(
    retriever: Fake, query: tuple[Side, Any], entries: list[tuple[Side, Any]]
) -> list[tuple[str, float, str]]:
    """(source, score, route), best first: every entry compared with the query, one by one."""
    _, wanted = retriever.one(*query)
    rows = []
    for side, item in entries:
        route, vector = retriever.one(side, item)
        rows.append((str(item), sum(float(a) * float(b) for a, b in zip(wanted, vector, strict=True)), route))
    return sorted(rows, key=lambda row: -row[1])


def sources(gallery: Gallery, *arguments: Any, **options: Any) -> list[str]:
    return [hit.source for hit in gallery.search(*arguments, **options)]


@pytest.mark.parametrize("find", ["image", "text"])
@pytest.mark.parametrize("by", ["image", "text"])
def test_every_direction_gives_the_most_similar_entries(
    gallery: Gallery, retriever: Fake, pictures: list[Path], by: Side, find: Side
) -> None:
    fill(gallery, pictures)
    query = "a dog" if by == "text" else str(pictures[5])
    entries = [("text", text) for text in TEXTS] if find == "text" else [("image", path) for path in pictures]
    expected = ranking(retriever, (by, query), entries)  # type: ignore[arg-type]
    hits = gallery.search(query, k=4, find=find)
    assert [hit.source for hit in hits] == [source for source, _, _ in expected[:4]]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score, _ in expected[:4]], abs=1e-6)
    assert [hit.route for hit in hits] == [route for _, _, route in expected[:4]]
    assert {hit.side for hit in hits} == {find}
    if by == find:
        assert hits[0].source == query
        assert hits[0].score == pytest.approx(1, abs=1e-6)


def test_k_beyond_the_size_gives_everything(gallery: Gallery, pictures: list[Path]) -> None:
    fill(gallery, pictures)
    assert sorted(sources(gallery, "cat", k=16_000)) == sorted(map(str, pictures))


def test_a_picture_can_be_given_in_every_form(gallery: Gallery, pictures: list[Path]) -> None:
    fill(gallery, pictures)
    content = pictures[3].read_bytes()
    with Image.open(pictures[3]) as image:
        for query in (pictures[3], str(pictures[3]), content, image):
            assert sources(gallery, query, k=1) == [str(pictures[3])]


def test_a_string_is_a_picture_when_it_names_one(
    gallery: Gallery, retriever: Fake, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(gallery, pictures)
    (tmp_path / "cat").write_text("a file that is no picture")
    shutil.copy(pictures[3], tmp_path / "a dog")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert sources(gallery, "cat", k=1, find="text") == ["cat"]
    assert sources(gallery, "a dog", k=1) == [str(pictures[3])]
    assert sources(gallery, "a dog", k=1, by="text", find="text") == ["a dog"]
    with pytest.raises(InterplayError, match=r"broken\.png: the file is not an image"):
        gallery.search("broken.png")
    assert sources(gallery, "broken.png", by="text", find="text", k=1)
    with pytest.raises(InterplayError, match=r"there\.png: the image file .* cannot be read"):
        gallery.search(tmp_path / "not there.png")
    with pytest.raises(InterplayError, match=r"there\.png: the image file .* cannot be read"):
        gallery.search("not there.png", by="image")


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ("price < 20 and brand == 'x'", [0, 3, 6]),
        ("price < 6 or price > 30", [0, 1, 11]),
        ("brand in ['y', 'z'] and price >= 30", [10, 11]),
        ("price > 1000", []),
    ],
)
def test_a_filter_over_metadata(
    gallery: Gallery, pictures: list[Path], where: str, numbers: list[int]
) -> None:
    fill(gallery, pictures)
    hits = gallery.search("cat", k=20, where=where)
    assert sorted(hit.source for hit in hits) == sorted(str(pictures[number]) for number in numbers)
    for hit in hits:
        number = pictures.index(Path(hit.source))
        assert hit.metadata == {"price": 3 * number, "brand": "xyz"[number % 3]}


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("prise < 20", "no column of metadata called 'prise'. Did you mean 'price'"),
        ("price > 3 and brnd == 'price'", "called 'brnd'. Did you mean 'brand'"),
        ("colour == 'red'", "called 'colour'.*Known: brand, price"),
    ],
)
def test_a_filter_over_a_column_that_is_not_there(
    gallery: Gallery, pictures: list[Path], where: str, told: str
) -> None:
    fill(gallery, pictures)
    with pytest.raises(InterplayError, match=told):
        gallery.search("cat", where=where)


def test_many_queries_find_what_each_finds(gallery: Gallery, pictures: list[Path]) -> None:
    fill(gallery, pictures)
    queries = ["a dog", str(pictures[2]), pictures[5].read_bytes(), "x"]
    for find in ("image", "text"):
        together = gallery.search_many(queries, k=4, find=find)
        assert together == [gallery.search(query, k=4, find=find) for query in queries]
    assert gallery.search_many([]) == []
    with pytest.raises(InterplayError, match="takes a list of queries"):
        gallery.search_many("cat")


def test_metadata_can_be_changed(opened: Opener, retriever: Fake, pictures: list[Path]) -> None:
    gallery = opened(retriever)
    fill(gallery, pictures)
    encoded = len(retriever.encoded)
    new = [{"price": 1000}, {}, {"price": 6, "brand": "z"}]
    report = gallery.add_images(pictures[:3], new, progress=False)
    assert (report.added, report.updated, report.present) == (0, 1, 2)
    report = gallery.add_texts(["cat", "new"], [{"stars": 5}, {"stars": 6}], progress=False)
    assert (report.added, report.updated, report.present) == (1, 1, 0)
    assert len(retriever.encoded) == encoded + 1
    gallery.close()
    gallery = opened(retriever)
    found = {hit.source: hit.metadata for hit in gallery.search("cat", k=20)}
    assert [found[str(path)] for path in pictures[:3]] == [
        {"price": 1000},
        {"price": 3, "brand": "y"},
        new[2],
    ]
    assert [hit.source for hit in gallery.search("cat", find="text", where="stars == 5")] == ["cat"]


def test_ids_of_ones_own(gallery: Gallery, retriever: Fake, pictures: list[Path]) -> None:
    gallery.add_images(pictures[:3], [{"n": at} for at in range(3)], ids=["a", "", "c"], progress=False)
    gallery.add_texts(["cat", "cat", "dog"], ids=["a", "b", ""], progress=False)
    assert gallery.count() == 6
    assert sorted(hit.id for hit in gallery.search("cat", find="text")) == ["", "a", "b"]
    assert [hit.source for hit in gallery.search("cat", where="_id == 'c'")] == [str(pictures[2])]
    encoded = len(retriever.encoded)
    again = gallery.add_images(pictures[:3], progress=False)  # what was said once need not be said again
    assert (again.present, gallery.count(), len(retriever.encoded)) == (3, 6, encoded)
    report = gallery.add_images([pictures[7]], ids=["a"], progress=False)
    assert (report.added, report.replaced, gallery.count()) == (1, 1, 6)
    (hit,) = gallery.search(pictures[7], k=1)
    assert (hit.id, hit.source, hit.metadata) == ("a", str(pictures[7]), {})
    retriever.prompts.update(even="2", odd="2")
    gallery.refresh(progress=False)
    (hit,) = gallery.search(pictures[7], k=1)
    assert (hit.id, hit.score) == ("a", pytest.approx(1, abs=1e-6))
    gallery.add_images([pictures[1]], ids=["b"], progress=False)  # named later: still one entry
    assert gallery.count() == 6
    assert gallery.remove(ids=["a", "nobody"]) == 2  # the picture and the text
    assert gallery.remove([pictures[2]]) == 1
    assert gallery.count() == 3
    for wrong, told in ((["x"], "got 2 items, 1 ids"), (["x", "x"], "that of item 1"), (["x", 3], "Item 2")):
        with pytest.raises(InterplayError, match=told):
            gallery.add_texts(["1", "2"], ids=wrong, progress=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_copy_with_metadata_of_its_own_is_an_entry_of_its_own(
    gallery: Gallery, retriever: Fake, pictures: list[Path], batch_size: int
) -> None:
    twin, third = pictures[0].with_name("twin.png"), pictures[0].with_name("third.png")
    shutil.copy(pictures[0], twin)
    shutil.copy(pictures[0], third)
    options: dict[str, Any] = {"batch_size": batch_size, "progress": False}
    report = gallery.add_images([pictures[0], twin, third], [{"n": 1}, {"n": 2}, {}], **options)
    assert (report.added, report.present) == (2, 1)
    expected = {str(pictures[0]): {"n": 1}, str(twin): {"n": 2}}
    for again in (None, [{"n": 1}, {"n": 2}]):
        report = gallery.add_images([pictures[0], twin], again, **options)
        assert (report.added, report.present, report.replaced) == (0, 2, 0)
        assert {hit.source: hit.metadata for hit in gallery.search("cat")} == expected
    retriever.prompts.update(even="2", odd="2")
    assert gallery.refresh(progress=False).reencoded == 2
    assert gallery.remove([twin]) == 1
    with pytest.raises(InterplayError, match="twice with different metadata"):
        gallery.add_texts(["x", "x"], [{"n": 1}, {"n": 2}], progress=False)


def test_what_is_there_is_neither_encoded_nor_written_again(
    opened: Opener, retriever: Fake, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = opened(retriever)
    report = gallery.add_images(pictures[:7], batch_size=3, progress=False)
    assert (report.added, report.present, report.skipped) == (7, 0, ())
    assert len(retriever.encoded) == retriever.keyed == 7
    gallery.close()
    gallery = opened(retriever)
    written: list[int] = []
    upsert = gallery_store.Store.upsert
    monkeypatch.setattr(
        gallery_store.Store, "upsert", lambda store, rows: (written.append(len(rows)), upsert(store, rows))[1]
    )
    report = gallery.add_images(map(str, pictures), batch_size=5, progress=False)
    assert (report.added, report.present) == (5, 7)
    assert sum(written) == 5
    assert len(retriever.encoded) == retriever.keyed == 12
    assert gallery.count() == 12
    report = gallery.add_texts(["cat", "dog", "cat"], progress=False)
    assert (report.added, report.present) == (2, 1)
    assert gallery.add_texts([], progress=False).added == 0
    assert gallery.count() == 14


def test_one_picture_under_two_paths_is_one_entry(gallery: Gallery, pictures: list[Path]) -> None:
    twin = pictures[0].with_name("twin.png")
    shutil.copy(pictures[0], twin)
    report = gallery.add_images([pictures[0], twin], progress=False)
    assert (report.added, report.present) == (1, 1)
    report = gallery.add_images([twin], progress=False)
    assert (report.present, report.moved) == (1, 0)
    assert sources(gallery, "cat") == [str(pictures[0])]


def test_a_file_that_was_moved_is_found_again(
    gallery: Gallery, retriever: Fake, pictures: list[Path]
) -> None:
    gallery.add_images(pictures[:2], [{"price": 1}, {"price": 2}], progress=False)
    place = pictures[0].rename(pictures[0].with_name("moved.png"))
    report = gallery.add_images([place], progress=False)
    assert (report.added, report.present, report.moved) == (0, 0, 1)
    assert len(retriever.encoded) == 2
    (hit,) = gallery.search(place, k=1)
    assert (hit.source, hit.missing, hit.metadata) == (str(place), False, {"price": 1})
    assert gallery.count() == 2


@pytest.mark.parametrize("backwards", [False, True])
def test_a_file_that_holds_another_picture_now(
    gallery: Gallery, pictures: list[Path], backwards: bool
) -> None:
    """a.png is renamed to b.png, and a.png is another picture: both are there, in whatever order they come."""
    a, b = pictures[0], pictures[0].with_name("b.png")
    gallery.add_images([a], progress=False)
    shutil.copy(a, b)
    a.write_bytes(picture_bytes("another"))
    for batch_size in (1, 2):
        report = gallery.add_images([b, a] if backwards else [a, b], batch_size=batch_size, progress=False)
        assert gallery.count() == 2
        assert sources(gallery, a, k=1) == [str(a)]
        assert sources(gallery, b, k=1) == [str(b)]
    assert (report.added, report.present) == (0, 2)
    a.write_bytes(picture_bytes("a third"))
    report = gallery.add_images([a], progress=False)
    assert (report.added, report.replaced, gallery.count()) == (1, 1, 2)
    assert gallery.search(a, k=1)[0].score == pytest.approx(1, abs=1e-6)


def test_metadata_come_back_as_they_were(gallery: Gallery) -> None:
    metadata = {"n": 2**40, "x": 0.1, "yes": True, "words": ["ä", '"\\'], "none": None, "deep": {"a": [1]}}
    gallery.add_texts(["cat"], [{**metadata, "small": np.int64(4)}], progress=False)
    (hit,) = gallery.search("cat", find="text")
    assert hit.metadata == {**metadata, "small": 4}


def test_odd_sources_can_be_found_and_removed(gallery: Gallery, tmp_path: Path) -> None:
    names = [
        "a b",
        "quo'te",
        'quo"te',
        "back\\slash",
        "line\nbreak",
        "tab\t",
        "bell\a",
        "häß 🍎",
        "{x}",
        "%s",
    ]
    pictures = [tmp_path / f"{name}.png" for name in names]
    for path in pictures:
        path.write_bytes(picture_bytes(path.name))
    for batch in (names, names):  # the second time all are there
        gallery.add_images(pictures, progress=False)
        assert gallery.add_texts(batch, progress=False).added + gallery.count() in (30, 20)
    assert sorted(sources(gallery, "cat", k=20)) == sorted(map(str, pictures))
    assert sorted(sources(gallery, "cat", k=20, find="text")) == sorted(names)
    for left, (name, path) in enumerate(zip(names, pictures, strict=True)):
        assert gallery.remove([name, path]) == 2
        assert gallery.count() == 18 - 2 * left


def test_what_was_removed_can_be_added_anew(
    opened: Opener, retriever: Fake, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = opened(retriever)
    fill(gallery, pictures)
    monkeypatch.chdir(pictures[0].parent)
    assert gallery.remove(["cat", "no such text", pictures[0].name, pictures[1]]) == 3
    assert gallery.remove(["cat"]) == gallery.remove([]) == 0
    assert str(pictures[0]) not in sources(gallery, "cat", k=20)
    gallery.close()
    gallery = opened(retriever)
    assert gallery.count() == 14
    gallery.add_images([pictures[0]], [{"size": 7}], progress=False)
    assert gallery.search(pictures[0], k=1)[0].metadata == {"size": 7}


def test_a_deleted_picture_is_found_and_flagged(gallery: Gallery, pictures: list[Path]) -> None:
    fill(gallery, pictures)
    pictures[2].unlink()
    missing = {hit.source: hit.missing for hit in gallery.search("cat", k=20)}
    assert [source for source, gone in missing.items() if gone] == [str(pictures[2])]
    assert not any(hit.missing for hit in gallery.search("cat", find="text"))


def test_progress_is_shown_only_when_wanted_and_to_a_terminal(
    gallery: Gallery, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.add_texts(["cow"])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    gallery.add_texts(["cat"], progress=False)
    gallery.refresh(progress=False)
    assert capfd.readouterr() == ("", "")
    gallery.add_texts(["dog"])
    assert "Adding texts" in capfd.readouterr().err


def test_pictures_made_here_differ(tmp_path: Path) -> None:
    paths = make_pictures(tmp_path, 5)
    assert len({path.read_bytes() for path in paths}) == 5
