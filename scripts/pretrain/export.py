"""Write a checkpoint of `train.py` as a Hugging Face CLIP folder.

The folder holds fp16 weights, the configuration, the tokenizer and the picture processor.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from string import Template

import torch
from augment import MEAN, STD
from data import PictureSet
from geometry import GEOMETRIES, TOWERS, Geometry, build_config
from safetensors.torch import save_file
from sources import DEFAULT_CACHE, SOURCES, VALIDATION_SOURCE
from train import validate
from transformers import CLIPModel, CLIPTokenizer


def processor(size: int) -> dict[str, object]:
    """The settings of the picture processor for pictures of this size in pixels."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "CLIPProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [round(value, 8) for value in MEAN.flatten().tolist()],
        "image_std": [round(value, 8) for value in STD.flatten().tolist()],
        "do_convert_rgb": True,
    }


WEIGHTS = {"model": "weights of the last step", "average": "moving average of the weights"}


def write_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Save `tokenizer.json` and its settings, and the same BPE as `vocab.json` and `merges.txt`."""
    tokenizer.save_pretrained(folder)
    bpe = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(bpe["vocab"], ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in bpe["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")


def write_model(model: CLIPModel, folder: Path) -> None:
    """Save the weights in half precision, and a configuration that loads them in single precision."""
    config = model.config.to_dict()
    config["architectures"] = ["CLIPModel"]
    config["dtype"] = "float32"
    for tower in ("text_config", "vision_config"):
        config[tower]["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


def best_weights(
    checkpoint: Path, data: PictureSet, tokenizer: CLIPTokenizer, geometry: Geometry
) -> tuple[CLIPModel, dict[str, object]]:
    """The model with the better of the raw and averaged weights on the held-out style, and its numbers."""
    state = torch.load(checkpoint, weights_only=True)
    held_out = data.validation()
    best: tuple[float, str, dict[str, float]] | None = None
    model = CLIPModel(build_config(tokenizer, geometry))
    for name in ("model", "average"):
        model.load_state_dict(state[name])
        numbers = validate(model, tokenizer, *held_out)
        score = sum(numbers.values())
        if best is None or score > best[0]:
            best = (score, name, numbers)
    _, name, numbers = best
    model.load_state_dict(state[name])
    facts = {"weights": name, "steps": state["step"], "minutes": round(state["seconds"] / 60, 1)}
    return model, {**facts, "candidates": len(held_out[1]), **numbers}


def source_rows(data: PictureSet) -> str:
    """One table row per source with its number of rendered pictures."""
    counts = Counter(entry["source"] for entry in data.index)
    rows = []
    for source in SOURCES:
        note = " (validation only)" if source.name == VALIDATION_SOURCE else ""
        cells = (
            source.title,
            f"`{source.package}`",
            f"{counts[source.name]:,}{note}",
            source.author,
            source.licence,
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def write_card(
    folder: Path,
    name: str,
    model: CLIPModel,
    data: PictureSet,
    facts: dict[str, object],
    evaluation: dict[str, object],
    batch_note: str,
) -> None:
    """Fill in the model card; `evaluation` is the output of `evaluate.py`, or empty before it has run."""
    classes = evaluation.get("subcategories", {})
    values = {f"val_{name}": value for name, value in facts.items()}
    values |= {f"om_{name}": value for name, value in evaluation.items()}
    values |= {"om_classes": classes.get("classes"), "om_members": classes.get("pictures")}
    values |= {"om_accuracy": classes.get("accuracy"), "batch_note": batch_note}
    values |= {"steps": f"{facts['steps']:,}", "minutes": round(facts["minutes"])}
    values |= {
        "weights_name": WEIGHTS[facts["weights"]],
        "vocabulary": f"{model.config.text_config.vocab_size:,}",
    }
    values["parameters"] = f"{sum(value.numel() for value in model.parameters()) / 1e6:.1f}"
    values["pictures_total"] = f"{len(data.index):,}"
    values["concepts_total"] = f"{len(set(data.concept.tolist())):,}"
    values["source_rows"] = source_rows(data)
    template = Template(Path(__file__).with_name(f"model_card_{name}.md").read_text("utf-8"))
    missing = dict.fromkeys(template.get_identifiers(), "not measured")
    known = {name: value for name, value in values.items() if value is not None}
    (folder / "README.md").write_text(template.substitute(missing | known), "utf-8")


def main() -> None:
    """Export, and print what was exported as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--model", choices=GEOMETRIES, default="tiny")
    parser.add_argument("--name", help="name of the run; the model's by default")
    parser.add_argument("--output", type=Path, help="the bundled folder by default")
    parser.add_argument("--evaluation", type=Path, help="output of evaluate.py, for the model card")
    parser.add_argument(
        "--batch-note", default="Batches of 256.", help="sentence of the model card on the batch size"
    )
    args = parser.parse_args()
    geometry = GEOMETRIES[args.model]
    output = args.output or TOWERS / args.model
    output.mkdir(parents=True, exist_ok=True)
    start = TOWERS / geometry.start if geometry.start else args.cache / "tokenizer"
    tokenizer = CLIPTokenizer.from_pretrained(start)
    data = PictureSet(args.cache)
    checkpoint = args.cache / "runs" / (args.name or args.model) / "checkpoint.pt"
    model, facts = best_weights(checkpoint, data, tokenizer, geometry)
    evaluation = json.loads(args.evaluation.read_text("utf-8")) if args.evaluation else {}
    write_model(model, output)
    write_tokenizer(tokenizer, output)
    (output / "preprocessor_config.json").write_text(
        json.dumps(processor(geometry.image_size), indent=2) + "\n", "utf-8"
    )
    write_card(output, args.model, model, data, facts, evaluation, args.batch_note)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
