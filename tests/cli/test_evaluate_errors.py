"""What `interplay evaluate` shows of a classifier's mistakes: worst classes, confusions, and the wrong pairs."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from interplay import Classifier, load, load_backbone
from interplay.classification.mistakes import Mistake, mistakes
from interplay.classification.report import Report, report
from interplay.cli.class_report import worst_classes
from interplay.plotting import classes as class_pictures

from .conftest import Run, write_toy
from .test_bad_input import said


def random_run(folder: Path, labels: str) -> Path:
    """A run on the toy data whose head answers at random; with several labels where `labels` names that column."""
    data = write_toy(folder)
    lines = data.read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(lines))
    if labels == "labels":
        for row in rows:
            row["labels"] = f"{row.pop('label')}|{row['text'].split()[1]}"
        with data.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["image", "text", "split", "labels"])
            writer.writeheader()
            writer.writerows(rows)
    classifier = Classifier(load_backbone("tiny"), "linear_probe")
    classifier.fit(load(str(data)), run=folder / "run")
    assert classifier.model is not None
    assert classifier.model.head.weight is not None
    with torch.no_grad():
        shape = classifier.model.head.weight.shape
        classifier.model.head.weight.copy_(3 * torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    classifier.save_pretrained(folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_run(tmp_path_factory.mktemp("single"), "label")


@pytest.fixture(scope="module")
def multi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_run(tmp_path_factory.mktemp("multi"), "labels")


def listed(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.mark.parametrize("kind", ["single", "multi"])
@pytest.mark.parametrize("split", ["test", "all"])
def test_all_wrong_pairs_are_listed_as_predict_answers_them(
    run: Run, request: pytest.FixtureRequest, tmp_path: Path, kind: str, split: str
) -> None:
    folder: Path = request.getfixturevalue(kind)
    data = folder.parent / "pairs.csv"
    truth = {row["image"]: row for row in listed(data)}
    expected = {}
    for row in run("predict", folder, "--table", data, "--json").json["rows"]:
        true = truth[row["id"]]
        label = true["label"] if kind == "single" else "|".join(sorted(true["labels"].split("|")))
        answer = row["prediction"] if kind == "single" else "|".join(sorted(row["prediction"]))
        if label != answer and split in ("all", true["split"]):
            expected[row["id"]] = (row["text"], label, answer)
    words = ("evaluate", folder, "--split", split, "--errors", tmp_path / "wrong.png")
    done = run(*words, "--json")
    assert done.code == 0, done.err
    rows = listed(tmp_path / "wrong.csv")
    assert list(rows[0]) == ["id", "text", "truth", "predicted", "probability"]
    assert expected
    assert len(rows) == len(expected) == done.json["errors"]["wrong"]
    for row in rows:
        found = ["|".join(sorted(row[name].split("|"))) for name in ("truth", "predicted")]
        assert (row["text"], *found) == expected[row["id"]]
    sure = [float(row["probability"]) for row in rows]
    assert sure == sorted(sure, reverse=True)
    with Image.open(tmp_path / "wrong.png") as sheet:
        assert sheet.width > 1500


def test_the_pictures_are_the_same_each_time_and_replace_nothing_unasked(
    run: Run, single: Path, tmp_path: Path
) -> None:
    names = ("wrong.png", "wrong.csv", "classes.png")
    words = ("evaluate", single, "--errors", tmp_path / names[0], "--confusion", tmp_path / names[2])
    shown = run(*words)
    assert shown.code == 0, shown.err
    assert "pairs are wrong" in shown.out
    before = [(tmp_path / name).read_bytes() for name in names]
    for name in (names[0], names[2]):
        (tmp_path / name).unlink()
    assert "wrong.csv' is there already" in said(run, *words)
    assert run(*words, "--overwrite").out == shown.out
    assert [(tmp_path / name).read_bytes() for name in names] == before


def test_what_is_read_is_not_replaced_by_the_list(run: Run, single: Path, tmp_path: Path) -> None:
    data = single.parent / "pairs.csv"
    before = data.read_bytes()
    for named in ((), ("--data", data)):
        assert "is what is read" in said(
            run, "evaluate", single, *named, "--errors", data.with_suffix(".png"), "--overwrite"
        )
    assert data.read_bytes() == before
    same = tmp_path / "a.png"
    assert "--confusion and --errors both write" in said(
        run, "evaluate", single, "--errors", same, "--confusion", same
    )
    assert not same.exists()


def test_several_labels_have_bars_instead_of_a_matrix(
    run: Run, multi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    whole = class_pictures.precision_and_recall
    monkeypatch.setattr(
        class_pictures, "precision_and_recall", lambda *words: drawn.append(len(words[0])) or whole(*words)
    )
    assert run("evaluate", multi, "--confusion", tmp_path / "classes.png").code == 0
    assert drawn == [5]
    assert (tmp_path / "classes.png").read_bytes().startswith(b"\x89PNG")


def test_a_classifier_without_mistakes_has_an_empty_sheet(
    run: Run, single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def right(self: Classifier, data: object, split: str, **_: object) -> tuple[torch.Tensor, torch.Tensor]:
        targets = load(str(single.parent / "pairs.csv")).split("test").targets()
        return 9 * torch.eye(2)[targets], targets

    monkeypatch.setattr(Classifier, "logits", right)
    done = run("evaluate", single, "--errors", tmp_path / "wrong.png")
    assert done.code == 0, done.err
    assert "worst of" not in done.out
    assert listed(tmp_path / "wrong.csv") == []
    assert (tmp_path / "wrong.png").exists()


def test_the_surest_mistakes_come_first_and_equals_in_their_order() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4], [0.4, 0.6]])
    found = mistakes(("a", "b"), probabilities, torch.tensor([0, 0, 0, 1, 0]))
    assert [(one.row, one.truth, one.predicted) for one in found] == [
        (2, "a", "b"),
        (1, "a", "b"),
        (3, "b", "a"),
        (4, "a", "b"),
    ]
    assert [one.probability for one in found] == pytest.approx([0.8, 0.6, 0.6, 0.6])


def test_of_several_labels_the_surest_wrong_decision_counts() -> None:
    probabilities = torch.tensor([[0.9, 0.7, 0.2], [0.9, 0.1, 0.1], [0.4, 0.3, 0.1]])
    targets = torch.tensor([[1.0, 0, 1], [1, 0, 0], [0, 0, 1]])
    assert mistakes(("a", "b", "c"), probabilities, targets) == [
        Mistake(2, "c", "", pytest.approx(0.9)),
        Mistake(0, "a|c", "a|b", pytest.approx(0.8)),
    ]


def of_counts(counts: list[list[int]]) -> Report:
    """The report of a classifier with these confusions."""
    pairs = [(a, b) for a, row in enumerate(counts) for b, count in enumerate(row) for _ in range(count)]
    true, predicted = torch.tensor(pairs).T
    names = [f"class {at}" for at in range(len(counts))]
    return report(names, torch.eye(len(counts))[predicted], true, "single")


def test_worst_classes_and_confusions_in_a_few_lines() -> None:
    counts = [[20, 0, 0, 0], [6, 10, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    found, text = worst_classes(of_counts(counts))
    assert [(one["class"], one["few_rows"]) for one in found["worst_classes"]] == [
        ("class 2", True),
        ("class 1", False),
        ("class 0", False),
    ]
    assert found["worst_classes"][0]["recall"] == 0.5
    assert found["confusions"] == [
        {"true": "class 1", "predicted": "class 0", "rows": 6},
        {"true": "class 2", "predicted": "class 1", "rows": 1},
    ]
    assert "class 2 (few rows)" in text
    assert "class 1 → class 0 (6 of 16), class 2 → class 1 (1 of 2)." in text
    assert "1 class has fewer than 8 rows" in text
    many, text = worst_classes(of_counts((np.eye(66, dtype=int) + 1).tolist()))
    assert len(text.splitlines()) <= 10
    json.dumps(many, allow_nan=False)


def test_the_matrix_is_drawn_by_size_and_in_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    kept: list[Figure] = []
    write = class_pictures.save
    monkeypatch.setattr(class_pictures, "save", lambda *words: kept.append(words[0]) or write(*words))
    counts = [[1, 1, 0], [2, 8, 0], [0, 0, 0]]
    confusion = of_counts(counts).confusion
    assert confusion is not None
    class_pictures.confusion(confusion, tmp_path / "a.png", "costs $5 or $6")
    axes = kept[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "class 1 (10)",
        "class 0 (2)",
        "class 2 (0)",
    ]
    shares = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(shares, [[0.8, 0.2, 0], [0.5, 0.5, 0], [np.nan] * 3])
    large = of_counts((np.eye(130, dtype=int) * 2).tolist()).confusion
    assert large is not None
    class_pictures.confusion(large, tmp_path / "b.png")
    axes = kept[1].axes[0]
    assert axes.get_yticklabels()[-1].get_text() == "31 other classes (62)"
    assert np.diag(axes.images[0].get_array()).tolist() == [1] * 100


def test_names_of_66_classes_stand_clear_of_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    write = class_pictures.save
    monkeypatch.setattr(class_pictures, "save", lambda *words: kept.append(words[0]) or write(*words))
    confusion = of_counts((np.eye(66, dtype=int) + 1).tolist()).confusion
    assert confusion is not None
    class_pictures.confusion(confusion, tmp_path / "a.png", "66 classes")
    axes = kept[0].axes[0]
    for labels, side in ((axes.get_yticklabels(), "y"), (axes.get_xticklabels(), "x")):
        boxes = sorted(
            (getattr(b, f"{side}0"), getattr(b, f"{side}1"))
            for b in (one.get_window_extent() for one in labels)
        )
        assert all(low[1] <= high[0] + 1 for low, high in itertools.pairwise(boxes))
