"""LPI's training step beside its floor, many tasks beside one, a mixed batch beside a plain one; ratios in one run.

    python -m benchmarks.retrieval

The floor is what any method with these prompts must pay: one frozen forward of both towers over the same number of
tokens (prompts included) and an activation-only backward from the first layer, written with the plain layers of
`transformers`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable

import torch
from transformers import CLIPModel

from benchmarks.training_step import GEOMETRY, reference, timed
from interplay.encoding.trainable import PairBatch
from interplay.methods.base import Method
from interplay.methods.registry import choose
from interplay.retrieval.model import PairRetriever
from interplay.towers.backbone import Backbone, load_backbone, random_backbone
from interplay.towers.presets import PRESETS
from interplay.towers.tokens import SIDES
from interplay.towers.walk import encode

BATCH, WORDS, PROMPTS, TASKS = 16, 16, 16, 9


def batch_of() -> PairBatch:
    """Pictures and captions of `WORDS` tokens."""
    torch.manual_seed(0)
    ids = torch.randint(0, 49000, (BATCH, WORDS))
    ids[:, -1] = PRESETS[GEOMETRY].text.end_token
    return PairBatch(torch.randn(BATCH, 3, 224, 224), ids, torch.arange(BATCH))


def floor_step(model: CLIPModel, prompts: int) -> Callable[[], None]:
    """One frozen forward with `prompts` more tokens a side, one backward down to what enters the first layer."""
    batch = batch_of()
    model.requires_grad_(False)
    length = WORDS + prompts
    mask = torch.full((length, length), float("-inf")).triu(1)[None, None]

    def step() -> None:
        vision, text = model.vision_model, model.text_model
        x = vision.pre_layrnorm(vision.embeddings(batch.images))
        t = text.embeddings(batch.texts)
        x = torch.cat([x, x[:, :prompts]], dim=1).requires_grad_()
        t = torch.cat([t[:, :prompts], t], dim=1).requires_grad_()
        for layer in vision.encoder.layers:
            x = layer(x, attention_mask=None)
        for layer in text.encoder.layers:
            t = layer(t, attention_mask=mask)
        image = model.visual_projection(vision.post_layernorm(x[:, 0]))
        words = model.text_projection(text.final_layer_norm(t)[:, -1])
        (image.sum() + words.sum()).backward()

    return step


def method_with(backbone: Backbone, sessions: int) -> Method:
    """LPI-M after `sessions` sessions, the last one in training."""
    torch.manual_seed(1)
    method = choose("lpi-m").build(backbone.shape)
    for session in range(sessions):
        meaning = torch.nn.functional.normalize(torch.randn(backbone.shape.joint), dim=0)
        method.sessions.begin(f"task {session}", meaning)
    return method


def lpi_step(backbone: Backbone, sessions: int) -> Callable[[], None]:
    """One whole training step of LPI-M with Adam: base loss, HPA and CPA."""
    batch = batch_of()
    model = PairRetriever(method_with(backbone, sessions), backbone.shape.joint, backbone.scale)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        model.training_loss(backbone, batch).backward()
        optimizer.step()

    return step


def encoding(backbone: Backbone, method: Method, route: torch.Tensor) -> Callable[[], None]:
    """Both sides of a batch of 90 through prompts that the route names."""
    torch.manual_seed(2)
    pixels = torch.randint(
        0, 256, (len(route), 3, backbone.image_size, backbone.image_size), dtype=torch.uint8
    )
    ids = torch.randint(0, backbone.text.shape.vocabulary - 2, (len(route), WORDS))
    ids[:, -1] = backbone.text.shape.end_token

    def run() -> None:
        with torch.no_grad():
            for side, inputs in zip(SIDES, (pixels, ids), strict=True):
                encode(backbone.tower(side), side, inputs, method, route=route)

    return run


def compare(one: Callable[[], None], other: Callable[[], None], rounds: int) -> dict[str, float]:
    """Rounds in turn; the median of the ratios round by round."""
    for warm in (one, other):
        warm()
    pairs = [(timed(one), timed(other)) for _ in range(rounds)]
    return {
        "reference_ms": round(1e3 * statistics.median(a for a, _ in pairs), 1),
        "ms": round(1e3 * statistics.median(b for _, b in pairs), 1),
        "ratio": round(statistics.median(b / a for a, b in pairs), 3),
    }


def show(what: str, target: float | None, found: dict[str, float]) -> None:
    """One line of JSON as soon as it is measured."""
    print(json.dumps({"what": what, "target": target, **found}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    backbone, model = random_backbone(GEOMETRY), reference()
    step = lpi_step(backbone, 1)
    show("LPI-M step / floor", 1.15, compare(floor_step(model, PROMPTS), step, rounds))
    show("LPI-M step / floor without prompt tokens", None, compare(floor_step(model, 0), step, rounds))
    show("step behind 50 tasks / behind 1", 1.1, compare(step, lpi_step(backbone, 50), rounds))
    small = load_backbone("tiny")
    method = method_with(small, TASKS).eval()
    plain, mixed = torch.zeros(90, dtype=torch.long), torch.arange(90) % TASKS
    batches = encoding(small, method, plain), encoding(small, method, mixed)
    show("batch of 9 tasks / of one", 1.1, compare(*batches, 4 * rounds))


if __name__ == "__main__":
    main()
