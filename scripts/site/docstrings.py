"""What griffe has to know of our docstrings: one entry may describe several names, as `image, text: …`."""

from __future__ import annotations

import re

import griffe

_SEVERAL = re.compile(
    r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+): (?P<text>.*(?:\n(?P=indent) +\S.*)*)", re.MULTILINE
)


class SeveralNames(griffe.Extension):
    """Gives every name of such an entry an entry of its own, with the same words."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Called for each module, class, function and attribute once it is read."""
        if obj.docstring is not None:
            obj.docstring.value = one_each(obj.docstring.value)


def one_each(docstring: str) -> str:
    """A docstring in which every entry describes one name."""
    return _SEVERAL.sub(
        lambda m: "\n".join(f"{m['indent']}{name}: {m['text']}" for name in m["names"].split(", ")), docstring
    )
