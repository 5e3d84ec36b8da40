"""What a stream was worth: bare backbone, true task given and own routing side by side, and a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from interplay.cli.result import columns

if TYPE_CHECKING:
    from interplay.metrics.recall import Direction, Recall
    from interplay.towers.tokens import Side

ARROWS: dict[Direction, str] = {"image_to_text": "i→t", "text_to_image": "t→i"}
COUNTED: dict[str, Side] = {"images": "image", "texts": "text"}
"""Columns with the number of queries that a recall is a share of."""
Counts = Mapping[str, Mapping["Side", int]]
_ERRORS = 2
"""Standard errors of a difference of shares that count as noise."""


def worth(
    names: Sequence[str],
    counts: Counts,
    bare: Sequence[Recall],
    own: Sequence[Recall],
    oracle: Sequence[Recall] | None,
) -> str:
    """The table and the sentence.

    Args:
        names: of the tasks.
        counts: queries of each.
        bare, own, oracle: recall of each task by the bare backbone, by the retriever's own choice, and with the true
            task given; in the same galleries.
    """
    k = max(own[0]["image_to_text"])
    who = {"bare": bare, **({} if oracle is None else {"true task": oracle}), "own": own}
    header = ("task", *COUNTED, *(f"{arrow} {name}" for arrow in ARROWS.values() for name in who))

    def line(name: str, at: slice) -> tuple[object, ...]:
        asked = [sum(counts[one][side] for one in names[at]) for side in COUNTED.values()]
        return (
            name,
            *asked,
            *(fmean(r[d][k] for r in recalls[at]) for d in ARROWS for recalls in who.values()),
        )

    rows = [line(name, slice(at, at + 1)) for at, name in enumerate(names)]
    table = columns(header, [*rows, line("all tasks", slice(None))])
    return f"Recall@{k} of each task: what it is worth\n\n{table}\n\n{verdict(counts, bare, own, k)}"


def verdict(counts: Counts, bare: Sequence[Recall], own: Sequence[Recall], k: int) -> str:
    """Whether the retriever is above the bare backbone, as the mean over tasks and directions, and beyond noise.

    Noise is two standard errors of the difference of two shares of as many queries each.
    """
    before, after = (fmean(r[d][k] for r in recalls for d in ARROWS) for recalls in (bare, own))
    asked = sum(sum(count.values()) for count in counts.values())
    noise = _ERRORS * ((before * (1 - before) + after * (1 - after)) / asked) ** 0.5
    gain = after - before
    if gain == 0:
        return f"Recall@{k} is that of the bare backbone."
    said = (
        f"Recall@{k} is {abs(100 * gain):.1f} points {'above' if gain > 0 else 'below'} the bare backbone's"
    )
    if abs(gain) <= noise:
        return f"{said}, which is within noise ({100 * noise:.1f} points)."
    if gain > 0:
        return f"{said}, beyond noise ({100 * noise:.1f} points)."
    return (
        f"{said}, beyond noise ({100 * noise:.1f} points): training has made it worse than doing nothing. "
        "'--keep helpful' keeps only what helps on validation, and '--method layer_map' takes no training."
    )
