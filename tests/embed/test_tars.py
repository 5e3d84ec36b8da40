"""WebDataset tars: patterns, samples, and archives that are broken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from interplay import InterplayError, read_embeddings
from interplay.bulk.tars import samples, sides_of, tars_of
from interplay.towers.backbone import Backbone, load_backbone

from .toy import contents, make_shards, make_tar, picture, run


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


def test_braces_and_stars_name_tars_in_their_order(tmp_path: Path) -> None:
    make_shards(tmp_path, 12, 1)
    wanted = [str(tmp_path / f"{number:03}.tar") for number in range(12)]
    assert tars_of(str(tmp_path / "{000..011}.tar")) == wanted
    assert tars_of(str(tmp_path / "*.tar")) == wanted
    assert tars_of(str(tmp_path / "{010,002,010}.tar")) == [wanted[10], wanted[2]]


@pytest.mark.parametrize("pattern", ["{000..003}.tar", "x*.tar", "{000..001.tar", "none.tar"])
def test_a_pattern_without_tars_is_told(tmp_path: Path, pattern: str) -> None:
    make_shards(tmp_path, 2, 1)
    with pytest.raises(InterplayError, match=r"tar"):
        tars_of(str(tmp_path / pattern))


def test_members_are_grouped_by_what_precedes_the_first_dot(tmp_path: Path) -> None:
    tar = make_tar(
        tmp_path / "a.tar",
        {
            "dir.x/one.seg.png": b"1",
            "dir.x/one.txt": b"2",
            "two.json": b'{"caption": "words"}',
            "two.JPG": b"3",
            "README": b"no sample",
        },
    )
    one, two = samples(str(tar))
    assert one.key.endswith("a.tar#dir.x/one")
    assert one.image_path is not None
    assert one.image_path.endswith("a.tar/dir.x/one.seg.png")
    assert two.text == two.metadata
    assert sides_of(str(tar)) == ("image", "text")


def test_texts_come_from_json_where_there_is_no_other(tmp_path: Path, tiny: Backbone) -> None:
    tar = make_tar(
        tmp_path / "a.tar",
        {
            "0.png": picture(0),
            "0.json": '{"caption": "käse", "n": 1}'.encode(),
            "1.png": picture(1),
            "1.json": b"{broken",
            "2.json": b'{"text": "no picture"}',
        },
    )
    run(str(tar), tmp_path / "out", backbone=tiny)
    (part,) = read_embeddings(tmp_path / "out").parts()
    rows = part.rows.to_pylist()
    assert [row["caption"] for row in rows] == ["käse", None, "no picture"]
    assert [row["text_error"] for row in rows] == [None, "there is no text", None]
    assert [row["image_error"] for row in rows] == [None, None, "there is no picture"]
    assert rows[0]["metadata"] == '{"caption": "käse", "n": 1}'


@pytest.mark.parametrize("left", [0, 100, 3000])
def test_an_archive_that_is_cut_off_lists_what_is_lost(tmp_path: Path, tiny: Backbone, left: int) -> None:
    make_shards(tmp_path, 2, 4)
    cut = tmp_path / "001.tar"
    cut.write_bytes(cut.read_bytes()[:left])
    report = run(str(tmp_path / "{000..001}.tar"), tmp_path / "out", backbone=tiny)
    assert report.partitions == 2
    assert report.unreadable >= 1
    *_, part = read_embeddings(tmp_path / "out").parts()
    assert part.rows["image_error"].to_pylist()[-1]


def test_a_tar_that_changed_is_made_again_and_further_ones_are_added(tmp_path: Path, tiny: Backbone) -> None:
    make_shards(tmp_path, 2, 3)
    out = tmp_path / "out"
    run(str(tmp_path / "{000..001}.tar"), out, backbone=tiny)
    before = contents(out)
    make_shards(tmp_path, 3, 3)
    for number in (0, 1):  # as they were
        os.utime(tmp_path / f"{number:03}.tar", ns=(1, 1))
    assert run(str(tmp_path / "{000..002}.tar"), out, backbone=tiny).partitions == 3
    assert contents(out)["img_emb/img_emb_1.npy"] == before["img_emb/img_emb_1.npy"]
    assert run(str(tmp_path / "{002,001}.tar"), out, backbone=tiny).partitions == 0
    (out / "text_emb" / "text_emb_2.npy").unlink()
    assert run(str(tmp_path / "*.tar"), out, backbone=tiny).partitions == 1
