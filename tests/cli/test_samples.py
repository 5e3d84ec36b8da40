"""Every sample of the documentation runs as it is printed, on data that take no time.

A document is read from top to bottom in a folder of its own: Python blocks share their names, shell lines run one after
the other. Long trainings are cut to one epoch and embedded data sets stand for toy tables (`quick`); what cannot run is
listed with the reason, and a list that has grown old is an error.
"""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from transformers import CLIPModel

from interplay.towers import backbone as towers
from tests import published
from tests.embed.toy import make_shards

from .conftest import Run, drawn, write_stream, write_toy

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [
        *ROOT.glob("docs/**/*.md"),
        *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    ]
)
SHOWN = {"csv", "text", "yaml"}
"""Languages of blocks that show a file; all others run."""

INSTALLS = "installs packages"
HUB = "downloads a checkpoint"
PAPER = (
    "trains on data and on a CLIP that a person has to download; tests/cli/test_reproduce.py runs the recipes"
)
DEVICES = "starts processes; tests/cli/test_devices.py and tests/train/test_devices.py do"
GPU = "needs a GPU"
HOURS = "takes hours; tests/compare/test_experiments.py runs it on a toy grid, and checks the committed cells"
BENCH = "downloads icon sets and trains for hours; tests/test_own_data.py runs it on a small set"
NOT_RUN = {
    ("README.md", "make demo"): INSTALLS,
    ("README.md", "make test"): INSTALLS,
    ("docs/start/install.md", "make demo"): INSTALLS,
    ("docs/start/install.md", "make test"): INSTALLS,
    ("docs/start/install.md", "python -m venv"): INSTALLS,
    ("docs/start/install.md", ".venv/bin/pip install"): INSTALLS,
    ("docs/start/install.md", ".venv/bin/interplay --version"): "is the environment that was not made",
    ("docs/guides/export.md", "pip install"): INSTALLS,
    ("docs/guides/export.md", "python examples/serve_onnx.py"): "serves for ever; tests/export/test_serve.py",
    ("docs/guides/export.md", "curl"): "asks that server; tests/export/test_serve.py",
    ("docs/guides/serve.md", "pip install"): INSTALLS,
    ("docs/guides/serve.md", "interplay serve"): "serves for ever; tests/service/test_process.py",
    ("docs/guides/serve.md", "curl"): "asks that server; tests/service/test_answers.py",
    ("docs/guides/backbones.md", 'load_backbone("clip-vit-base-patch32")'): HUB,
    ("docs/guides/backbones.md", 'load_backbone("someone/any-clip")'): HUB,
    (
        "docs/guides/compare.md",
        "interplay compare --grid recipes/openmoji.yaml --out results/openmoji --ray",
    ): ("wants a cluster; tests/compare/test_compare.py has a local one"),
    ("docs/guides/embed.md", 'interplay embed "shards/{000..003}.tar" --out embedded/ray'): (
        "wants a cluster; tests/embed/test_ray.py has a local one"
    ),
    ("docs/guides/compare.md", "interplay reproduce table1"): PAPER,
    ("docs/guides/compare.md", "interplay reproduce lpi-table1"): PAPER,
    ("docs/guides/compare.md", "python -m benchmarks.own_data"): BENCH,
    ("docs/guides/compare.md", "interplay train --data $(python -m benchmarks.own_data"): BENCH,
    ("docs/guides/data/food101.md", "interplay train"): PAPER,
    ("docs/guides/data/food101.md", "interplay reproduce"): PAPER,
    ("docs/guides/data/mm_imdb.md", "interplay train"): PAPER,
    ("docs/guides/data/mm_imdb.md", "interplay reproduce"): PAPER,
    ("docs/guides/data/snli_ve.md", "interplay train"): PAPER,
    ("docs/guides/data/snli_ve.md", "interplay reproduce"): PAPER,
    ("docs/guides/devices.md", "interplay train --data pairs.csv"): DEVICES,
    ("docs/guides/devices.md", "interplay continual"): DEVICES,
    ("docs/guides/devices.md", "from interplay import Classifier"): DEVICES,
    ("docs/guides/devices.md", "torchrun"): "needs two machines; tests/cli/test_devices.py plays them",
    ("docs/guides/devices.md", "srun"): "needs a cluster",
    ("docs/guides/devices.md", "python benchmarks/training_step.py"): GPU,
    ("docs/guides/devices.md", "interplay train --data scenes/bind"): GPU,
    ("docs/evidence/experiments.md", "interplay experiment"): HOURS,
    ("docs/evidence/benchmarks.md", "interplay compare"): HOURS,
    ("CONTRIBUTING.md", "make"): INSTALLS,
    ("CONTRIBUTING.md", '"""Shift'): "tests/cli/test_docs.py holds it to the contract",
    ("CONTRIBUTING.md", '"""`interplay data classes'): "tests/cli/test_docs.py runs it as a command",
}
"""Lines that do not run, by document and beginning, each with the reason."""

SLOW = {"docs/guides/export.md", "docs/guides/tune.md", "docs/guides/compare.md"}


@dataclass(frozen=True)
class Sample:
    """A block of code in a document."""

    document: str
    language: str
    code: str


def samples(document: str) -> list[Sample]:
    found = re.findall(
        r"^( *)```(\w*)\n(.*?)^\1```$", (ROOT / document).read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    return [Sample(document, language, code) for _, language, code in found]


def excused(document: str, line: str) -> bool:
    return any(document == where and line.startswith(start) for where, start in NOT_RUN)


def data_of(folder: Path, document: str) -> None:
    """What the documents take as given: their reader's own pictures and tables."""
    (folder / "photos").mkdir()
    if document in ("docs/guides/retrieval.md", "docs/guides/gallery.md", "docs/guides/embed.md"):
        write_stream(folder).rename(folder / "pairs.csv")
        for old, new in (("squares-0", "0"), ("circles-1", "1")):
            shutil.copy(folder / f"{old}.png", folder / f"{new}.png")
    else:
        write_toy(folder)
        write_stream(folder)
    for name, kind in (("cat", "squares"), ("dog", "circles"), ("owl", "stripes"), ("fox", "squares")):
        drawn(kind, (10 * len(name), 90, 200), len(kind)).save(folder / f"{name}.png")
    for name, task in (("shoe", "squares"), ("boot", "circles"), ("hat", "stripes")):
        drawn(task, (200, 60, 60), 3).save(folder / f"photos/{name}.png")
    for task, name in (("triangles", "more"), ("signs", "signs")):
        further = write_stream(folder / task, [task])
        further.rename(further.with_name(f"{name}.csv"))
        shutil.copytree(folder / task, folder, dirs_exist_ok=True)
    (folder / "captions.txt").write_text("a red square\na blue circle\n")
    (folder / "questions.txt").write_text("a shoe\na boot\n")
    (folder / "recipes").symlink_to(ROOT / "recipes")


def checkpoints(folder: Path) -> None:
    """Two checkpoints: one as it should be, one whose weights are a pickle."""
    tiny = Path(towers.__file__).with_name("tiny")
    shutil.copytree(tiny, folder / "checkpoints" / "clip")
    shutil.copytree(tiny, folder / "old", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(CLIPModel.from_pretrained(tiny).state_dict(), folder / "old" / "pytorch_model.bin")


def shards(folder: Path) -> None:
    """Tars of two samples each."""
    (folder / "shards").mkdir()
    make_shards(folder / "shards", 4, 2)


def own_table(folder: Path, document: str) -> None:
    """The table that the document prints, in place of the toy one."""
    (table,) = (one.code for one in samples(document) if one.language == "csv")
    (folder / "pairs.csv").write_text(table, encoding="utf-8")


def gallery_data(folder: Path, document: str) -> None:
    (prices,) = (one.code for one in samples(document) if one.language == "csv")
    (folder / "prices.csv").write_text(prices, encoding="utf-8")


def nearly_right(folder: Path, document: str) -> None:
    """Labels that the text tells, and two validation rows with the wrong one: something to calibrate."""
    with (folder / "pairs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] = "same" if "red" in row["text"] else "other"
    for row in [row for row in rows if row["split"] == "validation"][:2]:
        row["label"] = "other" if row["label"] == "same" else "same"
    with (folder / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def claims(folder: Path, document: str) -> None:
    """The grid that the document prints, on a toy table, with two seeds and one epoch."""
    code = next(one.code for one in samples(document) if one.language == "yaml")
    code = re.sub(r"seeds: .*", "seeds: [0, 1]", code.replace("scenes/bind", "pairs.csv"))
    (folder / "claims.yaml").write_text(code.replace("epochs: 12", "epochs: 1"), encoding="utf-8")


def benchmark(write: Callable[[Path], Path]) -> Callable[[Path, str], None]:
    """The files of a published data set, as its owners lay them out."""

    def stage(folder: Path, document: str) -> None:
        write(folder / "FOLDER")

    return stage


STAGES: dict[str, Callable[[Path, str], None]] = {
    "README.md": own_table,
    "docs/start/own-data.md": own_table,
    "docs/guides/backbones.md": lambda folder, _: checkpoints(folder),
    "docs/guides/contrasts.md": claims,
    "docs/guides/gallery.md": gallery_data,
    "docs/guides/embed.md": lambda folder, _: shards(folder),
    "docs/guides/calibration.md": nearly_right,
    "docs/guides/data.md": benchmark(published.write_coco),
    "docs/guides/data/food101.md": benchmark(published.write_food101),
    "docs/guides/data/mm_imdb.md": benchmark(published.write_mm_imdb),
    "docs/guides/data/snli_ve.md": benchmark(published.write_snli_ve),
}
"""What a document has besides."""

BEFORE = {
    "docs/guides/gallery.md": ["interplay continual --data pairs.csv --out runs/mine"],
    "docs/guides/calibration.md": [
        "interplay train --data pairs.csv --method linear_probe-pair --out runs/mine"
    ],
    "docs/guides/export.md": [
        "interplay train --data pairs.csv --head kind=pair --method p_clip --out runs/relation"
    ],
}
"""Commands of an earlier document whose runs one goes on with."""


def quick(line: str) -> list[str]:
    """A command's words, with embedded data replaced by toys and trainings by their first epoch."""
    line = re.sub(r"openmoji/continual", "stream.csv", line)
    line = (
        re.sub(r"(openmoji|scenes)/\w+(\?train=\d+)?", "pairs.csv", line) if "recipes/" not in line else line
    )
    line = re.sub(r"--epochs \d+ ?", "", line)
    line = re.sub(r"--seeds \d+", "--seeds 1", line)
    words = shlex.split(line, comments=True)[1:]
    if words[0] in ("train", "continual", "learn", "compare") and "--grid" not in words:
        words += ["--epochs", "1", "--no-progress"]
    if words[0] == "compare" and "--dry-run" not in words:
        words += ["--no-memory"]
    if words[0] == "tune":
        words += ["--trials", "1", "--no-progress", *(["--epochs", "1"] if "layers=7,8,9" in words else [])]
    return words


def quick_python(code: str) -> str:
    code = re.sub(r"epochs=\d+", "epochs=1, progress=False", code)
    return code.replace("minutes=10,", "minutes=10, trials=1,")


def python_lines(document: str, code: str) -> str:
    """The code without the lines that are excused."""
    return "".join(line for line in code.splitlines(keepends=True) if not excused(document, line.strip()))


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(one, marks=pytest.mark.slow) if one in SLOW else one
        for one in DOCUMENTS
        if any(s.language not in SHOWN for s in samples(one))
    ],
)
def test_the_samples_of_a_document_run_from_top_to_bottom(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(mpl.rcParams, "backend", "agg")
    data_of(tmp_path, document)
    STAGES.get(document, lambda *_: None)(tmp_path, document)
    for line in BEFORE.get(document, []):
        assert run(*quick(line)).code == 0
    names: dict[str, object] = {}
    for sample in samples(document):
        assert sample.language in {*SHOWN, "python", "bash"}, f"a block of {document} names no language"
        if sample.language == "python" and not excused(document, sample.code):
            code = quick_python(python_lines(document, sample.code))
            exec(compile(code, document, "exec"), names)
        if sample.language == "bash":
            for line in sample.code.splitlines():
                if not line or excused(document, line):
                    continue
                assert line.startswith("interplay "), (
                    f"{document}: nothing runs '{line}', and no reason is given"
                )
                done = run(*quick(line))
                assert done.code == 0, (line, done.err)


def test_what_does_not_run_is_still_there() -> None:
    for document, start in NOT_RUN:
        lines = [line.strip() for one in samples(document) for line in one.code.splitlines()]
        assert any(line.startswith(start) for line in lines), (document, start)
