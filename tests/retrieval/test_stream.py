from __future__ import annotations

from collections.abc import Sequence

import datasets
import pytest

from interplay.data import load
from interplay.data import sessions as stream
from interplay.data.schema import PairTable
from interplay.data.sessions import Session, all_at_once, by_caption, by_picture, seen, sessions_of
from interplay.data.splits import SPLITS
from interplay.errors import InterplayError


def table_of(
    rows: Sequence[tuple[str, str]],
    texts: Sequence[object] | None = None,
    name: str = "things",
    images: Sequence[dict[str, object]] | None = None,
) -> PairTable:
    """Rows given as (task, split); picture `i.png`, text `text i`, id `i`."""
    columns = {
        "image": list(images or ({"path": f"{row}.png", "bytes": None} for row in range(len(rows)))),
        "text": list(texts or (f"text {row}" for row in range(len(rows)))),
        "task": [task for task, _ in rows],
        "split": [split for _, split in rows],
        "id": [str(row) for row in range(len(rows))],
    }
    stored = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image(decode=False))
    return PairTable(name, "pairs", (), stored)


ROWS = [
    ("b", "train"),
    ("a", "train"),
    ("b", "train"),
    ("c", "test"),
    ("a", "train"),
    ("b", "test"),
    ("c", "train"),
    ("a", "test"),
    ("c", "train"),
]


def test_tasks_come_in_the_order_of_their_first_row() -> None:
    sessions = sessions_of(table_of(ROWS))
    assert [session.name for session in sessions] == ["b", "a", "c"]
    assert [session.table.ids() for session in sessions] == [
        ["0", "2", "5"],
        ["1", "4", "7"],
        ["3", "6", "8"],
    ]
    assert [len(session) for session in sessions] == [3, 3, 3]
    assert sessions[1].split("test").texts() == ["text 7"]


def test_an_order_of_ones_own() -> None:
    sessions = sessions_of(table_of(ROWS), ("c", "b", "a"))
    assert [session.name for session in sessions] == ["c", "b", "a"]
    assert sessions[0].split("train").ids() == ["6", "8"]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (["a", "b"], "The order of the tasks of things misses c: name every task once."),
        (["a", "b", "c", "b"], "repeats b: name"),
        (["a", "a", "b"], "repeats a and misses c: name"),
        (["a", "b", "cc"], "There is no task called 'cc'. Did you mean 'c'?"),
        ([], "misses b, a, c: name"),
    ],
)
def test_an_order_that_is_none(order: list[str], message: str) -> None:
    with pytest.raises(InterplayError) as caught:
        sessions_of(table_of(ROWS), order)
    assert message in str(caught.value)


def test_a_task_with_too_few_training_pairs() -> None:
    with pytest.raises(InterplayError, match=r"things: task 'c' has 1 picture in 'train'; .* at least 2"):
        sessions_of(table_of(ROWS[:-1]))
    with pytest.raises(InterplayError, match="task 'd' has 0 pictures in 'train'"):
        sessions_of(table_of([*ROWS, ("d", "test")]))


def test_rows_without_a_task() -> None:
    with pytest.raises(InterplayError, match=r"row '9' belongs to no task \(1 rows do not\)"):
        sessions_of(table_of([*ROWS, ("", "train")]))
    plain = table_of(ROWS)
    without = PairTable("plain", "pairs", (), plain.rows.remove_columns(["task"]))
    with pytest.raises(InterplayError, match="plain: There is no column called 'task'"):
        sessions_of(without)
    with pytest.raises(InterplayError, match="no rows"):
        sessions_of(plain.select([]))


def test_a_split_that_a_task_lacks_is_named_with_the_task() -> None:
    session = sessions_of(table_of(ROWS))[2]
    with pytest.raises(InterplayError, match="things, task 'c', has no rows in the split 'validation'"):
        session.split("validation")
    assert session.split("test").name == "things"


def test_seen_holds_the_tasks_so_far_with_their_index() -> None:
    sessions = sessions_of(table_of(ROWS))
    first, index = seen(sessions, 0, "train")
    assert (first.ids(), index) == (["0", "2"], [0, 0])
    rows, index = seen(sessions, 2, "train")
    assert rows.ids() == ["0", "2", "1", "4", "6", "8"]
    assert index == [0, 0, 1, 1, 2, 2]
    assert [source["path"] for source in rows.sources([1, 3])] == ["2.png", "4.png"]
    assert (rows.name, rows.tasks()) == ("things", ["b", "b", "a", "a", "c", "c"])
    with pytest.raises(InterplayError, match="task 'b', has no rows in the split 'validation'"):
        seen(sessions, 1, "validation")
    for t in (-1, 3):
        with pytest.raises(IndexError):
            seen(sessions, t, "train")


def test_joint_holds_everything() -> None:
    sessions = sessions_of(table_of(ROWS), ["a", "b", "c"])
    together = all_at_once(sessions)
    assert together.name == "joint"
    assert together.table.ids() == ["1", "4", "7", "0", "2", "5", "3", "6", "8"]
    assert together.split("test").ids() == ["7", "5", "3"]
    assert all_at_once(sessions[:1]).table.ids() == ["1", "4", "7"]
    with pytest.raises(InterplayError, match="without sessions"):
        all_at_once([])


def test_tables_that_do_not_fit_together() -> None:
    one = Session("a", table_of(ROWS))
    other = Session("b", PairTable("other", "pairs", (), one.table.rows.remove_columns(["split"])))
    with pytest.raises(InterplayError, match="unlike columns"):
        all_at_once([one, other])
    lists = Session("c", table_of(ROWS[:2], [["x"], ["y", "z"]]))
    with pytest.raises(InterplayError, match="do not fit together"):
        all_at_once([one, lists])
    assert all_at_once([one, Session("d", table_of(ROWS, name="more"))]).table.name == "things + more"


@pytest.mark.parametrize("part", [1, 4, 5000])
def test_by_caption_gives_every_caption_a_row(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_PART", part)
    table = table_of(ROWS[:3], [["x", "y"], ["z"], ["u", "v", "w"]])
    rows, owner = by_caption(table)
    assert owner == [0, 0, 1, 2, 2, 2]
    assert rows.rows["text"][:] == ["x", "y", "z", "u", "v", "w"]
    assert rows.ids() == ["0", "0 (caption 2)", "1", "2", "2 (caption 2)", "2 (caption 3)"]
    assert rows.tasks() == ["b", "b", "a", "b", "b", "b"]
    assert [source["path"] for source in rows.sources(range(6))] == [f"{row}.png" for row in owner]
    assert rows.rows.features["image"] == table.rows.features["image"]
    assert (rows.name, rows.kind) == ("things", "pairs")


def test_by_caption_of_one_text_a_row_and_of_a_part_of_a_table() -> None:
    table = table_of(ROWS).split("test")
    rows, owner = by_caption(table)
    assert owner == [0, 1, 2]
    assert (rows.texts(), rows.ids()) == (table.texts(), table.ids())
    assert rows.sources([2]) == table.sources([2])
    assert by_caption(table.select([]))[1] == by_caption(table.select([]))[0].texts() == []
    nameless = PairTable("x", "pairs", (), table_of(ROWS[:1], [["p", "q"]]).rows.remove_columns(["id"]))
    assert by_caption(nameless)[0].texts() == ["p", "q"]


def paths(*names: str) -> list[dict[str, object]]:
    return [{"path": f"{name}.png", "bytes": None} for name in names]


@pytest.mark.parametrize("part", [1, 5000])
@pytest.mark.parametrize("lists", [False, True])
def test_rows_of_one_picture_file_become_one_row(
    part: int, lists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_PART", part)
    monkeypatch.setattr(stream, "_PICTURES", part)
    tasks = [("a", "train"), ("a", "train"), ("a", "test"), ("b", "train"), ("a", "train"), ("a", "test")]
    texts: list[object] = [["p", "P"], ["q"], ["r"], ["s"], ["t"], ["u"]] if lists else list("pqrstu")
    table = table_of(tasks, texts, images=paths("x", "y", "x", "x", "x", "x"))
    rows, first = by_picture(table)
    assert first == [0, 1, 2, 3]
    assert rows.ids() == ["0", "1", "2", "3"]
    assert rows.captions() == [["p", "P", "t"] if lists else ["p", "t"], ["q"], ["r", "u"], ["s"]]
    assert (rows.tasks(), rows.rows["split"][:]) == (
        ["a", "a", "a", "b"],
        ["train", "train", "test", "train"],
    )
    assert rows.sources(range(4)) == table.sources([0, 1, 2, 3])
    assert rows.rows.column_names == table.rows.column_names
    assert by_picture(rows)[0] is rows
    across, first = by_picture(table, within=[0] * 6)
    assert first == [0, 1, 2]
    assert across.captions()[0] == [*rows.captions()[0][:-1], "s", "t"]


def test_a_picture_is_a_file_not_its_bytes() -> None:
    bare: list[dict[str, object]] = [{"path": None, "bytes": b"same"} for _ in range(3)]
    stored: list[dict[str, object]] = [{"path": "0.png", "bytes": content} for content in (b"1", b"2", b"1")]
    copies: list[dict[str, object]] = [{"path": f"{at}.png", "bytes": b"same"} for at in range(3)]
    rows = [("a", "train")] * 3
    for images in (bare, copies, paths("0", "1", "2")):
        table = table_of(rows, images=images)
        assert by_picture(table) == (table, [0, 1, 2])
    assert by_picture(table_of(rows, images=stored))[1] == [0, 1]  # `0.png` of two folders
    assert by_picture(table_of([], images=[]))[1] == []


def test_sessions_have_one_row_a_picture() -> None:
    images = paths("0", "1", "0", "2", "1", "0", "0", "3", "1")
    rows = [*ROWS, ("a", "train"), ("b", "train")]
    sessions = sessions_of(table_of(rows, images=[*images, *paths("2", "2")]))
    assert [session.table.captions() for session in sessions][:2] == [
        [["text 0", "text 2"], ["text 5"], ["text 10"]],
        [["text 1", "text 4"], ["text 7"], ["text 9"]],
    ]
    assert all_at_once(sessions).table.captions()[0] == ["text 0", "text 2"]


def test_openmoji_is_a_stream_of_nine_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    from interplay.data import openmoji

    monkeypatch.setattr(openmoji, "openmoji_pictures", lambda codes: dict.fromkeys(codes, b"picture"))
    table = load("openmoji/continual")
    assert by_picture(table)[0] is table  # here all pictures have the same bytes, and none has a path
    sessions = sessions_of(table)
    assert [session.name for session in sessions] == [
        "Smileys & Emotion",
        "People & Body",
        "Animals & Nature",
        "Food & Drink",
        "Travel & Places",
        "Activities",
        "Objects",
        "Symbols",
        "Flags",
    ]
    for session in sessions:
        assert set(session.table.splits()) == set(SPLITS)
        assert session.table.splits()["validation"] >= 9
    rows, index = seen(sessions, 8, "test")
    assert len(rows) == len(table.split("test")) == len(index)
