"""A gallery on the command line: index, search, refresh, and what a user can do wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from interplay.cli.commands.index import pictures_in
from interplay.cli.item_metadata import read_notes

from .conftest import COLOURS, Run, drawn
from .test_bad_input import said


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine pictures in a folder and one below it."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for task in ("squares", "circles", "stripes"):
        for seed, (name, colour) in enumerate(COLOURS.items()):
            drawn(task, colour, seed).save(folder / f"{name} {task}.png")
    drawn("squares", (0, 0, 0), 1).save(folder / "more" / "black.PNG")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def prices(photos: Path) -> Path:
    table = photos.parent / "prices.csv"
    lines = [
        "image,price,brand,code,sold",
        "photos/red squares.png,9.5,x,007,true",
        "photos/blue squares.png,30,x,2,false",
    ]
    table.write_text("\n".join([*lines, "photos/more/black.PNG,1,y,3,"]) + "\n")
    return table


def test_index_search_refresh(run: Run, copied: Path, photos: Path, prices: Path) -> None:
    texts = photos.parent / "texts.txt"
    texts.write_text("red squares\n\nblue circles\n", encoding="utf-8")
    words = ["index", copied, "--images", photos, "--texts", texts, "--metadata", prices, "--no-progress"]
    done = run(*words, "--json")
    assert done.code == 0, done.err
    assert done.json["entries"] == 12
    assert (done.json["images"]["added"], done.json["texts"]["added"]) == (10, 2)
    assert (copied / "gallery.db").exists()
    again = run(*words, "--json").json
    assert (again["images"]["added"], again["images"]["present"]) == (0, 10)

    picture = photos / "green stripes.png"
    hits = run("search", copied, "--image", picture, "-k", 3, "--json").json["hits"]
    assert hits[0]["source"] == str(picture)
    assert hits[0]["score"] == pytest.approx(1, abs=1e-4)
    assert len(hits) == 3
    few = run("search", copied, "red squares", "--find", "text", "-k", 50, "--json").json
    assert few["all_shown"]
    assert few["hits"][0]["source"] == "red squares"
    assert (
        "all 2 texts: there are no 50" in run("search", copied, "red squares", "--find", "text", "-k", 50).out
    )
    cheap = run(
        "search", copied, "red", "--where", "price < 20 and brand == 'x' and sold == true", "--json"
    ).json
    assert [Path(hit["source"]).name for hit in cheap["hits"]] == ["red squares.png"]
    assert cheap["hits"][0]["metadata"] == {"price": 9.5, "brand": "x", "code": "007", "sold": True}
    assert "No image passes the filter" in run("search", copied, "red", "--where", "price > 99").out

    run("forget", copied, "--task", "circles")
    waiting = run("search", copied, "red", "-k", 20, "--json")
    report = run("refresh", copied, "--no-progress", "--json").json
    assert waiting.json["waiting"] == report["reencoded"]
    assert f"{report['reencoded']} of 12 entries wait" in waiting.err
    assert {hit["route"] == "circles" for hit in waiting.json["hits"] if hit["stale"]} == {True}
    assert run("search", copied, "red", "--json").err == ""
    assert report["scanned"] == 12
    assert report["rerouted"] == report["reencoded"] > 0
    assert run("refresh", copied, "--no-progress", "--json").json["reencoded"] == 0
    routes = {hit["route"] for hit in run("search", copied, "red", "-k", 20, "--json").json["hits"]}
    assert routes <= {"squares", "stripes"}


def test_pictures_that_are_gone_are_named(run: Run, copied: Path, photos: Path) -> None:
    files = sorted(photos.glob("*.png"))[:3]
    run("index", copied, "--images", *files, "--no-progress")
    files[0].unlink()
    found = run("search", copied, "red", "--json").json
    assert {hit["source"]: hit["missing"] for hit in found["hits"]} == {
        str(file): file == files[0] for file in files
    }
    assert "1 of them is no longer on the disk" in run("search", copied, "red").out
    done = run("refresh", copied, "--no-progress", "--json")
    assert done.json["missing"] == [str(files[0])]
    assert f"No longer on the disk: {files[0]}" in run("refresh", copied, "--no-progress").out


def test_entries_are_changed_and_taken_out(run: Run, copied: Path, photos: Path, prices: Path) -> None:
    texts = photos.parent / "texts.txt"
    texts.write_text("red squares\nblue circles\n", encoding="utf-8")
    index = ["index", copied, "--images", photos, "--texts", texts, "--no-progress", "--json"]
    assert run(*index).json["entries"] == 12
    done = run(*index, "--metadata", prices)  # said later, it is known
    assert (done.json["images"]["added"], done.json["images"]["updated"]) == (0, 3)
    found = run("search", copied, "red", "--where", "price > 20", "--json").json
    assert [Path(hit["source"]).name for hit in found["hits"]] == ["blue squares.png"]
    prices.write_text("image,id,price\nphotos/red squares.png,sku-1,3\nphotos/blue squares.png,sku-2,4\n")
    assert run(*index, "--metadata", prices).json["entries"] == 12
    found = run("search", copied, "red", "--where", "_id == 'sku-2'", "--json").json
    assert [(hit["id"], hit["metadata"]) for hit in found["hits"]] == [("sku-2", {"price": 4})]
    assert "sku-2" in run("search", copied, "red", "--where", "price == 4").out
    assert run("remove", copied, "--ids", "sku-2", "--json").json == {
        "run": str(copied),
        "removed": 1,
        "entries": 11,
    }
    done = run("remove", copied, photos / "red squares.png", "blue circles")
    assert "2 entries were removed, 9 are left" in done.out
    assert "none of them is in" in said(run, "remove", copied, "blue circles")
    assert "needs paths of pictures" in said(run, "remove", copied)

    (photos / "green squares.png").unlink()
    (photos / "red circles.png").write_bytes((photos / "blue circles.png").read_bytes())
    shown = run("search", copied, "red", "-k", 20).out
    assert "(no longer there)" in shown
    assert "(changed since)" in shown
    pruned = run("prune", copied, "--json").json
    assert sorted(Path(source).name for source in pruned["removed"]) == [
        "green squares.png",
        "red circles.png",
    ]
    assert "0 entries were removed, 7 are left" in run("prune", copied).out


def test_many_queries_at_once(run: Run, copied: Path, photos: Path, tmp_path: Path) -> None:
    assert run("index", copied, "--images", photos, "--no-progress").code == 0
    queries = tmp_path / "queries.txt"
    queries.write_text("red squares\n\nblue circles\n", encoding="utf-8")
    together = run("search", copied, "--queries", queries, "-k", 3, "--json").json["searches"]
    for one in together:
        alone = run("search", copied, one["query"], "-k", 3, "--json").json
        assert one["hits"] == alone["hits"]
    assert [one["query"] for one in together] == ["red squares", "blue circles"]
    pictures = sorted(photos.glob("red*.png"))
    found = run("search", copied, "--image", *pictures, "-k", 1, "--json").json["searches"]
    assert [one["hits"][0]["source"] for one in found] == [str(picture) for picture in pictures]
    shown = run("search", copied, "--queries", queries, "-k", 3).out
    assert shown.index("red squares") < shown.index("blue circles")


def test_what_is_mistyped_is_told_and_not_created(run: Run, copied: Path, photos: Path, prices: Path) -> None:
    words = ["--images", photos, "--metadata", prices, "--no-progress"]
    assert run("index", copied, *words).code == 0
    assert "Did you mean 'interplay'" in said(run, "search", copied, "red", "--collection", "interplai")
    assert [path.name for path in (copied / "gallery.db" / "collections").iterdir()] == ["interplay__v1"]
    assert "Did you mean 'price'" in said(run, "search", copied, "red", "--where", "prise < 3")
    told = said(run, "search", copied, "red", "--where", "1==1) or (side == 'text'")
    assert "has a ')' without its '('" in told
    assert "consistency" in said(run, "search", copied, "red", "--consistency", "Weak")
    assert "timeout must be" in said(run, "refresh", copied, "--timeout", 0)
    for address in ("localhost:19530", "http://localhost:99999", "http://root:Milvus123@[::1"):
        told = said(run, "search", copied, "red", "--gallery", address)
        assert "address" in told
        assert "Milvus123" not in told
    for command in (["search", copied, "red"], ["index", copied, *words], ["prune", copied]):
        told = said(run, *command, "--gallery", "http://root:Milvus123@127.0.0.1:9", "--timeout", 1)
        assert "Milvus at http://127.0.0.1:9 cannot be reached" in told
        assert "Milvus123" not in told


def test_the_gallery_can_be_elsewhere(run: Run, copied: Path, photos: Path, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere.db"
    options = ["--gallery", place, "--collection", "shapes"]
    assert run("index", copied, "--images", photos, *options, "--no-progress").code == 0
    assert not (copied / "gallery.db").exists()
    assert len(run("search", copied, "red", *options, "--json").json["hits"]) == 10
    other = Path(shutil.copytree(copied, tmp_path / "other"))
    assert run("forget", other, "--task", "circles").code == 0
    assert run("search", other, "red", *options).code == 0  # the same retriever, learned on


def test_bad_pictures_stop_or_are_left_out(run: Run, copied: Path, photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG cut off")
    words = ["index", copied, "--images", photos, "--no-progress"]
    assert "broken.png" in said(run, *words)
    done = run(*words, "--on-bad", "skip")
    assert done.code == 0, done.err
    assert "Left out:" in done.out
    assert "10 entries" in done.out


def test_what_is_wrong_with_a_gallery_is_told(
    run: Run, copied: Path, learned: Path, photos: Path, trained: Path, tmp_path: Path
) -> None:
    assert "make it by 'interplay index" in said(run, "search", copied, "red")
    assert "make it by 'interplay index" in said(run, "refresh", copied)
    assert "--images, --texts" in said(run, "index", copied)
    assert "no picture and no folder" in said(run, "index", copied, "--images", photos, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no pictures in the folder" in said(run, "index", copied, "--images", tmp_path / "empty")
    (tmp_path / "blank.txt").write_text(" \n\n")
    assert "blank.txt' is empty" in said(run, "index", copied, "--texts", tmp_path / "blank.txt")
    (tmp_path / "latin.txt").write_bytes("Äpfel".encode("latin-1"))
    assert "no UTF-8" in said(run, "index", copied, "--texts", tmp_path / "latin.txt")
    assert "batch_size" in said(run, "index", copied, "--images", photos, "--batch-size", 0)

    (tmp_path / "texts.txt").write_text("red squares\n")
    assert run("index", copied, "--texts", tmp_path / "texts.txt", "--no-progress").code == 0
    assert "no images yet" in said(run, "search", copied, "red")
    assert "from 1 to 16,384" in said(run, "search", copied, "red", "--find", "text", "-k", 0)
    assert "price <" in said(run, "search", copied, "red", "--find", "text", "--where", "price <")
    assert "needs a text" in said(run, "search", copied)
    assert "needs a text" in said(run, "search", copied, "red", "--image", photos / "red squares.png")
    assert "no picture 'gone.png'" in said(run, "search", copied, "--image", "gone.png")

    (tmp_path / "file.db").write_bytes(b"no gallery at all")
    assert "file.db" in said(run, "search", copied, "red", "--gallery", tmp_path / "file.db")
    cut = Path(shutil.copytree(copied / "gallery.db", tmp_path / "cut.db"))
    for file in cut.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "cut.db" in said(run, "search", copied, "red", "--find", "text", "--gallery", cut)


def test_a_gallery_of_another_retriever(
    run: Run, copied: Path, stream: Path, photos: Path, tmp_path: Path
) -> None:
    assert run("index", copied, "--images", photos, "--no-progress").code == 0
    other = tmp_path / "frozen"
    assert run("continual", "--method", "zero_shot", "--data", stream, "--out", other).code == 0
    assert "another retriever" in said(run, "search", other, "red", "--gallery", copied / "gallery.db")


def test_a_server_that_does_not_answer(run: Run, learned: Path) -> None:
    assert "cannot be reached" in said(run, "search", learned, "red", "--gallery", "http://127.0.0.1:9")


def test_metadata(photos: Path, prices: Path) -> None:
    notes = read_notes(prices)
    red, black, blue = photos / "red squares.png", photos / "more" / "black.PNG", photos / "blue squares.png"
    assert notes.of("image", [str(red), str(black), "elsewhere.png"]) == [
        {"price": 9.5, "brand": "x", "code": "007", "sold": True},
        {"price": 1.0, "brand": "y", "code": "3"},
        {},
    ]
    assert notes.left_over([str(red), str(black)], []) == [
        f"Of the pictures that {prices} describes 1 are not added, such as {blue}."
    ]
    prices.write_text("text,stars\nred squares,5\nred circles,\n")
    found = read_notes(prices).of("text", ["red squares", "red circles", "x"])
    assert found == [{"stars": 5}, {}, {}]


@pytest.mark.parametrize(
    ("cells", "kept", "odd"),
    [
        (["3", "n/a", "4", "NULL", "-"], [3, None, 4, None, None], None),
        (["true", "None", "FALSE"], [True, None, False], None),
        (["3.5", "cheap", "4"], ["3.5", "cheap", "4"], "'cheap' in row 2"),
        (["3", "9223372036854775808"], ["3", "9223372036854775808"], "in row 2"),
        (["3", "9223372036854775807"], [3, 2**63 - 1], None),
        (["1", "7" * 5000], ["1", "7" * 5000], "in row 2"),
        (["1.5", "1" * 400 + ".5"], ["1.5", "1" * 400 + ".5"], "in row 2"),
        (["007", "2"], ["007", "2"], None),
        (["n/a", "red"], ["n/a", "red"], None),
        (
            ["4006381333931", "12345678901234567890123"],
            ["4006381333931", "12345678901234567890123"],
            "in row 2",
        ),
    ],
)
def test_what_a_column_holds(cells: list[str], kept: list[object], odd: str | None, tmp_path: Path) -> None:
    table = tmp_path / "notes.csv"
    table.write_text("text,price\n" + "".join(f"t{at},{cell}\n" for at, cell in enumerate(cells)))
    notes = read_notes(table)
    found = [about.get("price") for about in notes.of("text", [f"t{at}" for at in range(len(cells))])]
    assert found == kept
    assert [type(value) for value in found] == [type(value) for value in kept]
    assert ([odd in remark for remark in notes.remarks] == [True]) if odd else not notes.remarks
    assert all(len(remark) < 400 for remark in notes.remarks)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("image,price,price\nphotos/red squares.png,1,2\n", "two columns 'price'"),
        ("price\n3\n", "no column called 'image'"),
        ("image,price\nphotos/red squares.png\n", "row 1"),
        ("image,price\nphotos/red squares.png,1,2\n", "row 1"),
        ("image,price\nphotos/red squares.png,1\nphotos/red squares.png,2\n", "twice"),
        ("image,price\nred squares.png,1\n", "describes none"),
        ("image,source\nphotos/red squares.png,1\n", "of its own"),
        ("image,the price\nphotos/red squares.png,1\n", "cannot name a metadata column"),
    ],
)
def test_metadata_that_do_not_fit(
    table: str, told: str, run: Run, copied: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.csv").write_text(table)
    assert told in said(
        run, "index", copied, "--images", photos, "--metadata", tmp_path / "bad.csv", "--no-progress"
    )


def test_linked_folders_are_indexed_too(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(b"")
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "photos")
    assert pictures_in([str(tmp_path / "photos")]) == [str(tmp_path / "photos" / "link" / "a.png")]


def test_export_import_and_metadata(
    run: Run, copied: Path, photos: Path, prices: Path, tmp_path: Path
) -> None:
    words = ["index", copied, "--images", photos, "--metadata", prices, "--no-progress"]
    assert run(*words, "--json").json["entries"] == 10
    prices.write_text("image,price\nphotos/red squares.png,11\n")
    assert run("gallery", "metadata", copied, prices, "--json").json["changed"] == 1
    hits = run("search", copied, "red", "--where", "price == 11", "--json").json["hits"]
    assert [hit["metadata"] for hit in hits] == [{"price": 11, "brand": "x", "code": "007", "sold": True}]
    out, other = tmp_path / "backup", tmp_path / "copy.db"
    assert run("gallery", "export", copied, "--out", out, "--json").json["entries"] == 10
    taken = run("gallery", "import", copied, out, "--gallery", other, "--json").json
    assert (taken["imported"], taken["entries"]) == (10, 10)
    found = run("search", copied, "red", "--gallery", other, "--where", "price == 11", "--json").json
    assert found["hits"] == hits
    assert "neither" in run("gallery", "import", copied, photos).err
