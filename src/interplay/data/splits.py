"""Splits that depend on nothing but the rows themselves: a hash decides, so they are the same everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, get_args

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


def unit_hash(key: str) -> float:
    """A number in [0, 1) that is fixed by `key` alone: the first 53 bits of its SHA-256."""
    return (int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 11) / 2**53


def split_at(position: float, train: float, validation: float) -> Split:
    """The split of a `position` in [0, 1): first the share `train`, then `validation`, the rest is test."""
    if position < train:
        return "train"
    return "validation" if position < train + validation else "test"


def hash_split(keys: Sequence[str], labels: Sequence[Sequence[str]], seed: int) -> list[Split]:
    """Splits rows 80 / 10 / 10 by a hash of `seed` and their key; rows with equal keys stay together.

    So that every class can be learnt, a label that the hash left wholly outside of train brings the key
    with its smallest hash into train.

    Args:
        keys: one per row, what must not straddle a split (an id, an image).
        labels: the labels of each row, empty where it has none.
        seed: another seed, another split.
    """
    place = {key: unit_hash(f"{seed}:{key}") for key in keys}
    chosen = {key: split_at(position, 0.8, 0.1) for key, position in place.items()}
    owners: dict[str, set[str]] = {}
    for key, row in zip(keys, labels, strict=True):
        for label in row:
            owners.setdefault(label, set()).add(key)
    for label in sorted(owners):
        if not any(chosen[key] == "train" for key in owners[label]):
            chosen[min(owners[label], key=place.__getitem__)] = "train"
    return [chosen[key] for key in keys]
