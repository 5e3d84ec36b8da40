"""How much memory one training step takes, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from interplay.errors import InterplayError
from interplay.methods.registry import choose
from interplay.towers.backbone import check_loadable

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Memory:
    """What one training step took, in MiB, the libraries not counted.

    Attributes:
        peak: the most resident memory during loading and one step, above what the imported libraries take.
        backbone: above the same, when the backbone was loaded.
        batch_size: pairs of the step.
        text_tokens: tokens of each caption.
        random_weights: whether the backbone had such; its size is the same.
    """

    peak: float
    backbone: float
    batch_size: int
    text_tokens: int
    random_weights: bool


def measure_step(
    backbone: str,
    method: str,
    settings: Mapping[str, Any] | None = None,
    *,
    batch_size: int = 64,
    text_tokens: int | None = None,
    sessions: int = 1,
) -> Memory:
    """Measure the peak memory of one training step with Adam on the CPU, in a fresh process.

    A preset gets random weights of its full geometry, so no weights are downloaded.

    Args:
        backbone, method, settings, text_tokens: as `costs.cost`.
        batch_size: pairs of the step.
        sessions: the step is that of the last of this number of sessions, if the method has any.

    Raises:
        InterplayError: no Linux; an unknown backbone, method or setting; not enough memory.
    """
    if not _STATUS.exists():
        raise InterplayError("Peak memory can be measured on Linux only.")
    if batch_size < 2:
        raise InterplayError(f"A training step needs at least 2 pairs, not {batch_size}.")
    check_loadable(backbone)
    if not choose(method).method.traits.solver.by_gradient:
        raise InterplayError(f"'{method}' is not trained by gradient, so it has no training step to measure.")
    wanted = {
        "backbone": backbone,
        "method": method,
        "settings": dict(settings or {}),
        "batch_size": batch_size,
        "text_tokens": text_tokens,
        "sessions": sessions,
    }
    command = [sys.executable, "-m", "interplay.profiling.memory", json.dumps(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [
            f"it ended with {done.returncode}, as for want of memory"
        ]
        raise InterplayError(f"The step could not be measured: {last[0]}")
    return Memory(**json.loads(done.stdout.splitlines()[-1]))


def resident(field: str) -> float:
    """Resident memory of this process, `VmRSS` now or `VmHWM` at its peak; unlike getrusage's not the parent's."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def _measure(wanted: Mapping[str, Any]) -> Memory:
    """One step in this process."""
    import torch

    from interplay.classification.model import PairClassifier
    from interplay.encoding.trainable import PairBatch
    from interplay.profiling.costs import caption_length, trainable
    from interplay.towers.backbone import load_backbone
    from interplay.towers.presets import PRESETS

    libraries = resident("VmRSS")
    torch.manual_seed(0)
    random_weights = wanted["backbone"] in PRESETS
    backbone = load_backbone(wanted["backbone"], random_weights=random_weights)
    loaded = resident("VmRSS")
    shape = backbone.shape
    method = choose(wanted["method"]).build(shape, wanted["settings"])
    method.start_from(backbone)
    for session in range(max(1, wanted["sessions"])):
        method.sessions.begin(f"task {session + 1}", torch.randn(shape.joint))
    pairs, length = wanted["batch_size"], caption_length(shape, method, wanted["text_tokens"])
    model = trainable(method, shape, 2, backbone.scale)
    ids = torch.randint(0, shape.text.end_token, (pairs, length))
    ids[:, -1] = shape.text.end_token
    pixels = torch.randint(0, 256, (pairs, 3, backbone.image_size, backbone.image_size), dtype=torch.uint8)
    targets = torch.arange(pairs) % (2 if isinstance(model, PairClassifier) else pairs)
    optimizer = torch.optim.Adam(parameter for parameter in model.parameters() if parameter.requires_grad)
    loss: torch.Tensor = model.training_loss(backbone, PairBatch(pixels, ids, targets))
    torch.autograd.backward(loss)
    optimizer.step()
    peak = resident("VmHWM")
    return Memory(peak - libraries, loaded - libraries, pairs, length, random_weights)


if __name__ == "__main__":
    try:
        print(json.dumps(asdict(_measure(json.loads(sys.argv[1])))))
    except InterplayError as error:
        sys.exit(str(error))
