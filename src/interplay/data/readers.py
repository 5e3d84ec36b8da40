"""`load`: one name or path in, one checked table out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import datasets

from interplay.data.checks import OnBadRow, checked
from interplay.data.coco import PREFIX as COCO
from interplay.data.coco import load_coco
from interplay.data.food101 import FOOD101, load_food101
from interplay.data.formats import TABLES, Raw, from_datasets, read_local
from interplay.data.mm_imdb import MM_IMDB, load_mm_imdb
from interplay.data.openmoji import OPENMOJI, load_openmoji
from interplay.data.schema import PairTable
from interplay.data.snli_ve import SNLI_VE, load_snli_ve
from interplay.errors import InterplayError, unknown

BENCHMARKS = ((FOOD101, load_food101), (MM_IMDB, load_mm_imdb), (SNLI_VE, load_snli_ve))
"""The published benchmarks of classification, each with its reader."""


def load(
    source: str,
    *,
    on_bad_row: OnBadRow = "error",
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    verify: bool = True,
    labelled: bool = True,
) -> PairTable:
    """Reads image-text data.

    Args:
        source: one of

            - a built-in task, `openmoji/…`;
            - `coco:` and a folder with MS-COCO's own files, as `coco:data/coco` (see `data.coco.load_coco`);
            - `food101:`, `mm_imdb:` or `snli_ve:` and a folder with that benchmark's own files;
            - a folder with images and `metadata.csv` or `metadata.jsonl` (`file_name`, `text`, and where
              there are any `label` or `labels`, `task`, `split`, `id`), or with such folders `train`,
              `validation`, `test`;
            - a `.csv`, `.jsonl` or `.parquet` file with image paths relative to it (a Parquet file may hold
              the bytes); in CSV several labels or captions are separated by `|`;
            - a folder that `datasets` saved with `save_to_disk`;
            - else an id on the Hugging Face hub.
        on_bad_row: `error`: a row that cannot be used (missing or broken image, empty text, missing label,
            duplicate id, a label that train has not) is an error; `skip`: it is left out and listed in
            `skipped`.
        columns: what the schema's columns are called in the source, as `{"text": "title"}`.
        seed: of the 80/10/10 split by hash, for a source without a split.
        verify: open every image once; without it only missing files are found. Built-in tasks are not
            checked.
        labelled: whether labels and splits of own data are read. Without them it becomes a table of pairs, whose
            labels may be missing or new: what there is to predict.

    Raises:
        InterplayError: the source does not exist or cannot be parsed, a column is missing, or a row is bad.
    """
    if on_bad_row not in get_args(OnBadRow):
        raise unknown("way to treat bad rows", on_bad_row, get_args(OnBadRow))
    if source in OPENMOJI or source.startswith("openmoji/"):
        return load_openmoji(source)
    if source.startswith(COCO):
        return load_coco(source, on_bad_row=on_bad_row, verify=verify)
    for benchmark, read in BENCHMARKS:
        if source.startswith(benchmark.prefix):
            return read(source, on_bad_row=on_bad_row, verify=verify)
    path = Path(source).expanduser()
    if path.exists():
        raw = read_local(path, columns or {})
    elif path.suffix in TABLES or source.startswith((".", "/", "~")):
        raise InterplayError(f"There is no file or folder '{source}'.")
    else:
        raw = _from_hub(source, columns or {})
    return checked(source, raw, on_bad_row=on_bad_row, seed=seed, verify=verify, labelled=labelled)


def _from_hub(source: str, columns: Mapping[str, str]) -> Raw:
    if "/" not in source:
        raise InterplayError(
            f"{unknown('data set', source, OPENMOJI)} It is no file or folder here either, and an id on the Hugging "
            "Face hub has the form owner/name."
        )
    try:
        stored = datasets.load_dataset(source)
    except Exception as problem:  # offline, unknown, gated, a script: the hub's client raises many kinds
        reason = str(problem).strip().split("\n")[0]
        raise InterplayError(
            f"{unknown('data set', source, OPENMOJI)} It is no file or folder here either, and the Hugging "
            f"Face hub did not give it ({reason[:200]})."
        ) from None
    return from_datasets(stored, source, Path(), columns)
