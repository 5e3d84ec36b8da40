"""What a retriever's artefact says of itself, to programs and to people."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

import interplay.artifacts as artifacts
from interplay.errors import InterplayError
from interplay.seeds import check_seed


@dataclass(frozen=True)
class RetrieverCard:
    """What a retriever's artefact says of itself.

    Attributes:
        identity: made once for each retriever; a gallery belongs to one identity.
        method, settings, seed: as `Retriever`.
        sessions: names of the tasks, in the order in which they were learned.
        bare: those of them that have not helped, and keep the backbone's vectors.
        backbone, backbone_digest: name and weights' identity of the backbone.
        data: name of the table of every session.
        training: settings of the training that came last, whether its session is still there or not.
        version: of interplay; format: of the file.
    """

    identity: str
    method: str
    settings: Mapping[str, Any]
    seed: int
    sessions: tuple[str, ...]
    backbone: str
    backbone_digest: str
    data: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    format: int = artifacts.FORMAT
    task: artifacts.Task = "retrieval"

    def __post_init__(self) -> None:
        if len(self.data) != len(self.sessions) or len({*self.sessions}) < len(self.sessions):
            raise InterplayError(
                "A retriever's sessions have unlike names, and each of them the name of its data."
            )
        check_seed(self.seed)


def read_card(folder: Path) -> RetrieverCard:
    """The card of a retriever's artefact.

    Raises:
        InterplayError: as `artifacts.card_of`.
    """
    card: RetrieverCard = artifacts.card_of(RetrieverCard, folder, "retrieval")
    return card


def model_card(card: RetrieverCard) -> str:
    """The README of an artefact."""
    tasks = "\n".join(f"{at + 1}. {name}" for at, name in enumerate(card.sessions)) or "none yet"
    return f"""---
library_name: interplay
tags: [prompt-learning, clip, image-text-retrieval, continual-learning]
---

# {card.method} on {card.backbone}

Prompts for a frozen CLIP, trained with [interplay] {card.version} for image-text retrieval over tasks that arrived one
after the other. The backbone itself is not in this folder (weights {card.backbone_digest[:12]}), and no training sample
is.

Tasks, in the order in which they were learned:

{tasks}

Use: `Retriever.from_pretrained("this folder").encode_images(images)`
"""


def fingerprint(module: nn.Module, *names: str) -> str:
    """16 hexadecimal digits over the names and the values of a module's parameters and buffers."""
    state = hashlib.blake2b(digest_size=8)
    for name in names:
        state.update(f"{len(name)} {name}".encode())
    for key, tensor in sorted(module.state_dict().items()):
        state.update(key.encode())
        state.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()
