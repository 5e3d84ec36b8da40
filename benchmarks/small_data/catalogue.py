"""The sets and streams by name, and what each is like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from benchmarks.small_data import emoji_sets, icon_sets, ruled
from benchmarks.small_data.drafts import Made
from interplay.data.schema import Kind

Half = Literal["development", "held out"]
Decides = Literal["picture", "text", "both", "mixed"]


@dataclass(frozen=True)
class SmallSet:
    """One set.

    Args:
        half: defaults may be chosen on the validation splits of `development`; `held out` is measured only.
        kind: one label a row, several, or none: a stream of tasks.
        decides: what tells the label. `picture`: the text alone does not; `text`: the picture alone does not; `both`:
            neither alone does. Those three are proved by counting; `mixed` is what nobody made.
        about: what it asks, and what is special about it.
        make: its rows and pictures, from its name.
        downloads: whether its pictures come from an npm package.
        edition: another number, another folder, and other cells: raise it when what the set holds changes.
    """

    name: str
    half: Half
    kind: Kind
    decides: Decides
    about: str
    make: Callable[[str], Made]
    downloads: bool = False
    edition: int = 1


def _icons(function: Callable[..., Made], source: str, **options: object) -> Callable[[str], Made]:
    return partial(function, source=source, **options)


_ALL = (
    SmallSet(
        "emoji-subgroup",
        "development",
        "single",
        "mixed",
        "OpenMoji and its name → sub-category",
        partial(emoji_sets.task, which="subgroup"),
    ),
    SmallSet(
        "emoji-attributes",
        "development",
        "multi",
        "mixed",
        "OpenMoji and the other words of its names → 23 words; several labels",
        partial(emoji_sets.task, which="attributes"),
    ),
    SmallSet(
        "emoji-relation",
        "development",
        "single",
        "both",
        "OpenMoji and a hypothesis → same, sibling, unrelated",
        partial(emoji_sets.task, which="relation"),
    ),
    SmallSet(
        "emoji-few",
        "development",
        "single",
        "mixed",
        "OpenMoji and its name → one of 4 categories; 60 rows",
        emoji_sets.few,
    ),
    SmallSet(
        "unseen-style",
        "development",
        "single",
        "mixed",
        "the style that tiny never saw → category; half is one class",
        _icons(icon_sets.by_category, "streamline"),
        downloads=True,
    ),
    SmallSet(
        "tabler-category",
        "development",
        "single",
        "mixed",
        "black line icons → one of 33 categories; large and unbalanced",
        _icons(icon_sets.by_category, "tabler", least=22),
        downloads=True,
    ),
    SmallSet(
        "remix-wrong-labels",
        "development",
        "single",
        "mixed",
        "black line icons → category; 10 % of the labels are wrong",
        _icons(icon_sets.by_category, "remix", most=70, wrong=0.1),
        downloads=True,
    ),
    SmallSet(
        "glyph-colours",
        "development",
        "single",
        "picture",
        "a glyph in one of 8 colours and its Unicode name → the colour",
        ruled.glyph_colours,
    ),
    SmallSet(
        "digit-questions",
        "development",
        "single",
        "both",
        "a handwritten digit and a question → yes or no",
        ruled.digit_questions,
    ),
    SmallSet(
        "reviews",
        "development",
        "single",
        "text",
        "a sentence and an emoji → good, bad, plain",
        ruled.reviews,
        edition=2,
    ),
    SmallSet(
        "emoji-sixty",
        "held out",
        "single",
        "picture",
        "OpenMoji and its category → one of 60 sub-categories",
        emoji_sets.many_classes,
    ),
    SmallSet(
        "ultimate-category",
        "held out",
        "single",
        "mixed",
        "coloured line icons → one of 31 categories, few of each",
        _icons(icon_sets.by_category, "ultimate"),
        downloads=True,
    ),
    SmallSet(
        "health-category",
        "held out",
        "single",
        "mixed",
        "medical icons → category; few and unbalanced",
        _icons(icon_sets.by_category, "health", most=40),
        downloads=True,
    ),
    SmallSet(
        "phosphor-categories",
        "held out",
        "multi",
        "mixed",
        "two-tone icons → all of their 18 categories; several labels",
        _icons(icon_sets.several_categories, "phosphor"),
        downloads=True,
    ),
    SmallSet(
        "tabler-tags-few",
        "held out",
        "multi",
        "mixed",
        "icons → the commonest of their tags; several labels, few rows",
        _icons(icon_sets.several_tags, "tabler", tags=12, rows=600),
        downloads=True,
    ),
    SmallSet(
        "search-terms",
        "held out",
        "single",
        "mixed",
        "icons and all terms that they are searched by → category; long texts",
        _icons(icon_sets.by_terms, "font awesome"),
        downloads=True,
    ),
    SmallSet(
        "logos",
        "held out",
        "single",
        "mixed",
        "logos of programming tools → language or framework",
        _icons(icon_sets.one_tag_or_other, "devicon", one="framework", other="language"),
        downloads=True,
    ),
    SmallSet(
        "glyph-scripts",
        "held out",
        "single",
        "picture",
        "a letter and an idle text → one of 6 scripts; unbalanced",
        ruled.glyph_scripts,
    ),
    SmallSet(
        "letter-hints",
        "held out",
        "single",
        "picture",
        "a letter, turned and speckled, and a hint → one of 26",
        ruled.letter_hints,
    ),
    SmallSet(
        "digits-wrong-labels",
        "held out",
        "single",
        "picture",
        "a handwritten digit → one of 10; 10 % of the labels are wrong",
        ruled.digits_wrong,
    ),
    SmallSet(
        "shapes-match",
        "held out",
        "single",
        "both",
        "a coloured shape and a description → right or what is wrong; 6,000 rows",
        ruled.shapes_match,
    ),
    SmallSet(
        "shapes-order",
        "held out",
        "single",
        "both",
        "two shapes and a sentence on which is left → true or false",
        ruled.shapes_order,
    ),
    SmallSet(
        "stickers",
        "held out",
        "single",
        "both",
        "an emoji with a sticker, a buyer → the price; each says half",
        ruled.stickers,
    ),
    SmallSet(
        "complaints",
        "held out",
        "single",
        "text",
        "a letter of 50 words, more than tiny reads, and an emoji → the department",
        ruled.complaints,
        edition=2,
    ),
    SmallSet(
        "emoji-stream",
        "development",
        "pairs",
        "mixed",
        "OpenMoji and its name; 9 categories",
        partial(emoji_sets.task, which="continual"),
    ),
    SmallSet(
        "unseen-style-stream",
        "development",
        "pairs",
        "mixed",
        "the style that tiny never saw; 8 categories",
        _icons(icon_sets.stream, "streamline", tasks=8, most=60),
        downloads=True,
    ),
    SmallSet(
        "tabler-stream",
        "development",
        "pairs",
        "mixed",
        "black line icons; 12 categories",
        _icons(icon_sets.stream, "tabler", tasks=12, most=80),
        downloads=True,
    ),
    SmallSet(
        "remix-stream",
        "development",
        "pairs",
        "mixed",
        "line icons in 8 colours that their text names; 10 categories",
        _icons(icon_sets.stream, "remix", tasks=10, most=60, coloured=True),
        downloads=True,
    ),
    SmallSet(
        "emoji-small-stream",
        "held out",
        "pairs",
        "mixed",
        "OpenMoji, several captions; 6 sub-categories of 40 at most",
        emoji_sets.small_stream,
    ),
    SmallSet(
        "health-stream",
        "held out",
        "pairs",
        "mixed",
        "medical icons; 12 categories, unbalanced",
        _icons(icon_sets.stream, "health", tasks=12, most=120),
        downloads=True,
    ),
    SmallSet(
        "ultimate-stream",
        "held out",
        "pairs",
        "mixed",
        "coloured line icons; 12 categories",
        _icons(icon_sets.stream, "ultimate", tasks=12, most=60),
        downloads=True,
    ),
    SmallSet(
        "terms-stream",
        "held out",
        "pairs",
        "mixed",
        "icons, their name and search terms as captions; 12 categories",
        _icons(icon_sets.stream, "font awesome", tasks=12, most=50, terms=4),
        downloads=True,
    ),
)


def sets() -> dict[str, SmallSet]:
    """The sets of classification by name."""
    return {one.name: one for one in _ALL if one.kind != "pairs"}


def streams() -> dict[str, SmallSet]:
    """The streams of retrieval by name."""
    return {one.name: one for one in _ALL if one.kind == "pairs"}
