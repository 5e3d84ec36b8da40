"""RefCOCO, RefCOCO+ and RefCOCOg as their owners publish them, or as MDETR does: phrases, and the box that each names.

Yu et al., ECCV 2016 (RefCOCO, RefCOCO+); Mao et al., CVPR 2016 (RefCOCOg); splits `umd` of Nagaraja et al., ECCV 2016;
with the words that name the box: Kamath et al., ICCV 2021 (MDETR).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from interplay.data.benchmarks import Benchmark, broken_pictures, picture_column, with_settings
from interplay.data.boxes import box_fault, inside
from interplay.data.checks import OnBadRow, checked
from interplay.data.coco import SUPERCATEGORIES, entries, stored_json
from interplay.data.formats import Raw
from interplay.data.plain_pickle import read_plain
from interplay.data.schema import PairTable
from interplay.data.splits import Split, unit_hash
from interplay.errors import InterplayError, unknown

PICTURES = ("train2014", "images/train2014", "images/mscoco/images/train2014", "images")
"""Where the pictures of COCO's train2014 may lie."""
DEFAULT_SPLITS = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}
_SPLITS: Mapping[str, Split] = {
    "train": "train",
    "val": "validation",
    "testA": "test",
    "testB": "test",
    "test": "test",
}

Files = Literal["any", "refer", "mdetr"]
_Number = (int, float)


@dataclass(frozen=True)
class RefcocoSettings:
    """How the files become tasks and splits.

    Attributes:
        files: `refer`: the owners' refs(…).p and instances.json; `mdetr`: finetune_….json, which also says which words
            name the box; `any` (default): MDETR's where they are there.
        splits: of the owners' files, `unc`, `umd` or `google`; by default what papers use.
        test: `testA` or `testB`; by default all that is for test.
        most_train, most_test: phrases of one task in train, and in each other split, chosen by a hash of their ids; 0,
            the default: all. LPI's released log shows 2000 and 500.

    Raises:
        InterplayError: there are no such files or no such test split, or a number is negative.
    """

    files: Files = "any"
    splits: str = ""
    test: str = ""
    most_train: float = 0
    most_test: float = 0

    def __post_init__(self) -> None:
        if self.files not in get_args(Files):
            raise unknown("kind of RefCOCO files", self.files, get_args(Files))
        if self.test not in ("", "testA", "testB", "test"):
            raise unknown("test split of RefCOCO", self.test, ("testA", "testB", "test"))
        if min(self.most_train, self.most_test) < 0:
            raise InterplayError("RefCOCO's most_train and most_test are numbers of phrases from 0.")


@dataclass(frozen=True)
class _Row:
    """One phrase and its box; `fault` says why it cannot be used."""

    origin: tuple[str, int]
    id: str = ""
    picture: str = ""
    text: str = ""
    box: list[float] | None = None
    spans: list[list[int]] | None = None
    task: str = ""
    split: str = "train"
    fault: str = ""


def _benchmark(name: str, title: str) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        origin="https://github.com/lichengunc/refer (refs and instances), or MDETR's annotations, and cocodataset.org "
        "(train2014, 13 GB)",
        layout=(PICTURES,),
        page="docs/guides/grounding.md",
    )


REFERRING = (
    _benchmark("refcoco", "RefCOCO"),
    _benchmark("refcoco+", "RefCOCO+"),
    _benchmark("refcocog", "RefCOCOg"),
)


def load_refcoco(source: str, *, on_bad_row: OnBadRow = "error", verify: bool = True) -> PairTable:
    """Reads one of the three, one row a phrase; a task is the super-category of what it names.

    The folder holds `refs(unc).p` (or `umd`, `google`) and `instances.json`, or `finetune_refcoco_train.json` and its
    like, and COCO's `train2014/`. Beside the usual columns a row has `boxes`, which holds its one box, and `spans`, the
    characters of the words that name it: MDETR's noun phrase, or else all of the phrase. The rows are sorted by task,
    in the order of `data.coco.SUPERCATEGORIES`; within a task they stand as in the files.

    Args:
        source: `refcoco:`, `refcoco+:` or `refcocog:` and the folder, and optionally settings:
            `refcoco:data/refcoco?test=testA&most_train=2000` (see `RefcocoSettings`).
        on_bad_row: `error`: a row that cannot be used (no or broken picture, an empty phrase, a box that is none) is an
            error; `skip`: it is left out and listed in `skipped`.
        verify: open every picture once; without it only missing files are found.

    Raises:
        InterplayError: a setting is unknown, a file is missing or of another format, or a row is bad.
    """
    benchmark = next(known for known in REFERRING if source.startswith(known.prefix))
    folder, settings = with_settings(source, benchmark.name, RefcocoSettings, ["most_train", "most_test"])
    benchmark.require(folder)
    by_mdetr = sorted(folder.glob(f"finetune_{benchmark.name}_*.json"))
    if settings.files == "mdetr" or (settings.files == "any" and by_mdetr):
        if not by_mdetr:
            raise InterplayError(f"There is no finetune_{benchmark.name}_train.json in {folder}.")
        rows = [row for file in by_mdetr for row in _mdetr(file, benchmark.name)]
        note = "The words that name a box are those of MDETR's files."
    else:
        rows = list(_refer(folder, settings.splits or DEFAULT_SPLITS[benchmark.name]))
        note = "These files do not say which words name a box, so all of a phrase do."
    rows, notes = _wanted(rows, settings)
    pictures = next(folder / name for name in PICTURES if (folder / name).is_dir()).absolute()
    paths = [str(pictures / row.picture) for row in rows]
    faults = {at: row.fault for at, row in enumerate(rows) if row.fault}
    broken = broken_pictures([path for at, path in enumerate(paths) if at not in faults], verify=verify)
    faults |= {at: broken[path] for at, path in enumerate(paths) if path in broken and at not in faults}
    cells: dict[str, list[Any]] = {
        "id": [row.id for row in rows],
        "text": [row.text for row in rows],
        "task": [row.task for row in rows],
        "split": [_SPLITS.get(row.split, row.split) for row in rows],
        "boxes": [[row.box] if row.box else [] for row in rows],
        "spans": [row.spans or [] for row in rows],
        "part": [row.split for row in rows],
    }
    raw = Raw(picture_column(paths), cells, [row.origin for row in rows], paths, faults)
    table = checked(source, raw, on_bad_row=on_bad_row, seed=0, verify=False)
    return replace(table, notes=(note, *notes, *table.notes))


def _wanted(rows: list[_Row], settings: RefcocoSettings) -> tuple[list[_Row], list[str]]:
    """The rows that the settings keep, sorted by task, and what was left out, in words."""
    others = {"testA", "testB", "test"} - {settings.test} if settings.test else set()
    order = [*SUPERCATEGORIES, *dict.fromkeys(row.task for row in rows if row.task not in SUPERCATEGORIES)]
    kept = [row for row in rows if row.split not in others]
    chosen: set[int] = set()
    groups: dict[tuple[str, str], list[int]] = {}
    for at, row in enumerate(kept):
        groups.setdefault((row.task, row.split), []).append(at)
    for (_, split), group in groups.items():
        most = int(settings.most_train if split == "train" else settings.most_test)
        chosen |= set(sorted(group, key=lambda at: unit_hash(kept[at].id))[: most or len(group)])
    notes = []
    if len(chosen) < len(kept):
        notes.append(
            f"{len(chosen):,} of {len(kept):,} phrases are kept: at most {int(settings.most_train) or 'all'} of a task "
            f"in train and {int(settings.most_test) or 'all'} in each other split."
        )
    found = [row for at, row in enumerate(kept) if at in chosen]
    return sorted(found, key=lambda row: order.index(row.task)), notes


def _parents(stored: Mapping[str, Any], file: Path) -> dict[int, str]:
    """The super-category of each category."""
    categories = entries(stored, "categories", {"id": int, "supercategory": str}, file)
    return {category["id"]: category["supercategory"] for category in categories}


def _with_box(row: _Row, box: Any, image: Mapping[str, Any]) -> _Row:
    """A row with its box [left, top, width, height], cut to its picture."""
    edges = box
    if isinstance(box, list) and len(box) == 4 and all(isinstance(edge, _Number) for edge in box):
        edges = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    fault = row.fault or box_fault(edges, image["width"], image["height"])
    return replace(row, fault=fault, box=None if fault else inside(edges, image["width"], image["height"]))


def _mdetr(file: Path, name: str) -> Iterator[_Row]:
    """The rows of one of MDETR's files: an "image" is a phrase there, and has one annotation."""
    stored = stored_json(file)
    split = file.stem.removeprefix(f"finetune_{name}_")
    parents = _parents(stored, file)
    keys = {"id": int, "file_name": str, "caption": str, "height": int, "width": int}
    images = entries(stored, "images", keys, file)
    keys_of_boxes = {"image_id": int, "category_id": int, "tokens_positive": list}
    of_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in entries(stored, "annotations", keys_of_boxes, file):
        of_image.setdefault(annotation["image_id"], []).append(annotation)
    for number, image in enumerate(images, start=1):
        own = of_image.get(image["id"], [])
        row = _Row(
            (str(file), number), f"{split}/{image['id']}", image["file_name"], image["caption"], split=split
        )
        if len(own) != 1:
            yield replace(row, fault=f"the phrase has {len(own)} boxes instead of one")
            continue
        task = parents.get(own[0]["category_id"], "")
        spans, fault = own[0]["tokens_positive"], ""
        if not task:
            fault = f"'categories' does not list its category {own[0]['category_id']}"
        elif not all(_is_span(span, len(image["caption"])) for span in spans):
            fault = f"its tokens_positive are no [begin, end] within the phrase: {json.dumps(spans):.60}"
        yield _with_box(replace(row, task=task, spans=spans, fault=fault), own[0].get("bbox"), image)


def _is_span(span: Any, length: int) -> bool:
    return (
        isinstance(span, list)
        and len(span) == 2
        and all(type(at) is int for at in span)
        and 0 <= span[0] < span[1] <= length
    )


def _refer(folder: Path, splits: str) -> Iterator[_Row]:
    """The rows of the owners' files: each reference has several phrases."""
    file, instances = folder / f"refs({splits}).p", folder / "instances.json"
    for needed in (file, instances):
        if not needed.is_file():
            there = Counter(path.name for path in folder.glob("refs(*).p"))
            raise InterplayError(
                f"There is no file {needed}; there are {', '.join(sorted(there)) or 'no refs(…).p'}. Choose the splits "
                "by ?splits=unc, umd or google, or get the files from https://github.com/lichengunc/refer."
            )
    stored = stored_json(instances)
    parents = _parents(stored, instances)
    images = {
        image["id"]: image
        for image in entries(stored, "images", {"id": int, "height": int, "width": int}, instances)
    }
    boxes = {
        one["id"]: one
        for one in entries(stored, "annotations", {"id": int, "image_id": int, "category_id": int}, instances)
    }
    number = 0
    for at, ref in enumerate(_references(file), start=1):
        for sentence in ref["sentences"]:
            number += 1
            text = sentence["sent"]
            name = re.sub(
                r"_\d+(\.\w+)$", r"\1", ref["file_name"]
            )  # the number of the annotation follows the picture's
            row = _Row(
                (str(file), number),
                f"{ref['split']}/{sentence['sent_id']}",
                name,
                text,
                None,
                [[0, len(text)]],
            )
            row = replace(row, split=ref["split"])
            own, image = boxes.get(ref["ann_id"]), images.get(ref["image_id"])
            if own is None or image is None or own["category_id"] not in parents:
                missing = f"instances.json lacks the annotation {ref['ann_id']}, its picture or its category"
                yield replace(row, fault=f"{missing} (reference {at})")
                continue
            yield _with_box(replace(row, task=parents[own["category_id"]]), own.get("bbox"), image)


def _references(file: Path) -> list[dict[str, Any]]:
    """What a refs(…).p holds, checked for what is read of it."""
    stored = read_plain(file)
    keys = {"ann_id": int, "image_id": int, "file_name": str, "split": str, "sentences": list}
    if not isinstance(stored, list):
        raise InterplayError(f"{file} is not in REFER's format: it is no list of references.")
    for number, ref in enumerate(stored, start=1):
        for key, kind in keys.items():
            if not isinstance(ref, dict) or not isinstance(ref.get(key), kind):
                raise InterplayError(
                    f"{file} is not in REFER's format: reference {number} has no usable '{key}'."
                )
        for sentence in ref["sentences"]:
            if (
                not isinstance(sentence, dict)
                or not isinstance(sentence.get("sent"), str)
                or not isinstance(sentence.get("sent_id"), int)
            ):
                raise InterplayError(
                    f"{file} is not in REFER's format: reference {number} has a sentence without text."
                )
    return stored
