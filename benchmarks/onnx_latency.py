"""File sizes of an export, and onnxruntime's time beside PyTorch's, in one run on one thread.

    OMP_NUM_THREADS=1 python benchmarks/onnx_latency.py [METHOD ...]

A classifier of each method with untrained prompts on `tiny` is exported; both then take the same 1 and 16 pairs by
turns, and the medians are compared. Prints a Markdown table.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import onnxruntime
import torch

from interplay.classification import artifact
from interplay.classification.classifier import Classifier
from interplay.export.export import to_onnx
from interplay.export.graphs import PairGraph, example, feed
from interplay.towers.backbone import load_backbone

ROUNDS = 40


def main(methods: list[str]) -> None:
    """One row a method."""
    torch.set_num_threads(1)
    backbone = load_backbone("tiny")
    context = 16
    print("| method | pair.onnx, MB | pairs | PyTorch, ms | onnxruntime, ms | ratio | largest difference |")
    print("|---|---|---|---|---|---|---|")
    for method in methods:
        labels = ("no", "yes")
        made = Classifier(backbone, method, labels, kind="single", head={"kind": "pair"})
        made.card = artifact.ClassifierCard(
            method, {}, made._head_settings(), labels, labels, "single", "bce", "tiny", backbone.digest
        )
        made.model = artifact.build(made.card, backbone).eval()
        for weight in made.model.head.parameters():
            torch.nn.init.normal_(weight)
        graph = PairGraph(backbone, made.model).eval()
        with tempfile.TemporaryDirectory() as scratch:
            exported = to_onnx(made, Path(scratch) / "out")
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(
                exported.folder / "pair.onnx", options, providers=["CPUExecutionProvider"]
            )
        for pairs in (1, 16):
            inputs = example(backbone, context, ("pixels", "ids"), (context,) * pairs)
            fed = feed(("pixels", "ids"), inputs)
            times: dict[str, list[float]] = {"torch": [], "onnx": []}
            for _ in range(ROUNDS):
                start = time.perf_counter()
                with torch.no_grad():
                    graph(*inputs)
                between = time.perf_counter()
                session.run(None, fed)
                times["torch"].append(between - start)
                times["onnx"].append(time.perf_counter() - between)
            slow, quick = (1000 * statistics.median(times[name]) for name in ("torch", "onnx"))
            worst = exported.parity["pair.onnx"]["probabilities"]
            size = exported.sizes["pair.onnx"] / 1e6
            print(
                f"| {method} | {size:.1f} | {pairs} | {slow:.1f} | {quick:.1f} | {quick / slow:.2f} | {worst:.0e} |",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:] or ["mitp", "zero_shot"])
