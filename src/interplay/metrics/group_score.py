"""Winoground's scores: of two pictures and two texts, who belongs to whom (Thrush et al., 2022)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from jaxtyping import Float
from torch import Tensor


def group_scores(scores: Float[Tensor, "quadruples texts images"]) -> dict[str, float]:
    """Shares of quadruples that are told rightly; of equal scores neither is the higher one.

    Args:
        scores: (Q, 2, 2), how well text i fits picture j; i fits j where i = j.

    Returns:
        `text_score`: for both pictures its own text scores higher; `image_score`: for both texts its own picture;
        `group_score`: both. At random 1/4, 1/4 and 1/6.
    """
    own = scores.diagonal(dim1=1, dim2=2)
    across = scores.flip(1).diagonal(dim1=1, dim2=2)  # each picture with the other text
    beside = scores.flip(2).diagonal(dim1=1, dim2=2)  # each text with the other picture
    text, image = (own > across).all(dim=1), (own > beside).all(dim=1)
    found = {"text_score": text, "image_score": image, "group_score": text & image}
    return {name: right.double().mean().item() for name, right in found.items()}


def quadruples(
    pictures: Sequence[Hashable], texts: Sequence[Hashable], targets: Sequence[int]
) -> list[tuple[int, int, int, int]]:
    """Row numbers of pairs that come in fours: two pictures × two texts, each with one of two labels once.

    Args:
        pictures, texts: of each pair, what tells equal ones.
        targets: 0 or 1 of each pair; which of them means that they fit does not matter to `group_scores`.

    Returns:
        For each four (t₀v₀, t₀v₁, t₁v₀, t₁v₁), where t₀v₀ and t₁v₁ have label 1; empty where a pair is in none.
    """
    rows = {pair: row for row, pair in enumerate(zip(texts, pictures, strict=True))}
    with_text: dict[Hashable, list[Hashable]] = {}
    with_picture: dict[Hashable, list[Hashable]] = {}
    for text, picture in rows:
        with_text.setdefault(text, []).append(picture)
        with_picture.setdefault(picture, []).append(text)
    found = []
    for (text, picture), row in rows.items():
        if not targets[row]:
            continue
        others = (
            [one for one in with_text[text] if one != picture],
            [one for one in with_picture[picture] if one != text],
        )
        if [len(one) for one in others] != [1, 1]:
            return []
        (other_picture,), (other_text,) = others
        four = (
            row,
            rows[text, other_picture],
            rows[other_text, picture],
            rows.get((other_text, other_picture), row),
        )
        if [targets[at] for at in four] != [1, 0, 0, 1] or four[3] == row:
            return []
        if row < four[3]:
            found.append(four)
    return found if 4 * len(found) == len(pictures) else []
