"""What docstrings say of arguments and attributes: the help of options and settings."""

from __future__ import annotations

import docstring_parser


def described(docstring: str | None) -> dict[str, str]:
    """What a docstring says of each argument or attribute, on one line."""
    return {
        name: " ".join((entry.description or "").split())
        for entry in docstring_parser.parse(docstring or "").params
        for name in entry.arg_name.split(", ")
    }
