from __future__ import annotations

from collections import Counter
from pathlib import Path

import datasets
import pytest
from conftest import encoded, picture
from PIL import Image

from interplay.data import PairTable, contact_sheet, summary
from interplay.errors import InterplayError

FEATURE = datasets.Image(decode=False)


def table(kind: str = "single", rows: int = 40, **more: list[object]) -> PairTable:
    columns: dict[str, list[object]] = {
        "image": [{"bytes": encoded(picture(n)), "path": None} for n in range(rows)],
        "text": [f"text {n}" for n in range(rows)],
        "split": ["train" if n % 4 else "test" for n in range(rows)],
    }
    if kind == "single":
        columns["label"] = ["rare_one" if n % 10 == 3 else "com-mon" for n in range(rows)]
    if kind == "multi":
        columns["labels"] = [["com-mon"] + ["rare_one"] * (n % 10 == 3) for n in range(rows)]
    data = datasets.Dataset.from_dict(columns | more).cast_column("image", FEATURE)
    classes = () if kind == "pairs" else ("com-mon", "rare_one")
    return PairTable("my.csv", kind, classes, data)  # type: ignore[arg-type]


def test_splits_targets_and_names() -> None:
    pairs = table()
    assert pairs.splits() == {"train": 30, "test": 10}
    assert len(pairs.split("test")) == 10
    assert pairs.targets().sum() == 4
    assert pairs.class_texts() == ["com mon", "rare one"]
    assert pairs.ids()[:2] == ["0", "1"]
    assert table("multi").targets().sum(0).tolist() == [40.0, 4.0]
    with pytest.raises(InterplayError, match=r"no split called 'training'. Did you mean 'train'"):
        pairs.split("training")  # type: ignore[arg-type]
    with pytest.raises(InterplayError, match=r"my\.csv.*no column called 'task'"):
        pairs.tasks()


def test_a_table_must_have_the_columns_of_its_kind_and_known_labels() -> None:
    pairs = table()
    with pytest.raises(InterplayError, match=r"no column called 'labels'. Did you mean 'label'"):
        PairTable("my.csv", "multi", pairs.classes, pairs.rows)
    with pytest.raises(InterplayError, match=r"my\.csv, row '0': There is no class called 'com-mon'"):
        PairTable("my.csv", "single", ("common",), pairs.rows).targets()
    bare = PairTable("my.csv", "pairs", (), pairs.rows.remove_columns(["split"]))
    assert bare.splits() == {}
    with pytest.raises(InterplayError, match="its splits are: none"):
        bare.split("train")


@pytest.mark.parametrize("kind", ["single", "multi", "pairs"])
def test_fraction_is_stratified_nested_and_fixed(kind: str) -> None:
    pairs = table(kind)
    half, tenth = pairs.fraction(0.5, seed=1), pairs.fraction(0.1, seed=1)
    assert len(half) == 20
    assert set(tenth.texts()) < set(half.texts())
    assert half.texts() == pairs.fraction(0.5, seed=1).texts()
    assert half.texts() != pairs.fraction(0.5, seed=2).texts()
    if kind != "pairs":
        assert Counter(len(labels) > 1 or labels == ["rare_one"] for labels in half.labels())[True] == 2
        assert sum("rare_one" in labels for labels in pairs.fraction(0.001, seed=0).labels()) == 1
    assert pairs.fraction(1, seed=0).texts() == pairs.texts()
    for share in (0, 1.5, -1):
        with pytest.raises(InterplayError, match=r"must lie in \(0, 1\]"):
            pairs.fraction(share, seed=0)


def test_summary_counts_everything() -> None:
    result = summary(table(task=["t"] * 40))
    assert result["splits"] == {"train": 30, "test": 10}
    assert result["classes"] == {"com-mon": {"test": 10, "train": 26}, "rare_one": {"train": 4}}
    assert result["tasks"] == {"t": 40}


@pytest.mark.parametrize("kind", ["single", "multi", "pairs"])
def test_contact_sheet(kind: str, tmp_path: Path) -> None:
    path = contact_sheet(table(kind, rows=5), tmp_path / "new" / "sheet.png", rows=2, columns=3)
    with Image.open(path) as sheet:
        assert sheet.width > 400
        assert len(sheet.convert("RGB").resize((50, 50)).getcolors(2500) or []) > 20
    awkward = table("pairs", rows=2, text=["$x_{1}$ costs $5 " * 50, "nospaces" * 50])
    contact_sheet(awkward, tmp_path / "sheet.png", rows=1, columns=2)


def test_contact_sheet_refuses_nothing_to_show_and_nowhere_to_write(tmp_path: Path) -> None:
    with pytest.raises(InterplayError, match="no rows to show"):
        contact_sheet(table().select([]), tmp_path / "sheet.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(InterplayError, match="Could not write"):
        contact_sheet(table(rows=1), tmp_path / "file" / "sheet.png", rows=1, columns=1)
