"""What a backbone knows of scenes that it never saw drawn this way, before any method is tried on them.

    python scripts/pretrain/gates.py FOLDER      a checkpoint folder, as `export.py` writes it

All by cosine, zero-shot, on OpenMoji's drawings. `presence`: four objects in their own colours in a grid of 2 × 2, the
name of one of them against the name of an object that is not there; also as yes or no with one threshold, that of the
first half of the scenes for the second. `colour`: one object in one of eight colours, "a red house" against the seven
other colours, combinations that training holds out. `bind`, `where` and `pick`: of a scene's two sentences the true one
must be nearer (`scenes/*`, test splits); 50 is a bag of words.
"""

from __future__ import annotations

import argparse
import io
import json
from collections import defaultdict
from pathlib import Path

import torch
from evaluate import embed_images, embed_texts
from PIL import Image
from transformers import CLIPModel

from interplay import load
from interplay.data.scenes.objects import COLOURS, colours_of, things, with_article
from interplay.data.scenes.scene import Dice, Placed, Scene, squares
from interplay.data.scenes.sprites import Sprites

SCENES = 2000
TASK = "?train=6000"
"""Size of the scene tasks: 3,000 pairs of test."""


def presence(model: CLIPModel, folder: Path) -> dict[str, float]:
    """Forced choice and yes or no, for objects with a picture of their own."""
    pictured = [thing for thing in things() if thing.code]
    sprites = Sprites(thing.code for thing in pictured)
    names = embed_texts(model, folder, [with_article(thing.name) for thing in pictured])
    pictures, asked = [], []
    for number in range(SCENES):
        dice = Dice(f"presence {number}")
        *shown, absent = dice.some(range(len(pictured)), 5)
        places = squares(4, dice)
        scene = Scene(tuple(Placed(pictured[at], "", place) for at, place in zip(shown, places, strict=True)))
        pictures.append(sprites.draw(scene))
        asked.append((shown[0], absent))
    vectors = embed_images(model, folder, pictures)
    scores = torch.stack([names[list(pair)] @ vector for pair, vector in zip(asked, vectors, strict=True)])
    half = SCENES // 2
    chosen, left = scores[:half], scores[half:]
    cuts = chosen.flatten()
    right = ((chosen[:, :1] > cuts).float() + (chosen[:, 1:] <= cuts).float()).mean(0)
    cut = cuts[right.argmax()]
    yes_no = ((left[:, 0] > cut).float() + (left[:, 1] <= cut).float()).mean() / 2
    return {
        "forced_choice": round((scores[:, 0] > scores[:, 1]).float().mean().item(), 4),
        "yes_no": round(yes_no.item(), 4),
    }


def colour(model: CLIPModel, folder: Path) -> float:
    """Share of single objects in a colour that is found among eight."""
    sprites = Sprites(thing.code for thing in things())
    pictures, truth, texts = [], [], []
    for thing in things():
        for word in colours_of(thing.group, "test"):
            place = squares(1, Dice(f"colour {word} {thing.name}"))[0]
            pictures.append(sprites.draw(Scene((Placed(thing, word, place),))))
            truth.append(list(COLOURS).index(word))
            texts += [with_article(f"{any_word} {thing.name}") for any_word in COLOURS]
    vectors = embed_texts(model, folder, texts).view(len(pictures), len(COLOURS), -1)
    scores = (vectors @ embed_images(model, folder, pictures).unsqueeze(-1)).squeeze(-1)
    return round((scores.argmax(1) == torch.tensor(truth)).float().mean().item(), 4)


def nearer(model: CLIPModel, folder: Path, task: str) -> dict[str, float]:
    """Share of scenes whose true sentence is nearer than the false one: all, and by the number of objects."""
    rows = list(load(f"scenes/{task}{TASK}").split("test").rows)
    sentences: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    unique: dict[str, Image.Image] = {}
    for number, row in enumerate(rows):
        content = row["image"]["bytes"]
        key = str(hash(content))
        unique.setdefault(key, Image.open(io.BytesIO(content)).convert("RGB"))
        sentences[row["block"], key][row["label"]] = number
    pictures = dict(zip(unique, embed_images(model, folder, list(unique.values())), strict=True))
    texts = embed_texts(model, folder, [row["text"] for row in rows])
    hits: dict[str, list[float]] = defaultdict(list)
    for (_, key), said in sentences.items():
        true, false = (float(texts[said[label]] @ pictures[key]) for label in ("true", "false"))
        hits[task].append(float(true > false))
        hits[f"{task}_{len(rows[said['true']]['objects'])}"].append(float(true > false))
    return {name: round(sum(some) / len(some), 4) for name, some in sorted(hits.items())}


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    model = CLIPModel.from_pretrained(folder).float().eval()
    found = {**presence(model, folder), "colour": colour(model, folder)}
    for task in ("bind", "where", "pick"):
        found |= nearer(model, folder, task)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
