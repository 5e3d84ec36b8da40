"""Splits that depend on nothing but the rows themselves: a hash decides, so they are the same everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, get_args

from interplay.errors import InterplayError, wrong_type

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


Shares = tuple[float, float, float]
"""Of train, validation and test; only their proportion counts."""
SHARES: Shares = (80, 10, 10)


def check_shares(shares: Sequence[float]) -> Shares:
    """The shares of train, validation and test, as given.

    Raises:
        InterplayError: they are not three finite numbers of at least 0, that of train above it.
    """
    if not isinstance(shares, Sequence):
        raise wrong_type("shares", "three numbers, for train, validation and test", shares)
    numbers = all(isinstance(share, (int, float)) and 0 <= share < float("inf") for share in shares)
    if len(shares) != 3 or not numbers or not shares[0] > 0:
        raise InterplayError(
            "The shares of a split are three numbers, for train, validation and test, as 80/10/10, that of train above "
            f"0; got {'/'.join(map(str, shares)):.60}."
        )
    return shares[0], shares[1], shares[2]


def hash_split(
    keys: Sequence[str], labels: Sequence[Sequence[str]], seed: int, shares: Shares = SHARES
) -> list[Split]:
    """Splits rows by a hash of `seed` and their key; rows with equal keys stay together.

    So that every class can be learnt, a label that the hash left wholly outside of train brings the key
    with its smallest hash into train. So that few rows can be learnt from at all, a split that would be empty gets the
    key of train with the largest hash whose labels train keeps without it, where there is one.

    Args:
        keys: one per row, what must not straddle a split (an id, an image).
        labels: the labels of each row, empty where it has none.
        seed: another seed, another split.
        shares: of the three splits.
    """
    place = {key: unit_hash(f"{seed}:{key}") for key in keys}
    train, validation = shares[0] / sum(shares), shares[1] / sum(shares)
    chosen = {key: split_at(position, train, validation) for key, position in place.items()}
    owners: dict[str, set[str]] = {}
    labels_of: dict[str, set[str]] = {key: set() for key in keys}
    for key, row in zip(keys, labels, strict=True):
        labels_of[key].update(row)
        for label in row:
            owners.setdefault(label, set()).add(key)
    for label in sorted(owners):
        if not any(chosen[key] == "train" for key in owners[label]):
            chosen[min(owners[label], key=place.__getitem__)] = "train"
    for split, share in zip(SPLITS[1:], shares[1:], strict=True):
        if share > 0 and split not in chosen.values():
            _fill(split, chosen, place, labels_of, owners)
    return [chosen[key] for key in keys]


def _fill(
    split: Split,
    chosen: dict[str, Split],
    place: dict[str, float],
    labels_of: dict[str, set[str]],
    owners: dict[str, set[str]],
) -> None:
    """Give one key of train to an empty split."""
    train = sorted((key for key in chosen if chosen[key] == "train"), key=place.__getitem__, reverse=True)
    kept = set(train)
    for key in train[:-1]:
        if all(owners[label] & kept - {key} for label in labels_of[key]):
            chosen[key] = split
            return
