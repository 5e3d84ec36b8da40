"""What a training step costs under every method, as ratios to one frozen forward of both towers, in one run.

ViT-B/32 with random weights, batch 8, 16-token captions, a pair head with 101 classes, two CPU threads.

    python -m benchmarks.methods                   # times and peak memory as Markdown
    python -m benchmarks.methods --only mitp pmf   # some methods

Times: step and frozen forward by turns, the median of the ratios. Memory: the peak of one step in a process of its own,
above what the libraries take, over that of the frozen forward. The weights are part of both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.training_step import BATCH, CLASSES, GEOMETRY, WORDS, inputs, timed
from interplay.classification.model import PairClassifier
from interplay.encoding.trainable import PairBatch
from interplay.methods.registry import choose
from interplay.parts.heads import Head, HeadSettings
from interplay.profiling.memory import measure_step, resident
from interplay.towers.backbone import Backbone, random_backbone
from interplay.towers.walk import encode_pair

METHODS: dict[str, dict[str, Any]] = {
    "late_fusion": {},
    "cma_clip": {},
    "prompt_fuse": {},
    "blind_prompt": {},
    "coop": {},
    "cocoop": {},
    "pmf": {},
    "mitp-small": {},
    "mitp": {},
    "mitp layers=4,5,6": {"layers": (4, 5, 6)},
    "epic": {},
    "p_clip": {},
    "maple": {},
    "lpi-m": {},
    "lora": {},
    "lora sides=text": {"sides": "text"},
    "dcp": {},
    "mmbt": {},
    "full": {},
}
"""Rows by name; the first word is the method."""


def frozen_forward(backbone: Backbone) -> Callable[[], None]:
    """Both towers, no gradient."""
    pixels, ids, _ = inputs()

    def forward() -> None:
        with torch.no_grad():
            encode_pair(backbone, pixels, ids)

    return forward


def training_step(backbone: Backbone, row: str) -> tuple[Callable[[], None], int]:
    """One whole step with Adam, and how many parameters the method trains."""
    pixels, ids, targets = inputs()
    torch.manual_seed(0)
    method = choose(row.split()[0]).build(backbone.shape, METHODS[row])
    method.start_from(backbone)
    head = Head(HeadSettings(kind="pair"), backbone.shape.joint, CLASSES, backbone.scale)
    model = PairClassifier(method, head)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)

    def step() -> None:
        optimizer.zero_grad()
        model.training_loss(backbone, PairBatch(pixels, ids, targets)).backward()
        optimizer.step()

    return step, sum(parameter.numel() for parameter in method.parameters())


def frozen_peak() -> float:
    """Peak memory of loading and one frozen forward above the libraries, in this process."""
    before = resident("VmRSS")
    frozen_forward(random_backbone(GEOMETRY))()
    return resident("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=[*METHODS], choices=[*METHODS])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frozen-peak", action="store_true")
    parser.add_argument("--json", type=Path, help="also keep the figures here")
    arguments = parser.parse_args()
    if arguments.frozen_peak:
        print(frozen_peak())
        return
    command = [sys.executable, "-m", "benchmarks.methods", "--frozen-peak"]
    floor = float(subprocess.check_output(command, text=True))
    backbone = random_backbone(GEOMETRY)
    forward = frozen_forward(backbone)
    print(f"frozen forward: {floor:,.0f} MiB above the libraries, weights included\n")
    print("| method | trained parameters | step / frozen forward | peak / frozen forward | peak MiB |")
    print("|---" * 5 + "|")
    kept = []
    for row in arguments.only:
        step, parameters = training_step(backbone, row)
        for warm in (forward, step, forward, step):
            warm()
        pairs = [(timed(forward), timed(step)) for _ in range(arguments.rounds)]
        ratio = statistics.median(b / a for a, b in pairs)
        peak = measure_step(GEOMETRY, row.split()[0], METHODS[row], batch_size=BATCH, text_tokens=WORDS).peak
        print(f"| {row} | {parameters:,} | {ratio:.2f} | {peak / floor:.2f} | {peak:,.0f} |", flush=True)
        kept.append(
            {"row": row, "parameters": parameters, "time": ratio, "peak_mib": peak, "floor_mib": floor}
        )
        if arguments.json:
            arguments.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
