"""`--config`: a YAML file with values of options, as the words that could have been typed instead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interplay.errors import InterplayError, brief, unknown
from interplay.files import read_yaml
from interplay.seeds import shown

if TYPE_CHECKING:
    from interplay.cli.parsing import Option


def words_of(path: Path, known: Mapping[str, Option], owner: str) -> list[str]:
    """What a configuration file says, as options.

    Args:
        path: the file.
        known: the options of the command by name.
        owner: the command, for messages.

    Raises:
        InterplayError: it cannot be read, holds no names with values, a name that is no option, or a value that is
            neither plain nor a list of plain ones.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise InterplayError(
            f"{path} holds no options with their values, as config.yaml in a run folder does: 'epochs: 5', a line each."
        )
    words: list[str] = []
    for name, value in values.items():
        if name not in known:
            raise unknown(f"option of {owner}", str(name), known)
        words += _typed(known[name], value, path)
    return words


def _typed(option: Option, value: Any, path: Path) -> list[str]:
    """One option and its value; nothing for null and for a switch that is off."""
    flag = option.arguments()[0]
    if value is None or (option.hint is bool and value is option.default):
        return []
    if option.hint is bool:
        if value is not True and value is not False:
            raise InterplayError(f"{path}: {option.name} is true or false, not {brief(repr(value), 60)}.")
        return [flag]
    if isinstance(value, list):
        return [flag, *(_word(option, item, path) for item in value)] if value else []
    word = _word(option, value, path)
    return [f"{flag}={word}"] if word.startswith("-") else [flag, word]


def _word(option: Option, value: Any, path: Path) -> str:
    """One plain value as it is typed."""
    if type(value) is int:
        return shown(value)
    if isinstance(value, (str, float, bool)):
        return str(value)
    kind = type(value).__name__
    raise InterplayError(f"{path}: {option.name} takes {option.takes}, not a value of the type {kind}.")
