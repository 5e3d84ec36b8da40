"""Rows of a set before they are written, their fixed splits, and what can be known of a label by counting."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from interplay.data.splits import SPLITS, Split, unit_hash


@dataclass(frozen=True)
class Draft:
    """One row.

    Args:
        picture: name of its picture among the set's pictures; rows may share one.
        texts: its text, or several captions.
        labels: one, several, or none in a stream.
        family: what must not straddle a split; rows of one picture have one family.
        stratum: families are split within it, so that each class or task gets its shares.
        split: what the families were given.
        task: the session of a stream.
        picture_fact, text_fact: all that the picture, and the text, was made to say about the label; empty where it was
            not made by a rule.
    """

    picture: str
    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    family: str = ""
    stratum: str = ""
    split: Split = "train"
    task: str = ""
    picture_fact: str = ""
    text_fact: str = ""


@dataclass(frozen=True)
class Made:
    """A set as it was made: its rows, and how each of their pictures is drawn, as a PNG."""

    rows: list[Draft]
    draw: Callable[[str], bytes]


def with_splits(
    name: str, rows: Iterable[Draft], shares: tuple[float, float, float] = (60, 15, 25)
) -> list[Draft]:
    """Rows with fixed splits: in each stratum families in the order of a hash, test first, then validation, then train.

    A stratum with three families or more has rows in every split.

    Args:
        name: of the set; another name, another order.
        shares: of train, validation and test.
    """
    rows = list(rows)
    strata: dict[str, list[str]] = defaultdict(list)
    for family, stratum in {row.family: row.stratum for row in rows}.items():
        strata[stratum].append(family)
    split_of: dict[str, Split] = {}
    for families in strata.values():
        order = sorted(families, key=lambda family: unit_hash(f"{name} {family}"))
        least = 1 if len(order) >= len(SPLITS) else 0
        test, validation = (
            max(least, round(len(order) * share / sum(shares))) for share in (shares[2], shares[1])
        )
        for place, family in enumerate(order):
            split_of[family] = (
                "test" if place < test else "validation" if place < test + validation else "train"
            )
    return [replace(row, split=split_of[row.family]) for row in rows]


def drawn(
    name: str, rows: Iterable[Draft], group: Callable[[Draft], str], most: int, least: int = 1
) -> list[Draft]:
    """At most `most` rows of each group, by a hash of the set's name; groups of fewer than `least` are left out."""
    groups: dict[str, list[Draft]] = defaultdict(list)
    for row in rows:
        groups[group(row)].append(row)
    kept = []
    for key in sorted(groups):
        if len(groups[key]) >= least:
            members = sorted(groups[key], key=lambda row: unit_hash(f"{name} {row.picture} {row.texts}"))
            kept += members[:most]
    return kept


def with_wrong_labels(name: str, rows: Sequence[Draft], share: float) -> list[Draft]:
    """`share` of the train rows, and of the validation rows, get another class; test rows keep theirs."""
    classes = sorted({row.labels[0] for row in rows})
    wrong: set[int] = set()
    for split in SPLITS[:2]:
        numbers = [number for number, row in enumerate(rows) if row.split == split]
        order = sorted(numbers, key=lambda number: unit_hash(f"{name} wrong {number} {rows[number].picture}"))
        wrong.update(order[: round(share * len(order))])
    changed = list(rows)
    for number in wrong:
        others = [label for label in classes if label != rows[number].labels[0]]
        place = int(unit_hash(f"{name} instead {number}") * len(others))
        changed[number] = replace(rows[number], labels=(others[place],))
    return changed


def ceiling(rows: Sequence[Draft], fact: Callable[[Draft], object]) -> float:
    """The accuracy of the best rule that knows nothing but `fact`: the commonest label of each of its values."""
    labels: dict[object, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for row in rows:
        labels[fact(row)][row.labels] += 1
    return sum(max(count.values()) for count in labels.values()) / len(rows)
