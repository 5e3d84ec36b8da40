"""What is not imported: nothing heavy for what needs none of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from interplay import Classifier, Retriever, load
from tests.lpi.toy import QUICK, SMALL, pairs, picture

TRAINING = ("lightning", "torchmetrics", "sklearn", "scipy", "peft", "accelerate", "torch.distributed.tensor")
DRAWING_AND_SERVING = ("matplotlib", "pymilvus", "milvus_lite", "onnx", "ray", "optuna", "tensorboard")
COMPILER = ("torch._dynamo", "sympy", "transformers.modeling_utils")
TABLES = ("datasets", "pandas", "pyarrow")
LIGHT = (*TRAINING, *DRAWING_AND_SERVING, *COMPILER)


def imported(code: str) -> set[str]:
    """The modules that a fresh interpreter has after it ran some lines."""
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(shown.stderr.split("\n")[-2].split())


@pytest.mark.parametrize("name", ["Classifier", "Retriever", "Gallery", "AdapterBank", "load"])
def test_what_only_reads_and_predicts_imports_no_training(name: str) -> None:
    found = imported(f"import interplay; interplay.{name}")
    assert "torch" in found
    assert found.isdisjoint((*LIGHT, *TABLES))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier and a retriever, a gallery of its, and a picture."""
    folder = tmp_path_factory.mktemp("trained")
    picture(0, 100).save(folder / "one.png")
    rows = {"image": [folder / "one.png"] * 6, "text": ["red", "blue"] * 3, "label": ["r", "b"] * 3}
    classifier = Classifier("tiny", "mitp", settings={"layers": [11], "length": 2, "hidden": 2})
    classifier.fit(load(rows | {"split": ["train"] * 4 + ["validation"] * 2}), settings=QUICK)
    classifier.save_pretrained(folder / "classifier")
    retriever = Retriever("tiny", "lpi-m", settings=SMALL)
    retriever.learn("one", pairs(1), settings=QUICK)
    retriever.save_pretrained(folder / "retriever")
    retriever.index([folder / "one.png"], uri=folder / "gallery.db", progress=False).close()
    return folder


USES = {
    "classifier": """
from interplay.classification.classifier import Classifier
loaded = Classifier.from_pretrained("{folder}/classifier")
assert loaded.predict("{folder}/one.png", "red")
loaded.predict_proba(["{folder}/one.png"], ["red"])""",
    "retriever": """
from interplay.retrieval.retriever import Retriever
loaded = Retriever.from_pretrained("{folder}/retriever")
assert len(loaded.encode_texts(["red"])) == 1
with loaded.index(uri="{folder}/gallery.db") as gallery:
    assert gallery.search("red")""",
}


@pytest.mark.parametrize("task", USES)
def test_a_trained_method_is_loaded_and_used_without_what_trains(task: str, trained: Path) -> None:
    found = imported(USES[task].format(folder=trained))
    assert found & {*TRAINING} <= (
        {"scipy"} if task == "retriever" else set()
    )  # pymilvus looks for it in a search
    assert {name for name in found if name.startswith("interplay.training.")} <= {
        "interplay.training.settings",
        "interplay.training.report",
    }


COMMANDS_WITHOUT_TORCH = (
    "methods",
    "data list",
    "data show --help",
    "learn --help",
    "search --help",
    "reproduce --help",
    "train --help",
    "train --method lpi-p --help",
    "tune --help",
    "compare --help",
    "experiment --help",
    "continual --help",
    "info --help",
    "train --sead 1",
    "continual --epochs many",
    "info --method mipt",
    "train --method mipt --data pairs.csv --out new",
    "search nowhere words",
)


@pytest.mark.parametrize("line", COMMANDS_WITHOUT_TORCH)
def test_commands_that_need_no_model_import_no_torch(line: str) -> None:
    found = imported(f"from interplay.cli import main; main({line.split()})")
    assert "interplay.cli" in found
    assert found.isdisjoint((*LIGHT, *TABLES, "torch", "numpy", "pydantic", "transformers"))


@pytest.mark.parametrize("line", ["--help", "--version", "data --help", "tarin"])
def test_what_no_command_runs_for_imports_no_parser(line: str) -> None:
    assert imported(f"from interplay.cli import main; main({line.split()})").isdisjoint(("cyclopts", "rich"))


@pytest.mark.parametrize("line", ["methods", "data list", "train --sead 1"])
def test_what_is_not_drawn_imports_nothing_to_draw_with(line: str) -> None:
    found = imported(f"from interplay.cli import main; main({line.split()})")
    assert "cyclopts" in found
    assert found.isdisjoint(("rich.console", "docutils"))


def test_the_bundled_backbone_is_loaded_without_transformers() -> None:
    found = imported("import interplay; interplay.load_backbone('tiny').tokenize(['a red apple'])")
    assert found.isdisjoint((*LIGHT, *TABLES, "transformers"))
