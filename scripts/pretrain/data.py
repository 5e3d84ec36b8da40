"""The rendered pictures with their captions: balanced batches for training, one style for validation."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sources import GROUP_SHARES, SOURCES, VALIDATION_SOURCE
from torch import Tensor

TEMPLATES = ("a picture of a {}", "a picture of {}", "an icon of a {}", "{} emoji", "a drawing of {}")
SHORT_TOKENS = 16
LONG_TOKENS = 62
LONG_BATCH_RATE = 0.06


@dataclass
class Batch:
    """Pictures, their concept numbers, one caption each, and the longest caption allowed in tokens."""

    pictures: Tensor
    concepts: np.ndarray
    captions: list[str]
    max_tokens: int


def sample_caption(entry: dict, rng: np.random.Generator, long_form: bool) -> str:
    """One of the ways to name an entry; `long_form` lists everything known about it."""
    label, others, tags = entry["label"], entry["alternatives"], entry["tags"]
    if long_form:
        words = [label, *others[:3], *(tags[i] for i in rng.permutation(len(tags)))]
        return ", ".join(words)
    draw = rng.random()
    if draw < 0.18 and others:
        return others[rng.integers(len(others))]
    if draw < 0.23 and tags:
        return tags[rng.integers(len(tags))]
    if draw < 0.40 and tags:
        chosen = rng.permutation(len(tags))[: rng.integers(1, 4)]
        return ", ".join([label, *(tags[i] for i in chosen)])
    if draw < 0.50:
        return TEMPLATES[rng.integers(len(TEMPLATES))].format(label)
    return label


class PictureSet:
    """Training pictures grouped so that a batch mostly holds distinct concepts from balanced sources."""

    def __init__(self, cache: Path, *, leave_out: Callable[[str], bool] = lambda label: False) -> None:
        """Open the rendered pictures in `cache`; those whose label is to be left out are never drawn."""
        self.leave_out = leave_out
        self.pixels = np.load(cache / "pictures.npy", mmap_mode="r")
        self.index: list[dict] = json.loads((cache / "index.json").read_text("utf-8"))
        concepts = {name: number for number, name in enumerate(sorted({e["concept"] for e in self.index}))}
        self.concept = np.array([concepts[entry["concept"]] for entry in self.index])
        self.groups = self._group()

    def _group(self) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
        """Per group of sources, per concept: its pictures and their cumulated probabilities."""
        by_name = {source.name: source for source in SOURCES if source.weight > 0}
        members: dict[str, dict[int, list[int]]] = {name: defaultdict(list) for name in GROUP_SHARES}
        for number, entry in enumerate(self.index):
            source = by_name.get(entry["source"])
            if source is not None and not self.leave_out(entry["label"]):
                members[source.group][self.concept[number]].append(number)
        groups = {}
        for name, pictures in members.items():
            groups[name] = []
            for numbers in pictures.values():
                weights = np.array([by_name[self.index[n]["source"]].weight for n in numbers])
                groups[name].append((np.array(numbers), np.cumsum(weights / weights.sum())))
        return groups

    def batch(self, size: int, rng: np.random.Generator) -> Batch:
        """Draw a batch: concepts without replacement within a group, then one picture of each."""
        chosen: list[int] = []
        for name, share in GROUP_SHARES.items():
            concepts = self.groups[name]
            count = size - len(chosen) if name == "icons" else round(size * share)
            for number in rng.choice(len(concepts), count, replace=count > len(concepts)):
                pictures, cumulated = concepts[number]
                pick = np.searchsorted(cumulated, rng.random())
                chosen.append(int(pictures[min(pick, len(pictures) - 1)]))
        long_batch = rng.random() < LONG_BATCH_RATE
        captions = [sample_caption(self.index[n], rng, long_batch and rng.random() < 0.5) for n in chosen]
        captions = [
            self.index[n]["label"] if self.leave_out(text) else text
            for n, text in zip(chosen, captions, strict=True)
        ]
        return Batch(
            torch.from_numpy(self.pixels[np.array(chosen)]),
            self.concept[np.array(chosen)],
            captions,
            LONG_TOKENS if long_batch else SHORT_TOKENS,
        )

    def validation(self) -> tuple[Tensor, list[str]]:
        """The first picture of every concept of the held-out style, and the concepts' labels."""
        first: dict[int, int] = {}
        for number, entry in enumerate(self.index):
            if entry["source"] == VALIDATION_SOURCE:
                first.setdefault(self.concept[number], number)
        numbers = np.array(list(first.values()))
        return torch.from_numpy(self.pixels[numbers]), [self.index[n]["label"] for n in numbers]
