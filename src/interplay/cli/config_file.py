"""`--config`: YAML files with values of options, which count where nothing was typed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cyclopts

from interplay.cli.options import Option, unshielded
from interplay.errors import InterplayError, brief, unknown
from interplay.files import read_yaml
from interplay.seeds import shown


def apply_config(
    app: cyclopts.App,
    words: tuple[str, ...],
    arguments: cyclopts.ArgumentCollection,
    *,
    options: Mapping[str, Option],
    owner: str,
) -> None:
    """Give to options what configuration files say: a value that was typed stays, a list of them is added to.

    Args:
        app, words: of `cyclopts`, which calls this.
        arguments: with what was typed.
        options: those of the command by name.
        owner: the command, for messages.

    Raises:
        InterplayError: a file cannot be read, holds no names with values, a name that is no option, or a value that is
            neither plain nor a list of plain ones.
    """
    by_name = {argument.field_info.name: argument for argument in arguments}
    known = {name: option for name, option in options.items() if not option.positional}
    said: dict[str, list[cyclopts.Token]] = {}
    for file in (
        (Path(unshielded(token.value)) for token in by_name["config"].tokens) if "config" in by_name else ()
    ):
        for name, value in _values(file).items():
            if name not in known:
                raise unknown(f"option of {owner}", str(name), known)
            tokens = _tokens(known[name], value, file)
            said[name] = (
                [*said.get(name, ()), *tokens] if known[name].several else tokens or said.get(name, [])
            )
    for name, tokens in said.items():
        argument = by_name[name]
        if known[name].several:
            argument.tokens = [*tokens, *argument.tokens]
        elif not argument.tokens:
            argument.tokens = tokens


def _values(path: Path) -> dict[Any, Any]:
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise InterplayError(
            f"{path} holds no options with their values, as config.yaml in a run folder does: 'epochs: 5', a line each."
        )
    return values


def _tokens(option: Option, value: Any, path: Path) -> list[cyclopts.Token]:
    """A value as if it had been typed; nothing for null."""
    if value is None:
        return []
    token = cyclopts.Token(keyword=option.flag, source=str(path))
    if option.hint is bool:
        if value is not True and value is not False:
            raise InterplayError(f"{path}: {option.name} is true or false, not {brief(repr(value), 60)}.")
        return [token.evolve(implicit_value=value)]
    items = value if isinstance(value, list) else [value]
    if len(items) > 1 and not option.several:
        raise InterplayError(f"{path}: {option.name} takes {option.takes}, not a list.")
    return [token.evolve(value=_word(option, item, path), index=at) for at, item in enumerate(items)]


def _word(option: Option, value: Any, path: Path) -> str:
    """One plain value as it is typed."""
    if type(value) is int:
        return shown(value)
    if isinstance(value, (str, float, bool)):
        return str(value)
    kind = type(value).__name__
    raise InterplayError(f"{path}: {option.name} takes {option.takes}, not a value of the type {kind}.")
