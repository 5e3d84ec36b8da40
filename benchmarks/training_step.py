"""MITP's training step beside its floor and beside full fine-tuning, in one run (ViT-B/32, random weights).

The floor is what any method with prompts from that layer on must pay: one frozen forward of both towers and an
activation-only backward from the first interaction layer, written with the plain layers of `transformers`.

    python benchmarks/training_step.py                     # times, as ratios to the floor
    python benchmarks/training_step.py --memory            # peak memory, each in a process of its own

On a device it says samples a second, peak memory, and the share of the roofline: the operations of the step over those
that a large matrix product of the same precision does in the same time, both measured in this run.

    python benchmarks/training_step.py --on cuda --geometry clip-vit-large-patch14 --batch 64 --precision bf16
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from transformers import CLIPModel

from interplay.classification.model import PairClassifier
from interplay.encoding.batches import to_device
from interplay.encoding.trainable import PairBatch
from interplay.methods.registry import choose
from interplay.parts.heads import Head, HeadSettings
from interplay.profiling.costs import cost
from interplay.profiling.memory import resident
from interplay.towers.backbone import Backbone, clip_config, random_backbone
from interplay.towers.presets import PRESETS
from interplay.towers.walk import front

GEOMETRY = "clip-vit-base-patch32"
BATCH, WORDS, CLASSES = 8, 16, 101


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels, ids and targets of one batch; every caption has `WORDS` tokens."""
    torch.manual_seed(0)
    ids = torch.randint(0, 49000, (BATCH, WORDS))
    ids[:, -1] = PRESETS[GEOMETRY].text.end_token
    return torch.randn(BATCH, 3, 224, 224), ids, torch.randint(0, CLASSES, (BATCH,))


def floor_step(model: CLIPModel, first: int) -> Callable[[], None]:
    """One frozen forward, one backward down to the activations that enter layer `first` (from 1)."""
    pixels, ids, _ = inputs()
    model.requires_grad_(False)
    mask = torch.full((WORDS, WORDS), float("-inf")).triu(1)[None, None]

    def step() -> None:
        vision, text = model.vision_model, model.text_model
        x = vision.pre_layrnorm(vision.embeddings(pixels))
        t = text.embeddings(ids)
        for i, layer in enumerate(vision.encoder.layers):
            x = x.requires_grad_() if i == first - 1 else x
            x = layer(x, attention_mask=None)
        for i, layer in enumerate(text.encoder.layers):
            t = t.requires_grad_() if i == first - 1 else t
            t = layer(t, attention_mask=mask)
        image = model.visual_projection(vision.post_layernorm(x[:, 0]))
        words = model.text_projection(text.final_layer_norm(t)[:, -1])
        (image.sum() + words.sum()).backward()

    return step


def classifier(backbone: Backbone, layers: tuple[int, ...]) -> PairClassifier:
    """MITP with a pair head."""
    method = choose("mitp").build(backbone.shape, {"layers": layers, "length": 3})
    return PairClassifier(
        method, Head(HeadSettings(kind="pair"), backbone.shape.joint, CLASSES, backbone.scale)
    )


def mitp_step(backbone: Backbone, layers: tuple[int, ...], *, cached: bool) -> Callable[[], None]:
    """One whole training step of MITP with Adam; `cached`: from tokens after the front layers."""
    pixels, ids, targets = inputs()
    model = classifier(backbone, layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    batch = PairBatch(pixels, ids, targets)
    if cached:
        starts = [
            front(backbone.tower(side), raw, model.method.first_layer(side))
            for side, raw in (("image", pixels), ("text", ids))
        ]
        batch = PairBatch(starts[0], starts[1], targets)

    def step() -> None:
        optimizer.zero_grad()
        model.loss(model(backbone, batch), targets).backward()
        optimizer.step()

    return step


def full_step(model: CLIPModel) -> Callable[[], None]:
    """Full fine-tuning of both towers with AdamW."""
    pixels, ids, targets = inputs()
    model.train().requires_grad_(True)
    head = torch.nn.Linear(2 * model.projection_dim, CLASSES)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=1e-6)

    def step() -> None:
        optimizer.zero_grad()
        features = [
            model.get_image_features(pixels).pooler_output,
            model.get_text_features(ids).pooler_output,
        ]
        torch.nn.functional.cross_entropy(head(torch.cat(features, dim=1)), targets).backward()
        optimizer.step()

    return step


def reference() -> CLIPModel:
    """A random CLIPModel of the geometry."""
    torch.manual_seed(0)
    return CLIPModel(clip_config(PRESETS[GEOMETRY])).eval()


def waited(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(step: Callable[[], object], device: torch.device, rounds: int) -> float:
    """The median time of a call, after some to warm up."""
    taken = []
    for at in range(rounds + 3):
        start = time.perf_counter()
        step()
        waited(device)
        if at >= 3:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def on_device(name: str, geometry: str, batch: int, precision: str, rounds: int) -> dict[str, object]:
    """Training steps of MITP with Adam on a device, beside a matrix product that is as fast as it gets."""
    device, kind = torch.device(name), torch.bfloat16 if precision == "bf16" else torch.float32
    backbone = random_backbone(geometry).to(device)
    shape = backbone.shape
    depth = min(shape.image.depth, shape.text.depth)
    layers = tuple(layer for layer in (7, 8, 9) if layer <= depth) or (depth,)
    torch.manual_seed(0)
    model = classifier(backbone, layers).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    ids = torch.randint(0, shape.text.end_token, (batch, WORDS))
    ids[:, -1] = shape.text.end_token
    edge = backbone.image_size
    pixels = torch.randint(0, 256, (batch, 3, edge, edge), dtype=torch.uint8)
    pairs = to_device(PairBatch(pixels, ids, torch.randint(0, CLASSES, (batch,))), device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, kind, enabled=precision == "bf16"):
            loss = model.training_loss(backbone, pairs)
        loss.backward()
        optimizer.step()

    taken = seconds(step, device, rounds)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else resident("VmHWM")
    side = 8192 if device.type == "cuda" else 1024
    square = torch.randn(side, side, device=device, dtype=kind)
    roofline = 2 * side**3 / seconds(lambda: square @ square, device, rounds)
    counted = cost(geometry, "mitp", {"layers": layers, "length": 3}, text_tokens=WORDS).training_gflops
    assert counted is not None
    done = counted * 1e9 * batch / taken
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else name,
        "backbone": geometry,
        "layers": layers,
        "batch": batch,
        "precision": precision,
        "samples_per_second": round(batch / taken, 1),
        "tflops": round(done / 1e12, 3),
        "roofline_tflops": round(roofline / 1e12, 3),
        "share_of_roofline": round(done / roofline, 3),
        "peak_memory_mb": round(peak),
    }


def timed(step: Callable[[], None]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def speed(rounds: int) -> list[dict[str, object]]:
    """Rounds of floor and candidate in turn; medians of the ratios round by round."""
    backbone, model = random_backbone(GEOMETRY), reference()
    rows = []
    for layers, cached in (((4, 5, 6), False), ((7, 8, 9), False), ((7, 8, 9), True)):
        floor, ours = floor_step(model, layers[0]), mitp_step(backbone, layers, cached=cached)
        for warm in (floor, ours, floor, ours):
            warm()
        pairs = [(timed(floor), timed(ours)) for _ in range(rounds)]
        rows.append(
            {
                "layers": layers,
                "prefix_cache": cached,
                "floor_ms": round(1e3 * statistics.median(a for a, _ in pairs), 1),
                "mitp_ms": round(1e3 * statistics.median(b for _, b in pairs), 1),
                "ratio": round(statistics.median(b / a for a, b in pairs), 3),
                "target": 0.75 if cached else 1.15,
            }
        )
    return rows


def peak(which: str) -> float:
    """Peak resident memory in MB of three steps, in this process."""
    full = which == "full"
    step = full_step(reference()) if full else mitp_step(random_backbone(GEOMETRY), (7, 8, 9), cached=False)
    for _ in range(3):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory() -> list[dict[str, object]]:
    """Peaks of both, each measured in a fresh process."""
    peaks = {
        which: float(subprocess.check_output([sys.executable, __file__, "--peak", which], text=True))
        for which in ("mitp", "full")
    }
    ratio = peaks["mitp"] / peaks["full"]
    return [{**{f"{k}_mb": round(v) for k, v in peaks.items()}, "ratio": round(ratio, 3), "target": 0.5}]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", choices=("mitp", "full"))
    parser.add_argument("--on", help="a device, as cuda or cpu")
    parser.add_argument("--geometry", default=GEOMETRY, help="of the backbone, for --on")
    parser.add_argument("--batch", type=int, default=BATCH, help="pairs a step, for --on")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="for --on")
    arguments = parser.parse_args()
    if arguments.on:
        a = arguments
        print(json.dumps(on_device(a.on, a.geometry, a.batch, a.precision, a.rounds)))
        return
    if arguments.peak:
        print(peak(arguments.peak))
        return
    for row in memory() if arguments.memory else speed(arguments.rounds):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
