"""`load`: one name, path or table of any kind in, one checked table out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import numpy as np
import torch

from interplay.data.checks import OnBadRow, checked
from interplay.data.coco import PREFIX as COCO
from interplay.data.coco import load_coco
from interplay.data.food101 import FOOD101, load_food101
from interplay.data.formats import TABLES, Raw, from_datasets, from_records, joined, read_local
from interplay.data.mm_imdb import MM_IMDB, load_mm_imdb
from interplay.data.openmoji import OPENMOJI, load_openmoji
from interplay.data.records import memory_name, memory_records
from interplay.data.refcoco import REFERRING, load_refcoco
from interplay.data.scenes.table import PREFIX as SCENE
from interplay.data.scenes.table import SCENES, load_scenes
from interplay.data.schema import PairTable
from interplay.data.snli_ve import SNLI_VE, load_snli_ve
from interplay.data.splits import SHARES, Split, check_shares
from interplay.errors import InterplayError, unknown, wrong_type
from interplay.seeds import check_seed
from interplay.typed import fits

if TYPE_CHECKING:
    import datasets
    import pandas

_log = logging.getLogger(__name__)

BENCHMARKS = ((FOOD101, load_food101), (MM_IMDB, load_mm_imdb), (SNLI_VE, load_snli_ve))
"""The published benchmarks of classification, each with its reader."""

_READERS = (*BENCHMARKS, *((benchmark, load_refcoco) for benchmark in REFERRING))

EMBEDDED = (*OPENMOJI, *SCENES)
"""The names of the data sets that need no files."""

Source: TypeAlias = (
    "str | os.PathLike[str] | PairTable | pandas.DataFrame | datasets.Dataset | datasets.DatasetDict "
    "| Mapping[str, Any] | Iterable[Mapping[str, Any]]"
)
"""Whatever image-text data may be given as."""


def load(
    source: Source,
    *,
    validation: Source | None = None,
    test: Source | None = None,
    on_bad_row: OnBadRow = "error",
    columns: Mapping[str, str] | None = None,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    verify: bool = True,
    labelled: bool = True,
) -> PairTable:
    """Reads image-text data.

    Args:
        source: one of

            - a built-in task, `openmoji/…` or `scenes/…`;
            - `coco:` and a folder with MS-COCO's own files, as `coco:data/coco` (see `data.coco.load_coco`);
            - `food101:`, `mm_imdb:` or `snli_ve:` and a folder with that benchmark's own files;
            - `refcoco:`, `refcoco+:` or `refcocog:` and a folder with its owners' or MDETR's files (see
              `data.refcoco.load_refcoco`);
            - a folder with images and `metadata.csv` or `metadata.jsonl` (`file_name`, `text`, and where
              there are any `label` or `labels`, `task`, `split`, `id`), with one folder of pictures a class, or with
              such folders `train`, `validation`, `test`;
            - a `.csv`, `.tsv`, `.jsonl`, `.json` or `.parquet` file with image paths relative to it (a Parquet file
              may hold the bytes); in CSV and TSV several labels, and several texts in a column `captions`, are
              separated by `|`;
            - a folder that `datasets` saved with `save_to_disk`;
            - else an id on the Hugging Face hub;
            - a pandas DataFrame, a `datasets.Dataset` or `DatasetDict`, a mapping of columns, or any iterable of rows
              as mappings; their pictures are paths, bytes, Pillow images, arrays, tensors or open files;
            - a table that was loaded already, which comes back as it is.
        validation, test: further sources, whose rows are that split; the rows of `source` are then train, split into
            train and validation where there is only a test source.
        on_bad_row: `error`: a row that cannot be used (missing or broken image, empty text, missing label,
            duplicate id, a label that train has not) is an error; `skip`: it is left out and listed in
            `skipped`.
        columns: what the schema's columns are called in the source, as `{"text": "title"}`; `captions` instead of
            `text` says that a cell holds several texts, separated by `|`.
        shares: of train, validation and test, for a source without a split.
        seed: of that split by hash.
        verify: open every image once; without it only missing files are found. Built-in tasks are not
            checked.
        labelled: whether labels and splits of own data are read. Without them it becomes a table of pairs, whose
            labels may be missing or new: what there is to predict.

    Raises:
        InterplayError: the source does not exist, cannot be parsed or is none of these, a column is missing, or a row
            is bad.
    """
    if not fits(on_bad_row, OnBadRow):
        raise unknown("way to treat bad rows", on_bad_row, get_args(OnBadRow))
    if not fits(columns, Mapping[str, str] | None):
        raise wrong_type("columns", "a mapping of the schema's names to those of the data", columns)
    check_seed(seed)
    shares = check_shares(shares)
    further: dict[Split, Source] = {}
    if validation is not None:
        further["validation"] = validation
    if test is not None:
        further["test"] = test
    name = _name_of(source, "source")
    own_splits = isinstance(source, PairTable) or _is_built_in(name)
    if own_splits and (further or columns):
        raise InterplayError(
            f"{name} has splits and columns of its own: name no other columns and no further sources."
        )
    if isinstance(source, PairTable):
        return source
    if own_splits:
        return _built_in(name, on_bad_row, verify)
    raw = _read(source, name, columns or {})
    if further:
        others = {split: _read(one, _name_of(one, split), columns or {}) for split, one in further.items()}
        raw = joined(raw, name, others)
        if "validation" not in further:
            shares = (shares[0], shares[1], 0)
    return checked(
        name, raw, on_bad_row=on_bad_row, seed=seed, verify=verify, labelled=labelled, shares=shares
    )


def as_table(data: Source, argument: str = "data") -> PairTable:
    """A table from whatever data may be given as; what the reader decided by itself is logged.

    Args:
        argument: what the caller calls it, for the message.

    Raises:
        InterplayError: as `load`.
    """
    if isinstance(data, PairTable):
        return data
    _name_of(data, argument)
    table = load(data)
    for note in table.notes:
        _log.warning("%s", note)
    return table


def is_table(data: Any) -> bool:
    """Whether something is data in rows, and no picture and no collection of pictures."""
    import datasets
    import pandas

    if isinstance(data, (PairTable, pandas.DataFrame, datasets.Dataset, datasets.DatasetDict)):
        return True
    if isinstance(data, (str, os.PathLike)):
        return Path(data).suffix.lower() in TABLES or os.path.isdir(data) or _is_built_in(os.fspath(data))
    rows = data[:1] if isinstance(data, (list, tuple)) else [data]
    return any(isinstance(row, Mapping) and not {"bytes", "path"} >= row.keys() for row in rows)


def _name_of(source: Any, argument: str) -> str:
    """What messages call a source.

    Raises:
        InterplayError: it is none.
    """
    import datasets
    import pandas

    if isinstance(source, PairTable):
        return source.name
    if isinstance(source, (str, os.PathLike)) and not isinstance(name := os.fspath(source), bytes):
        if not name.strip():
            raise InterplayError(f"{argument} is empty: name a file, a folder or a data set.")
        return name
    if isinstance(source, (bytes, bytearray, os.PathLike, np.ndarray, torch.Tensor)) or not isinstance(
        source, (pandas.DataFrame, datasets.Dataset, Iterable)
    ):
        raise wrong_type(
            argument, "a path or name, a table, a DataFrame, a Dataset or rows as mappings", source
        )
    return memory_name(source)


def _is_built_in(name: str) -> bool:
    prefixes = (COCO, *(benchmark.prefix for benchmark, _ in _READERS))
    return name.startswith(("openmoji/", SCENE, *prefixes)) or name in EMBEDDED


def _built_in(name: str, on_bad_row: OnBadRow, verify: bool) -> PairTable:
    if name.startswith(COCO):
        return load_coco(name, on_bad_row=on_bad_row, verify=verify)
    for benchmark, read in _READERS:
        if name.startswith(benchmark.prefix):
            return read(name, on_bad_row=on_bad_row, verify=verify)
    return load_scenes(name) if name.startswith(SCENE) else load_openmoji(name)


def _read(source: Source, name: str, columns: Mapping[str, str]) -> Raw:
    """The rows of a source that is none of the built-in ones."""
    import datasets

    if isinstance(source, PairTable) or (isinstance(source, (str, os.PathLike)) and _is_built_in(name)):
        raise InterplayError(f"{name} has splits of its own and cannot be one split of other data.")
    if isinstance(source, (datasets.Dataset, datasets.DatasetDict)):
        return from_datasets(source, name, Path(), columns)
    if not isinstance(source, (str, os.PathLike)):
        return from_records(memory_records(source, name), name, Path(), columns)
    path = Path(source).expanduser()
    try:
        there = path.exists()
    except OSError as problem:  # a name that is too long, a folder that may not be looked into
        raise InterplayError(f"The path '{name:.100}' cannot be used ({problem.strerror}).") from None
    if there:
        return read_local(path, columns)
    if path.suffix.lower() in TABLES or not isinstance(source, str) or name.startswith((".", "/", "~")):
        raise InterplayError(f"There is no file or folder '{name}'.")
    return _from_hub(name, columns)


def _from_hub(source: str, columns: Mapping[str, str]) -> Raw:
    import datasets

    if "/" not in source:
        raise InterplayError(
            f"{unknown('data set', source, EMBEDDED)} It is no file or folder here either, and an id on the Hugging "
            "Face hub has the form owner/name."
        )
    try:
        found = datasets.load_dataset(source)
    except Exception as problem:  # offline, unknown, gated, a script: the hub's client raises many kinds
        reason = str(problem).strip().split("\n")[0]
        raise InterplayError(
            f"{unknown('data set', source, EMBEDDED)} It is no file or folder here either, and the Hugging "
            f"Face hub did not give it ({reason[:200]})."
        ) from None
    return from_datasets(found, source, Path(), columns)
