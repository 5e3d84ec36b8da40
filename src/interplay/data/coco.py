"""MS-COCO captions as its owners publish them: a stream with one task for each of the 12 super-categories.

Lin et al., 2014, "Microsoft COCO: Common Objects in Context"; captions: Chen et al., 2015. How LPI assigned pictures to
tasks was never published. Here a picture belongs to the super-category whose objects cover the largest area of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from interplay.data.benchmarks import Benchmark, picture_column, with_settings
from interplay.data.checks import OnBadRow, checked
from interplay.data.formats import Raw
from interplay.data.records import decoded_json
from interplay.data.schema import PairTable
from interplay.data.splits import Split, unit_hash
from interplay.errors import InterplayError, unknown

MS_COCO = Benchmark(
    name="coco",
    title="MS-COCO captions",
    origin="cocodataset.org (train and val images, train/val annotations, of 2014 or 2017)",
    layout=(
        ("annotations", "captions_train2014.json", "captions_train2017.json"),
        ("train2014", "train2017", "images"),
        ("val2014", "val2017", "images"),
    ),
    page="docs/guides/data.md",
)
PREFIX = MS_COCO.prefix

SUPERCATEGORIES = (
    "appliance",
    "sports",
    "outdoor",
    "electronic",
    "accessory",
    "indoor",
    "kitchen",
    "furniture",
    "vehicle",
    "food",
    "animal",
    "person",
)
"""The tasks in their order."""

Assignment = Literal["area", "count"]

_NAMED = 10  # pictures named in a note, at most
_Cells = dict[str, Any]


@dataclass(frozen=True)
class CocoSettings:
    """How the files become tasks and splits.

    Args:
        assignment: a picture belongs to the super-category with the largest total area (`area`, default) or the
            largest number (`count`) of its annotated objects, crowds included; of equals to the earlier task.
        train: the set for train and validation, as `train2017`; by default the one whose name begins with `train`.
        test: the set for test, as `val2017`; by default the one whose name begins with `val`.
        validation: share of the training set that is for validation, default 0.05, chosen by a hash of the
            pictures' ids.

    Raises:
        InterplayError: there is no such assignment, or the share is not in [0, 1).
    """

    assignment: Assignment = "area"
    train: str = ""
    test: str = ""
    validation: float = 0.05

    def __post_init__(self) -> None:
        if self.assignment not in get_args(Assignment):
            raise unknown("assignment of COCO pictures to tasks", self.assignment, get_args(Assignment))
        if not 0 <= self.validation < 1:
            raise InterplayError(
                f"The share of COCO's validation split must lie in [0, 1), not {self.validation}."
            )


def load_coco(source: str, *, on_bad_row: OnBadRow = "error", verify: bool = True) -> PairTable:
    """Reads MS-COCO as image-caption pairs with tasks.

    The folder holds `annotations/` with `captions_<set>.json` and `instances_<set>.json`, and the pictures in
    `<set>/` or `images/<set>/`, for each set (`train2017`, `val2017`; the sets of 2014 likewise). One row a picture,
    with all its captions. The rows are sorted by task, so that a stream of them has the tasks in the order of
    `SUPERCATEGORIES` (others, in your own files, come last). Pictures without annotated objects belong to no task:
    they are left out, counted and named in `notes`.

    Args:
        source: `coco:` and the folder, and optionally settings: `coco:data/coco?assignment=count&validation=0.1`
            (see `CocoSettings`).
        on_bad_row: `error`: a row that cannot be used (no or broken picture, no or an empty caption, an annotation of a
            picture that the file does not list) is an error; `skip`: it is left out and listed in `skipped`.
        verify: open every picture once; without it only missing files are found.

    Raises:
        InterplayError: a setting is unknown, a file is missing or not in COCO's format, or a row is bad.
    """
    folder, settings = parse_source(source)
    notes: list[str] = []
    rows: list[_Row] = []
    order = list(SUPERCATEGORIES)
    for name, role in _sets(folder, settings).items():
        rows += _rows_of_set(folder, name, role, settings, order, notes)
    rows.sort(key=lambda row: order.index(row.task) if row.task else len(order))
    raw = Raw(
        images=picture_column([row.path for row in rows]),
        cells={
            "id": [row.id for row in rows],
            "text": [row.captions for row in rows],
            "task": [row.task for row in rows],
            "split": [row.split for row in rows],
        },
        origins=[row.origin for row in rows],
        groups=[row.id for row in rows],
        faults={number: row.fault for number, row in enumerate(rows) if row.fault},
    )
    table = checked(source, raw, on_bad_row=on_bad_row, seed=0, verify=verify)
    return replace(table, notes=(*notes, *table.notes))


def parse_source(source: str) -> tuple[Path, CocoSettings]:
    """`coco:FOLDER?setting=value&…` as folder and settings.

    Raises:
        InterplayError: a setting is unknown or has a value that it cannot hold.
    """
    folder, settings = with_settings(source, PREFIX.removesuffix(":"), CocoSettings, ["validation"])
    assert isinstance(settings, CocoSettings)
    return folder, settings


@dataclass(frozen=True)
class _Row:
    """One picture with its captions, or an annotation of no picture; `fault` says why it cannot be used."""

    origin: tuple[str, int]
    id: str = ""
    path: str = ""
    captions: list[str] | None = None
    task: str = ""
    split: Split = "train"
    fault: str = ""


def _sets(folder: Path, settings: CocoSettings) -> dict[str, Literal["train", "test"]]:
    """Which sets are read, and what for."""
    present = sorted(
        path.stem.removeprefix("captions_") for path in _annotations(folder).glob("captions_*.json")
    )
    if not present:
        raise InterplayError(
            f"There is no captions_*.json in {_annotations(folder)}. Unpack COCO's annotations_trainval2017.zip (or "
            "2014) and the pictures there; docs/guides/data.md says what goes where."
        )
    chosen: dict[str, Literal["train", "test"]] = {}
    roles: tuple[tuple[Literal["train", "test"], str, str], ...] = (
        ("train", "train", settings.train),
        ("test", "val", settings.test),
    )
    for role, prefix, wanted in roles:
        found = [name for name in present if name.startswith(prefix)]
        if wanted and wanted not in present:
            raise InterplayError(f"{folder}: {unknown('COCO set', wanted, present)}")
        if not wanted and len(found) > 1:
            raise InterplayError(
                f"{folder} holds several sets that can be {role}: {', '.join(found)}. Choose one: "
                f"{PREFIX}{folder}?{role}={found[-1]}."
            )
        for name in [wanted] if wanted else found:
            if name in chosen:
                raise InterplayError(f"{folder}: the set '{name}' cannot be both train and test.")
            chosen[name] = role
    if not chosen:
        raise InterplayError(
            f"{folder} holds the sets {', '.join(present)}; say what they are for: {PREFIX}{folder}?test={present[0]}."
        )
    return chosen


def _rows_of_set(
    folder: Path,
    name: str,
    role: Literal["train", "test"],
    settings: CocoSettings,
    order: list[str],
    notes: list[str],
) -> list[_Row]:
    """The rows of one set; unknown super-categories are added to `order`, and what was decided to `notes`."""
    file = _annotations(folder) / f"captions_{name}.json"
    stored = stored_json(file)
    images = entries(stored, "images", {"id": int, "file_name": str}, file)
    captions = entries(stored, "annotations", {"id": int, "image_id": int, "caption": str}, file)
    rows: list[_Row] = []
    pictures = _pictures(folder, name)
    listed = {image["id"] for image in images}
    of_image: dict[int, list[_Cells]] = {}
    for number, one in enumerate(captions, start=1):
        of_image.setdefault(one["image_id"], []).append(one)
        if one["image_id"] not in listed:
            rows.append(_stray(file, number, one))
    tasks, strays = _tasks(
        _annotations(folder) / f"instances_{name}.json", listed, settings.assignment, order
    )
    rows += strays
    if beyond := len(tasks.keys() - listed):
        notes.append(f"{beyond} pictures of instances_{name}.json are not in {file.name} and are left out.")
    without: list[str] = []
    seen: set[int] = set()
    for number, image in enumerate(images, start=1):
        key = image["id"]
        fault = _fault(of_image.get(key, []))
        if key in seen:
            fault = f"the image id {key} occurs twice"
        seen.add(key)
        if key not in tasks and not fault:
            without.append(image["file_name"])
            continue
        validation = role == "train" and unit_hash(str(key)) < settings.validation
        rows.append(
            _Row(
                origin=(str(file), number),
                id=f"{name}/{image['file_name']}",
                path=str(pictures.absolute() / image["file_name"]),
                captions=[one["caption"].strip() for one in of_image.get(key, [])],
                task=tasks.get(key, ""),
                split="validation" if validation else role,
                fault=fault,
            )
        )
    if without:
        more = f" and {len(without) - _NAMED} more" if len(without) > _NAMED else ""
        notes.append(
            f"{len(without)} of {len(images)} pictures of {name} have no annotated object, so they belong to no task "
            f"and are left out: {', '.join(without[:_NAMED])}{more}."
        )
    return rows


def _tasks(
    file: Path, listed: set[int], assignment: Assignment, order: list[str]
) -> tuple[dict[int, str], list[_Row]]:
    """The super-category of each picture that has objects, and the annotations of pictures that do not exist."""
    stored = stored_json(file)
    known = listed | {image["id"] for image in entries(stored, "images", {"id": int}, file)}
    categories = entries(stored, "categories", {"id": int, "supercategory": str}, file)
    parent = {category["id"]: category["supercategory"] for category in categories}
    order += dict.fromkeys(one for one in parent.values() if one not in order)
    totals: dict[int, Counter[str]] = {}
    strays: list[_Row] = []
    objects = entries(
        stored, "annotations", {"id": int, "image_id": int, "category_id": int, "area": (int, float)}, file
    )
    for number, one in enumerate(objects, start=1):
        if one["category_id"] not in parent:
            raise InterplayError(
                f"{file}: annotation {one['id']} has the category {one['category_id']}, which 'categories' does not "
                "list."
            )
        if one["image_id"] not in known:
            strays.append(_stray(file, number, one))
            continue
        total = totals.setdefault(one["image_id"], Counter())
        total[parent[one["category_id"]]] += one["area"] if assignment == "area" else 1
    place = {name: number for number, name in enumerate(order)}
    largest = {
        image: min(total, key=lambda name: (-total[name], place[name])) for image, total in totals.items()
    }
    return largest, strays


def _fault(captions: Sequence[_Cells]) -> str:
    """Why a picture with these captions cannot be used; empty where it can."""
    if not captions:
        return "the picture has no caption"
    return next((f"caption {one['id']} is empty" for one in captions if not one["caption"].strip()), "")


def _stray(file: Path, number: int, annotation: _Cells) -> _Row:
    reason = (
        f"annotation {annotation['id']} is of image {annotation['image_id']}, which 'images' does not list"
    )
    return _Row(origin=(str(file), number), fault=reason)


def _annotations(folder: Path) -> Path:
    return folder / "annotations" if (folder / "annotations").is_dir() else folder


def _pictures(folder: Path, name: str) -> Path:
    """Where the pictures of a set lie."""
    places = [folder / name, folder / "images" / name]
    for place in places:
        if place.is_dir():
            return place
    raise InterplayError(
        f"There is no folder with the pictures of {name}: neither {places[0]} nor {places[1]}. Unpack COCO's "
        f"{name}.zip into {folder}."
    )


def stored_json(file: Path) -> Mapping[str, Any]:
    """A JSON file without its outlines, which are nine tenths of it."""

    def without_outline(cells: _Cells) -> _Cells:
        cells.pop("segmentation", None)
        return cells

    try:
        stored = decoded_json(file.read_text(encoding="utf-8"), object_hook=without_outline)
    except FileNotFoundError:
        raise InterplayError(
            f"There is no file {file}: COCO's captions and instances of one set belong together. Both are in its "
            "annotations_trainval archive."
        ) from None
    except (OSError, ValueError) as problem:
        raise InterplayError(f"{file} cannot be read as JSON ({problem}). Unpack it again.") from None
    if not isinstance(stored, dict):
        raise InterplayError(f"{file} is not in COCO's format: it is no JSON object.")
    return stored


def entries(
    stored: Mapping[str, Any], section: str, keys: Mapping[str, type | tuple[type, ...]], file: Path
) -> list[_Cells]:
    """One section of a file, each entry with the keys that are needed."""
    entries = stored.get(section)
    if not isinstance(entries, list):
        raise InterplayError(f"{file} is not in COCO's format: it has no list '{section}'.")
    for number, entry in enumerate(entries, start=1):
        for key, kind in keys.items():
            if not isinstance(entry, dict) or not isinstance(entry.get(key), kind):
                raise InterplayError(
                    f"{file} is not in COCO's format: entry {number} of '{section}' has no usable '{key}'."
                )
    return entries
