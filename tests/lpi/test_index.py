"""A retriever and its gallery: index, search, learn, refresh, forget."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from interplay.errors import InterplayError
from interplay.gallery.gallery import Gallery
from interplay.retrieval.retriever import Retriever
from tests.lpi.toy import QUICK, SMALL, pairs, picture
from tests.train.toy import toy_backbone


def test_a_gallery_follows_its_retriever(tmp_path: Path) -> None:
    towers = toy_backbone()
    retriever = Retriever(towers, "lpi-m", settings=SMALL)
    retriever.learn("task 0", pairs(0), settings=QUICK)
    files = []
    for shade in (0, 150):
        for seed in range(200, 204):
            files.append(tmp_path / f"{shade}-{seed}.png")
            picture(seed, shade).save(files[-1])
    uri = tmp_path / "gallery.db"
    with retriever.index(files, texts=["cat", "moon"], uri=uri, progress=False) as gallery:
        assert gallery.count() == 10
        (hit,) = gallery.search(files[5], k=1, find="image")
        assert hit.source == str(files[5])
        assert hit.score == pytest.approx(1, abs=1e-5)
        expected = retriever.encode_texts(["a cat"]) @ retriever.encode_images(files).T
        found = gallery.search("a cat", k=8, find="image")
        assert [files.index(Path(h.source)) for h in found] == expected[0].argsort(descending=True).tolist()
        torch.testing.assert_close(
            torch.tensor([h.score for h in found]),
            expected[0].sort(descending=True).values,
            atol=1e-5,
            rtol=1e-4,
        )
        retriever.learn("task 3", pairs(3), settings=QUICK)
        report = gallery.refresh(progress=False)
        routes = retriever.routes("image", retriever.keys("image", files))
        assert routes == ["task 0"] * 4 + ["task 3"] * 4
        texts = retriever.routes("text", retriever.keys("text", ["cat", "moon"]))
        assert report.rerouted == report.reencoded == 4 + texts.count("task 3")
        again = retriever.encode_texts(["a cat"]) @ retriever.encode_images(files).T
        found = gallery.search("a cat", k=8, find="image")
        assert [files.index(Path(h.source)) for h in found] == again[0].argsort(descending=True).tolist()
        assert gallery.refresh(progress=False).reencoded == 0
        retriever.forget("task 3")
        assert gallery.refresh(progress=False).reencoded == report.reencoded
    retriever.save_pretrained(tmp_path / "saved")
    loaded = Retriever.from_pretrained(tmp_path / "saved", backbone=towers)
    with Gallery.open(loaded, uri) as gallery:
        assert gallery.refresh(progress=False).reencoded == 0
    with pytest.raises(InterplayError, match="another retriever"):
        Gallery.open(Retriever(towers, "lpi-m", settings=SMALL), uri)


def test_shared_prompts_are_all_encoded_again(tmp_path: Path) -> None:
    retriever = Retriever(toy_backbone(), "lpi-m-sequential", settings=SMALL)
    retriever.learn("task 0", pairs(0), settings=QUICK)
    with retriever.index(texts=["cat", "moon"], uri=tmp_path / "g.db", progress=False) as gallery:
        retriever.learn("task 1", pairs(1), settings=QUICK)
        report = gallery.refresh(progress=False)
        assert (report.rerouted, report.reencoded) == (0, 2)
