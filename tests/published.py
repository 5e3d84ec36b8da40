"""UPMC-Food101, MM-IMDB, SNLI-VE and MS-COCO in miniature, in exactly the format in which their owners publish them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from interplay.data.splits import unit_hash

DISHES = ("apple_pie", "pho", "sushi")
COUNTS = {"train": 4, "test": 2}

FILMS: Mapping[str, Sequence[tuple[str, Any, Sequence[str]]]] = {
    "train": [
        ("0000001", ["Short.", "A longer plot of love."], ["Drama", "Romance"]),
        ("0000002", ["A clown laughs."], ["Comedy", "Short"]),
        ("0000003", ["A detective in the dark rain."], ["Crime", "Drama", "News"]),
        ("0000004", ["Ships fight between stars."], ["Sci-Fi", "Action", "Drama"]),
        ("0000005", ["People talk."], ["Talk-Show"]),
        ("0000006", ["A clown weeps."], ["Comedy", "Drama"]),
    ],
    "dev": [
        ("0000007", ["Two detectives fall in love."], ["Crime", "Romance"]),
        ("0000008", ["A funny ship."], ["Comedy", "Sci-Fi"]),
    ],
    "test": [
        ("0000009", ["An action short."], ["Action", "Short"]),
        ("0000010", ["A crime among clowns."], ["Drama", "Comedy", "Crime"]),
    ],
}

JUDGED = ("entailment", "neutral", "contradiction")
FLICKR = {"train": ("36979", "65567"), "dev": ("4752984291",), "test": ("3563617591",)}


def draw(path: Path, seed: int) -> None:
    """A small picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plain(seed))


def plain(seed: int) -> bytes:
    """A small picture of one colour as JPEG."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12), (seed * 37 % 256, seed * 91 % 256, seed * 53 % 256)).save(buffer, "JPEG")
    return buffer.getvalue()


def write_food101(root: Path) -> Path:
    """Images by split and class, and titles without a header; three classes, four to train and two to test each."""
    for at, (split, count) in enumerate(COUNTS.items()):
        lines = []
        for number, dish in enumerate(DISHES):
            for i in range(count):
                name = f"{dish}_{10 * at + i}.jpg"
                draw(root / "images" / split / dish / name, 20 * number + 7 * at + i)
                lines.append((name, f"{dish.replace('_', ' ').title()}, the {i}. best | Recipes", dish))
        (root / "texts").mkdir(exist_ok=True)
        with (root / "texts" / f"{split}_titles.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(lines)
    return root


def write_mm_imdb(root: Path) -> Path:
    """One JSON file and one poster a film, and the lists of the splits."""
    for number, (name, plots, genres) in enumerate(film for films in FILMS.values() for film in films):
        draw(root / "dataset" / f"{name}.jpeg", number)
        stored = {
            "genres": list(genres),
            "plot": plots,
            "plot outline": "An outline that is longer than any of the plots of this film ever were.",
            "title": f"Film {name}",
            "year": 1999,
        }
        (root / "dataset" / f"{name}.json").write_text(json.dumps(stored), encoding="utf-8")
    (root / "split.json").write_text(
        json.dumps({split: [name for name, _, _ in films] for split, films in FILMS.items()})
    )
    return root


def write_snli_ve(root: Path) -> Path:
    """Lines with all the keys that the published ones have; each picture has three rows."""
    root.mkdir(parents=True, exist_ok=True)
    for split, pictures in FLICKR.items():
        lines = []
        for number, picture in enumerate(pictures):
            draw(root / "flickr30k_images" / f"{picture}.jpg", number + len(split))
            for label in JUDGED:
                lines.append(
                    {
                        "annotator_labels": [label],
                        "captionID": f"{picture}.jpg#0",
                        "gold_label": label,
                        "pairID": f"{picture}.jpg#0r1{label[0]}",
                        "sentence1": f"Two people stand near {picture} .",
                        "sentence1_binary_parse": "( ( Two people ) . )",
                        "sentence1_parse": "(ROOT (S))",
                        "sentence2": f"This is {label} of {picture}.",
                        "sentence2_binary_parse": "( This )",
                        "sentence2_parse": "(ROOT (S))",
                        "Flickr30K_ID": picture,
                    }
                )
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (root / f"snli_ve_{split}.jsonl").write_text(text, encoding="utf-8")
    return root


def captions_of(image: int, count: int = 5) -> list[str]:
    """Captions as COCO has them, with spaces around some."""
    return [f"Caption {number} of {image}. \n" for number in range(count)]


def write_coco_set(
    root: Path,
    name: str,
    objects: Mapping[int, Sequence[tuple[int, float]]],
    categories: Mapping[int, tuple[str, str]],
    drawn: Callable[[int], bytes],
    *,
    folder: str = "",
) -> None:
    """One set of MS-COCO in the structure of the published files, numbers and all.

    Args:
        objects: for each picture the category and the area of what is on it.
        categories: number → super-category and name.
        drawn: a picture's file by its number.
        folder: between `root` and the pictures.
    """
    year = int(name[-4:])

    def file_name(image: int) -> str:
        return f"{image:012}.jpg" if year == 2017 else f"COCO_{name}_{image:012}.jpg"

    head: dict[str, Any] = {
        "info": {
            "description": f"COCO {year} Dataset",
            "url": "http://cocodataset.org",
            "version": "1.0",
            "year": year,
            "contributor": "COCO Consortium",
            "date_created": "2017/09/01",
        },
        "licenses": [
            {"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}
        ],
        "images": [
            {
                "license": 4,
                "file_name": file_name(image),
                "coco_url": f"http://images.cocodataset.org/{name}/{file_name(image)}",
                "height": 14,
                "width": 20,
                "date_captured": "2013-11-14 17:02:52",
                "flickr_url": "http://farm7.staticflickr.com/6116/1_z.jpg",
                "id": image,
            }
            for image in objects
        ],
    }
    numbered = enumerate(
        ((image, text) for image in reversed(objects) for text in captions_of(image)), start=48
    )
    captions = [{"image_id": image, "id": number, "caption": text} for number, (image, text) in numbered]
    boxes = enumerate(((image, *one) for image, found in objects.items() for one in found), start=900)
    instances = [
        {
            "segmentation": [[1.5, 2.0, 3.0, 4.0, 5.0, 6.0]],
            "area": area,
            "iscrowd": 0,
            "image_id": image,
            "bbox": [1.0, 2.0, 3.0, 4.0],
            "category_id": category,
            "id": number,
        }
        for number, (image, category, area) in boxes
    ]
    listed = [
        {"supercategory": above, "id": number, "name": named} for number, (above, named) in categories.items()
    ]
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"captions_{name}.json").write_text(json.dumps({**head, "annotations": captions}))
    (root / "annotations" / f"instances_{name}.json").write_text(
        json.dumps({**head, "annotations": instances, "categories": listed})
    )
    (root / folder / name).mkdir(parents=True)
    for image in objects:
        (root / folder / name / file_name(image)).write_bytes(drawn(image))


COCO_CATEGORIES = {
    1: ("person", "person"),
    3: ("vehicle", "car"),
    18: ("animal", "dog"),
    78: ("appliance", "microwave"),
}
COCO_TASKS = (78, 3, 18)


def write_coco(root: Path) -> Path:
    """Three tasks, each with eight pictures to train on, three to validate (of 5 %, by hash) and two to test."""
    held_out = [image for image in range(1_000) if unit_hash(str(image)) < 0.05]
    others = [image for image in range(1_000) if image not in held_out]
    train = [image for at in range(3) for ids, n in ((held_out, 3), (others, 8)) for image in ids[at::3][:n]]
    for name, pictures in (("train2017", train), ("val2017", range(2_000, 2_006))):
        each = len(pictures) // 3
        objects = {image: [(COCO_TASKS[at // each], 9.0), (1, 2.0)] for at, image in enumerate(pictures)}
        write_coco_set(root, name, objects, COCO_CATEGORIES, plain)
    return root


def write_all(root: Path) -> Path:
    """The three of them, where `interplay reproduce --root` looks for them."""
    write_food101(root / "food101")
    write_mm_imdb(root / "mm_imdb")
    write_snli_ve(root / "snli_ve")
    return root
