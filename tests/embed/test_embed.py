"""Partitions: right vectors, made once, made again where they are damaged or their input has changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interplay import InterplayError, Retriever, embed, read_embeddings
from interplay.bulk.encoder import Encoder
from interplay.bulk.plan import Share
from interplay.embeddings import Part
from interplay.towers.backbone import Backbone, load_backbone

from .toy import contents, flip, make_folder, make_shards, picture, run

SIZE = 10
COUNT = 25


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny: Backbone) -> Path:
    """`photos/`, 25 pictures with texts, one picture and one text unreadable, and `out/`, their embeddings."""
    folder = tmp_path_factory.mktemp("embed")
    photos = make_folder(folder / "photos", COUNT)
    (photos / "0007.png").write_bytes(b"no picture")
    (photos / "0012.txt").write_bytes(b"\xff\xfe")
    report = run(photos, folder / "out", backbone=tiny, partition_size=SIZE)
    assert (report.partitions, report.items, report.unreadable, report.there) == (3, COUNT, 2, 0)
    return folder


@pytest.fixture
def copy(world: Path, tmp_path: Path) -> Path:
    """A copy of `out/`, to be damaged."""
    return Path(shutil.copytree(world / "out", tmp_path / "out"))


def parts(out: Path) -> list[Part]:
    return list(read_embeddings(out).parts())


def test_the_vectors_are_those_of_the_bare_towers(world: Path, tiny: Backbone) -> None:
    bare = Retriever(tiny)
    for part in parts(world / "out"):
        rows = part.rows.to_pylist()
        assert part.record.rows == len(rows) == len(part.vectors["image"])
        good = [at for at, row in enumerate(rows) if row["image_error"] is None]
        wanted = bare.encode_images([rows[at]["image_path"] for at in good]).numpy()
        assert np.abs(part.vectors["image"][good] - wanted).max() < 1e-6
        good = [at for at, row in enumerate(rows) if row["text_error"] is None]
        wanted = bare.encode_texts([rows[at]["caption"] for at in good]).numpy()
        assert np.abs(part.vectors["text"][good] - wanted).max() < 1e-6


def test_what_cannot_be_read_keeps_its_row_and_says_why(world: Path) -> None:
    first, second, _ = parts(world / "out")
    assert {row["key"][-8:]: row["image_error"] for row in first.rows.to_pylist() if row["image_error"]} == {
        "0007.png": "the file is not an image of a known format"
    }
    assert not first.vectors["image"][7].any()
    assert np.linalg.norm(first.vectors["text"][7]) == pytest.approx(1, abs=1e-5)
    told = second.rows["text_error"].to_pylist()
    assert "no UTF-8" in told[2]
    assert told[:2] == [None, None]
    assert not second.vectors["text"][2].any()


def test_a_content_is_known_as_a_gallery_knows_it(world: Path) -> None:
    from interplay.gallery.items import identity_of

    row = parts(world / "out")[0].rows.slice(3, 1).to_pylist()[0]
    assert row["image_sha256"] == identity_of("image", picture(3))
    assert row["text_sha256"] == identity_of("text", "picture number 3")


def test_a_second_call_makes_nothing(world: Path, copy: Path, tiny: Backbone) -> None:
    before = contents(copy)
    report = run(world / "photos", copy, backbone=tiny, partition_size=SIZE)
    assert (report.partitions, report.there) == (0, 3)
    assert contents(copy) == before


@pytest.mark.parametrize("kind", ["img_emb", "text_emb", "metadata", "partitions"])
@pytest.mark.parametrize("damage", ["flipped", "gone", "cut"])
def test_a_damaged_partition_is_made_again(
    world: Path, copy: Path, tiny: Backbone, kind: str, damage: str
) -> None:
    before = contents(copy)
    (file,) = copy.glob(f"{kind}/*_1.*")
    if damage == "flipped":
        flip(file)
    elif damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-10])
    report = run(world / "photos", copy, backbone=tiny, partition_size=SIZE)
    assert (report.partitions, report.items) == (1, SIZE)
    assert contents(copy) == before


def test_an_input_that_has_grown_adds_partitions_and_leaves_the_others(
    world: Path, copy: Path, tmp_path: Path, tiny: Backbone
) -> None:
    before = contents(copy)
    try:
        make_folder(world / "photos" / "more", 12, first=900)
        report = run(world / "photos", copy, backbone=tiny, partition_size=SIZE)
    finally:
        shutil.rmtree(world / "photos" / "more")
    assert (report.partitions, report.items) == (2, 12)
    assert contents(copy).items() > before.items()
    keys = [key for part in parts(copy) for key in part.rows["key"].to_pylist()]
    assert len(keys) == len({*keys}) == COUNT + 12


def test_a_file_that_changed_is_read_again_and_one_that_is_gone_stays(tmp_path: Path, tiny: Backbone) -> None:
    photos, out = make_folder(tmp_path / "photos", 4, texts=False), tmp_path / "out"
    run(photos, out, backbone=tiny, partition_size=2)
    before = contents(out)
    (photos / "0000.png").unlink()
    assert run(photos, out, backbone=tiny, partition_size=2).partitions == 0
    assert contents(out) == before
    (photos / "0003.png").write_bytes(picture(77))
    os.utime(photos / "0003.png", ns=(1, 1))
    assert run(photos, out, backbone=tiny, partition_size=2).partitions == 1
    after = contents(out)
    assert {name for name in after if after[name] != before[name]} == {
        "img_emb/img_emb_1.npy",
        "metadata/metadata_1.parquet",
        "partitions/partition_1.json",
    }


def test_processes_that_share_the_work_make_what_one_makes(
    world: Path, tmp_path: Path, tiny: Backbone
) -> None:
    made = [
        run(world / "photos", tmp_path / "out", backbone=tiny, partition_size=SIZE, share=Share(number, 2))
        for number in (2, 1)
    ]
    assert [report.partitions for report in made] == [1, 2]
    assert contents(tmp_path / "out") == contents(world / "out")


def test_worker_processes_give_the_same_bytes(world: Path, tmp_path: Path, tiny: Backbone) -> None:
    run(world / "photos", tmp_path / "out", backbone=tiny, partition_size=SIZE, workers=1)
    assert contents(tmp_path / "out") == contents(world / "out")


def test_a_table_is_embedded_with_the_rows_that_cannot_be_used(
    world: Path, tmp_path: Path, tiny: Backbone
) -> None:
    lines = [f"photos/{number:04}.png,words {number},row {number}" for number in (0, 1, 7, 9)]
    table = world / "pairs.csv"
    table.write_text("\n".join(["image,text,id", *lines, "photos/none.png,nothing,row x"]) + "\n", "utf-8")
    report = run(table, tmp_path / "out", backbone=tiny)
    (part,) = parts(tmp_path / "out")
    assert (report.items, report.unreadable) == (5, 2)
    rows = part.rows.to_pylist()
    assert [row["caption"] for row in rows] == ["words 0", "words 1", "words 7", "words 9", None]
    assert rows[0]["metadata"] == '{"id": "row 0"}'
    assert "none.png" in rows[4]["image_error"]
    assert rows[4]["text_error"] == rows[4]["image_error"]
    wanted = Retriever(tiny).encode_texts("words 9").numpy()
    assert np.abs(part.vectors["text"][3] - wanted).max() < 1e-6
    assert run(table, tmp_path / "out", backbone=tiny).partitions == 0


@pytest.mark.parametrize("method", ["linear_map", "lpi-m", "lora"])
def test_an_adapter_encodes_by_its_routes_and_keeps_the_keys(
    world: Path, tmp_path: Path, tiny: Backbone, method: str
) -> None:
    retriever = Retriever(tiny, method)
    for name in ("a", "b"):
        retriever.method.sessions.begin(name, torch.zeros(tiny.shape.joint))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in retriever.method.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    run(world / "photos", tmp_path / "out", retriever=retriever, partition_size=SIZE)
    bare = Retriever(tiny)
    manifest = read_embeddings(tmp_path / "out").manifest
    assert manifest.sessions == ("a", "b")
    assert (manifest.retriever, manifest.adapter) == (retriever.identity, retriever.state())
    for part in parts(tmp_path / "out"):
        rows = part.rows.to_pylist()
        for side in ("image", "text"):
            good = [at for at, row in enumerate(rows) if row[f"{side}_error"] is None]
            items = [rows[at]["image_path" if side == "image" else "caption"] for at in good]
            keys = bare.encode_images(items) if side == "image" else bare.encode_texts(items)
            vectors = retriever.encode_images(items) if side == "image" else retriever.encode_texts(items)
            assert np.abs(part.keys[side][good] - keys.numpy()).max() < 1e-6
            assert np.abs(part.vectors[side][good] - vectors.numpy()).max() < 1e-5
            routes = [rows[at][f"{side}_route"] for at in good]
            assert routes == retriever.routes(side, keys)
            assert [rows[at][f"{side}_version"] for at in good] == [
                retriever.version_of(route) for route in routes
            ]


def test_layers_in_front_of_an_adapter_run_once(
    world: Path, tmp_path: Path, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    layer = type(tiny.image).layer

    def counting(tower: Any, i: int, tokens: Any) -> Any:
        counted.append(i)
        return layer(tower, i, tokens)

    monkeypatch.setattr(type(tiny.image), "layer", counting)
    retriever = Retriever(tiny, "linear_map")
    retriever.method.sessions.begin("a", torch.zeros(tiny.shape.joint))
    Encoder(retriever, adapted=True).images(torch.zeros(3, 3, *[tiny.image_size] * 2, dtype=torch.uint8))
    depth = tiny.image.shape.depth
    assert sorted(counted) == sorted([*range(depth), depth - 1])


def test_float16_halves_the_arrays(world: Path, tmp_path: Path, tiny: Backbone) -> None:
    run(world / "photos", tmp_path / "out", backbone=tiny, partition_size=SIZE, dtype="float16")
    for half, full in zip(parts(tmp_path / "out"), parts(world / "out"), strict=True):
        assert half.vectors["image"].dtype == np.float16
        assert np.abs(half.vectors["image"] - full.vectors["image"]).max() < 1e-3


def test_a_folder_takes_one_encoder_alone(world: Path, tiny: Backbone) -> None:
    with pytest.raises(InterplayError, match="holds embeddings with retriever ="):
        run(world / "photos", world / "out", retriever=Retriever(tiny))
    with pytest.raises(InterplayError, match="dtype"):
        run(world / "photos", world / "out", backbone=tiny, dtype="float16")
    with pytest.raises(InterplayError, match="sides"):
        run(world / "photos", world / "out", backbone=tiny, sides=["image"])


def test_one_side_alone(world: Path, tmp_path: Path, tiny: Backbone) -> None:
    run(world / "photos", tmp_path / "out", backbone=tiny, sides=["text"])
    assert not (tmp_path / "out" / "img_emb").exists()
    (part,) = parts(tmp_path / "out")
    assert set(part.vectors) == {"text"}
    assert part.rows["image_error"].null_count == COUNT


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"partition_size": 0}, "partition_size"),
        ({"workers": -1}, "workers"),
        ({"sides": []}, "sides is empty"),
        ({"sides": ["sound"]}, "sound"),
        ({"dtype": "int8"}, "int8"),
        ({"precision": "float64"}, "float64"),
        ({"device": "abacus"}, "abacus"),
        ({"retriever": "lpi"}, "each side alone"),
    ],
)
def test_what_makes_no_sense_is_refused(
    world: Path, tmp_path: Path, tiny: Backbone, options: dict[str, Any], told: str
) -> None:
    if "retriever" in options:
        options = {"retriever": Retriever(tiny, options["retriever"], settings={"fusion": "pair"})}
    with pytest.raises(InterplayError, match=told):
        embed(world / "photos", tmp_path / "out", **{"backbone": tiny, "progress": False} | options)


@pytest.mark.parametrize(("number", "of"), [(0, 2), (3, 2), (1, 0)])
def test_a_part_that_there_is_not_is_refused(number: int, of: int) -> None:
    with pytest.raises(InterplayError, match="There is no part"):
        Share(number, of)


def test_an_empty_folder_is_told(tmp_path: Path, tiny: Backbone) -> None:
    with pytest.raises(InterplayError, match="no pictures"):
        run(tmp_path, tmp_path / "out", backbone=tiny)


def test_tars_and_a_folder_give_the_same_vectors(tmp_path: Path, tiny: Backbone) -> None:
    pattern = make_shards(tmp_path, 2, 5)
    photos = make_folder(tmp_path / "photos", 10)
    run(pattern, tmp_path / "tars", backbone=tiny)
    run(photos, tmp_path / "files", backbone=tiny, partition_size=5)
    for tar, files in zip(parts(tmp_path / "tars"), parts(tmp_path / "files"), strict=True):
        for side in ("image", "text"):
            assert np.array_equal(tar.vectors[side], files.vectors[side])
