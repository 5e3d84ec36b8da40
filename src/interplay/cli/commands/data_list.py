"""`interplay data list`: the embedded data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interplay.cli.result import Result
from interplay.cli.result import columns as aligned

if TYPE_CHECKING:
    pass

GROUP = "Look"


EMBEDDED = {
    "openmoji/subgroup": "picture and name of an emoji: which sub-category? (one label)",
    "openmoji/attributes": "picture and masked name of an emoji: which of 23 words are in its name? (several labels)",
    "openmoji/relation": "picture and hypothesis: this emoji's name, a sibling's, or an unrelated one? (one label)",
    "openmoji/continual": "picture and name of an emoji, nine categories as nine tasks (pairs without labels)",
    "scenes/bind": "two objects, two colours: is it a red house and a blue star, or swapped? (one label)",
    "scenes/where": "two objects: is the dog left of the apple, or the other way round? (one label)",
    "scenes/pick": "1, 2, 4, 6 or 9 objects: is the star blue? (one label)",
    "scenes/entail": "three objects and a curtain: shown, contradicted or hidden? (one label)",
    "scenes/confound": "something red or blue, and the words for another such thing: one colour? A control (one label)",
}
"""The embedded data sets, one line each."""


def data_list() -> Result:
    """List the embedded data sets, and what else --data takes.

    Example: interplay data list
    """
    rows = [{"name": name, "summary": summary} for name, summary in EMBEDDED.items()]
    text = aligned(("data set", "what it asks"), [(row["name"], row["summary"]) for row in rows])
    return Result(
        rows,
        text
        + "\n\nYour own: a folder of pictures with metadata.csv or metadata.jsonl; a .csv, .jsonl or .parquet file with"
        "\nthe columns image, text and label or labels; a folder saved by `datasets`; an id on the Hugging Face hub."
        "\nA benchmark as its owners publish it: coco:FOLDER, food101:FOLDER, mm_imdb:FOLDER, snli_ve:FOLDER.",
    )
