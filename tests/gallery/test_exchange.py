"""Export, import and changed metadata of a gallery; embeddings of `interplay embed` in one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from interplay.embeddings import Manifest, Record, write_partition
from interplay.errors import InterplayError
from interplay.gallery.gallery import Gallery
from interplay.gallery.items import identity_of
from tests.gallery.conftest import Opener
from tests.gallery.fake import Fake, vector

TEXTS = [f"text number {number}" for number in range(30)]


def rows(gallery: Gallery) -> dict[str, tuple[object, ...]]:
    """Everything that a gallery holds, bit for bit."""
    found = {}
    for block in gallery._store.scan(metadata=True, embeddings=True):
        for one in block:
            assert one.embedding is not None
            assert one.id not in found
            vectors = one.key.tobytes(), one.embedding.tobytes()
            found[one.id] = (one.side, one.source, one.route, one.version, one.name, one.content, *vectors)
            found[one.id] += (dict(one.metadata),)
    return found


def test_from_a_folder_to_anywhere_and_back(
    opened: Opener, retriever: Fake, pictures: list[Path], tmp_path: Path
) -> None:
    with Gallery.open(retriever, tmp_path / "first.db") as first:
        first.add_texts(
            TEXTS, [{"n": 1, "tags": ["a", "ü"]}] * 30, ids=["", "own", *[""] * 28], progress=False
        )
        first.add_images(pictures, progress=False)
        expected, state = rows(first), first._store.state
        assert first.export(tmp_path / "out") == 42
    middle = opened(retriever)
    assert middle.take_over(tmp_path / "out") == 42
    assert middle.take_over(tmp_path / "out") == 42
    assert rows(middle) == expected
    assert middle._store.state == state
    assert middle.export(tmp_path / "again") == 42
    with Gallery.open(retriever, tmp_path / "last.db") as last:
        assert last.take_over(tmp_path / "again") == 42
        assert rows(last) == expected
        assert last.waiting() == 0
        with pytest.raises(InterplayError, match="holds something already"):
            last.export(tmp_path / "out")
    with Gallery.open(Fake("two"), tmp_path / "other.db") as other:
        with pytest.raises(InterplayError, match="another retriever"):
            other.take_over(tmp_path / "out")
        with pytest.raises(InterplayError, match="neither"):
            other.take_over(tmp_path)


def test_a_damaged_export(retriever: Fake, tmp_path: Path) -> None:
    with Gallery.open(retriever, tmp_path / "first.db") as gallery:
        gallery.add_texts(TEXTS, progress=False)
        gallery.export(tmp_path / "out")
        path = tmp_path / "out" / "entries_0.parquet"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(InterplayError, match=r"entries_0.parquet is damaged"):
            gallery.take_over(tmp_path / "out")
        path.unlink()
        with pytest.raises(InterplayError, match="holds 0 entries of 30"):
            gallery.take_over(tmp_path / "out")


def test_metadata_are_changed(gallery: Gallery, retriever: Fake, pictures: list[Path]) -> None:
    gallery.add_texts(TEXTS[:3], [{"price": 1, "brand": "x"}] * 3, ids=["a", "", ""], progress=False)
    gallery.add_images(pictures[:2], progress=False)
    encoded, keyed = len(retriever.encoded), retriever.keyed
    pictures[0].unlink()
    before = rows(gallery)
    changes = [{"price": 2}, {"price": 3, "brand": None}, {"seen": True}, {"n": 1}]
    named = ["", TEXTS[1], pictures[0], "none such"]
    assert gallery.change_metadata(named, changes, ids=["a", "", "", ""]) == 3
    after = rows(gallery)
    assert [row[:-1] for row in before.values()] == [after[name][:-1] for name in before]
    found = {one.source: dict(one.metadata) for block in gallery._store.scan(metadata=True) for one in block}
    assert found[TEXTS[0]] == {"price": 2, "brand": "x"}
    assert found[TEXTS[1]] == {"price": 3}
    assert found[TEXTS[2]] == {"price": 1, "brand": "x"}
    assert found[str(pictures[0])] == {"seen": True}
    assert (len(retriever.encoded), retriever.keyed) == (encoded, keyed)
    assert [hit.source for hit in gallery.search("x", find="text", where="price == 3")] == [TEXTS[1]]
    with pytest.raises(InterplayError, match="cannot name a metadata column"):
        gallery.change_metadata([TEXTS[1]], [{"a b": 1}])


def embedded(folder: Path, encoder: Fake, texts: Sequence[str], **options: object) -> None:
    """What `interplay embed` would write of texts."""
    folder.mkdir(exist_ok=True)
    made = {
        "backbone": "fake",
        "backbone_digest": encoder.backbone_digest,
        "pixels": "",
        "joint": encoder.joint,
        "sides": ("text",),
        "retriever": encoder.identity,
        "adapter": encoder.state(),
        **options,
    }
    Manifest(**made).write(folder)  # type: ignore[arg-type]
    keys = np.stack([vector("key", "text", text) for text in texts])
    routes = [encoder.one("text", text)[0] for text in texts]
    vectors = np.stack([encoder.one("text", text)[1] for text in texts])
    columns = {
        "key": [str(number) for number in range(len(texts))],
        "caption": list(texts),
        "metadata": ['{"n": 5}'] * len(texts),
        "text_sha256": [identity_of("text", text) for text in texts],
        "text_error": ["unreadable", *[None] * (len(texts) - 1)],
        "text_route": routes,
        "text_version": [encoder.version_of(route) for route in routes],
    }
    write_partition(
        folder, Record(0, "texts", len(texts), 1), columns, {"text_emb": vectors, "text_key": keys}
    )


def test_embeddings_are_taken_over(opened: Opener, retriever: Fake, tmp_path: Path) -> None:
    embedded(tmp_path / "embedded", retriever, ["unreadable", *TEXTS])
    gallery = opened(retriever)
    assert gallery.take_over(tmp_path / "embedded") == 30
    taken = rows(gallery)
    assert retriever.encoded == []
    assert gallery.waiting() == 0
    gallery.remove(TEXTS)
    gallery.add_texts(TEXTS, [{"n": 5}] * 30, progress=False)
    assert rows(gallery) == taken


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retriever": "two"}, "not encoded by this retriever"),
        ({"backbone_digest": "c" * 64}, "not encoded by this retriever"),
        ({"keys": False}, "no keys"),
        ({"dtype": "float16"}, "half precision"),
    ],
)
def test_embeddings_that_do_not_fit(
    retriever: Fake, tmp_path: Path, options: dict[str, object], said: str
) -> None:
    embedded(tmp_path / "embedded", retriever, TEXTS, **options)
    with Gallery.open(retriever, tmp_path / "gallery.db") as gallery:
        with pytest.raises(InterplayError, match=said):
            gallery.take_over(tmp_path / "embedded")
        assert gallery.count() == 0
