"""`interplay calibrate`, `predict --abstain-below` and `evaluate --risk-coverage` on a small run."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from interplay import Classifier, InterplayError, load, load_backbone
from interplay.metrics.calibration import fit_calibration

from .conftest import Run, write_toy


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run folder and its data; its head answers at random, so that some validation rows are right and some wrong."""
    folder = tmp_path_factory.mktemp("calibrate")
    data = write_toy(folder / "data")
    classifier = Classifier(load_backbone("tiny"), "linear_probe")
    classifier.fit(load(str(data)), run=folder / "run")
    assert classifier.model is not None
    assert classifier.model.head.weight is not None
    for seed in range(50):
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            classifier.model.head.weight.copy_(
                5 * torch.randn(classifier.model.head.weight.shape, generator=generator)
            )
        try:
            fit_calibration(*classifier.logits(str(data), "validation"), "single")
        except InterplayError:
            continue
        classifier.save_pretrained(folder / "run")
        return folder / "run", data
    raise AssertionError("no seed gives a classifier that is right now and then")


def test_calibrate_writes_the_temperature_and_leaves_the_decisions(
    run: Run, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, data = shutil.copytree(trained[0], tmp_path / "run"), trained[1]
    before = run("predict", folder, "--table", data, "--json").json["rows"]
    bare = run("evaluate", folder, "--json").json["metrics"]
    result = run("calibrate", folder, "--json")
    assert result.code == 0
    found = result.json
    assert found["temperature"] != 1
    assert found["validation"]["after"]["nll"] < found["validation"]["before"]["nll"]
    assert json.loads((folder / "config.json").read_text())["temperature"] == found["temperature"]
    after = run("predict", folder, "--table", data, "--json").json["rows"]
    assert [row["prediction"] for row in after] == [row["prediction"] for row in before]
    assert [row["probabilities"] for row in after] != [row["probabilities"] for row in before]
    metrics = run("evaluate", folder, "--json").json["metrics"]
    assert metrics["accuracy"] == bare["accuracy"]
    again = run("calibrate", folder)
    assert f"Temperature {found['temperature']:.4g}, " in again.out
    for word in ("nll", "calibration_error", "before", "after", "the test split was not read"):
        assert word in again.out


def test_abstaining_on_a_table_and_on_one_pair(run: Run, trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, data = trained
    rows = run("predict", folder, "--table", data, "--json").json["rows"]
    assert "abstained" not in rows[0]
    highest = sorted(max(row["probabilities"].values()) for row in rows)
    border = highest[len(highest) // 2]
    out = tmp_path / "out.csv"
    words = ("predict", folder, "--table", data, "--abstain-below", border, "--out", out)
    assert f"{sum(p < border for p in highest)} pairs are left without one" in run(*words).out
    for row, plain in zip(csv.DictReader(out.read_text(encoding="utf-8").splitlines()), rows, strict=True):
        unsure = max(plain["probabilities"].values()) < border
        assert row["abstained"] == str(unsure).lower()
        assert row["prediction"] == ("" if unsure else plain["prediction"])
    picture = tmp_path / "red.png"
    Image.new("RGB", (12, 12), "red").save(picture)
    one = ("predict", folder, "--image", picture, "--text", "a red square", "--abstain-below")
    assert run(*one, 1).out.startswith("abstained\n")
    assert run(*one, 0.01, "--json").json["abstained"] is False
    for wrong in ("0", "1.5"):
        result = run(*one, wrong)
        assert result.code == 2
        assert "above 0 and up to 1" in result.err


def test_risk_over_coverage_as_picture_and_numbers(
    run: Run, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, _ = trained
    picture = tmp_path / "risk.png"
    result = run("evaluate", folder, "--risk-coverage", picture, "--json")
    assert result.code == 0
    found, accuracy = result.json["risk_coverage"], result.json["metrics"]["accuracy"]
    with Image.open(picture) as image:
        assert image.width > 400
    numbers = json.loads((tmp_path / "risk.json").read_text())
    assert numbers["coverage"][-1] == 1
    assert numbers["risk"][-1] == pytest.approx(1 - accuracy)
    assert numbers["area"] == found["area"] == pytest.approx(sum(numbers["risk"]) / len(numbers["risk"]))
    words = ("evaluate", folder, "--risk-coverage", picture)
    assert "there already" in run(*words).err
    assert "Area under the risk-coverage curve" in run(*words, "--overwrite").out
    wrong = run("evaluate", folder, "--risk-coverage", tmp_path / "risk.pdf")
    assert wrong.code == 2
    assert ".png" in wrong.err
