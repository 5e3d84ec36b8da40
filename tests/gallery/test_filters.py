"""A filter can only narrow a search: whatever it holds, no text is found among pictures."""

from __future__ import annotations

import random

import pytest

from interplay.errors import InterplayError
from interplay.gallery.filters import closed, columns_of
from interplay.gallery.gallery import Gallery
from tests.gallery.fake import Fake, make_pictures

HOSTILE = [
    "1==1) or (side == 'text'",
    '1==1) or (side == "text"',
    "1==1) || (side == 'text'",
    "price > 0) or (1 == 1",
    "price > 0)) or ((1 == 1",
    ") or (1==1",
    ")",
    "(",
    "()",
    "price in [1, 2) or (1 == 1]",
    "price in [1, 2]) or side in ['text'",
    "price == 1) or side == 'text' or (price == 1",
    "brand == 'x') or (side == 'text'",
    "brand == ')' ) or (side == 'text'",
    "brand == '\\') or (side == \"text\"",
    "brand == '\\\\') or (side == 'text'",
    "brand == \"\\\") or (side == 'text'",
    "brand == '' ) or (side == 'text') or (brand == '",
    "brand == \"a'\") or (side == 'text'",
    "r'\\') or (side == \"text\" or brand == '",
    "brand == r'\\') or (side == 'text'",
    "u8'x') or (side == 'text'",
    "price == 1 // ) or (side == 'text'",
    "price == 1 -- ) or (side == 'text'",
    "price == 1 # ) or (side == 'text'",
    "price == 1 /* ) or (side == 'text' */",
    "1==1)\nor\n(side == 'text'",
    "1==1)\u00a0or\u00a0(side == 'text'",
    "1==1\uff09 or \uff08side == 'text'",
    "\0) or (side == 'text'",
    "\udcff) or (side == 'text'",
    "$meta['x') or (side == 'text'",
    "exists $meta['x']) or (side == 'text'",
    "not (side == 'image') or (1==1) or (side == 'text')",
    "side == 'text'",
    "side != 'image'",
    "1 == 1",
    "side == 'image' or side == 'text'",
    "{x}) or (side == 'text'",
    "json_contains(x, 1)) or (side == 'text'",
    "price like '%') or (side like '%'",
    "",
    " ",
    "'",
    '"',
    "\\",
    "(" * 5000 + ")" * 5000,
    "(" * 60 + "1==1" + ")" * 60,
    "not " * 5000 + "1==1",
    "-" * 5000 + "1 == 1",
    "price == " + "9" * 5000,
    "price == 1 or " * 2000 + "1==1",
    "a" * 20_000,
]
PIECES = [
    *"()[]{}'\"\\,-+*/=<>!&|$;#%\n\t \0",
    "==", "!=", "&&", "||", " or ", " and ", " not ", " in ", " like ", "side", "'text'", '"text"', "'image'",
    "price", "brand", "$meta", "1", "2.5", "true", "null", " is ", "exists ", "\\'", '\\"', "r'",
    "1==1", "side=='text'",
]  # fmt: skip


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """Three pictures and three texts."""
    folder = tmp_path_factory.mktemp("filters")
    gallery = Gallery.open(Fake(), folder / "gallery.db")
    notes = [{"price": at, "brand": "xyz"[at]} for at in range(3)]
    gallery.add_images(make_pictures(folder, 3), notes, progress=False)
    gallery.add_texts(["cat", "dog", "moon"], notes, progress=False)
    return gallery


def narrows(gallery: Gallery, where: str) -> bool:
    """Whether pictures alone are found, or the filter is refused in a sentence."""
    try:
        return {hit.side for hit in gallery.search("cat", where=where)} <= {"image"}
    except InterplayError as problem:
        return len(str(problem)) <= 400 and "\n" not in str(problem)


@pytest.mark.parametrize("where", HOSTILE)
def test_a_hostile_filter_finds_no_text(filled: Gallery, where: str) -> None:
    assert narrows(filled, where)


def test_random_filters_find_no_text(filled: Gallery) -> None:
    draw = random.Random(0)
    tried = 0
    for _ in range(1500):
        where = "".join(draw.choice(PIECES) for _ in range(draw.randint(1, 12)))
        for hostile in (where, f"1==1){where}(side=='text'", f"price>0) or {where} (1==1"):
            assert narrows(filled, hostile), hostile
            tried += 1
    assert tried == 4500


@pytest.mark.parametrize(
    "where", ["price < 20 and brand == 'x)'", '(a in ["("]) or not (b == "\\"")', "a[0] == 1"]
)
def test_a_plain_filter_stays_as_it_is(where: str) -> None:
    assert closed(where) == where


def test_the_columns_of_a_filter() -> None:
    where = "price < 20 and Brand == 'color' and not exists deep['x'] or json_contains(tags, 1) and side == 'text'"
    assert columns_of(where + " and _id == 'a' and $meta['x'] == true") == ["price", "Brand", "deep", "tags"]
