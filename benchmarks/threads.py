"""MITP's training step on `tiny`, alone and beside a busy process: how the threads of a step wait for each other.

    python -m benchmarks.threads --pairs 5

Threads that wait may spin (the default of OpenMP) or sleep (OMP_WAIT_POLICY=PASSIVE). Every pair runs both, one after
the other, each in a process of its own; the median step of a process counts, and of all pairs the median ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

BATCH, WARM, TOKENS = 32, 3, 12


def steps(seconds: float) -> float:
    """The median milliseconds of a training step, measured for `seconds` seconds."""
    import torch

    from interplay.classification.model import PairClassifier
    from interplay.encoding.trainable import PairBatch
    from interplay.methods.registry import choose
    from interplay.parts.heads import Head, HeadSettings
    from interplay.towers.backbone import load_backbone

    torch.manual_seed(0)
    backbone = load_backbone("tiny")
    head = Head(HeadSettings(kind="pair"), backbone.shape.joint, 16, backbone.scale)
    model = PairClassifier(choose("mitp").build(backbone.shape), head)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    size = backbone.image_size
    targets = torch.randint(0, 16, (BATCH,))
    ids = torch.randint(0, 3000, (BATCH, TOKENS))
    ids[:, -1] = backbone.text.shape.end_token
    batch = PairBatch(torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8), ids, targets)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < WARM + 2:
        start = time.perf_counter()
        optimizer.zero_grad()
        model.loss(model(backbone, batch), targets).backward()
        optimizer.step()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken[WARM:])


def in_process(threads: int, policy: str, seconds: float) -> float:
    """`steps` in a fresh process, since OpenMP reads its environment once."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    given = {"OMP_NUM_THREADS": str(threads)} | ({"OMP_WAIT_POLICY": policy} if policy else {})
    command = [sys.executable, "-m", "benchmarks.threads", "--seconds", str(seconds), "--here"]
    shown = subprocess.run(command, env=kept | given, check=True, capture_output=True, text=True)
    return float(shown.stdout)


def compare(threads: int, pairs: int, seconds: float) -> str:
    """One line: the median steps of both ways to wait, and the median ratio."""
    spinning, passive = [], []
    for number in range(pairs):
        order = (("", spinning), ("PASSIVE", passive))
        for policy, found in order if number % 2 else order[::-1]:
            found.append(in_process(threads, policy, seconds))
    ratio = statistics.median(p / s for p, s in zip(passive, spinning, strict=True))
    return (
        f"{statistics.median(spinning):10.1f} ms {statistics.median(passive):10.1f} ms {ratio:8.3f}"
        f"   (best {min(spinning):.1f} and {min(passive):.1f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0, help="of steps in each process")
    parser.add_argument("--here", action="store_true", help="print the step of this process alone")
    given = parser.parse_args()
    if given.here:
        print(steps(given.seconds))
        return
    print(f"load before: {os.getloadavg()[0]:.1f}; {given.threads} threads, {given.pairs} pairs")
    print(f"{'':24}{'spinning':>13} {'passive':>13} {'ratio':>8}")
    print(f"{'alone':24}{compare(given.threads, given.pairs, given.seconds)}")
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        print(f"{'beside a busy process':24}{compare(given.threads, given.pairs, given.seconds)}")
    finally:
        busy.kill()
        busy.wait()


if __name__ == "__main__":
    main()
