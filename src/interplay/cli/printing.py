"""Results and help on stdout, whatever letters it can show."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from interplay.cli.result import Result


def print_result(result: Result, as_json: bool) -> None:
    """Write a result, JSON that not every terminal can show as JSON that it can."""
    if not as_json:
        say(result.text)
        return
    data = _plain(result.data)
    text = json.dumps(data, ensure_ascii=False, indent=2)
    print(text if can_show(text) else json.dumps(data, indent=2), flush=True)


def say(text: str) -> None:
    """Write a text to stdout; what its encoding has not as escapes."""
    encoding = _encoding()
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def can_show(text: str) -> bool:
    """Whether stdout has these letters."""
    try:
        text.encode(_encoding())
    except UnicodeEncodeError:
        return False
    return True


def _encoding() -> str:
    return sys.stdout.encoding or "utf-8"


def _plain(value: Any) -> Any:
    """The same with null for numbers that JSON cannot write."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
