"""Losses between prompts: across layers and modalities (HPA), and across tasks (CPA) (LPI §4.2, §4.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def hierarchical_alignment(
    image: Float[Tensor, "depth length image_width"],
    text: Float[Tensor, "depth length text_width"],
    temperature: float,
) -> Float[Tensor, ""]:
    """HPA: prompts of one layer belong together, those of different layers do not (LPI eq. 4–5).

    With P̃ the mean over the channels, −1/D·Σ_i log softmax_j((P̃V_i/τ)·(P̃L_j/τ))[i]. The product is divided by τ
    twice, as printed; log-softmax in fp32 keeps it finite.

    Args:
        temperature: τ.
    """
    with torch.autocast(image.device.type, enabled=False):  # fp16 ends at 65,504
        by_layer = [prompts.float().mean(dim=-1) / temperature for prompts in (image, text)]
        scores = by_layer[0] @ by_layer[1].T
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def task_similarity(
    newest: Float[Tensor, " size"], older: Float[Tensor, "tasks size"], among: Float[Tensor, "tasks tasks"]
) -> Float[Tensor, "all all"]:
    """Cosines between the flattened prompts of all tasks, the newest one last; only its row is computed.

    Args:
        newest: its prompts.
        older: those of the older tasks, normalised.
        among: the older tasks' cosines with each other.
    """
    with torch.autocast(newest.device.type, enabled=False):
        row = older @ F.normalize(newest.to(older.dtype), dim=0)
    one = row.new_ones(1, 1)
    return torch.cat([torch.cat([among, row[:, None]], dim=1), torch.cat([row[None], one], dim=1)])


def cross_task_alignment(
    similarity: Float[Tensor, "tasks tasks"], alike: Bool[Tensor, "tasks tasks"], temperature: float
) -> Float[Tensor, ""]:
    """CPA of one modality: prompts of like tasks attract, of unlike tasks repel each other (LPI eq. 9–11).

    1/k·Σ_i [mean over like j of −log σ(c_ij/τ) + mean over unlike j of −log(1 − σ(c_ij/τ))], j ≠ i; a task without
    like (or unlike) ones has no such term. Deviations: cosine instead of a bare product; plain binary cross-entropy
    for unlike pairs where eq. 9 prints σ((1 − c)/τ), which is saturated for every c below 1; a task is no pair
    with itself.

    Args:
        similarity: cosines c of the tasks' flattened prompts.
        alike: which tasks are alike; its diagonal is not read.
        temperature: τ.
    """
    k = len(similarity)
    others = ~torch.eye(k, dtype=torch.bool, device=similarity.device)
    logits = similarity.float() / temperature
    total = logits.new_zeros(())
    for group, losses in ((alike & others, -F.logsigmoid(logits)), (~alike & others, -F.logsigmoid(-logits))):
        count = group.sum(dim=1)
        rows = losses.masked_fill(~group, 0).sum(dim=1) / count.clamp(min=1)
        total = total + rows.sum()
    return total / k


def like_tasks(
    meanings: Float[Tensor, "tasks joint"], threshold: float | None, quantile: float
) -> tuple[Bool[Tensor, "tasks tasks"], float]:
    """Which tasks are alike: cosine of their names' vectors >= a threshold (LPI eq. 7).

    Args:
        meanings: the names' vectors.
        threshold: on the cosine; None: the `quantile` of the cosines between different tasks seen so far.

    Returns:
        (tasks, tasks) and the threshold that was used.
    """
    unit = F.normalize(meanings, dim=-1)
    cosines = unit @ unit.T
    others = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    if threshold is None:
        threshold = float(cosines[others].quantile(quantile)) if len(unit) > 1 else 1.0
    return cosines >= threshold, threshold
