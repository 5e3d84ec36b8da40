"""Refreshing a gallery after its retriever has learned."""

from __future__ import annotations

from pathlib import Path

import pytest

from interplay.gallery import store as gallery_store
from interplay.gallery.gallery import Gallery
from tests.gallery.conftest import Opener
from tests.gallery.fake import Fake, picture_bytes

TEXTS = [f"text number {number}" for number in range(30)]


def fill(gallery: Gallery, pictures: list[Path]) -> None:
    gallery.add_images(pictures, [{"price": at} for at in range(len(pictures))], progress=False)
    gallery.add_texts(TEXTS, progress=False)


def as_anew(gallery: Gallery, retriever: Fake, pictures: list[Path]) -> bool:
    """Whether every entry is what it would be had it been added now: each one finds itself by its vector."""
    for side, items in (("image", [*map(str, pictures)]), ("text", TEXTS)):
        hits = {hit.source: hit for hit in gallery.search("query", k=100, find=side)}  # type: ignore[arg-type]
        assert sorted(hits) == sorted(items)
        _, query = retriever.one("text", "query")
        for item in items:
            route, vector = retriever.one(side, item)  # type: ignore[arg-type]
            if hits[item].route != route or abs(hits[item].score - float(query @ vector)) > 1e-6:
                return False
    return True


def routes(retriever: Fake, pictures: list[Path]) -> list[str]:
    entries = [retriever.one("image", path)[0] for path in pictures]
    return entries + [retriever.one("text", text)[0] for text in TEXTS]


def test_nothing_has_changed(gallery: Gallery, retriever: Fake, pictures: list[Path]) -> None:
    fill(gallery, pictures)
    encoded, keyed = len(retriever.encoded), retriever.keyed
    report = gallery.refresh(progress=False)
    assert (report.scanned, report.rerouted, report.reencoded, report.missing) == (42, 0, 0, ())
    assert report.seconds >= 0
    assert (len(retriever.encoded), retriever.keyed) == (encoded, keyed)


def test_an_empty_gallery(gallery: Gallery) -> None:
    assert gallery.refresh(progress=False).scanned == 0


@pytest.mark.parametrize("block", [5, 4096])
def test_only_the_entries_of_changed_prompts_are_encoded_again(
    gallery: Gallery, retriever: Fake, pictures: list[Path], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery_store, "_BLOCK", block)
    fill(gallery, pictures)
    retriever.encoded.clear()
    keyed = retriever.keyed
    retriever.prompts["odd"] = "2"
    odd = routes(retriever, pictures).count("odd")
    assert 5 < odd < 37
    report = gallery.refresh(batch_size=4, progress=False)
    assert (report.scanned, report.rerouted, report.reencoded) == (42, 0, odd)
    assert len(retriever.encoded) == odd
    assert retriever.keyed == keyed
    assert as_anew(gallery, retriever, pictures)
    assert gallery.refresh(progress=False).reencoded == 0


@pytest.mark.parametrize("block", [5, 4096])
def test_only_the_entries_whose_route_changed_are_encoded_again(
    gallery: Gallery, retriever: Fake, pictures: list[Path], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery_store, "_BLOCK", block)
    fill(gallery, pictures)
    before = routes(retriever, pictures)
    retriever.routing = 3
    after = routes(retriever, pictures)
    moved = sum(old != new for old, new in zip(before, after, strict=True))
    assert 5 < moved < 37
    report = gallery.refresh(batch_size=4, progress=False)
    assert (report.rerouted, report.reencoded) == (moved, moved)
    assert as_anew(gallery, retriever, pictures)
    assert sorted(hit.metadata["price"] for hit in gallery.search("x", k=50)) == list(range(12))


def test_a_refresh_that_stopped_in_the_middle_is_finished_by_the_next(
    opened: Opener, retriever: Fake, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = opened(retriever)
    fill(gallery, pictures)
    retriever.prompts["even"] = "2"
    stale = routes(retriever, pictures).count("even")
    retriever.encoded.clear()
    encode, calls = retriever.encode, []

    def stumble(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(retriever, "encode", stumble)
        with pytest.raises(KeyboardInterrupt):
            gallery.refresh(batch_size=3, progress=False)
    done = len(retriever.encoded)
    assert 0 < done < stale
    gallery.close()
    gallery = opened(retriever)
    assert gallery.refresh(progress=False).reencoded == stale - done
    assert as_anew(gallery, retriever, pictures)


def test_pictures_that_are_gone_are_kept_and_named(
    gallery: Gallery, retriever: Fake, pictures: list[Path]
) -> None:
    fill(gallery, pictures)
    contents = [path.read_bytes() for path in pictures]
    found = {hit.source: hit.score for hit in gallery.search("query", k=50)}
    pictures[0].unlink()
    assert gallery.refresh(progress=False).missing == (str(pictures[0]),)
    for path in pictures[1:]:
        path.unlink()
    pictures[5].write_bytes(picture_bytes("another"))  # not the one that was indexed
    retriever.prompts.update(even="2", odd="2")
    report = gallery.refresh(progress=False)
    assert report.missing == tuple(sorted(map(str, pictures)))
    assert (report.scanned, report.reencoded) == (42, 30)
    hits = gallery.search("query", k=50)
    assert {hit.source for hit in hits} == set(found)
    assert [hit.source for hit in hits if not hit.missing] == [str(pictures[5])]
    for path, content in zip(pictures, contents, strict=True):
        path.write_bytes(content)
    report = gallery.refresh(progress=False)
    assert (report.missing, report.reencoded) == ((), 12)
    assert as_anew(gallery, retriever, pictures)


def test_a_route_that_was_forgotten(gallery: Gallery, retriever: Fake, pictures: list[Path]) -> None:
    fill(gallery, pictures)
    retriever.routes = lambda side, keys: ["even"] * len(keys)  # type: ignore[method-assign]
    report = gallery.refresh(progress=False)
    assert report.rerouted == report.reencoded == routes(retriever, pictures).count("odd")
    assert {hit.route for hit in gallery.search("cat", k=50)} == {"even"}


def test_it_is_told_how_many_entries_wait(opened: Opener, retriever: Fake, pictures: list[Path]) -> None:
    gallery = opened(retriever)
    fill(gallery, pictures)
    keyed = retriever.keyed
    assert gallery.waiting() == 0
    retriever.prompts["odd"] = "2"
    odd = routes(retriever, pictures).count("odd")
    assert gallery.waiting() == odd
    found = gallery.search("query", k=50)
    assert {hit.source: hit.stale for hit in found} == {hit.source: hit.route == "odd" for hit in found}
    gallery.add_texts(["one more"], progress=False)  # encoded as the retriever is now
    assert gallery.waiting() == odd
    retriever.prompts["odd"] = "1"
    assert gallery.waiting() == int(retriever.one("text", "one more")[0] == "odd")
    retriever.prompts["odd"] = "2"
    gallery.close()
    gallery = opened(retriever)
    assert gallery.waiting() == odd
    gallery.refresh(progress=False)
    assert gallery.waiting() == 0
    assert not any(hit.stale for hit in gallery.search("query", k=50))
    assert retriever.keyed == keyed + 3  # two queries and the new text


def test_a_picture_that_cannot_be_refreshed_does_not_wait(
    gallery: Gallery, retriever: Fake, pictures: list[Path]
) -> None:
    fill(gallery, pictures)
    retriever.prompts.update(even="2", odd="2")
    pictures[0].unlink()
    assert gallery.waiting() == 41
    gallery.refresh(progress=False)
    assert gallery.waiting() == 0


def test_a_file_that_changed_is_told(gallery: Gallery, retriever: Fake, pictures: list[Path]) -> None:
    fill(gallery, pictures)
    pictures[3].write_bytes(picture_bytes("another"))
    pictures[4].unlink()
    hits = {hit.source: (hit.missing, hit.changed) for hit in gallery.search("query", k=50)}
    assert {source: state for source, state in hits.items() if any(state)} == {
        str(pictures[3]): (False, True),
        str(pictures[4]): (True, False),
    }
    assert gallery.prune() == (str(pictures[3]), str(pictures[4]))
    assert gallery.prune() == ()
    assert gallery.count() == 40
