"""Settings of every kind: configuration files, grids, `--set` and `--head`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from interplay.methods.registry import choices
from interplay.parts.heads import HeadSettings

from .conftest import World
from .judge import QUICK_AND_WHOLE, Tally, some

CONFIGS = (
    "",
    "data",
    "data:",
    "data: [",
    "- data",
    "data: 1",
    "epochs: many",
    "epochs: 1.5",
    "epochs: " + "9" * 5000,
    "epochs: 0x" + "f" * 5000,
    "epochs: null",
    "epoch: 1",
    "set: layers=1",
    "set: {layers: 1}",
    "set: [1]",
    "method: []",
    "method: {a: b}",
    "out: here",
    "json: true",
    "quiet: 1",
    "config: other.yaml",
    "seed: 2024-13-45",
    "seed: !!python/object/apply:os.system ['true']",
    "data: &a [*a]",
    "loggers: csv",
    "loggers: [tensorbord]",
    "{" * 3000,
    "[" * 100_000,
    "a: 1\na: 2",
    "\tdata: x",
    "? [a]\n: b",
    "learning_rate: .nan",
    "learning_rate: 1e400",
    "--- a\n--- b",
    "%YAML 9.9\n---\na: b",
)


@QUICK_AND_WHOLE
def test_configurations(
    every: int, world: World, folder: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    files = []
    for at, text in enumerate(CONFIGS):
        files.append(folder / f"{at}.yaml")
        files[-1].write_text(text, encoding="utf-8")
    for at, content in enumerate((bytes(range(256)), "data: x".encode("utf-16"), b"\xff\xfe", bytes(9))):
        files.append(folder / f"binary-{at}.yaml")
        files[-1].write_bytes(content)
    files += [world.run / name for name in ("config.json", "env.json", "README.md", "method.safetensors")]
    files += [folder, folder / "none.yaml", world.picture]
    base = ["train", "--method", "text_probe", "--data", world.toy, "--out", folder / "out"]
    calls = [[*base, "--config", file] for file in files]
    calls += [["continual", "--data", world.toy, "--out", folder / "out", "--config", file] for file in files]
    calls += [["compare", "--grid", file, "--out", folder / "out", "--dry-run"] for file in files]
    calls += [["index", world.retriever, "--images", world.picture, "--metadata", file] for file in files]
    calls += [["index", world.retriever, "--gallery", folder / "g", "--texts", file] for file in files]
    for at in some(len(calls), every):
        tally.command(calls[at])
    tally.check()


GRIDS = (
    "rows: {mitp: {}}\ndata: [x]\nseeds: {seeds}",
    "rows: [{rows}]\ndata: [x]",
    "rows: [mitp]\ndata: {data}",
    "rows: {{mitp: {row}}}\ndata: [x]",
    "rows: {{a: {{method: mitp, settings: {row}}}}}\ndata: [x]",
    "rows: [mitp]\ndata: [x]\nshares: {seeds}",
    "rows: [mitp]\ndata: [x]\ntraining: {row}",
    "rows: [mitp]\ndata: [x]\nhead: {row}",
    "rows: [mitp]\ndata: [x]\nbackbone: {row}",
)


@QUICK_AND_WHOLE
def test_grids(every: int, folder: Path, tally: Tally) -> None:
    values = (
        "",
        "null",
        "1",
        "-1",
        "1.5",
        "x",
        "[]",
        "[1, 1]",
        "[x]",
        "[null]",
        "{a: b}",
        "{1: 2}",
        "[[1]]",
        "9" * 30,
    )
    calls = []
    for form in GRIDS:
        for value in values:
            calls.append(form.replace("{{", "{").replace("}}", "}"))
            for key in ("seeds", "rows", "data", "row"):
                calls[-1] = calls[-1].replace("{" + key + "}", value)
    for at in some(len(calls), every):
        (folder / "grid.yaml").write_text(calls[at])
        tally.command(["compare", "--grid", folder / "grid.yaml", "--out", folder / "out", "--dry-run"])
    tally.check()


@QUICK_AND_WHOLE
def test_settings_of_methods_and_heads(every: int, world: World, folder: Path, tally: Tally) -> None:
    values = (
        "",
        "x",
        "-1",
        "0",
        "nan",
        "1e400",
        "0x" + "f" * 5000,
        "[",
        "{a: b}",
        "2024-13-45",
        "null",
        "1,2,99",
        "true",
    )
    calls: list[list[object]] = []
    for name, choice in choices().items():
        if name in choice.method.Settings.variants:
            continue
        for field in dataclasses.fields(choice.method.Settings):
            calls += [["info", "--method", name, "--set", f"{field.name}={value}"] for value in values]
    base = ["train", "--method", "zero_shot", "--data", world.toy, "--out", folder / "out", "--head"]
    for field in dataclasses.fields(HeadSettings):
        calls += [
            [*base, f"{field.name}={value}"] for value in (*values, "{}{}", "{0}", "{x}", "{", "a {} b {")
        ]
    for at in some(len(calls), every * 3):
        tally.command(calls[at])
    tally.check()


def test_a_template_has_one_place(world: World, tmp_path: Path, tally: Tally) -> None:
    base = ["train", "--method", "zero_shot", "--data", world.toy, "--out", tmp_path / "out", "--head"]
    for template in ("{}{}", "{} or {}", "", "cat", "{0}", "{"):
        tally.command([*base, f"template={template}"], must="refused", new=tmp_path / "out")
    tally.check()
