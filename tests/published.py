"""UPMC-Food101, MM-IMDB and SNLI-VE in miniature, in exactly the format in which their owners publish them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

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
    Image.new("RGB", (16, 12), (seed * 37 % 256, seed * 91 % 256, seed * 53 % 256)).save(path, "JPEG")


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


def write_all(root: Path) -> Path:
    """The three of them, where `interplay reproduce --root` looks for them."""
    write_food101(root / "food101")
    write_mm_imdb(root / "mm_imdb")
    write_snli_ve(root / "snli_ve")
    return root
