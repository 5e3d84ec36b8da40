"""SNLI-VE: does a picture entail a hypothesis, contradict it, or neither?

Xie et al., 2019, "Visual entailment" (arXiv:1901.06706): hypotheses of SNLI on pictures of Flickr30k.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from interplay.data.benchmarks import Benchmark, broken_pictures, picture_column, with_settings
from interplay.data.checks import OnBadRow, checked
from interplay.data.formats import Raw
from interplay.data.records import decoded_json
from interplay.data.schema import PairTable
from interplay.data.splits import Split
from interplay.errors import InterplayError, unknown

PICTURES = ("flickr30k_images", "flickr30k-images", "images")
"""What the folder with the pictures of Flickr30k may be called."""

SNLI_VE = Benchmark(
    name="snli_ve",
    title="SNLI-VE",
    origin="https://github.com/necla-ml/SNLI-VE (the three .jsonl files) and "
    "https://shannon.cs.illinois.edu/DenotationGraph/ (the pictures of Flickr30k, 4 GB)",
    layout=(
        ("snli_ve_train.jsonl",),
        ("snli_ve_dev.jsonl",),
        ("snli_ve_test.jsonl",),
        PICTURES,
    ),
    page="docs/guides/data/snli_ve.md",
)

LABELS = ("entailment", "neutral", "contradiction")

Text = Literal["hypothesis", "both"]
_SPLITS: Mapping[str, Split] = {"train": "train", "dev": "validation", "test": "test"}


@dataclass(frozen=True)
class SnliVeSettings:
    """How the files become rows.

    Attributes:
        text: `hypothesis` (default), as MITP and PMF read it; `both` puts the premise before it, the caption that
            it was written for, which tells a lot: figures of the two are not comparable.

    Raises:
        InterplayError: there is no such text.
    """

    text: Text = "hypothesis"

    def __post_init__(self) -> None:
        if self.text not in get_args(Text):
            raise unknown("text of snli_ve", self.text, get_args(Text))


def load_snli_ve(source: str, *, on_bad_row: OnBadRow = "error", verify: bool = True) -> PairTable:
    """Reads SNLI-VE, one label a row.

    The folder holds `snli_ve_{train,dev,test}.jsonl` and the pictures of Flickr30k in `flickr30k_images/`
    (`flickr30k-images/` and `images/` will do). Of each line `Flickr30K_ID` names the picture, `sentence2` is the
    hypothesis, `sentence1` the premise, `gold_label` the label and `pairID` the id. Lines are read one by one, and a
    picture is opened once, although it has about 18 rows.

    Args:
        source: `snli_ve:` and the folder, and optionally settings: `snli_ve:data/snli_ve?text=hypothesis` (see
            `SnliVeSettings`).
        on_bad_row: `error`: a row that cannot be used (no or broken picture, no hypothesis, another label, a line that
            is no JSON) is an error; `skip`: it is left out and listed in `skipped`.
        verify: open every picture once; without it only missing files are found.

    Raises:
        InterplayError: a setting is unknown, a folder or file is missing, or a row is bad.
    """
    folder, settings = with_settings(source, SNLI_VE.name, SnliVeSettings)
    SNLI_VE.require(folder)
    pictures = next(folder / name for name in PICTURES if (folder / name).is_dir()).absolute()
    cells: dict[str, list[Any]] = {"id": [], "text": [], "label": [], "split": []}
    origins: list[tuple[str, int]] = []
    paths: list[str] = []
    faults: dict[int, str] = {}
    for name, split in _SPLITS.items():
        file = folder / f"snli_ve_{name}.jsonl"
        for number, line in _lines(file):
            row, reason = _parsed(line, settings)
            if reason:
                faults[len(origins)] = reason
            origins.append((str(file), number))
            paths.append(str(pictures / f"{row.get('image', '')}"))
            for column in ("id", "text", "label"):
                cells[column].append(row.get(column, ""))
            cells["split"].append(split)
    broken = broken_pictures([path for row, path in enumerate(paths) if row not in faults], verify=verify)
    faults |= {row: broken[path] for row, path in enumerate(paths) if path in broken and row not in faults}
    raw = Raw(picture_column(paths), cells, origins, paths, faults, LABELS)
    return checked(source, raw, on_bad_row=on_bad_row, seed=0, verify=False)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, one at a time; empty ones are no rows."""
    try:
        with open(file, encoding="utf-8-sig") as lines:
            yield from enumerate((line for line in lines if line.strip()), start=1)
    except (OSError, UnicodeDecodeError) as problem:
        raise InterplayError(f"{file} cannot be read ({problem}). Unpack it again.") from None


def _parsed(line: str, settings: SnliVeSettings) -> tuple[dict[str, str], str]:
    """Picture, id, text and label of a line, and why it cannot be used."""
    try:
        stored = decoded_json(line)
    except ValueError as problem:
        return {}, f"it is not valid JSON ({problem})"
    if not isinstance(stored, dict):
        return {}, "it is not a JSON object"
    needed = ["Flickr30K_ID", "pairID", "gold_label", "sentence2"]
    needed += ["sentence1"] if settings.text == "both" else []
    for key in needed:
        if not isinstance(stored.get(key), str) or not stored[key].strip():
            return {}, f"it has no usable '{key}'"
    if stored["gold_label"] not in LABELS:
        return {}, str(unknown("label of SNLI-VE", stored["gold_label"], LABELS)).rstrip(".")
    text = stored["sentence2"].strip()
    if settings.text == "both":
        text = f"{stored['sentence1'].strip()} {text}"
    name = stored["Flickr30K_ID"].strip()
    image = name if name.endswith(".jpg") else f"{name}.jpg"
    return {"image": image, "id": stored["pairID"], "text": text, "label": stored["gold_label"]}, ""
