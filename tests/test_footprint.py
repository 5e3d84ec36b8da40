"""What is not imported: nothing heavy for what needs none of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


COMMANDS_WITHOUT_TORCH = (
    "methods",
    "data list",
    "data show --help",
    "learn --help",
    "search --help",
    "reproduce --help",
    "train --sead 1",
    "continual --epochs many",
    "info --method mipt",
    "train --method mipt --data pairs.csv --out new",
    "search nowhere words",
)


@pytest.mark.parametrize("line", COMMANDS_WITHOUT_TORCH)
def test_commands_that_need_no_model_import_no_torch(line: str) -> None:
    found = imported(f"from interplay.cli import main; main({line.split()})")
    assert "interplay.cli.commands" in found
    assert found.isdisjoint((*LIGHT, *TABLES, "torch", "numpy", "pydantic", "transformers"))


def test_the_bundled_backbone_is_loaded_without_transformers() -> None:
    found = imported("import interplay; interplay.load_backbone('tiny').tokenize(['a red apple'])")
    assert found.isdisjoint((*LIGHT, *TABLES, "transformers"))
