"""Checkpoint folders with random weights, in the forms that CLIP checkpoints are published in."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.image_utils import load_image

from interplay.data.images import decode
from interplay.towers.backbone import Backbone, bundled_folder
from interplay.towers.preprocessing import to_square
from interplay.towers.walk import encode

CLIP = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
TEXTS = [
    "a red apple",
    "Two cats,  asleep: on a SOFA!",
    "x",
    "café 😀 naïve 日本",
    "the moon and the sun " * 40,
    "",
]


@cache
def _bundled() -> tuple[dict[str, int], list[tuple[str, str]]]:
    folder = bundled_folder()
    merges = (folder / "merges.txt").read_text("utf-8").splitlines()[1:]
    return (
        json.loads((folder / "vocab.json").read_text("utf-8")),
        [(first, second) for first, second in (line.split() for line in merges if line)],
    )


def write_tokenizer(folder: Path, vocabulary: int, positions: int, added: Sequence[str] = ()) -> None:
    """The words of `tiny`'s tokenizer in a vocabulary of any size, whose two highest ids are start and end.

    Args:
        added: words that are added after the end token, so that it is not the highest id any more.
    """
    words, merges = _bundled()
    words = {word: at for word, at in words.items() if not word.startswith("<|")}
    words |= {f"<{at}>": at for at in range(len(words), vocabulary - 2)}
    words |= {"<|startoftext|>": vocabulary - 2, "<|endoftext|>": vocabulary - 1}
    tokenizer = CLIPTokenizer(vocab=words, merges=merges, model_max_length=positions)
    tokenizer.add_tokens(list(added))
    tokenizer.save_pretrained(folder)


def preprocessor(edge: int, **changes: Any) -> dict[str, Any]:
    """`preprocessor_config.json` as OpenAI's checkpoints have it today."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": edge},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": edge, "width": edge},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": CLIP["mean"],
        "image_std": CLIP["std"],
        "do_convert_rgb": True,
        **changes,
    }


def first_generation(size: int) -> dict[str, Any]:
    """`preprocessor_config.json` of 2021: bare numbers, a feature extractor, nothing of rescaling."""
    return {
        "crop_size": size,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": CLIP["mean"],
        "image_std": CLIP["std"],
        "resample": 3,
        "size": size,
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_config(folder: Path, side: str | None = None, **changes: Any) -> None:
    """Change a `config.json` by hand, as `transformers` would not write it."""
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    (config if side is None else config[f"{side}_config"]).update(changes)
    write_json(path, config)


def random_weights(config: CLIPConfig, seed: int = 0) -> CLIPModel:
    """A model whose words and positions all matter."""
    torch.manual_seed(seed)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embedding" in name:
                parameter.mul_(10)
    return model


def write_pictures(folder: Path) -> list[Path]:
    """One file of every form that `transformers` and we must see alike."""
    random = np.random.default_rng(0)

    def noise(width: int, height: int) -> Image.Image:
        small = random.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
        return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)

    turned = Image.Exif()
    turned[0x0112] = 6
    forms: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "wide.jpg": (noise(97, 41), {}),
        "tall.png": (noise(50, 133), {}),
        "tiny.png": (noise(9, 7), {}),
        "turned.jpg": (noise(80, 60), {"exif": turned}),
        "grey.png": (noise(64, 64).convert("L"), {}),
        "palette.gif": (noise(40, 70).convert("P"), {}),
        "print.jpg": (noise(70, 64).convert("CMYK"), {}),
        "page.webp": (noise(64, 48), {"lossless": True}),
    }
    for name, (image, options) in forms.items():
        image.save(folder / name, **options)
    return [folder / name for name in forms]


def theirs(folder: str, pictures: Sequence[Path], texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Unit vectors by `transformers` alone: model, image processor and tokenizer of the same checkpoint."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")  # torchvision's rounds otherwise
    tokenizer = AutoTokenizer.from_pretrained(folder)
    opened = [
        load_image(Image.open(io.BytesIO(path.read_bytes()))) for path in pictures
    ]  # leaves no file open
    pixels = processor(opened, return_tensors="pt")["pixel_values"]
    ids = tokenizer(
        list(texts),
        padding=True,
        truncation=True,
        max_length=model.config.text_config.max_position_embeddings,
        return_tensors="pt",
    )
    with torch.no_grad():
        image = model.get_image_features(pixels).pooler_output
        text = model.get_text_features(**ids).pooler_output
    return F.normalize(image, dim=-1), F.normalize(text, dim=-1)


def ours(backbone: Backbone, pictures: Sequence[Path], texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Unit vectors by the towers here, from the same files and strings."""
    pixels = np.stack([to_square(decode(path, path.name), backbone.square) for path in pictures])
    with torch.no_grad():
        image = encode(backbone.image, "image", torch.from_numpy(pixels))
        text = encode(backbone.text, "text", backbone.tokenize(texts))
    return F.normalize(image, dim=-1), F.normalize(text, dim=-1)


def assert_equal(backbone: Backbone, folder: str, pictures: Sequence[Path], texts: Sequence[str]) -> None:
    """Unit vectors of files and strings agree to 1e-5."""
    for own, other in zip(ours(backbone, pictures, texts), theirs(folder, pictures, texts), strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=0)
